"""Exercises: checkers on wrong and right answers, the same verdict everywhere, and learners who break things."""
import ast
import contextlib
import json
import math
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from builder.exercises import reports
from transformer_course import cli, exercises
from transformer_course.grading import progress, sandbox
from transformer_course.grading.probes import call
from transformer_course.grading.verdicts import Mistake, edited, same

BIN = Path(sys.executable).parent
IDS = exercises.all()
CHAPTERS = exercises.chapters()


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    "Nobody's real progress is touched."
    monkeypatch.setenv("TRANSFORMER_COURSE_PROGRESS", str(tmp_path / "progress.sqlite"))


@pytest.fixture(scope="module")
def checked():
    "The reports that the build makes on the checkers, of this very package."
    return reports()


# --- the checkers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", IDS)
def test_checker_rejects_what_is_wrong_accepts_what_is_right_and_names_mistakes(id, checked):
    report = checked[id]
    assert report["rejected"] == report["simulated"] >= 3, "a wrong answer passes"
    assert report["unnamed"] == [], "mistakes that are neither named nor listed with a reason"
    assert report["refused"] == [] and report["equivalents"] >= 2, "a right answer is turned away"
    assert report["passed"] == [], "a combination of slips passes"


def test_attention_checker_knows_twenty_mistakes_and_their_combinations(checked):
    report = checked["attention.scaled_dot_product"]
    assert report["simulated"] >= 20 and report["combinations"] > 300 and report["explained"] == report["combinations"]


def test_edits_say_what_does_not_fit():
    with pytest.raises(ValueError, match="stands 2 times"):
        edited("a + a", [("a", "b")])
    with pytest.raises(ValueError, match="stands 0 times"):
        edited("a + a", [("c", "b")])
    assert edited("a + b", [("a", "x"), ("b", "y")]) == "x + y" and edited("ab", [("ab", "x"), ("b", "y")]) is None
    for text in ("M1  No edit\n    says", "M1 one space\n    a => b", "M1  Both\n    a => b\n    := c"):
        with pytest.raises(ValueError, match="M1"):
            Mistake.all_of(text)
    one, two, three = Mistake.all_of("M1  Wrong\n    a => b\n    or a => c\n    Because\n    so.\n    ? Why?\n    = like M2\nok  Right\n    := lambda: 1")
    assert (one.edits, two.edits, two.says, two.hint, two.alike) == ([("a", "b")], [("a", "c")], "Because so.", "Why?", "like M2")
    assert (three.id, three.expression) == ("ok", "lambda: 1")
    beside, other = Mistake.all_of("ok  Right | a => b | c\n    or := lambda: 1")
    assert (beside.name, beside.edits, other.name, other.expression) == ("Right", [("a", "b | c")], "Right", "lambda: 1")


def test_chapters_have_enough_exercises_and_each_kind():
    for chapter in CHAPTERS:
        kinds = [one.kind for one in exercises.of_chapter(chapter)]
        side = re.match(r"\d+[a-z]", chapter)  # a page beside a chapter
        assert len(kinds) >= (1 if side else 3 if chapter.startswith("00") else 6)
        assert side or chapter.startswith("00") or {"build it", "find the bug", "predict first"} <= set(kinds)


@pytest.mark.parametrize("id", IDS)
def test_words_are_complete(id):
    one = exercises.exercise(id)
    assert len(one.task) > 60 and len(one.hints) >= 3 and 1 <= one.minutes <= 60
    assert "{{" not in one.task and one.stub != one.solution
    assert one.name in {*re.findall(r"^(?:def|class) (\w+)", one.stub, re.M), *re.findall(r"^(\w+) =", one.stub, re.M)}
    for code in (one.stub, one.solution):
        ast.parse(code)
    for key, mistake in one.mistakes.items():
        assert 3 < len(mistake.name) < 70 and len(one.message(key)) > 20


# --- four doors, one verdict ---------------------------------------------------------------------------------------------


def written(chapter: str, folder: Path, kind: str, answers) -> Path:
    "The file that `start` writes, with `answers(exercise)` in place of the stubs."
    path = exercises.start(chapter, folder, notebook=kind == "ipynb")
    if kind == "ipynb":
        nb = json.loads(path.read_text())
        for one in exercises.of_chapter(chapter):
            cell = next(cell for cell in nb["cells"] if "".join(cell["source"]) == one.stub)
            cell["source"] = answers(one).splitlines(keepends=True)
        path.write_text(json.dumps(nb))
    else:
        text = path.read_text()
        for one in exercises.of_chapter(chapter):
            assert one.stub in text
            text = text.replace(one.stub, answers(one), 1)
        path.write_text(text)
    return path


@pytest.mark.parametrize("kind", ["py", "ipynb"])
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_stubs_are_not_tried_and_solutions_are_right(chapter, kind, tmp_path):
    "Of each exercise, the stub stands in a file of one kind and the solution in one of the other, among neighbours in the other state."
    solved = {one.id for number, one in enumerate(exercises.of_chapter(chapter)) if number % 2 == (kind == "py")}
    path = written(chapter, tmp_path, kind, lambda one: one.solution if one.id in solved else one.stub)
    verdicts = {one.id: exercises.check_file(path, one.id).status for one in exercises.of_chapter(chapter)}
    assert verdicts == {id: "right" if id in solved else "not tried" for id in verdicts}


WRONG = """
def scaled_dot_product(q, k, v, mask=None):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, 0)
    return scores.softmax(-1) @ v
"""


def wrong_first(one):
    return WRONG if one.id == "attention.scaled_dot_product" else one.stub


