"""Build the book and serve it: `make book`, or `python -m reader --help`."""
import argparse
import hashlib
import http.server
import json
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import nbformat
from rich.console import Console

from . import BUILD, PACKAGE, ROOT, SITE, address, gates, notebooks
from .colab import SETUP, colab_notebook
from .execute import NotebookFailed, execute
from .notebook import executed, to_run
from .prose import fill

STAMP = BUILD / "stamp"
SURVEY = BUILD / "survey.json"
INPUTS = ("nbs", "book", PACKAGE, "_config.yml", "_toc.yml", "pyproject.toml", "requirements.lock", "README.md")
NOT_INPUTS = {"_build", "__pycache__", ".ipynb_checkpoints"}
console = Console(highlight=False)


class BuildFailed(Exception):
    "A step of the build failed; the message says why."


def fingerprint() -> str:
    "A digest of everything that the site is made from: an unchanged one means there is nothing to build."
    digest = hashlib.sha256(repr((sys.version, address.repository(), address.site_url())).encode())
    for name in INPUTS:
        for path in sorted([ROOT / name, *(ROOT / name).rglob("*")]):
            if path.is_file() and not NOT_INPUTS & set(path.parts):
                digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def run(tool: str, *arguments: str, what: str) -> str:
    "Run a tool of this environment and return what it printed; raises `BuildFailed` with its output."
    done = subprocess.run([Path(sys.executable).with_name(tool), *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise BuildFailed(f"{what} failed (exit status {done.returncode})\n{done.stdout}")
    return done.stdout


def build_pages():
    """Sphinx over all pages, warnings as errors.

    Always `--all`: an incremental build would repeat the warnings of changed pages only. Outputs come from the cache.
    """
    run("jupyter-book", "build", ".", "--path-output", "book", "--all", "-W", "-n", "--keep-going", "-q", what="the pages")


def build_wheel() -> Path:
    "The package as a wheel, beside the book."
    shutil.rmtree(ROOT / "build", ignore_errors=True)           # setuptools would pack modules that no longer exist
    out = SITE / "wheel"
    shutil.rmtree(out, ignore_errors=True)
    run("pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), ".", what="the wheel")
    shutil.rmtree(ROOT / "build", ignore_errors=True)
    return next(out.glob("*.whl"))


def published(wheel: str) -> str:
    "What pip installs: the published wheel, or where no address is known the wheel in the notebook's own folder."
    site = address.site_url()
    return f"{site}/wheel/{wheel}" if site else wheel


def build_colab(wheel: str):
    "The Colab version of every notebook, beside the book. They install the published wheel, or one in their own folder."
    site, package = address.site_url(), published(wheel)
    out = SITE / "colab"
    out.mkdir(exist_ok=True)

    def link(target: str) -> str | None:
        "`02_attention.ipynb#masks`, as a chapter writes it, on the published site."
        page, _, anchor = target.partition("#")
        path = (ROOT / "nbs" / page).resolve().relative_to(ROOT).with_suffix(".html").as_posix()
        return f"{site}/{path}" + (f"#{anchor}" if anchor else "") if site else None

    for path in notebooks():
        nb = nbformat.read(path, as_version=4)
        fill(nb, executed(to_run(path.read_text())))
        nb = colab_notebook(nb, package, link)
        nbformat.validate(nb)
        nbformat.write(nb, out / path.name)


def build_exercises(wheel: str):
    "The exercises of each chapter as a notebook for Colab and Jupyter, and as a Python file, beside the book."
    from transformer_course import exercises

    out = SITE / "exercises"
    out.mkdir(exist_ok=True)
    for chapter in dict.fromkeys(exercises.exercise(id).chapter for id in exercises.all()):
        nb = nbformat.from_dict(exercises.exercise_notebook(chapter, setup=SETUP.format(package=published(wheel))))
        nbformat.validate(nb)
        nbformat.write(nb, out / f"{chapter}.ipynb")
        (out / f"{chapter}.py").write_text(exercises.exercise_script(chapter))


def survey():
    """How every gate does on its own wrong and right answers, for the page that shows it and the tests that demand it.

    Runs in a process of its own, because the package may have been exported a moment ago.
    """
    files = sorted(path for path in (ROOT / PACKAGE).rglob("*") if path.suffix in {".py", ".json"})
    known = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    if SURVEY.exists() and json.loads(SURVEY.read_text())["package"] == known:
        return
    code = ("import dataclasses, json, sys; from transformer_course import exercises; "
            "gates = [dataclasses.asdict(exercises.survey(id)) for id in exercises.all()]; "
            "open(sys.argv[1], 'w').write(json.dumps({'package': sys.argv[2], 'gates': gates}))")
    SURVEY.parent.mkdir(parents=True, exist_ok=True)
    run("python", "-c", code, str(SURVEY), known, what="the survey of the gates")


def build(jobs: int | None = None, *, export: bool = True):
    "Everything from the notebooks to the site; returns at once when nothing has changed."
    begin = time.monotonic()
    if export:
        run("nbdev-export", what="the export")
        gates.export()
    stamp = fingerprint()
    if STAMP.exists() and STAMP.read_text() == stamp and (SITE / "index.html").exists():
        console.print(f"The book is up to date ({time.monotonic() - begin:.1f} s).")
        return
    STAMP.unlink(missing_ok=True)
    console.print("[bold]Notebooks[/bold]")
    ran = execute(workers=jobs, console=console)
    console.print(f"  {len(ran)} ran, {len(notebooks()) - len(ran)} unchanged")
    with console.status("  gates"):
        survey()
    console.print("[bold]Pages[/bold]")
    with console.status("  Sphinx, warnings as errors"):
        build_pages()
    with console.status("  wheel and Colab notebooks"):
        wheel = build_wheel().name
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
    parser = argparse.ArgumentParser(prog="python -m reader", description=__doc__)
    parser.add_argument("--no-serve", dest="serve", action="store_false", help="only build")
    parser.add_argument("--port", type=int, default=8000, help="first port to try (default: %(default)s)")
    parser.add_argument("--jobs", type=int, help="notebooks to run at once (default: one per core)")
    parser.add_argument("--no-export", dest="export", action="store_false", help="take the package as it is: tests must see a stale one")
    options = parser.parse_args()
    try:
        build(options.jobs, export=options.export)
        if options.serve:
            serve(options.port)
    except (BuildFailed, NotebookFailed) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
