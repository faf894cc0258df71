r"""Terms: each has one place that defines it, a page that lists them, and links from places that come earlier.

    {define}`attention weight; attention weights`     in the sentence that defines it: bold, with an anchor
    {define}`~value`                                  an everyday word: listed, but its use elsewhere is not checked
    {see}`attention weight`                           a link to the definition; {see}`weights <attention weight>` shows other words

What stands between semicolons are forms of the same term. `early_uses` lists the places that use a term before it is defined.
"""
import posixpath
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat
from docutils import nodes

from . import ROOT, chapters, exercise_notebooks, number, primer, studies

_DEFINE = re.compile(r"\{define\}`([^`]+)`")
_SEE = re.compile(r"\{see\}`(?:([^`<]*)<([^`>]+)>|([^`<]+))`")
_NOT_PROSE = re.compile(r"```.*?```|\$\$.*?\$\$|\$[^$\n]*\$|\{\{.*?\}\}|`[^`\n]*`|\]\([^)]*\)|^:::+\{(?:figure|image).*?$|<[^>]+>", re.S | re.M)


@dataclass(frozen=True)
class Term:
    "A term: its name and other forms, the page that defines it (without ending), and the sentence that does."
    name: str
    forms: tuple[str, ...]
    checked: bool
    page: str
    sentence: str

    @property
    def anchor(self) -> str:
        return "term-" + re.sub(r"\W+", "-", self.name.lower()).strip("-")


def reading_order() -> list[Path]:
    "The pages as a reader meets them: the primer, then each chapter with its studies and its exercises."
    def of(chapter: Path, others: list[Path]) -> list[Path]:
        return [path for path in others if number(path) == number(chapter)]

    return primer() + [page for chapter in chapters() for page in (chapter, *of(chapter, studies()), *of(chapter, exercise_notebooks()))]


def prose(path: Path) -> str:
    "The Markdown of a page; of a notebook of exercises what its exercises say."
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n\n".join(cell.source for cell in nbformat.reads(text, as_version=4).cells if cell.cell_type == "markdown")


def key(name: str) -> str:
    "The name of a term inside a sentence: `Softmax` is softmax, and `RoPE` stays."
    name = name.strip().removeprefix("~")
    return name if name[1:] != name[1:].lower() else name.lower()


@cache
def terms() -> dict[str, Term]:
    "All terms by their names, in reading order. Raises ValueError for a term that is defined twice."
    found: dict[str, Term] = {}
    for path in reading_order():
        page = path.relative_to(ROOT).with_suffix("").as_posix()
        for match in _DEFINE.finditer(text := prose(path)):
            name, *forms = (form.strip() for form in match[1].split(";"))
            checked, name = not name.startswith("~"), key(name)
            if name in found:
                raise ValueError(f"{name!r} is defined on {found[name].page} and on {page}")
            found[name] = Term(name, (name, *forms), checked, page, _sentence(text, match.start()))
    return found


def _sentence(text: str, at: int) -> str:
    "The sentence around a place, in plain words."
    begin = max(text.rfind(mark, 0, at) + len(mark) for mark in ("\n\n", ". ", ".\n", ":\n", "| ", "* ", "? "))
    ends = [place for mark in (". ", ".\n", "\n\n", " |") if (place := text.find(mark, at)) >= 0]
    sentence = text[begin:min(ends, default=len(text))].strip(" |\n").removesuffix(".")
    return re.sub(r"\s+", " ", plain(sentence)).rstrip(":") + "."


def plain(text: str) -> str:
    "The roles as Markdown that every renderer understands."
    text = _DEFINE.sub(lambda match: f"**{match[1].split(';')[0].strip().removeprefix('~')}**", text)
    return _SEE.sub(lambda match: (match[1] or match[3]).strip(), text)


def early_uses() -> list[str]:
    "Where a page uses a term that only a later page defines, and does not link to the definition."
    known, out = terms(), []
    order = [path.relative_to(ROOT).with_suffix("").as_posix() for path in reading_order()]
    for path, page in zip(reading_order(), order):
        text = prose(path)
        linked = {key(match[2] or match[3]) for match in _SEE.finditer(text)}
        words = _NOT_PROSE.sub(" ", _SEE.sub(" ", _DEFINE.sub(" ", text)))
        for term in known.values():
            later = order.index(term.page) > order.index(page)
            if term.checked and later and term.name not in linked:
                if used := re.search(rf"(?<![\w-])({'|'.join(map(re.escape, term.forms))})(?![\w-])", words, re.I):
                    around = re.sub(r"\s+", " ", words[max(0, used.start() - 40):used.end() + 40])
                    out.append(f"{page} uses {used[0]!r} (…{around}…), which {term.page} defines")
    return out


def page_text() -> str:
    "The list of all terms as Markdown, for the glossary's page."
    lines = []
    for term in sorted(terms().values(), key=lambda term: term.name.lower()):
        lines.append(f"{term.name}\n: {term.sentence} ([{term.page.split('/')[-1].replace('_', ' ')}](../{term.page}{_ending(term)}))\n")
    return "\n".join(lines)


def _ending(term: Term) -> str:
    return ".md" if term.page.startswith("book/") else ".ipynb"


# --- the roles --------------------------------------------------------------------------------------------------------------------------


def define(name, rawtext, text, lineno, inliner, options=None, content=None):
    "The place that defines a term: bold, with an anchor."
    shown = text.split(";")[0].strip().removeprefix("~")
    term = terms()[key(shown)]
    return [nodes.strong(rawtext, shown, ids=[term.anchor], classes=["term"])], []


def see(name, rawtext, text, lineno, inliner, options=None, content=None):
    "A link to the definition of a term."
    match = re.fullmatch(r"(.*?)\s*<(.+)>", text)
    shown, called = match.groups() if match else (text, text)
    if key(called) not in terms():
        return [], [inliner.reporter.error(f"no place defines {called!r}", line=lineno)]
    here, term = inliner.document.settings.env.docname, terms()[key(called)]
    target = posixpath.relpath(f"{term.page}.html", posixpath.dirname(here))
    return [nodes.reference(rawtext, shown, refuri=f"{target}#{term.anchor}", internal=True, classes=["see"])], []


def fill(app, docname, source):
    if "[[glossary]]" in source[0]:
        source[0] = source[0].replace("[[glossary]]", page_text())


def setup(app):
    app.add_role("define", define)
    app.add_role("see", see)
    app.connect("source-read", fill)