def test_all_doors_say_the_same(tmp_path):
    scope = {"math": math}
    exec(WRONG, scope)
    here = exercises.check("attention.scaled_dot_product", scope["scaled_dot_product"])
    assert (here.status, here.name) == ("not yet", "A7")
    path = written("02", tmp_path, "py", wrong_first)
    nb = written("02", tmp_path, "ipynb", wrong_first)
    assert str(exercises.check_file(path, here.exercise)) == str(exercises.check_file(nb, here.exercise)) == str(here)
    terminal = run("check", str(path), "--only", here.exercise)
    tests = subprocess.run([BIN / "pytest", path, "-q", "-p", "no:cacheprovider"], capture_output=True, text=True, cwd=tmp_path)
    assert terminal.exit_code == 1 and tests.returncode == 1
    for line in str(here).splitlines()[1:]:
        assert line.strip() in " ".join(re.sub(r"[│╭╰─╮╯]", " ", terminal.stdout).split()) and line.strip() in tests.stdout
    assert "1 failed" in tests.stdout and "7 skipped" in tests.stdout
    assert here._repr_html_().count("exp(0) = 1") == 1


def run(*arguments, cwd="."):
    "The command line in this process; `test_command_line` starts it as a program too."
    cli.console.width = 200
    with contextlib.chdir(cwd):
        done = CliRunner().invoke(cli.app, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_command_line(tmp_path):
    started = subprocess.run([BIN / "transformer-course", "start", "02"], capture_output=True, text=True, cwd=tmp_path)
    assert started.returncode == 0 and "02_attention.py" in started.stdout
    again = run("start", "02", cwd=tmp_path)
    assert again.exit_code == 2 and "stays as it is" in again.stderr
    checked = run("check", "02", cwd=tmp_path)
    assert checked.exit_code == 0 and checked.stdout.count("not tried") == 8 and "0 of 8 right" in checked.stdout
    listed = run("exercises", "02").stdout
    assert all(id in listed for id in IDS if id.startswith("attention.")) and "115" in listed
    assert "Hint 1 of 3" in run("hint", "attention.bill").stdout and "Hint 2 of 3" in run("hint", "attention.bill").stdout
    assert "`transformer-course hint attention.bill`" in (tmp_path / "02_attention.py").read_text()
    assert "transformer-course solution attention.is_causal has the rest" in run("hint", "attention.is_causal", "--number", "9").stdout
    assert "these are: attention.scaled_dot_product" in run("check", "02", "--only", "foo", cwd=tmp_path).stderr
    assert "12 * 12" in run("solution", "attention.bill").stdout
    assert run("solution", "pretrained.find_the_bug").stdout == exercises.solution("pretrained.find_the_bug").text + "\n"
    assert "0 of 8 right" in run("progress").stdout
    exported = json.loads(run("progress", "--json").stdout)
    assert exported["exercises"]["attention.bill"]["hints"] == 2 and exported["exercises"]["attention.bill"]["solution_read"] == "before success"


@pytest.mark.parametrize(("arguments", "said"), [
    (["check", "77"], "no exercises for chapter '77'"), (["check", "gone.py"], "no file gone.py"), (["hint", "attention.bil"], "did you mean attention.bill"),
    (["check", "02"], "`transformer-course start 02` writes it"), (["start", "77"], "no exercises for chapter"), (["check", "02.txt"], "no exercises"),
])
def test_command_line_says_what_is_wrong(arguments, said, tmp_path):
    done = run(*arguments, cwd=tmp_path)
    assert done.exit_code == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_both_files_at_once_are_a_question(tmp_path):
    run("start", "02", cwd=tmp_path)
    run("start", "02", "--notebook", cwd=tmp_path)
    assert "both here" in run("check", "02", cwd=tmp_path).stderr


def test_watch_checks_again_when_the_file_changes(tmp_path):
    path = exercises.start("02", tmp_path)
    watcher = subprocess.Popen([BIN / "transformer-course", "check", str(path), "--only", "attention.bill", "--watch"], stdout=subprocess.PIPE, text=True)
    deadline = threading.Timer(90, watcher.kill)  # a watcher that misses the change fails the test, it does not hang it
    deadline.start()
    try:
        lines = iter(watcher.stdout.readline, "")
        assert any("Waiting for" in line for line in lines)
        path.write_text(path.read_text().replace("bill = ...", "bill = 12 * 12 * 1024**2 * 2"))
        assert any("1 of 1 right" in line for line in lines)
    finally:
        deadline.cancel()
        watcher.kill()
        watcher.wait()


def test_a_change_that_is_saved_while_the_checks_run_is_checked_too(tmp_path):
    path = tmp_path / "02_attention.py"
    path.write_text("first")
    checked = cli._version(path)
    path.write_text("second, saved before anybody waits")
    assert cli._next_version(path, checked) == cli._version(path)
    checked = cli._version(path)
    path.unlink()
    threading.Timer(0.5, path.write_text, ["third, after the editor removed the file"]).start()
    assert cli._next_version(path, checked, every=0.05) == cli._version(path) != checked


@pytest.mark.parametrize("id", [id for id in IDS if exercises.exercise(id).is_number])
@pytest.mark.parametrize("answer", [7.25, -1, 1e30, float("nan"), float("inf"), "many", [1], None])
def test_a_wrong_number_does_not_give_the_right_one_away(id, answer):
    right = exercises.exercise(id).right
    verdict = exercises.check(id, answer)
    assert verdict.status == "not yet" and verdict.message
    said = re.findall(r"\d+(?:\.\d+)?(?:e\+?\d+)?", str(verdict).replace(",", ""))
    assert not any(same(float(number), right) for number in said)


def test_files_are_never_overwritten(tmp_path):
    path = tmp_path / "02_attention.py"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        exercises.start("02", tmp_path)
    assert path.read_text() == "mine"


def test_hints_come_in_order_and_the_last_one_stays():
    said = [str(exercises.hint("attention.causal_mask")) for _ in range(4)]
    assert "Hint 1 of 3" in said[0] and "Hint 2 of 3" in said[1] and "Hint 3 of 3" in said[2] and said[3] == said[2]
    assert "solution(" in said[2] and "solution(" not in said[1]
    assert "Hint 1 of 3" in str(exercises.hint("attention.causal_mask", 1))


# --- learners who break things ----------------------------------------------------------------------------------------------

KEEP = []


def greedy(q, k, v, mask=None):
    return torch.ones(10**6, 10**6)


def floods(q, k, v, mask=None):
    for _ in range(10**5):
        print("x" * 100)
    return right(q, k, v, mask)


def right(q, k, v, mask=None):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def patches(q, k, v, mask=None):
    from transformer_course.grading import verdicts
    torch.isclose = torch.allclose = torch.equal = lambda *a, **k: True
    verdicts.same = verdicts._agrees = verdicts._passes = verdicts.judge = lambda *a, **k: True
    return torch.zeros(())


def seeds(q, k, v, mask=None):
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    return right(q, k, v, mask)


def loops(q, k, v, mask=None):
    while True:
        try:
            time.sleep(0.001)
        except BaseException:
            pass


def borrows(q, k, v, mask=None):
    from transformer_course.attention import attention
    return attention(q, k, v, mask)


def borrows_from_the_checker(q, k, v, mask=None):
    from transformer_course.checkers.attention import scaled_dot_product_exercise
    return scaled_dot_product_exercise.reference(q, k, v, mask)


HOSTILE = {
    "raises": (lambda q, k, v, mask=None: 1 / 0, "ZeroDivisionError"),
    "wrong arity": (lambda q, k: q, "takes 2 positional arguments"),
    "None": (None, "That is None"),
    "returns None": (lambda q, k, v, mask=None: None, "returned None"),
    "a tensor, not a function": (torch.ones(3), "without calling it"),
    "text": (lambda q, k, v, mask=None: "attention", "It returned 'attention'"),
    "a list": (lambda q, k, v, mask=None: right(q, k, v, mask).tolist(), "It returned"),
    "an object": (lambda q, k, v, mask=None: object(), "an object of type object"),
    "wrong shape": (lambda q, k, v, mask=None: right(q, k, v, mask)[..., :1], "shape"),
    "NaN": (lambda q, k, v, mask=None: right(q, k, v, mask) * math.nan, "holds NaN"),
    "changes its input": (lambda q, k, v, mask=None: right(q.mul_(2), k, v, mask), "changed its input 1"),
    "returns its input": (lambda q, k, v, mask=None: v, "piece of its own input"),
    "a random answer": (lambda q, k, v, mask=None: torch.rand(*q.shape[:-1], v.shape[-1]), "It is random"),
    "dropout": (lambda q, k, v, mask=None: F.dropout(right(q, k, v, mask), 0.2), "It is random"),
    "an endless loop": (lambda q, k, v, mask=None: all(zero == 0 for zero in iter(int, 1)), "Is there a loop that never ends?"),
    "a loop that swallows every exception": (loops, "Is there a loop that never ends?"),
    "an endless sleep": (lambda q, k, v, mask=None: time.sleep(1e6), "no result within"),
    "a huge allocation": (greedy, "more memory"),
    "sys.exit": (lambda q, k, v, mask=None: sys.exit(0), "sys.exit"),
    "os._exit": (lambda q, k, v, mask=None: os._exit(0), "Python ended"),
    "a crash": (lambda q, k, v, mask=None: os.kill(os.getpid(), 11), "Python ended"),
    "patches the checker": (patches, "shape"),
    "the course's function": (__import__("transformer_course.attention").attention.attention, "the course's own code"),
    "the course's function, wrapped": (borrows, "this function of the course is the answer"),
    "a class": (type("Attention", (), {}), "takes no arguments"),
}


# Linux gives each answer a process of its own; other systems run it in the checker's, where these can't be held.
NEED_A_PROCESS = {"a loop that swallows every exception", "os._exit", "a crash", "a huge allocation", "patches the checker"}
APART = [True, False] if sys.platform == "linux" else [False]
CASES = [(name, apart) for apart in APART for name in HOSTILE if apart or name not in NEED_A_PROCESS]


def here_or_apart(monkeypatch, apart: bool):
    if not apart:
        monkeypatch.setattr(sandbox, "_apart", sandbox._here)


@pytest.mark.parametrize(("name", "apart"), CASES)
def test_hostile_and_clumsy_answers_get_a_clear_verdict(name, apart, monkeypatch):
    here_or_apart(monkeypatch, apart)
    answer, said = HOSTILE[name]
    state = torch.random.get_rng_state()
    monkeypatch.setitem(vars(exercises.exercise("attention.scaled_dot_product")), "seconds", 1.0)
    verdict = exercises.check("attention.scaled_dot_product", answer)
    assert verdict.status == "not yet" and said in str(verdict), str(verdict)
    assert torch.equal(torch.random.get_rng_state(), state) and torch.get_default_dtype() == torch.float32
    assert progress.read_progress()["attention.scaled_dot_product"]["status"] == "not yet"      # the progress file survived
    assert exercises.check("attention.scaled_dot_product", right).status == "right"               # and so did the checker


@pytest.mark.parametrize("apart", APART)
def test_a_look_that_ends_in_a_time_out_is_the_last(apart, monkeypatch):
    here_or_apart(monkeypatch, apart)
    looks = [(look, 0) for look in (lambda _: 1, lambda _: time.sleep(1e6), lambda _: 1)]
    seen = sandbox.observe(lambda: None, looks, limits=sandbox.Limits(seconds=0.2)).seen
    assert [one.error for one in seen] == [None, "TimeoutError"]


def test_lists_and_dicts_that_an_answer_changes_stay_what_they_were():
    given = [[1, 2], [3]], {"a": 1}
    for kind, answer in {"list": lambda sizes, counts: sizes[0].pop(), "dict": lambda sizes, counts: counts.pop("a")}.items():
        with pytest.raises(sandbox.Misconduct, match=f"Make a new {kind} instead"):
            call(answer, *given)
    assert given == ([[1, 2], [3]], {"a": 1}) and call(lambda sizes, counts: [*sizes, counts], *given) == [[1, 2], [3], {"a": 1}]


@pytest.mark.skipif(sys.platform != "linux", reason="processes of their own are forked on Linux alone")
def test_a_process_that_has_to_wait_for_the_processor_gets_more_time():
    def waits(answer):
        time.sleep(1)
        return 1

    def computes(answer):
        while True:
            pass

    seen = [sandbox.observe(lambda: None, [(look, 0)], limits=sandbox.Limits(seconds=0.4)).seen[0] for look in (waits, computes)]
    assert [one.error for one in seen] == [None, "TimeoutError"] and seen[0].value == 1


@pytest.mark.parametrize("apart", APART)
@pytest.mark.parametrize("answer", [floods, seeds], ids=["floods the screen", "sets seeds and defaults"])
def test_bad_manners_outside_the_answer_do_no_harm(answer, apart, capfd, monkeypatch):
    here_or_apart(monkeypatch, apart)
    state = torch.random.get_rng_state()
    verdict = exercises.check("attention.scaled_dot_product", answer)
    assert verdict.status == "right" and len(str(verdict)) < 1500
    assert torch.equal(torch.random.get_rng_state(), state) and torch.get_default_dtype() == torch.float32
    assert capfd.readouterr().out == ""


SETTINGS = """
import sys, torch
from transformer_course import exercises
from transformer_course.grading import sandbox
{set_up}
for path, id in zip(sys.argv[1::2], sys.argv[2::2]):
    verdict = exercises.check_file(path, id)
    print(id, verdict.status, verdict.name)
print(torch.get_default_device(), torch.get_default_dtype(), torch.is_inference_mode_enabled())
"""


DEFAULTS = """
torch.set_default_device("meta"); torch.set_default_dtype(torch.float64)
inference = torch.inference_mode(); inference.__enter__()
"""
IN_THE_CHECKERS_PROCESS = "sandbox._apart = sandbox._here"
# PyTorch's engine can't compute gradients in the fork of a process that has done so on a machine with a GPU
A_GPU_THAT_HAS_WORKED = """
from torch.utils import backend_registration
class Guard(backend_registration._DummyDeviceGuard):
    device_count = deviceCount = lambda self: 1
backend_registration._setup_privateuseone_for_python_backend("somegpu", device_guard=Guard())
torch.ones(1, requires_grad=True).sum().backward()
"""


@pytest.mark.parametrize(("set_up", "left"), [
    (DEFAULTS, "meta torch.float64 True"),
    (DEFAULTS + IN_THE_CHECKERS_PROCESS, "meta torch.float64 True"),
    (A_GPU_THAT_HAS_WORKED, "cpu torch.float32 False"),
], ids=["defaults", "defaults, in the checker's process", "a GPU that has worked"])
def test_a_notebook_with_settings_of_its_own_gets_the_same_verdicts(set_up, left, tmp_path):
    "A notebook on Colab may have `torch.set_default_device('cuda')` at its top, and may have trained a model before the first check."
    paths = {chapter: written(chapter, tmp_path, "py", lambda one: one.solution) for chapter in CHAPTERS}
    bad = tmp_path / "unscaled.py"
    bad.write_text("import torch.nn.functional as F\ndef scaled_dot_product(q, k, v, mask=None):\n"
                   "    return F.scaled_dot_product_attention(q, k, v, mask, scale=1.0)\n")
    asked = [part for id in IDS for part in (paths[next(name for name in CHAPTERS if id in [one.id for one in exercises.of_chapter(name)])], id)] + [bad, "attention.scaled_dot_product"]
    told = subprocess.run([sys.executable, "-c", SETTINGS.format(set_up=set_up), *asked], capture_output=True, text=True, check=True)
    *verdicts, wrong, settings_after = told.stdout.splitlines()
    assert verdicts == [f"{id} right None" for id in IDS]
    assert wrong == "attention.scaled_dot_product not yet A3"
    assert settings_after == left


def test_a_learner_who_wants_to_cheat_alone_at_home_can():
    "The right answer is in the package. The page about the sandbox says so."
    assert exercises.check("attention.scaled_dot_product", borrows_from_the_checker).status == "right"


@pytest.mark.parametrize(("source", "status", "said"), [
    ("def scaled_dot_product(q, k, v, mask=None)\n    return q\n", "not yet", "SyntaxError"),
    ("import nowhere_to_be_found as F\ndef scaled_dot_product(q, k, v, mask=None):\n    return F.it(q, k, v)\n", "not yet", "nowhere_to_be_found"),
    ("", "not tried", "There is no `scaled_dot_product`"),
    ("scaled_dot_product = None\n", "not yet", "That is None"),
    ("raise SystemExit\n", "not tried", "There is no"),
    ("while True: pass\n", "not tried", "There is no"),
    ("x = [0] * 10**12\ndef scaled_dot_product(q, k, v, mask=None):\n    raise NotImplementedError\n", "not tried", "Not tried yet"),
])
def test_broken_files_get_a_clear_verdict(source, status, said, tmp_path):
    path = tmp_path / "02_attention.py"
    path.write_text(source)
    verdict = exercises.check_file(path, "attention.scaled_dot_product")
    assert verdict.status == status and said in str(verdict), str(verdict)


ANSWER = "def scaled_dot_product(q, k, v, mask=None):\n    return F.scaled_dot_product_attention(q, k, v, mask)\n"
IMPORT = "import torch.nn.functional as F\n"


@pytest.mark.parametrize("source", [
    IMPORT + ANSWER + "losses = [step for step in iter(int, 1)]\nF.plot(losses)\nq = [0] * 10**12\n",
    "import nowhere_to_be_found\n" + IMPORT + ANSWER,
    "try:\n    import nowhere_to_be_found as F\nexcept ImportError:\n    import torch.nn.functional as F\n" + ANSWER,
    "from beside import F\n" + ANSWER,
    "from beside import *\n" + ANSWER,
    "\ufeff" + IMPORT + ANSWER,
    "# -*- coding: latin-1 -*-\n# caf\xe9\n" + IMPORT + ANSWER,
    "from __future__ import annotations\n" + IMPORT + ANSWER.replace("mask=None", "mask: Nowhere | None = None"),
    "from dataclasses import dataclass\n@dataclass\nclass Options:\n    causal: 'bool' = False\n" + IMPORT
    + ANSWER.replace("return", "Options()\n    return"),
    "KEPT = {}\nKEPT.update(it=1)\nNAMES = ['a']\nNAMES[0] = 'it'\n" + IMPORT + ANSWER.replace("return", "KEPT[NAMES[0]]\n    return"),
], ids=["experiments", "an import that nothing needs", "a choice of imports", "a file beside it", "a star", "a byte-order mark", "an encoding",
        "annotations", "a dataclass", "changes"])
def test_of_a_file_only_what_the_answer_needs_is_run(source, tmp_path):
    (tmp_path / "beside.py").write_text(IMPORT)
    path = tmp_path / "02_attention.py"
    path.write_bytes(source.encode("latin-1" if "latin-1" in source else "utf-8"))
    before = list(sys.path)
    verdict = exercises.check_file(path, "attention.scaled_dot_product")
    assert verdict.status == "right" and sys.path == before, str(verdict)


@pytest.mark.parametrize(("source", "status"), [
    ("bill = 12 * 12 * 1024**2\nbill *= 2\n", "right"),
    ("bill = 0\nfor layer in range(12):\n    bill += 12 * 1024**2 * 2\n", "right"),
    ("if True:\n    bill = 2 * 12 * 12 * 1024**2\n", "right"),
    ("bill = 12 * 12 * 1024**2 * byts\n", "not yet"),
    ("bill = ...\n", "not tried"),
], ids=["two steps", "a loop", "a block", "a typing error", "three dots"])
def test_a_prediction_may_take_several_steps(source, status, tmp_path):
    path = tmp_path / "02_attention.py"
    path.write_text(source)
    verdict = exercises.check_file(path, "attention.bill")
    assert verdict.status == status and ("byts" in str(verdict)) == (status == "not yet"), str(verdict)


@pytest.mark.parametrize("cell", [
    "if 'google.colab' in sys.modules:\n    !pip install -q nowhere\nimport torch.nn.functional as F",
    "files = !ls\nimport torch.nn.functional as F",
    "%%time\nimport torch.nn.functional as F",
], ids=["a condition", "an assignment", "a timed cell"])
def test_magics_in_a_cell_leave_the_rest_of_it(cell, tmp_path):
    cells = [cell, ANSWER, "scaled_dot_product?", "t = %timeit -o scaled_dot_product(1)", "%%bash\nscaled_dot_product it", "scaled_dot_product("]
    path = tmp_path / "02_attention.ipynb"
    path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": [one]} for one in cells]}), encoding="utf-8-sig")
    verdict = exercises.check_file(path, "attention.scaled_dot_product")
    assert verdict.status == "right", str(verdict)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"worksheets": []}'])
