"""The source obeys the course's rules: the staircase, one source, clean notebooks, known directives, computed numbers."""
import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from reader import PACKAGE, ROOT, gates, notebooks
from reader.directives import DIRECTIVES, module_of, problems, split
from reader.notebook import _imported

VENV_BIN = Path(sys.executable).parent


def order() -> list[str]:
    "The modules from the lowest step to the highest: appendices, which know no chapter, then the chapters."
    paths = sorted(notebooks(), key=lambda path: not path.name.startswith("A"))
    return [module_of(nbformat.read(path, as_version=4)) for path in paths]


@pytest.mark.parametrize("module", order())
def test_imports_only_point_down(module):
    steps = order()
    imported = {name.split(".")[1] for name in _imported((ROOT / PACKAGE / f"{module}.py").read_text(), (PACKAGE,)) if "." in name}
    assert "gates" not in imported, f"{module} imports the checkers of exercises"
    above = [name for name in imported if name in steps and steps.index(name) >= steps.index(module)]
    assert not above, f"{module} imports {above}, which come later in the course"
    stars = [node for node in ast.walk(ast.parse((ROOT / PACKAGE / f"{module}.py").read_text()))
             if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)]
    assert not stars, "names are imported by name"


def test_every_module_has_a_notebook():
    files = {path.stem for path in (ROOT / PACKAGE).glob("*.py")} - {"__init__", "_modidx"}
    assert files == set(order())


def test_every_notebook_is_in_the_book_and_every_module_in_the_reference():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"] if chapter["file"].startswith("nbs/")]
    assert sorted(listed) == sorted(f"nbs/{path.stem}" for path in notebooks())
    reference = (ROOT / "book/reference.md").read_text()
    assert set(re.findall(rf"automodule:: {PACKAGE}\.(\w+)", reference)) == set(order())


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    "A copy of what nbdev reads and writes."
    to = tmp_path_factory.mktemp("copy")
    for name in ("nbs", PACKAGE):
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    shutil.copy(ROOT / "pyproject.toml", to)
    return to


def test_export_equals_what_is_committed(copy):
    subprocess.run([VENV_BIN / "nbdev-export"], cwd=copy, check=True, capture_output=True)
    gates.export(copy)
    made = [path.relative_to(copy) for pattern in ("*.py", "gates/*") for path in (copy / PACKAGE).glob(pattern) if path.is_file()]
    for path in made:
        assert (copy / path).read_text() == (ROOT / path).read_text(), f"{path} is stale or was edited by hand: run `make book`"
    assert {path.name for path in (ROOT / PACKAGE / "gates").glob("*.*")} == {path.name for path in made if path.parent.name == "gates"}


def test_notebooks_are_clean(copy):
    subprocess.run([VENV_BIN / "nbdev-clean"], cwd=copy, check=True, capture_output=True)
    for path in notebooks():
        assert path.read_text() == (copy / "nbs" / path.name).read_text(), f"{path.name} holds outputs or stray metadata: run nbdev-clean"


def test_directives_are_known_and_stand_where_they_work(notebook):
    assert problems(notebook[1]) == []


def test_directives_are_documented():
    documented = re.findall(r"^\| `#\\\| (\S+?)(?: [A-Z]+|: \w+)?`", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    assert [name.rstrip(":") for name in documented] == list(DIRECTIVES)


def test_chapters_open_with_a_title_and_a_claim(notebook):
    first = notebook[1].cells[0]
    assert first.cell_type == "markdown" and re.match(r"# .+\n\n> .+", first.source)


def test_no_number_is_typed_into_prose(notebook):
    "A decimal number in a sentence is computed by the page, as {{...}}; formulas, code, citations and section numbers are not sentences."
    for cell in notebook[1].cells:
        if cell.cell_type != "markdown":
            continue
        text = re.sub(r"\$\$.*?\$\$|\$[^$\n]*\$|```.*?```|`[^`]*`|\{\{[^}]*\}\}|\]\([^)]*\)|[Ss]ections? [\d.]+|Python \d\.\d+", " ", cell.source, flags=re.S)
        typed = re.findall(r"(?<![\w.])\d+\.\d+\b", text)
        assert not typed, f"cell {cell.id}: {typed} typed into prose"


def test_chapters_hold_no_unfinished_text(notebook):
    words = re.compile(r"\b(TODO|FIXME|XXX|TBD|coming soon|placeholder|to be written|lorem)\b", re.I)
    found = [cell.id for cell in notebook[1].cells if words.search(cell.source)]
    assert not found


def test_pictures_go_through_the_figures_module(notebook):
    "A figure without a text alternative can't reach a page: nothing shows one but `picture`, `heat_map` and the like."
    for cell in notebook[1].cells:
        if cell.cell_type == "code" and "plt.subplots" in cell.source and module_of(notebook[1]) != "figures":
            assert "picture(" in cell.source, f"cell {cell.id} draws and does not use picture()"
        assert "plt.show" not in split(cell.source)[1]


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check", "nbs"]], ids=" ".join)
def test_ruff(arguments):
    done = subprocess.run([VENV_BIN / "ruff", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_lock_pins_every_package_once():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[^=\s]+", line) for line in lines)
    names = [re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines]
    assert len(names) == len(set(names)) and "torch==2.13.0" in lines
