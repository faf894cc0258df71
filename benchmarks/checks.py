"""Time every check of every exercise on right and wrong answers, and what importing `check` adds to importing PyTorch.

    make record NAME=checks
"""
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from os import environ

from builder.records import record
from transformer_course import exercises


def import_seconds(rounds: int = 7) -> float:
    "What `from transformer_course.exercises import check` adds to `import torch`, in a fresh interpreter; the median."
    code = ("import time, torch; begin = time.perf_counter(); from transformer_course.exercises import check; "
            "print(time.perf_counter() - begin)")
    return statistics.median(float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(rounds))


def answers(id: str) -> list:
    "Right answers, every simulated mistake, and every fortieth of their combinations: what `check` is given."
    one = exercises.exercise(id)
    mistakes = [(name,) for name in one.mistakes]
    return [*one.equivalents.values(), *(one.answer(*names) for names in (*mistakes, *islice(one.combinations(), 0, None, 40)))]


def as_learners(answer):
    "The answer as if it were written elsewhere: the course's own code is turned away unseen."
    if isinstance(answer, type):
        return type(answer.__name__, (answer,), {"__module__": "learner"})
    return (lambda *a, **k: answer(*a, **k)) if callable(answer) else answer


def seconds(id: str, answer) -> float:
    answer = as_learners(answer)
    begin = time.perf_counter()
    verdict = exercises.check(id, answer)
    assert "course's own code" not in verdict.message
    return time.perf_counter() - begin


if __name__ == "__main__":
    environ["TRANSFORMER_COURSE_PROGRESS"] = f"{tempfile.mkdtemp()}/progress.json"
    rows = {}
    for id in exercises.all():
        first, *times = [seconds(id, answer) for answer in answers(id)]  # the first check also observes our own answers
        rows[id] = {"checks": 1 + len(times), "first": first, "median": statistics.median(times), "largest": max([first, *times])}
        print(f"{id}: {rows[id]}")
    result = {"import": import_seconds(), "median": statistics.median(row["median"] for row in rows.values()),
              "largest": max(row["largest"] for row in rows.values()), "exercises": rows}
    print({key: result[key] for key in ("import", "median", "largest")})
    print(record("checks", result, __file__))
