"""What a run depends on, as a digest: an unchanged key means that there is nothing to run.

A notebook's outputs depend on its code, on the functions and classes of the package that this code uses (through others too),
on the recorded results that are read, and on the versions that compute. What it does not use may change; comments and
docstrings change nothing, and neither do the words of an error in the package.
"""
import ast
import hashlib
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

from transformer_course.exercises import global_names, needed

from . import PACKAGE, ROOT
from .directives import split

VERSIONS = ("torch", "numpy", "matplotlib", "ipykernel")


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def notebook_key(nb) -> str:
    "The key of a notebook as it runs."
    cells = [(cell.metadata.get("tags"), split(cell.source)[1]) for cell in nb.cells if cell.cell_type == "code"]
    versions = repr((sys.version_info[:2], [version(name) for name in VERSIONS]))
    code = "\n".join(source for _, source in cells if parsed(source))
    return digest(versions, *(f"{tags} {meaning(source)}" for tags, source in cells), *uses(code))


def code_key(code: str, package: tuple[str, ...] = ()) -> str:
    "The key of some code: a script, or a part of a module in that package."
    return digest(meaning(code), *uses(code, package))


def file_digest(*places: Path) -> str:
    "A digest of files and folders, byte by byte; what is generated or hidden in them does not count."
    found = hashlib.sha256()
    for path in sorted(file for place in places for file in [place, *place.rglob("*")]):
        parts = path.relative_to(ROOT).parts
        if path.is_file() and not {"_build", "__pycache__"} & set(parts) and not any(part.startswith(".") for part in parts):
            found.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:24]


# --- what code uses of the package ------------------------------------------------------------------------------------------------------


def uses(code: str, package: tuple[str, ...] = ()) -> list[str]:
    "The definitions of the package that code uses, directly or through others, and the results they read, as texts that say what matters."
    seen: dict[tuple[Path, int], str] = {}
    results = read_results(code)
    todo = list(_imports(parsed(code).body, package))
    while todo:
        path, name = todo.pop()
        body = statements(path)
        fresh = [n for n in _chosen(path, path.stat().st_mtime_ns, name) if (path, n) not in seen]
        for n in fresh:
            seen[path, n], read = _contents(body[n])
            results |= read
        if fresh:
            todo += _imports([body[n] for where, n in seen if where == path], path.relative_to(ROOT).parent.parts)
    files = [ROOT / PACKAGE / "results" / f"{name}.json" for name in sorted(results)]
    return [*sorted(f"{path.relative_to(ROOT)} {text}" for (path, _), text in seen.items()), *(file.read_text() for file in files if file.is_file())]


@cache
def _chosen(path: Path, changed: int, name: str | None) -> list[int]:
    "The numbers of the statements in a file that a name needs (None: all of them), and of those that others may rely on."
    body = statements(path)
    chosen = range(len(body)) if name is None else [*needed(body, name), *_bare(path)]
    return [n for n in chosen if not _is_text(body[n])]


@cache
def _contents(statement: ast.stmt) -> tuple[str, frozenset[str]]:
    "What a statement of the package means, and the names of the results it reads."
    source = ast.unparse(statement)
    return meaning(source, words_of_errors=False), read_results(source)


@cache
def _import_nodes(statement: ast.stmt) -> list[ast.stmt]:
    return [node for node in ast.walk(statement) if isinstance(node, ast.Import | ast.ImportFrom)]


def _imports(statements: list[ast.stmt], package: tuple[str, ...]):
    "Pairs (file of a module of ours, name that is used of it; None for all)."
    for node in (node for one in statements for node in _import_nodes(one)):
        if isinstance(node, ast.Import):
            found = [(alias.name, None) for alias in node.names]
        else:
            base = _resolved(node, package)
            found = [part for alias in node.names for part in _parts_of(f"{base}.{alias.name}", alias.asname or alias.name, statements)
                     or [(base, alias.name)]]
        yield from ((path, name) for module, name in found if (path := _file(module)))


def _parts_of(module: str, called: str, statements: list[ast.stmt]) -> list[tuple[str, str | None]]:
    "If that is a module: the names that are used of it, as `called.name`; None for all, where it is used in another way."
    if not _file(module):
        return []
    nodes = [node for one in statements for node in ast.walk(one)]
    named = [node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == called]
    bare = sum(isinstance(node, ast.Name) and node.id == called for node in nodes)
    return [(module, name) for name in ["", *named]] if bare == len(named) else [(module, None)]


def _bare(path: Path) -> list[int]:
    "Statements that bind no name, and so may do something that all the others rely on."
    body = statements(path)
    return [n for n, one in enumerate(body) if not global_names(one)[0]]


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def dependencies(source: str) -> list[Path]:
    "The files of the modules that code imports, directly or through others, and of the results that they read."
    todo, seen, results = imported(source), set(), read_results(source)
    while todo:
        path = _file(todo.pop())
        if path and path not in seen:
            seen.add(path)
            text = path.read_text(encoding="utf-8")
            results |= read_results(text)
            todo |= imported(text, path.relative_to(ROOT).parent.parts)
            if path == ROOT / PACKAGE / "exercises.py":              # it loads checkers by their names
                todo |= {f"{PACKAGE}.checkers.{one.stem}" for one in path.parent.glob("checkers/*.py")}
    files = {ROOT / PACKAGE / "results" / f"{name}.json" for name in results}
    return sorted(seen | {file for file in files if file.is_file()})


def imported(source: str, package: tuple[str, ...] = ()) -> set[str]:
    "The modules of the course package that `source` imports; relative imports are resolved inside `package`."
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _resolved(node, package)
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] == PACKAGE}


@cache
def read_results(source: str) -> frozenset[str]:
    "The names of the recorded results that code reads: `recorded(\"heads\")`."
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and node.args]
    return frozenset(call.args[0].value for call in calls
                     if getattr(call.func, "id", getattr(call.func, "attr", "")) == "recorded" and isinstance(call.args[0], ast.Constant))


def _resolved(node: ast.ImportFrom, package: tuple[str, ...]) -> str:
    above = package[:len(package) - node.level + 1] if node.level else ()
    return ".".join([*above, *filter(None, [node.module])])


def _file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if module.split(".")[0] == PACKAGE and f.is_file()), None)


# --- what code means --------------------------------------------------------------------------------------------------------------------


@cache
def meaning(source: str, *, words_of_errors: bool = True) -> str:
    "The code without layout, comments and docstrings; a cell with a magic as it stands."
    if not (tree := parsed(source)):
        return source
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.Raise) and not words_of_errors:
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    part.value = ""
    return repr(_plain(tree))


def _plain(node):
    "A syntax tree in the same words for every version of Python: later ones have fields that are empty in code for earlier ones."
    if isinstance(node, ast.AST):
        return type(node).__name__, [(name, _plain(value)) for name, value in ast.iter_fields(node) if value not in (None, [])]
    return [_plain(part) for part in node] if isinstance(node, list) else node


def parsed(source: str) -> ast.Module | None:
    "The syntax tree, or None for what is no plain Python."
    try:
        return ast.parse(source)
    except SyntaxError:
        return None


def statements(path: Path) -> list[ast.stmt]:
    "The statements of a file, the same objects as long as it does not change."
    return _parsed_file(path, path.stat().st_mtime_ns)


@cache
def _parsed_file(path: Path, changed: int) -> list[ast.stmt]:
    return ast.parse(path.read_text(encoding="utf-8")).body
