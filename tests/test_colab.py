"""The Colab notebooks run from top to bottom where nothing is installed but what Colab ships and the wheel they install themselves.

The code of a study has run for its page. Here it finds what it imports; with `make test ALL=1` it runs once more, as a chapter does.
"""
import ast
import asyncio
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import nbformat
import pytest
from nbclient import NotebookClient

from builder import BUILD, ROOT, chapters, name, primer, studies
from builder.keys import dependencies, digest
from transformer_course import exercises

SHIPPED = ("torch", "numpy", "matplotlib", "tqdm", "ipykernel")       # of what Colab has, what the course may rely on
PAGES = [f"colab/{name(path)}.ipynb" for path in [*chapters(), *primer()]]
STUDIES = [f"colab/{name(path)}.ipynb" for path in studies()]
EXERCISES = [f"exercises/{chapter}.ipynb" for chapter in exercises.chapters()]
RAN = BUILD / "colab_ran.json"
ALL = "COURSE_ALL" in os.environ
pytestmark = pytest.mark.xdist_group("colab")                         # one clean environment serves them all


def code_of(path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def key(path) -> str:
    "What a run depends on: the notebook's code, the package that it uses, and the versions that Colab ships."
    code = code_of(path)
    source = "\n".join(cell for cell in code if not cell.startswith(("%", "# @title Set up: install")))
    lock = (ROOT / "requirements.lock").read_text()
    return digest(*code, lock, *(file.read_text() for file in dependencies(source)))


@pytest.fixture(scope="module")
def clean(tmp_path_factory, built):
    "A folder with the published files, and the Python of an environment that knows nothing of this project."
    folder = tmp_path_factory.mktemp("colab")
    for kind in ("colab", "exercises", "wheel"):
        shutil.copytree(built / kind, folder / kind)
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line for line in lock if line.split("==")[0].lower() in SHIPPED]
    assert len(pins) == len(SHIPPED)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *pins], check=True, capture_output=True)
    kernel = folder / "jupyter/kernels/colab"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps({"argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                                                    "display_name": "Colab", "language": "python"}))
    return folder, python


def frozen(python) -> set[str]:
    return set(subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout.splitlines())


def test_every_notebook_runs_in_a_clean_environment(clean, monkeypatch):
    "Chapter 0 always runs, because it installs; of the others those that have not run as they stand."
    folder, python = clean
    keys = {path: key(folder / path) for path in [*PAGES, *EXERCISES, *(STUDIES if ALL else [])]}
    ran_before = json.loads(RAN.read_text()) if RAN.is_file() and not ALL else {}
    first, *others = [path for path in keys if path == PAGES[0] or ran_before.get(path) != keys[path]]
    before = frozen(python)
    assert not any("transformer" in line for line in before)
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    async def run(path, gate):
        async with gate:
            nb = nbformat.read(folder / path, as_version=4)
            client = NotebookClient(nb, timeout=600, kernel_name="colab", resources={"metadata": {"path": str((folder / path).parent)}})
            in_place = path != first and "pretrained" not in path         # so pip need not look again for what the course asks for
            await client.async_execute(env={**os.environ, **({"PIP_NO_DEPS": "1"} if in_place else {})})
            return nb

    async def run_all():
        gate = asyncio.Semaphore(2)
        installed = await run(first, gate)                                # the others find the wheel in place
        return [installed, *await asyncio.gather(*(run(path, gate) for path in others))]

    with ThreadPoolExecutor(1) as thread:                                 # the browser tests may have a loop running in this one
        ran = dict(zip([first, *others], thread.submit(asyncio.run, run_all()).result(), strict=True))
    for path, nb in ran.items():
        cells = [cell for cell in nb.cells if cell.cell_type == "code"]
        said = "".join(output.get("text", "") for output in cells[0].outputs)
        assert "PyTorch 2." in said and ("on a GPU" in said or "on the CPU" in said)
        checks = [output.data["text/plain"] for cell in cells for output in cell.outputs if "\ncheck(" in "\n" + cell.source and "text/plain" in output.get("data", {})]
        assert len(checks) == (len(exercises.of_chapter(path.split("/")[1])) if path in EXERCISES else 0)
        assert [said for said in checks if not said.startswith("○")] == [], "an untouched stub is shown as wrong"
    changed = before - (after := frozen(python))
    assert not changed, f"the notebooks replaced {changed}, which Colab ships"
    assert any(line.startswith("transformer-course") for line in after)
    RAN.write_text(json.dumps(keys))


def test_a_study_finds_what_it_imports_and_the_results_it_reads(clean):
    "In the environment that the test above has left: the wheel and what it asks for."
    folder, python = clean
    found = {node for path in STUDIES for cell in code_of(folder / path)[1:] for node in ast.walk(ast.parse(cell))
             if isinstance(node, ast.Import | ast.ImportFrom) or isinstance(node, ast.Call) and getattr(node.func, "id", "") == "recorded"}
    lines = sorted({ast.unparse(node) for node in found}, key=lambda line: line.startswith("recorded"))
    assert len(lines) > len(STUDIES) and lines[-1].startswith("recorded(")
    done = subprocess.run([python, "-c", "\n".join(lines)], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr


def test_no_notebook_uses_a_name_that_it_does_not_define(built):
    "The version for Colab leaves out cells that only check."
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", "--select", "F821", built / "colab", built / "exercises"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_plain_import_needs_no_matplotlib(clean):
    _, python = clean
    code = "import sys; sys.modules['matplotlib'] = None; import transformer_course.attention, transformer_course.figures, transformer_course.config"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=clean[0])
    assert done.returncode == 0, done.stderr
