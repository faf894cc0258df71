"""An nbdev notebook as it runs and as the book shows it: no `#|` lines, directives turned into cell tags.

`to_run` makes the notebook that is executed; `read`, which MyST-NB calls, is the same with its outputs, with the computed
numbers in its prose, and with the exercises that it announces as boxes. A notebook of exercises becomes a page of tasks.
"""
from pathlib import Path

import nbformat

from . import BUILD, name, notebooks, prose
from .directives import DIRECTIVES, module_of, split
from .keys import notebook_key

EXECUTED = BUILD / "executed"


def to_run(text: str) -> nbformat.NotebookNode:
    "The notebook to run: directives became tags, cells that held nothing else are gone, prose asks for its numbers."
    nb = nbformat.reads(text, as_version=4)
    cells = []
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cells += filter(None, [prose.question(cell), cell])
            continue
        found, cell.source = split(cell.source)
        if tags := [tag for one in found for tag in DIRECTIVES[one].tags]:
            cell.metadata["tags"] = sorted({*cell.metadata.get("tags", []), *tags})
        if "code-fold" in found:
            called = "Code" if found["code-fold"] == "true" else found["code-fold"]
            lines = sum(bool(line.strip()) for line in cell.source.split("\n"))
            cell.metadata["mystnb"] = {f"code_prompt_{do}": f"{called} ({lines} lines)" for do in ("show", "hide")}
        if cell.source.strip():
            cells.append(cell)
    nb.cells = cells
    return nb


def keep(path: Path, ran: nbformat.NotebookNode, key: str):
    "Keep the outputs of a run under its key."
    ran.metadata["key"] = key
    file = EXECUTED / f"{name(path)}.ipynb"
    file.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(ran, file)


def executed(path: Path) -> nbformat.NotebookNode:
    "The notebook with the outputs of its last run. Raises KeyError if it did not run as it stands."
    nb, file = to_run(path.read_text(encoding="utf-8")), EXECUTED / f"{name(path)}.ipynb"
    ran = nbformat.read(file, as_version=4) if file.is_file() else None
    if not ran or ran.metadata.get("key") != notebook_key(nb):
        raise KeyError(f"{name(path)} was not run as it stands")
    cells = [cell for cell in nb.cells if cell.cell_type == "code"]
    for cell, kept in zip(cells, [cell for cell in ran.cells if cell.cell_type == "code"], strict=True):
        cell.outputs, cell.execution_count = kept.outputs, kept.execution_count
    return nb


def read(text: str) -> nbformat.NotebookNode:
    "The notebook to show. Raises KeyError if it was not run: outputs, and numbers in its prose, come from the run."
    from . import exercises

    if (module_of(nbformat.reads(text, as_version=4)) or "").startswith("checkers."):
        return exercises.page(nbformat.reads(text, as_version=4))
    path = next(path for path in notebooks() if path.read_text(encoding="utf-8") == text)
    nb = executed(path)
    prose.fill(nb, nb)
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = exercises.announced(cell.source, exercises.box)
    return nb