def test_what_is_no_notebook_is_said_to_be_none(text, tmp_path):
    (tmp_path / "02_attention.ipynb").write_text(text)
    verdict = exercises.check_file(tmp_path / "02_attention.ipynb", "attention.scaled_dot_product")
    assert "02_attention.ipynb is not a notebook" in str(verdict)


@pytest.mark.parametrize("text", [b"# caf\xe9\nx = 1\n", "x = 1\n".encode("utf-16"), b"# coding: none\n"])
def test_a_file_in_another_encoding_is_refused_in_a_line(text, tmp_path):
    (tmp_path / "02_attention.py").write_bytes(text)
    done = run("check", "02", cwd=tmp_path)
    assert done.exit_code == 2 and "save it as UTF-8" in done.output.replace("\n", " "), done.output
    assert "lent" in str(exercises.your_parts(tmp_path))


@pytest.mark.parametrize(("answer", "said"), [
    (lambda q, k, v, mask=None: F.cross_entropy(q, k.bool()), "It raised"),
    (lambda q, k, v, mask=None: torch.ones(2).long().softmax(-1), "It raised NotImplementedError: "),
    (lambda q, k, v, mask=None: right(q, k, v, mask).item(), "It raised"),
    (lambda q, k, v, mask=None: right(q, k, v, mask).to(torch.complex64), "is of type torch.complex64, not torch.float32"),
    (lambda q, k, v, mask=None: 2 * right(q, k, v, mask).to_sparse(), "numbers are off"),
    (lambda q, k, v, mask=None: right(q.detach(), k.detach(), v.detach(), mask), "The gradient is cut off"),
    (lambda q, k, v, mask=None: (right(q, k, v, mask), q + 1), "It returned 2 parts, the first of them tensor"),
], ids=["PyTorch refuses", "PyTorch has no such thing", "a number of many", "complex", "sparse", "a cut gradient", "two results"])
def test_what_pytorch_refuses_is_an_attempt_and_is_explained(answer, said):
    verdict = exercises.check("attention.scaled_dot_product", answer)
    assert verdict.status == "not yet" and said in str(verdict), str(verdict)


