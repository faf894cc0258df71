"""An nbdev notebook as it runs and as the book shows it: no `#|` lines, directives turned into cell tags.

`to_run` makes the notebook that is executed; `read`, which MyST-NB calls, is the same with the computed numbers put into
the prose. Both have the same code cells and so the same key in the cache (jupyter-cache hashes code cells with their
metadata). The key also holds what the outputs depend on outside the notebook: the package modules it imports, their
data, and the versions that compute.
"""
import ast
import hashlib
import sys
from importlib.metadata import version
from pathlib import Path

import nbformat
from jupyter_cache import get_cache

from . import BUILD, PACKAGE, ROOT, gates, prose
from .directives import DIRECTIVES, split

VERSIONS = ("torch", "numpy", "matplotlib", "ipykernel")
DATA_SUFFIXES = (".json",)          # figure code (.js, .css) reaches pages without running a notebook again


def cache():
    "The cache of executed notebooks that `jupyter-book build` reads too."
    return get_cache(BUILD / ".jupyter_cache")


def to_run(text: str) -> nbformat.NotebookNode:
    "The notebook to run: directives became tags, cells that held nothing else are gone, prose asks for its numbers."
    nb = nbformat.reads(text, as_version=4)
    key = dependencies_hash(nb)
    cells = []
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cells += filter(None, [prose.question(cell), cell])
            continue
        found, cell.source = split(cell.source)
        if "exercise" in found:
            cell.source = gates.solution_of(cell.source)
        if tags := [tag for name in found for tag in DIRECTIVES[name].tags]:
            cell.metadata["tags"] = sorted({*cell.metadata.get("tags", []), *tags})
        if cell.source.strip():
            cells.append(cell)
    for cell in cells:
        if cell.cell_type == "code":
            cell.metadata["depends"] = key
    nb.cells = cells
    return nb


def read(text: str) -> nbformat.NotebookNode:
    "The notebook to show. Raises KeyError if it was not run: the numbers in its prose come from the run."
    nb, source = to_run(text), nbformat.reads(text, as_version=4)
    prose.fill(nb, executed(nb))
    if tasks := gates.tasks(source):
        chapter = gates.chapter_of(source)
        for cell in nb.cells:
            if cell.id in tasks:
                cell.source = gates.box(tasks[cell.id], chapter)
    return nb


def executed(nb: nbformat.NotebookNode) -> nbformat.NotebookNode:
    "The same notebook with its outputs, from the cache. Raises KeyError if it is not there."
    store = cache()
    return store.get_cache_bundle(store.match_cache_notebook(nb).pk).nb


def dependencies_hash(nb) -> str:
    "A digest of everything outside the notebook that can change its outputs."
    digest = hashlib.sha256(repr((sys.version_info[:2], [version(name) for name in VERSIONS])).encode())
    for path in dependencies(nb):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def dependencies(nb) -> list[Path]:
    "The package files that a notebook imports, directly or through other modules, and the package's data."
    todo = {name for cell in nb.cells if cell.cell_type == "code" for name in _imported(split(cell.source)[1])}
    files = {path for path in (ROOT / PACKAGE).rglob("*") if path.suffix in DATA_SUFFIXES} if todo else set()
    while todo:
        path = _file(todo.pop())
        if path and path not in files:
            files.add(path)
            todo |= _imported(path.read_text(), path.relative_to(ROOT).parent.parts)
    return sorted(files)


def _imported(source: str, package: tuple[str, ...] = ()) -> set[str]:
    "The modules of the course package that `source` imports; relative imports are resolved inside `package`."
    try:
        tree = ast.parse(source)
    except SyntaxError:                          # a cell with a magic imports nothing of ours
        return set()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[:len(package) - node.level + 1], *filter(None, [node.module])]) if node.level else node.module
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] == PACKAGE}


def _file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()), None)
