"""Numbers inside sentences: `{{loss:.2f}}` in a Markdown cell is computed by the notebook, at that place, when it runs.

Between the double braces stands what could stand between the braces of an f-string. For each Markdown cell that uses
it, the notebook that runs gets a hidden code cell (`question`) in front; its output fills the sentence (`fill`).
"""
import re

import nbformat

EXPRESSION = re.compile(r"\{\{([^{}\n]+)\}\}")
MIME = "application/vnd.course.numbers+json"


def question(cell: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    "The hidden code cell that computes the numbers of a Markdown cell; None if it has none."
    if not (found := EXPRESSION.findall(cell.source)):
        return None
    values = ", ".join(f"f{'{' + expression.strip() + '}'!r}" for expression in found)
    source = f'__import__("IPython.display").display.display({{"{MIME}": [{values}]}}, raw=True)'
    return nbformat.v4.new_code_cell(source, id=f"{cell.id}-numbers", metadata={"tags": ["remove-cell"]})


def fill(nb: nbformat.NotebookNode, ran: nbformat.NotebookNode) -> None:
    "Put the numbers that `ran`, the same notebook with outputs, has computed into the Markdown cells of `nb`."
    answers = {cell.id.removesuffix("-numbers"): output.data[MIME]
               for cell in ran.cells if cell.cell_type == "code" for output in cell.outputs if MIME in output.get("data", {})}
    for cell in nb.cells:
        if cell.cell_type == "markdown" and cell.id in answers:
            for value in answers[cell.id]:
                cell.source = EXPRESSION.sub(lambda _, value=value: value, cell.source, count=1)