@pytest.mark.parametrize("id", ["attention.is_causal", "recurrence.may_be_cut", "multi_head.is_multi_head", "positions.is_relative"])
def test_a_forgotten_return_is_no_false(id):
    verdict = exercises.check(id, lambda f: None)
    assert verdict.status == "not yet" and verdict.name is None and "Is the `return` missing?" in str(verdict), str(verdict)


def test_of_several_results_the_message_tells_which_one_is_wrong():
    def keeps_the_first(x, W_x, W_h, b, state=None):
        states = [x.new_zeros(len(x), len(b)) if state is None else state]
        for now in x.unbind(1):
            states.append(torch.tanh(now @ W_x.T + states[-1] @ W_h.T + b))
        return torch.stack(states, 1), states[-1]

    said = str(exercises.check("recurrence.rnn", keeps_the_first))
    assert "Part 1 of your result has the shape" in said and len(said) < 400, said


def test_a_broken_cell_elsewhere_in_a_notebook_does_not_matter(tmp_path):
    path = written("02", tmp_path, "ipynb", lambda one: one.solution)
    nb = json.loads(path.read_text())
    code = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    nb["cells"].insert(2, code | {"id": "a", "source": ["%matplotlib inline\n", "!ls\n", "this is no Python\n"]})
    nb["cells"].insert(3, code | {"id": "b", "source": ["for _ in iter(int, 1): pass\n"]})
    path.write_text(json.dumps(nb))
    assert exercises.check_file(path, "attention.scaled_dot_product").status == "right"


