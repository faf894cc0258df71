"""Build the book and serve it, check a change, test everything: `make book`, `make check`, `make test`, or `python -m builder --help`."""
import argparse
import http.server
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import nbformat
from rich.console import Console

from . import BUILD, PACKAGE, ROOT, SITE, address, browser, chapters, name, primer, run_notebooks, sizes, studies
from .colab import colab_notebook, setup
from .execute import NotebookFailed, execute
from .keys import digest, file_digest
from .notebook import executed
from .prose import fill
from .testing import test

STAMP = BUILD / "stamp"
INPUTS = ("nbs", "book", PACKAGE, "_config.yml", "_toc.yml", "pyproject.toml", "requirements.lock", "README.md")
console = Console(highlight=False)


class BuildFailed(Exception):
    "A step of the build failed; the message says why."


def fingerprint() -> str:
    "A digest of everything that the site is made from: an unchanged one means there is nothing to build."
    where = repr((sys.version, address.repository(), address.site_url()))
    return digest(where, file_digest(*(ROOT / name for name in INPUTS)))


def run(tool: str, *arguments: str, what: str) -> str:
    "Run a tool of this environment and return what it printed; raises `BuildFailed` with its output."
    done = subprocess.run([Path(sys.executable).with_name(tool), *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "book"), os.environ.get("PYTHONPATH", "")])})
    if done.returncode:
        raise BuildFailed(f"{what} failed (exit status {done.returncode})\n{done.stdout}")
    return done.stdout


def build_pages():
    """Sphinx over all pages, warnings as errors.

    Always `--all`: an incremental build would repeat the warnings of changed pages only. Outputs come from the cache.
    """
    run("jupyter-book", "build", ".", "--path-output", "book", "--all", "-W", "-n", "--keep-going", "-q", what="the pages")


def build_wheel() -> Path:
    "The package as a wheel, beside the book, without nbdev's index, which is for those who edit the notebooks."
    out = SITE / "wheel"
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / PACKAGE, copy / PACKAGE, ignore=shutil.ignore_patterns("__pycache__", "_modidx.py"))
        for file in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / file, copy)
        run("pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), folder, what="the wheel")
    return next(out.glob("*.whl"))


def build_colab(wheel: Path):
    "The Colab version of every chapter and study, beside the book, in folders like those of the source."
    site = address.site_url()
    for path in [*primer(), *chapters(), *studies()]:
        def link(target: str, path=path) -> str | None:
            "`02_attention.ipynb#masks`, as a page writes it, on the published site."
            page, _, anchor = target.partition("#")
            if not site or not page:
                return None
            place = (path.parent / page).resolve().relative_to(ROOT).with_suffix(".html").as_posix()
            return f"{site}/{place}" + (f"#{anchor}" if anchor else "")

        nb = nbformat.read(path, as_version=4)
        fill(nb, executed(path))
        nb = colab_notebook(nb, setup(wheel, site, name(path)), link)
        nbformat.validate(nb)
        out = SITE / "colab" / f"{name(path)}.ipynb"
        out.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nb, out)


def build_exercises(wheel: Path):
    "The exercises of each chapter as a notebook for Colab and Jupyter, and as a Python file, beside the book."
    from transformer_course import exercises

    out = SITE / "exercises"
    out.mkdir(exist_ok=True)
    for chapter in exercises.chapters():
        nb = exercises.exercise_notebook(chapter, setup=setup(wheel, address.site_url(), chapter))
        nbformat.validate(nb)
        nbformat.write(nb, out / f"{chapter}.ipynb")
        (out / f"{chapter}.py").write_text(exercises.exercise_script(chapter), encoding="utf-8")


def build(jobs: int | None = None, *, export: bool = True):
    "Everything from the notebooks to the site; returns at once when nothing has changed."
    begin = time.monotonic()
    if export:
        run("nbdev-export", what="the export")
    stamp = fingerprint()
    if STAMP.exists() and STAMP.read_text() == stamp and (SITE / "index.html").exists():
        console.print(f"The book is up to date ({time.monotonic() - begin:.1f} s).")
        return
    STAMP.unlink(missing_ok=True)
    console.print("[bold]Notebooks[/bold]")
    ran = execute(workers=jobs, console=console)
    console.print(f"  {len(ran)} ran, {len(run_notebooks()) - len(ran)} unchanged")
    with console.status("  checkers"):
        run("python", "-m", "builder.exercises", what="the reports on the checkers")
    console.print("[bold]Pages[/bold]")
    shutil.rmtree(SITE, ignore_errors=True)                        # with the pages of notebooks that are gone
    with console.status("  Sphinx, warnings as errors"):
        build_pages()
    with console.status("  wheel and Colab notebooks"):
        wheel = build_wheel()
        build_colab(wheel)
        build_exercises(wheel)
    STAMP.write_text(stamp)
    console.print(f"  built {SITE.relative_to(ROOT)} in {time.monotonic() - begin:.1f} s")


def serve(port: int):
    "Serve the site on this machine, on `port` or the next free one, until Ctrl-C."
    handler = partial(type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}), directory=str(SITE))
    for candidate in range(port, port + 50):
        try:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", candidate), handler)
        except OSError:
            continue
        with server:
            console.print(f"The book is at [bold]http://127.0.0.1:{candidate}[/bold] (Ctrl-C stops it).")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                return
    raise BuildFailed(f"no free port from {port} to {port + 49}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m builder", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["book", "check", "test", "sizes"], default="book", help="book: build and serve (default); "
                        "check: lint, and what a change touches; test: everything that has not passed as it stands; sizes: how long the chapters are")
    parser.add_argument("--no-serve", dest="serve", action="store_false", help="only build")
    parser.add_argument("--port", type=int, default=8000, help="first port to try (default: %(default)s)")
    parser.add_argument("--jobs", type=int, help="notebooks to run at once (default: one per core)")
    parser.add_argument("--all", action="store_true", help="tests that have passed as they stand run again")
    options = parser.parse_args()
    try:
        if options.what == "check":
            return check(console)
        if options.what == "test":
            browser.install()
            build(options.jobs, export=False)
            return test(console, everything=options.all)
        build(options.jobs)
        if options.what == "sizes":
            return sizes.show(console)
        if options.serve:
            serve(options.port)
    except (BuildFailed, NotebookFailed, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def check(console: Console) -> int:
    "The inner loop: export, lint, the notebooks that changed, and the tests of what changed; no page is built."
    begin = time.monotonic()
    run("nbdev-export", what="the export")
    run("ruff", "check", what="ruff")
    run("ruff", "format", "--check", "nbs", what="ruff format")
    ran = execute(console=console)
    console.print(f"  {len(ran)} notebooks ran, {len(run_notebooks()) - len(ran)} unchanged")
    failed = test(console, site=False)
    console.print(f"  checked in {time.monotonic() - begin:.1f} s")
    return failed


if __name__ == "__main__":
    sys.exit(main())
