"""Exercises in the book: where a chapter announces one stands a box, and a notebook of exercises becomes a page of tasks.

    :::{exercise} attention.scaled_dot_product
    Before you read on, write it yourself.
    :::

announces an exercise in a chapter. The words of an exercise come from its object in `transformer_course.checkers`.
`reports` tries every checker on its own wrong and right answers; what did not change is not tried again.
"""
import ast
import dataclasses
import html
import json
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import nbformat
from nbformat.v4 import new_markdown_cell

from . import BUILD, PACKAGE, ROOT, address
from .directives import split
from .keys import code_key, statements

REPORTS = BUILD / "reports"
_ANNOUNCED = re.compile(r"^:::\{exercise\} ([\w.]+)\n(.*?)^:::$", re.M | re.S)


def announced(text: str, show: Callable[[str, str], str]) -> str:
    "The text with `show(id, words)` where an exercise is announced."
    return _ANNOUNCED.sub(lambda match: show(match[1], match[2].strip()), text)


def announced_ids(text: str) -> list[str]:
    return [match[1] for match in _ANNOUNCED.finditer(text)]


def label(id: str) -> str:
    return "exercise-" + re.sub(r"[._]", "-", id)


def box(id: str, words: str) -> str:
    "The box that announces an exercise in a chapter."
    from transformer_course import exercises

    one = exercises.exercise(id)
    return f""":::{{admonition}} Your turn: {one.title}
:class: exercise

{_effort(one)}

{words}

[Task, hints and a place to work](#{label(id)}). Check it with `{exercises.check_call(one)}`.
:::"""


def page(nb: nbformat.NotebookNode) -> nbformat.NotebookNode:
    "The page of a notebook of exercises: its opening, each task with stub, hints and solution, and what else it says."
    from transformer_course import exercises

    opening = nb.cells[0].source
    chapter = chapter_of(nb)
    found = exercises.of_chapter(chapter)
    minutes = sum(one.minutes for one in found)
    intro = f"{len(found)} exercises, about {minutes} minutes. [How the exercises work](../../book/how_exercises_work.md) is told on one page."
    cells = [new_markdown_cell(f"{opening}\n\n{intro}", id="opening")]
    cells += [new_markdown_cell(_task(one, chapter), id=label(one.id)) for one in found]
    titles = {f"## {one.title}" for one in found}
    nb.cells = cells + [cell for cell in nb.cells[1:] if cell.cell_type == "markdown" and cell.source.strip() not in titles]
    return nb


def chapter_of(nb: nbformat.NotebookNode) -> str:
    "The chapter that a notebook of exercises belongs to, as it says itself."
    code = "\n".join(split(cell.source)[1] for cell in nb.cells if cell.cell_type == "code")
    return re.search(r'^CHAPTER = "(\w+)"$', code, re.M)[1]


def _task(one, chapter: str) -> str:
    hints = "".join(f"\n::::{{dropdown}} Hint {number}\n{hint.strip()}\n::::\n" for number, hint in enumerate(one.hints, 1))
    return f"""({label(one.id)})=
## {one.title}

:::::{{admonition}} {one.kind}
:class: exercise

{_effort(one)}

{one.task.strip()}

```python
{one.stub}
```
{hints}
::::{{dropdown}} Solution
```python
{one.solution}
```
::::

{_links(one, chapter)}
:::::
"""


def _effort(one) -> str:
    def scale(number: int) -> str:
        return "●" * number + "○" * (5 - number)
    return (f'<p class="effort"><span title="difficulty {one.difficulty} of 5">difficulty {scale(one.difficulty)}</span> '
            f'<span title="importance {one.importance} of 5">importance {scale(one.importance)}</span> <span>{one.minutes} minutes</span></p>')


def _links(one, chapter: str) -> str:
    "Where to work on it: Colab if the address is known, else the files beside the book."
    from transformer_course import exercises

    call = html.escape(exercises.check_call(one))
    where = [f'<a href="../../exercises/{chapter}.ipynb" download>notebook</a>', f'<a href="../../exercises/{chapter}.py" download>Python file</a>']
    if url := address.colab_url(chapter, "exercises"):
        where.insert(0, f'<a href="{url}">Colab</a>')
    return f'<p class="work">Work on it: {" · ".join(where)} · check with <code>{call}</code></p>'


# --- the checkers, checked ------------------------------------------------------------------------------------------------------------


def report_key(id: str) -> str:
    "What the report on an exercise depends on: the code that its object needs, what makes the report, and what both of them use."
    from transformer_course.exercises import needed

    body = statements(ROOT / PACKAGE / "checkers" / f"{id.split('.')[0]}.py")
    holds = [node for node in body if isinstance(node, ast.Assign) and any(isinstance(part, ast.Constant) and part.value == id for part in ast.walk(node.value))]
    code = [ast.unparse(body[number]) for number in needed(body, holds[0].targets[0].id)]
    return code_key("\n".join([*code, f"from {PACKAGE}.grading.verdicts import mutation_report"]), (PACKAGE, "checkers"))


def _made(id: str) -> dict:
    import torch

    from transformer_course.exercises import exercise
    from transformer_course.grading.verdicts import mutation_report

    torch.set_num_threads(1)
    return dataclasses.asdict(mutation_report(exercise(id)))


def reports(workers: int | None = None) -> dict[str, dict]:
    "The mutation report of every exercise, by id."
    from transformer_course import exercises

    keys = {id: report_key(id) for id in exercises.all()}
    files = {id: REPORTS / f"{id}.json" for id in keys}
    known = {id: json.loads(file.read_text()) for id, file in files.items() if file.is_file()}
    stale = [id for id, key in keys.items() if known.get(id, {}).get("key") != key]
    REPORTS.mkdir(parents=True, exist_ok=True)
    if stale:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:        # a fork of PyTorch's threads can hang
            for id, report in zip(stale, pool.map(_made, stale)):
                known[id] = {"key": keys[id], "report": report}
                files[id].write_text(json.dumps(known[id]))
    return {id: known[id]["report"] for id in keys}


if __name__ == "__main__":                   # a process of its own, because the package may have been exported a moment ago
    print(f"{len(reports())} reports")