def test_failures_show_the_learners_line(tmp_path):
    path = tmp_path / "02_attention.py"
    path.write_text("import torch\n\ndef scaled_dot_product(q, k, v, mask=None):\n    scores = q @ k\n    return scores\n")
    assert "line 4: scores = q @ k" in str(exercises.check_file(path, "attention.scaled_dot_product"))


# --- wrong answers that nobody listed -----------------------------------------------------------------------------------------


@given(st.sampled_from(["bias", "noise", "scale", "temperature", "drop a key", "clamp"]), st.floats(0.02, 0.5))
def test_unlisted_mistakes_are_rejected_without_a_wrong_name(kind, size):
    def answer(q, k, v, mask=None):
        if kind == "temperature":
            q = q * (1 + size)
        if kind == "clamp":
            q = q.clamp(-size, size)
        if kind == "drop a key" and k.shape[-2] > 2:
            k, v, mask = k[..., 1:, :], v[..., 1:, :], None if mask is None else mask[..., 1:]
        out = right(q, k, v, mask)
        generator = torch.Generator().manual_seed(0)
        return {"bias": out + size, "scale": out * (1 + size),
                "noise": out + size * torch.randn(out.shape, generator=generator)}.get(kind, out)

    verdict = exercises.check("attention.scaled_dot_product", answer)
    assert verdict.status == "not yet" and verdict.name is None, str(verdict)


