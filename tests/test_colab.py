"""The Colab notebooks run from top to bottom where nothing is installed but what Colab ships and the wheel they install themselves."""
import asyncio
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import nbformat
import pytest
from nbclient import NotebookClient

from reader import ROOT, notebooks

SHIPPED = ("torch", "numpy", "matplotlib", "tqdm", "ipykernel")       # of what Colab has, what the course may rely on
CHAPTERS = [path.name for path in notebooks() if path.name[0].isdigit()]


@pytest.fixture(scope="module")
def clean(tmp_path_factory, built):
    "A folder with the published files, and the Python of an environment that knows nothing of this project."
    folder = tmp_path_factory.mktemp("colab")
    for path in [*(built / "colab").glob("*.ipynb"), *(built / "wheel").glob("*.whl")]:
        shutil.copy(path, folder)
    for path in (built / "exercises").glob("*.ipynb"):
        shutil.copy(path, folder / f"exercises_{path.name}")
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


def test_every_chapter_runs_in_a_clean_environment(clean, monkeypatch):
    folder, python = clean
    before = frozen(python)
    assert not any("transformer" in line for line in before)
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    async def run(name, gate):
        async with gate:
            nb = nbformat.read(folder / name, as_version=4)
            client = NotebookClient(nb, timeout=600, kernel_name="colab", resources={"metadata": {"path": str(folder)}})
            await client.async_execute()
            return nb

    async def run_all():
        gate = asyncio.Semaphore(2)
        first = await run(CHAPTERS[0], gate)                            # the first installs; the others find the wheel in place
        others = [*CHAPTERS[1:], *sorted(path.name for path in folder.glob("exercises_*.ipynb"))]
        return [first, *await asyncio.gather(*(run(name, gate) for name in others))]

    with ThreadPoolExecutor(1) as thread:                                 # the browser tests may have a loop running in this one
        ran = thread.submit(asyncio.run, run_all()).result()
    checks = [output.data["text/plain"] for nb in ran for cell in nb.cells for output in cell.get("outputs", ())
              if "\ncheck(" in "\n" + cell.source and "text/plain" in output.get("data", {})]
    assert len(checks) >= 16
    assert [said for said in checks if not said.startswith("○")] == [], "an untouched stub is shown as wrong"
    for nb in ran:
        if nb.cells[0].cell_type == "markdown":
            nb.cells.pop(0)
        said = "".join(output.get("text", "") for output in nb.cells[0].outputs)
        assert "PyTorch 2." in said and ("on a GPU" in said or "on the CPU" in said)
    after = frozen(python)
    changed = before - after
    assert not changed, f"the notebooks replaced {changed}, which Colab ships"
    assert any(line.startswith("transformer-course") for line in after)


def test_plain_import_needs_no_matplotlib(clean):
    _, python = clean
    code = "import sys; sys.modules['matplotlib'] = None; import transformer_course.attention, transformer_course.figures, transformer_course.config"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=clean[0])
    assert done.returncode == 0, done.stderr
