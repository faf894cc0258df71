"""Run the book's notebooks in parallel, each in a fresh kernel, and keep their outputs for the pages."""
import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from . import ROOT, name, run_notebooks
from .keys import notebook_key
from .notebook import executed, keep, to_run

CELL_TIMEOUT = 600      # seconds


class NotebookFailed(Exception):
    "A cell raised or warned; the message holds the notebook, the cell and its traceback, or the warning."


def _environment(workers: int) -> dict[str, str]:
    """What kernels see: the package, one thread per kernel and core (kernels that fight over cores are several times slower).

    Progress bars are off and interactive figures leave their code to the page: neither belongs into an output.
    """
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {"OMP_NUM_THREADS": threads} | os.environ | {"PYTHONPATH": path, "TQDM_DISABLE": "1", "COURSE_FIGURES": "page"}


async def _run(path: Path, nb, environment: dict[str, str], jobs: asyncio.Semaphore, progress: Progress):
    "The executed notebook and its seconds; the bar counts its cells."
    async with jobs:
        cells = sum(cell.cell_type == "code" for cell in nb.cells)
        task = progress.add_task(path.stem, total=cells)
        client = NotebookClient(nb, timeout=CELL_TIMEOUT, kernel_name="python3", record_timing=False, coalesce_streams=True,
                                resources={"metadata": {"path": str(path.parent)}},
                                on_cell_complete=lambda cell, cell_index: progress.advance(task))
        begin = time.monotonic()
        try:
            await client.async_execute(env=environment)
        except CellExecutionError as error:
            raise NotebookFailed(f"{path.relative_to(ROOT)} failed\n{error}") from None
        if said := [output.text for cell in nb.cells for output in cell.get("outputs", ()) if output.get("name") == "stderr"]:
            raise NotebookFailed(f"{path.relative_to(ROOT)} would show warnings to its readers\n{''.join(said)}")
        progress.update(task, completed=cells)
        return nb, time.monotonic() - begin


async def _run_all(todo, workers: int, console: Console, done):
    columns = (TextColumn("  {task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f} cells"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        environment, jobs = _environment(workers), asyncio.Semaphore(workers)
        runs = [asyncio.create_task(_run(path, nb, environment, jobs, progress)) for path, nb, _ in todo]
        failures = []
        for (path, _, key), run in zip(todo, runs, strict=True):
            try:
                ran, took = await run
                done(path, ran, key, took)
            except NotebookFailed as error:
                failures.append(str(error))
    if failures:
        raise NotebookFailed("\n".join(failures))


def execute(paths=None, *, workers: int | None = None, console: Console | None = None) -> dict[str, float]:
    """Run every notebook whose outputs are not kept; returns the seconds that each run took, by name.

    Raises `NotebookFailed` with the tracebacks of all that failed, after the others have finished and been kept.
    """
    console = console or Console()
    workers = workers or os.cpu_count() or 1
    todo, seconds = [], {}
    for path in paths or run_notebooks():
        try:
            executed(path)
        except KeyError:
            nb = to_run(path.read_text(encoding="utf-8"))
            todo.append((path, nb, notebook_key(nb)))

    def done(path, nb, key, took):
        seconds[name(path)] = took
        keep(path, nb, key)
        if not console.is_terminal:
            console.print(f"  ran {name(path)} in {took:.1f} s")

    if todo:
        with ThreadPoolExecutor(1) as thread:       # a loop may already be running in this one
            thread.submit(asyncio.run, _run_all(todo, workers, console, done)).result()
    return seconds