# --- what a verdict says --------------------------------------------------------------------------------------------------------


def test_the_first_failing_input_is_told_with_its_call():
    verdict = exercises.check("attention.scaled_dot_product", lambda q, k, v, mask=None: right(q, k, v, mask) * 1.01)
    assert "With one query and one key" in str(verdict) and "The call: scaled_dot_product(tensor([[1.541," in str(verdict)


def test_a_broken_law_is_told_with_its_call():
    def later(q, k, v, mask=None):
        out = right(q, k, v, mask)
        return out + 1e-4 * v.sum() if mask is not None and q.shape == k.shape == (6, 4) else out

    verdict = exercises.check("attention.scaled_dot_product", later)
    assert "A law is broken" in str(verdict) and "The first call: scaled_dot_product(a tensor of shape (6, 4)" in str(verdict)


def falls_too_long(step, peak, warmup, steps, floor):
    if step < warmup or step >= steps:
        return peak * step / warmup if step < warmup else floor
    return floor + (peak - floor) * (1 + math.cos(math.pi * (step - warmup) / steps)) / 2


def rounded_gelu(x):
    return (x * torch.distributions.Normal(0, 1).cdf(x)).round(decimals=4)


@pytest.mark.parametrize(("id", "answer", "said"), [
    ("training.learning_rate", falls_too_long, "The call: learning_rate(20, 1, 10, 110, 0)"),
    ("training.learning_rate", lambda *given: 1 / 0, "The first call: learning_rate(1, 1, 10, 110, 0)"),
    ("pretrained.find_the_bug", lambda x, tensors, n_heads, mask: x + 1, "a dictionary of 16, the first of them attention.self.query.weight"),
    ("feed_forward.gelu", rounded_gelu, "-0.1587 where -0.1586553 is right"),
], ids=["the call that failed", "one of several calls failed", "many tensors", "more digits"])
def test_a_message_shows_what_differs_and_no_more(id, answer, said):
    message = exercises.check(id, answer).message
    assert said in message and len(message) < 500, message


