"""The shapes in signatures are true: the tests run again while every annotation is checked at every call."""
import subprocess
import sys

from builder import PACKAGE, ROOT, chapters


def topic_of(path) -> str:
    "02_attention.ipynb is about attention."
    return path.stem.partition("_")[2]


def test_every_chapter_has_its_tests():
    assert len(chapters()) >= 5 and all((ROOT / f"tests/test_{topic_of(path)}.py").is_file() for path in chapters())


def test_annotations_hold_while_the_tests_run():
    "In a process of its own, because annotations are checked from the first import on."
    files = [f"tests/test_{topic}.py" for topic in [*map(topic_of, chapters()), "config", "drawings"]]
    done = subprocess.run([sys.executable, "-m", "pytest", *files, "--hypothesis-profile=few", "-m", "not refusal and not compiled and not trained", "-p", "no:cacheprovider",
                           f"--jaxtyping-packages={PACKAGE},typechecker.check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]


def test_a_wrong_shape_is_caught_by_them():
    "The check above can fail: under the same hook a value of the wrong shape is an error."
    code = f"""
from jaxtyping import TypeCheckError, install_import_hook
with install_import_hook("{PACKAGE}", "typechecker.check"):
    import torch
    from {PACKAGE}.prediction import cross_entropy
try:
    cross_entropy(torch.zeros(2, 3), torch.zeros(2))
except TypeCheckError:
    raise SystemExit(0)
raise SystemExit("float targets passed for whole numbers")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "tests", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
