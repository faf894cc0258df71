"""Time every check of every exercise on right and wrong answers, and what importing `check` adds to importing PyTorch.

    python benchmarks/checks.py
"""
import statistics
import subprocess
import sys
import tempfile
import time
from os import environ

from transformer_course import exercises
from transformer_course.records import record


def import_seconds(rounds: int = 7) -> float:
    "What `from transformer_course.exercises import check` adds to `import torch`, in a fresh interpreter; the median."
    code = ("import time, torch; begin = time.perf_counter(); from transformer_course.exercises import check; "
            "print(time.perf_counter() - begin)")
    return statistics.median(float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(rounds))


def answers(id: str) -> list:
    "Right answers, every simulated mistake, and a few combinations of slips: what `check` is given."
    gate = exercises.gate(id)
    several = [choices for choices in gate.grid.combinations() if len(choices) > 1][::40] if gate.grid else []
    return [*gate.equivalents.values(), *(mistake.answer for mistake in gate.every_mistake()), *(gate.grid.build(**choices) for choices in several)]


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
        exercises.gate.cache_clear()                  # the first check of a session pays for observing the gate's own answers
        first, *times = [seconds(id, answer) for answer in answers(id)]
        rows[id] = {"checks": 1 + len(times), "first": first, "median": statistics.median(times), "largest": max([first, *times])}
        print(f"{id}: {rows[id]}")
    result = {"import": import_seconds(), "median": statistics.median(row["median"] for row in rows.values()),
              "largest": max(row["largest"] for row in rows.values()), "exercises": rows}
    print({key: result[key] for key in ("import", "median", "largest")})
    print(record("checks", result, command="python benchmarks/checks.py"))