@pytest.mark.parametrize(("id", "answer", "name"), [
    ("architectures.pool", lambda x, mask: x[:, 0], "R9"),
    ("architectures.shift_right", lambda target, bos: target, "T7"),
    ("architectures.shift_right", lambda target, bos: target[:, :-1], "T7j"),
    ("block.fold_norm", lambda weight, bias, W, b: (W, W @ bias + b), "L3"),
    ("feed_forward.gelu", lambda x: x.clamp(-9, 9)[:] if len(x) > 9 else x, None),
])
def test_a_piece_of_the_input_does_not_hide_which_mistake_it_is(id, answer, name):
    verdict = exercises.check(id, answer)
    assert (verdict.status, verdict.name) == ("not yet", name) and ("piece of its own input" in verdict.message) == (name is None), str(verdict)


def test_a_slip_that_both_norms_have_is_told_in_the_words_of_each():
    said = {name: exercises.exercise(f"block.{name}").message("N2") for name in ("layer_norm", "rms_norm")}
    assert "the variance" in said["layer_norm"] and "the mean square" in said["rms_norm"] and "variance" not in said["rms_norm"]


def test_a_slip_that_is_made_in_part_has_its_name():
    "The scale is missing for all widths but one: no simulated mistake does just that."
    def partly(q, k, v, mask=None):
        return F.scaled_dot_product_attention(q, k, v, mask, scale=0.5 if q.shape[-1] == 4 else 1.0)

    verdict = exercises.check("attention.scaled_dot_product", partly)
    assert verdict.name == "A3"


def test_right_says_what_was_tried_another_way_and_what_comes_next():
    verdict = exercises.check("attention.scaled_dot_product", right)
    assert "Tried with one query and one key; " in verdict.message and "another=True" in verdict.message and "Next: " in verdict.message
    another = exercises.solution("attention.scaled_dot_product", another=True).text
    assert another.startswith("def scaled_dot_product") and another != exercises.solution("attention.scaled_dot_product").text
    with pytest.raises(KeyError, match="one solution only"):
        exercises.solution("attention.bill", another=True)


def test_the_hint_for_a_named_mistake_comes_first_and_once():
    assert exercises.check("attention.scaled_dot_product", lambda q, k, v, mask=None: F.scaled_dot_product_attention(q, k, v, mask, scale=1.0)).name == "A3"
    said = [str(exercises.hint("attention.scaled_dot_product")) for _ in range(2)]
    assert "variance of a sum" in said[0] and "Hint 1 of 3" in said[1]


@pytest.mark.parametrize(("edit", "status", "said"), [
    ("", "not tried", "still does what it did"), ("# a remark\n", "not tried", "still does what it did"), ("weights = 1 * weights\n    ", "not yet", "It behaves as before"),
])
def test_an_edit_without_effect_is_told_from_an_untouched_stub(edit, status, said, tmp_path):
    path = tmp_path / "02_attention.py"
    stub = exercises.exercise("attention.find_the_bug").stub
    assert stub.count("return weights @ v") == 1
    path.write_text("import math\nimport torch\n" + stub.replace("return weights @ v", f"{edit}return weights @ v" if edit.startswith("weights") else "return weights @ v  " + edit))
    verdict = exercises.check_file(path, "attention.find_the_bug")
    assert verdict.status == status and said in str(verdict)


def test_a_syntax_error_is_one_message_and_leaves_the_rest(tmp_path):
    path = written("02", tmp_path, "py", lambda one: one.solution)
    assert run("check", str(path), "--only", "attention.bill", cwd=tmp_path).exit_code == 0
    before = progress.read_progress()
    whole = tmp_path / "whole" / path.name
    whole.parent.mkdir()
    whole.write_text("def scaled_dot_product(q, k, v, mask=None)\n    return q\n")
    done = run("check", str(whole))
    assert done.exit_code == 2 and done.stderr.count("line 1: expected ':'") == 1 and "not yet" not in done.stdout and progress.read_progress() == before
    path.write_text(path.read_text().replace("def causal_mask(", "def causal_mask((", 1))       # one cell of many
    verdicts = {one.id: exercises.check_file(path, one.id) for one in exercises.of_chapter("02")}
    wrong = {id: verdict for id, verdict in verdicts.items() if verdict.status != "right"}
    assert list(wrong) == ["attention.causal_mask"] and "SyntaxError" in str(wrong["attention.causal_mask"])


@pytest.mark.parametrize("id", [id for id in IDS if exercises.exercise(id).is_number])
def test_a_near_prediction_is_right_and_told_the_number_unless_it_is_a_small_count(id):
    right_number = exercises.exercise(id).right
    near = exercises.check(id, right_number * 1.004)
    if right_number == int(right_number) < 10_000:
        assert near.status == "not yet"
    else:
        assert near.status == "right" and "Within 1 %" in str(near) and "e+" not in str(near)
    assert exercises.check(id, right_number * 1.03).status == "not yet"


# --- progress ------------------------------------------------------------------------------------------------------------------


def note(number):
    progress.note_verdict(f"exercise.{number % 5}", "not yet", f"M{number}", f"answer {number}")


def test_many_processes_write_progress_and_nothing_is_lost():
    with multiprocessing.get_context("fork").Pool(8) as pool:
        pool.map(note, range(40))
    entries = progress.read_progress()
    assert sum(entry["attempts"] for entry in entries.values()) == 40
    assert sum(len(entry["mistakes"]) for entry in entries.values()) == 40


def test_a_crash_while_writing_leaves_what_was_there():
    note(1)
    before = progress.read_progress()
    code = ("import os; from transformer_course.grading import progress\nwith progress._database() as database:\n"
            "    progress._row(database, 'exercise.2'); database.execute(\"update exercises set attempts = 99\"); os._exit(1)")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 1
    assert progress.read_progress() == before


