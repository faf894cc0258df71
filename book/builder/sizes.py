"""How long each chapter is for its reader: `make sizes`.

Words are all words of the page, dropdowns included; formulas and computed numbers count as one. Code that is folded, or hidden
behind a figure, is counted apart. Screens are the height of the built page at 1440 x 900.
"""
import re

import nbformat
from rich.console import Console
from rich.table import Table

from transformer_course.interactive import FIGURES

from . import SITE, browser, chapters
from .directives import split

AIMS = {"words": 3000, "cells": 60, "shown": 350, "folded": 150, "picture at": 600, "formula at": 600, "screens": 28}
_FORMULA = re.compile(r"\$\$|```\{math\}|\\begin\{")
_IMAGE = re.compile(r"!\[|(?::::|```)\{(?:figure|image)")
_PICTURE = re.compile(rf"^(?:\w+ = )?(?:\w+\.)?(?:picture|heat_map|{'|'.join(FIGURES)}|draw\w*)\(", re.M)
_NOT_WORDS = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$|\{\{.*?\}\}", re.S)


def measure(nb) -> dict:
    "The sizes of a chapter, without its screens."
    found = dict.fromkeys(("words", "cells", "shown", "folded", "hidden", "pictures"), 0) | {"picture at": None, "formula at": None}
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            for name, mark in (("picture at", _IMAGE), ("formula at", _FORMULA)):
                if found[name] is None and (match := mark.search(cell.source)):
                    found[name] = found["words"] + _words(cell.source[:match.start()])
            found["pictures"] += len(_IMAGE.findall(cell.source))
            found["words"] += _words(cell.source)
            found["cells"] += 1
            continue
        marks, source = split(cell.source)
        lines = sum(bool(line.strip()) for line in source.split("\n"))
        if "hide" in marks or "default_exp" in marks:
            found["hidden"] += lines
            continue
        pictures = len(_PICTURE.findall(source))
        if pictures and found["picture at"] is None:
            found["picture at"] = found["words"]
        found["pictures"] += pictures
        found["cells"] += 1
        found["folded" if "code-fold" in marks else "hidden" if "echo" in marks else "shown"] += lines
    return found


def _words(text: str) -> int:
    return len(re.findall(r"[A-Za-z][\w'’-]*", _NOT_WORDS.sub(" x ", text)))


def missed(sizes: dict) -> list[str]:
    "The aims that a chapter misses."
    out = [name for name, aim in AIMS.items() if sizes.get(name) is None or sizes[name] > aim]
    if None not in (sizes["picture at"], sizes["formula at"]) and sizes["picture at"] > sizes["formula at"]:
        out.append("formula before picture")
    return out + (["pictures"] if sizes["pictures"] * 250 < sizes["words"] else [])


def screens(names: list[str]) -> dict[str, float]:
    "How many screens of 1440 x 900 each built page fills."
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser.install(), args=["--no-sandbox"])
        page, found = running.new_page(viewport={"width": 1440, "height": 900}), {}
        for name in names:
            page.goto((SITE / "nbs" / f"{name}.html").as_uri(), wait_until="load")
            page.evaluate("() => window.MathJax?.startup?.promise")
            found[name] = page.evaluate("document.querySelector('article').getBoundingClientRect().height") / 900
        running.close()
    return found


def all_sizes() -> dict[str, dict]:
    high = screens([path.stem for path in chapters()])
    return {path.stem: {**measure(nbformat.read(path, as_version=4)), "screens": round(high[path.stem], 1)} for path in chapters()}


def show(console: Console) -> int:
    "Print the table; returns 1 if a chapter misses an aim."
    columns = ("words", "cells", "shown", "folded", "hidden", "pictures", "picture at", "formula at", "screens")
    table = Table(box=None)
    for column in ("chapter", *columns, "aims missed"):
        table.add_column(column, justify="left" if column in ("chapter", "aims missed") else "right")
    table.add_row("aim", *(str(AIMS.get(column, "")) for column in columns), style="dim")
    found = all_sizes()
    for name, sizes in found.items():
        table.add_row(name, *(str(sizes[column]) for column in columns), ", ".join(missed(sizes)))
    console.width = max(console.width, 120)                        # a table that is cut says nothing
    console.print(table)
    return int(any(map(missed, found.values())))
