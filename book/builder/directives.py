"""The `#|` vocabulary: the one place that says what a directive means, in the package, in the book and in Colab.

A cell's directives are its leading `#| name` or `#| name: value` lines. nbdev reads `default_exp`, `export` and
`exporti`; the rest decides what a reader sees. `problems` is the lint: a directive that is not in `DIRECTIVES`,
or that stands where nobody would obey it, is an error and not a comment.
"""
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Directive:
    "`value` is the pattern that its value must match (empty: takes none); `tags` are the cell tags it becomes in the book."
    name: str
    value: str
    tags: tuple[str, ...]
    meaning: str


DIRECTIVES = {d.name: d for d in (
    Directive("default_exp", r"[a-z_.]+", (), "names the module that this notebook's exported cells become (in a cell of its own; a study has none)"),
    Directive("export", "", ("exported",), "the cell is part of the package; pages mark it and link to the source"),
    Directive("exporti", "", ("exported",), "as `export`, but its names are not public"),
    Directive("hide", "", ("remove-cell",), "the cell runs and readers do not see it: a check that is not part of the argument"),
    Directive("echo", "false", ("remove-input",), "only the cell's output is shown: a figure or a table"),
    Directive("code-fold", r"true|[A-Z].*", ("hide-input",), "the code is folded under that name, the output is shown"),
    Directive("eval", "false", ("skip-execution",), "the code is shown and never run"),
)}

_LINE = re.compile(r"^\s*#\s*\|\s*([^\s:]+)\s*:?\s*(.*?)\s*$")


def split(source: str) -> tuple[dict[str, str], str]:
    "The directives of a cell and its source without them."
    found, lines = {}, source.splitlines(True)
    while lines and (match := _LINE.match(lines[0])):
        found[match[1]] = match[2]
        lines.pop(0)
    return found, "".join(lines)


def module_of(nb) -> str | None:
    "The module that a notebook becomes, without the package's name: `attention`."
    return next((found["default_exp"] for cell in nb.cells if cell.cell_type == "code"
                 if "default_exp" in (found := split(cell.source)[0])), None)


def problems(nb) -> list[str]:
    "What is wrong with the directives of a notebook, one sentence each; empty when nothing is."
    out, targets = [], 0
    for number, cell in enumerate(nb.cells):
        found, body = split(cell.source)
        where = f"cell {number} ({cell.get('id', 'no id')})"
        if found and cell.cell_type != "code":
            out.append(f"{where}: `#| {next(iter(found))}` in a {cell.cell_type} cell: directives belong in code cells")
            continue
        for name, value in found.items():
            if name not in DIRECTIVES:
                out.append(f"{where}: unknown directive `{name}`; known are {', '.join(DIRECTIVES)}")
            elif not re.fullmatch(DIRECTIVES[name].value, value):
                out.append(f"{where}: `{name}` has the value {value!r}, expected {DIRECTIVES[name].value or 'none'!r}")
        targets += "default_exp" in found
        if "default_exp" in found and body.strip():
            out.append(f"{where}: `default_exp` shares its cell with code")
        if cell.cell_type == "code":
            late = [line for line in body.splitlines() if line.lstrip().startswith(("#|", "# |"))]
            out += [f"{where}: {line.strip()!r} is not at the top of its cell, so nothing obeys it" for line in late]
    exports = any({"export", "exporti"} & split(cell.source)[0].keys() for cell in nb.cells)
    if targets > 1 or exports > targets:
        out.append(f"{targets} `default_exp` directives; what exports code is one module, so it has exactly one")
    return out
