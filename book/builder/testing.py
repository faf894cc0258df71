"""Run the tests that have not passed as they stand: what did not change is not tested again.

A test file depends on the modules of the package that it imports. One that imports the builder depends on the whole package,
the builder and the tests; one that reads notebooks, or works on the site, on everything that the site is made from.
"""
import json
import os
import subprocess
import sys

from rich.console import Console

from . import BUILD, ROOT
from .keys import dependencies, digest, file_digest

PASSED = BUILD / "passed.json"
SITE_TESTS = {"test_site", "test_interactive_site", "test_interactive_lab", "test_colab"}
READ_NOTEBOOKS = {"test_builder", "test_source", *SITE_TESTS}
CODE = ("book", "transformer_course", "tests", "benchmarks", "pyproject.toml", "requirements.lock", "Makefile")
TEXT = ("nbs", "_config.yml", "_toc.yml", "README.md", "CONTRIBUTING.md")


def test_keys() -> dict[str, str]:
    "A key for each test file, by name without ending."
    shared = digest(*(path.read_text() for path in sorted((ROOT / "tests").glob("[!t]*.py"))), (ROOT / "requirements.lock").read_text())
    code = file_digest(*(ROOT / name for name in CODE))
    everything = digest(code, file_digest(*(ROOT / name for name in TEXT)))
    found = {}
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        text = path.read_text()
        if path.stem in READ_NOTEBOOKS:
            used = [everything]
        elif "from builder" in text or "import builder" in text:
            used = [code]
        else:
            used = [one.read_text() for one in dependencies(text)]
        found[path.stem] = digest(shared, text, *used)
    return found


def test(console: Console, *, everything: bool = False, site: bool = True) -> int:
    "Run test files that have not passed with their present key (or all); returns pytest's exit status."
    keys = {name: key for name, key in test_keys().items() if site or name not in SITE_TESTS}
    passed = json.loads(PASSED.read_text()) if PASSED.is_file() else {}
    todo = [name for name, key in keys.items() if everything or passed.get(name) != key]
    console.print(f"[bold]Tests[/bold]\n  {len(todo)} files to run, {len(keys) - len(todo)} have passed as they stand")
    if not todo:
        return 0
    outcome = BUILD / "outcome.json"
    outcome.unlink(missing_ok=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "COURSE_TEST_OUTCOME": str(outcome), "OMP_NUM_THREADS": "1", **({"COURSE_ALL": "1"} if everything else {})}
    command = [sys.executable, "-m", "pytest", *(f"tests/{name}.py" for name in todo), "-n", str(os.cpu_count() or 1), "--dist", "loadgroup"]
    status = subprocess.run(command, cwd=ROOT, env=environment).returncode
    failed = set(json.loads(outcome.read_text())) if outcome.is_file() else set(todo)
    PASSED.write_text(json.dumps({**passed, **{name: keys[name] for name in todo if name not in failed}}))
    return status
