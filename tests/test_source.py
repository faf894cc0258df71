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

from builder import PACKAGE, ROOT, chapters, exercise_notebooks, front, glossary, notebooks, records, studies, tools
from builder.directives import DIRECTIVES, module_of, problems, split
from builder.exercises import announced_ids, chapter_of
from builder.keys import imported

VENV_BIN = Path(sys.executable).parent


def read(path: Path):
    return nbformat.read(path, as_version=4)


def modules(paths) -> list[str]:
    return [module_of(read(path)) for path in paths]


CHAPTERS, CHECKERS, TOOLS = modules(chapters()), modules(exercise_notebooks()), modules(tools())


def used_by(module: str) -> set[str]:
    "The modules of the course that a module imports, like `grading.probes`."
    path = ROOT / PACKAGE / f"{module.replace('.', '/')}.py"
    names = {name.removeprefix(f"{PACKAGE}.") for name in imported(path.read_text(), path.relative_to(ROOT).parent.parts)}
    return names & {*CHAPTERS, *CHECKERS, *TOOLS}


@pytest.mark.parametrize("module", CHAPTERS)
def test_a_chapter_imports_from_earlier_chapters_and_from_tools(module):
    earlier = CHAPTERS[:CHAPTERS.index(module)]
    assert used_by(module) <= {*earlier, *TOOLS}


@pytest.mark.parametrize("module", CHECKERS)
def test_checkers_import_chapters_up_to_their_own_and_grading(module):
    own = CHAPTERS.index(module.removeprefix("checkers."))
    assert used_by(module) <= {*CHAPTERS[:own + 1], *TOOLS}


@pytest.mark.parametrize("module", TOOLS)
def test_tools_know_no_chapter(module):
    assert used_by(module) <= set(TOOLS)


def test_no_circle_among_the_modules():
    graph = {module: used_by(module) - {module} for module in [*CHAPTERS, *CHECKERS, *TOOLS]}
    assert len(graph) >= 20
    while ground := [module for module, uses in graph.items() if not uses]:
        graph = {module: uses - set(ground) for module, uses in graph.items() if module not in ground}
    assert not graph, f"these import one another: {sorted(graph)}"


def test_names_are_imported_by_name():
    stars = [path for path in (ROOT / PACKAGE).rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)]
    assert not stars


def test_every_module_has_a_notebook():
    files = {path.relative_to(ROOT / PACKAGE).with_suffix("").as_posix().replace("/", ".") for path in (ROOT / PACKAGE).rglob("*.py")}
    assert {file for file in files if not file.endswith(("__init__", "_modidx"))} == {*CHAPTERS, *CHECKERS, *TOOLS}


@pytest.mark.parametrize("path", chapters(), ids=lambda path: path.stem)
def test_a_chapter_has_a_notebook_of_exercises_and_announces_each_of_them(path):
    from transformer_course import exercises

    notebook = ROOT / "nbs/exercises" / path.name
    assert chapter_of(read(notebook)) == path.stem and module_of(read(notebook)) == f"checkers.{module_of(read(path))}"
    announced = [id for cell in read(path).cells if cell.cell_type == "markdown" for id in announced_ids(cell.source)]
    assert sorted(announced) == sorted(one.id for one in exercises.of_chapter(path.stem))


NUMBERS = "One Two Three Four Five Six Seven Eight Nine".split()


@pytest.mark.parametrize("path", chapters(), ids=lambda path: path.stem)
def test_a_chapter_ends_with_its_studies_its_exercises_and_what_comes_next(path):
    from transformer_course import exercises

    end = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown").split("## Summary")[1]
    count = len(exercises.of_chapter(path.stem))
    assert f"**Practise** [{NUMBERS[count - 1]} exercise{'s' * (count > 1)}](exercises/{path.name}), " in end
    deeper = re.findall(r"\(studies/(\S+)\)", "".join(re.findall(r"^\*\*Go deeper\*\* (.*)$", end, re.M)))
    assert {one.name for one in studies() if one.name.split("_")[0] == path.stem.split("_")[0]} <= set(deeper)
    assert re.search(r"^\*\*Next\*\* ", end, re.M) or path == chapters()[-1]


def listed(entries) -> list[str]:
    return [file for entry in entries for file in [entry["file"], *listed(entry.get("sections", ()))]]


def test_every_notebook_is_in_the_book_and_every_module_in_the_reference():
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]
    files = [file for part in parts for file in listed(part["chapters"])]
    assert sorted(file for file in files if file.startswith("nbs/")) == sorted(path.relative_to(ROOT).with_suffix("").as_posix() for path in notebooks())
    reference = (ROOT / "book/reference.md").read_text()
    assert set(re.findall(rf"automodule:: {PACKAGE}\.([\w.]+)", reference)) == {*CHAPTERS, *TOOLS}


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
    made = {path.relative_to(copy) for path in (copy / PACKAGE).rglob("*.py")}
    assert made == {path.relative_to(ROOT) for path in (ROOT / PACKAGE).rglob("*.py")} and len(made) > 20
    for path in made:
        assert (copy / path).read_text() == (ROOT / path).read_text(), f"{path} is stale or was edited by hand: run `make book`"


def test_notebooks_are_clean(copy):
    subprocess.run([VENV_BIN / "nbdev-clean"], cwd=copy, check=True, capture_output=True)
    for path in notebooks():
        assert path.read_text() == (copy / path.relative_to(ROOT)).read_text(), f"{path.name} holds outputs or stray metadata: run nbdev-clean"


def test_directives_are_known_and_stand_where_they_work(notebook):
    assert problems(notebook[1]) == []


def test_directives_are_documented():
    documented = re.findall(r"^\| `#\\\| (\S+?)(?: [A-Z]+|: [\w ]+)?`", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
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


def test_studies_export_nothing():
    assert all(module_of(read(path)) is None for path in studies())


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
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[^=\s;]+(; sys_platform .+)?", line) for line in lines)
    names = [re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines]
    assert len(names) == len(set(names)) and "torch==2.13.0" in lines


def test_picture_and_list_in_the_readme_are_those_of_the_course():
    assert front.README_PICTURE.read_text() == front.readme_picture(), "python -m builder.front writes it"
    assert front.README_PICTURE.relative_to(ROOT).as_posix() in front.README.read_text()
    assert front.README.read_text() == front.readme(), "python -m builder.front writes it"


def test_no_record_is_stale():
    "A recorded result was made by the code that is there."
    assert len(list(records.RESULTS.glob("*.json"))) >= 5 and records.stale() == []


def test_no_term_is_used_before_it_is_defined():
    assert len(glossary.terms()) >= 60 and glossary.early_uses() == []