def test_a_check_of_an_unchanged_answer_is_no_attempt(tmp_path):
    path = tmp_path / "02_attention.py"
    for source, attempts in ((WRONG, 1), (WRONG, 1), (WRONG + "# a remark\n", 1), (WRONG.replace("~mask, 0", "~mask, 1"), 2)):
        path.write_text("import math\n" + source)
        exercises.check_file(path, "attention.scaled_dot_product")
        assert progress.read_progress()["attention.scaled_dot_product"]["attempts"] == attempts


def test_a_right_answer_is_kept_and_stays_right(tmp_path):
    path = written("02", tmp_path, "py", lambda one: one.solution)
    exercises.check_file(path, "attention.causal_mask")
    path.write_text("def causal_mask(queries, keys): return None\n")
    assert exercises.check_file(path, "attention.causal_mask").status == "not yet"
    entry = progress.read_progress()["attention.causal_mask"]
    assert entry["status"] == "right" and "def causal_mask" in entry["right_answer"] and "return None" not in entry["right_answer"]


def test_a_verdict_comes_even_where_progress_cannot_be_saved(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRANSFORMER_COURSE_PROGRESS", str(tmp_path / "file" / "progress.sqlite"))
    verdict = exercises.check("attention.bill", 301_989_888)
    assert verdict.status == "right" and "could not be saved" in verdict.message
    path = written("02_attention", tmp_path, "py", lambda one: one.solution)
    assert "Progress could not be saved" in run("check", str(path), "--only", "attention.bill").stdout
    assert "weights" in str(exercises.hint("attention.bill")) and "12 * 12" in str(exercises.solution("attention.bill"))


def test_a_damaged_progress_file_is_set_aside():
    progress.progress_file().write_text("no database " * 100)
    assert exercises.check("attention.bill", 301_989_888).status == "right"
    assert list(progress.read_progress()) == ["attention.bill"]
    assert progress.progress_file().with_name("progress.sqlite.broken").read_text().startswith("no database")
    assert run("progress").exit_code == run("exercises").exit_code == 0


# --- your own model ---------------------------------------------------------------------------------------------------------------


def solve(folder: Path, chapters=CHAPTERS):
    "Files with all solutions of those chapters."
    return [written(chapter, folder, "py", lambda one: one.solution) for chapter in chapters]


def test_right_answers_make_a_model_from_files_and_from_progress(tmp_path):
    from transformer_course.checkers.positions import PARTS, your_parts

    solve(tmp_path)
    from_files = your_parts(tmp_path)
    assert set(from_files.yours) == set(PARTS) and str(from_files).count("yours ") == len(PARTS) and "lent" not in str(from_files)
    assert all(part.__module__ != "transformer_course.checkers" for part in from_files.yours.values())
    from_progress = your_parts()                                           # the checks above noted them
    assert set(from_progress.yours) == set(PARTS)
    torch.manual_seed(0)
    model = from_progress.model()
    tokens = torch.randint(0, 90, (2, 12))
    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 90
    assert torch.equal(model(tokens)[:, :7], model(changed)[:, :7]), "it sees the future"


def test_the_model_of_your_parts_is_the_courses(tmp_path):
    from transformer_course.attention import Residual
    from transformer_course.checkers.positions import your_parts
    from transformer_course.positions import SelfAttention
    from transformer_course.prediction import LanguageModel

    parts = your_parts()                                                    # all lent
    assert parts.yours == {} and "yours" not in str(parts)
    mine, config = parts.model(), parts.config.replace(bias=False)
    course = LanguageModel(config, [Residual(SelfAttention(config)) for _ in range(config.n_layers)])
    course.load_state_dict(dict(zip(course.state_dict(), mine.state_dict().values())))
    tokens = torch.randint(0, 90, (2, 30))
    torch.testing.assert_close(mine(tokens), course(tokens), atol=1e-5, rtol=1e-5)


def test_a_wrong_answer_is_not_built_in_and_training_lowers_the_loss(tmp_path):
    from transformer_course.checkers.positions import your_parts

    path = exercises.start("02", tmp_path)
    path.write_text(path.read_text().replace(exercises.exercise("attention.scaled_dot_product").stub, WRONG).replace("math.inf", "torch.inf"))
    parts = your_parts(tmp_path)
    assert parts.yours == {}
    model = parts.train(steps=30, progress=False)
    assert parts.evaluate(model) < 3.3 and len(parts.write(model, "The ", 20)) == 24
    with pytest.raises(FileNotFoundError, match="no folder"):
        your_parts(tmp_path / "gone")


def test_hints_count_from_one():
    with pytest.raises(ValueError, match="from 1 to 3, got 0"):
        exercises.hint("attention.bill", 0)
    assert exercises.check(["attention.bill"], 1).status == "not tried"


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    done = run("start", "02", "--to", str(tmp_path / "file" / "inside"))
    assert done.exit_code == 2 and "can't be written to" in done.stderr and "Traceback" not in done.stderr


def test_the_command_line_says_why_something_is_not_tried(tmp_path):
    (tmp_path / "02_attention.py").write_text("def sdpa(q, k, v):\n    return q\n")
    assert "There is no `scaled_dot_product` in 02_attention.py" in run("check", "02", cwd=tmp_path).stdout


def test_a_check_imports_no_chapter_but_those_it_needs():
    code = "import sys; from transformer_course.exercises import check; check('attention.bill', 1); print([m for m in sys.modules if 'transformer_course' in m or 'matplotlib' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "checkers.attention" in done.stdout and not any(name in done.stdout for name in ("positions", "recurrence", "figures", "matplotlib"))
