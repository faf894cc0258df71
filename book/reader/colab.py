"""A chapter as a Colab notebook: no `#|` lines, an install cell that finds the GPU, MyST turned into plain Markdown.

Colab ships PyTorch, NumPy and matplotlib. The install cell adds the course's wheel and what is missing; it pins nothing.
"""
import re
from collections.abc import Callable

import nbformat

from . import gates
from .directives import split

SETUP = '''# @title Set up: install the course, look for a GPU
%pip install -q {package}
import torch

if torch.cuda.is_available():
    print(f"PyTorch {{torch.__version__}} on a GPU: {{torch.cuda.get_device_name()}}")
else:
    print(f"PyTorch {{torch.__version__}} on the CPU. Everything below runs here in about a minute;")
    print("for a GPU choose Runtime > Change runtime type.")'''
FOLDED = {"hide": "Hidden check", "echo": "Figure", "code-fold": "Figure"}    # Colab folds a cell that starts with a title


def colab_notebook(nb: nbformat.NotebookNode, package: str, link: Callable[[str], str | None]) -> nbformat.NotebookNode:
    """The Colab version of a chapter.

    `package` is what pip installs: the address of a wheel, or a requirement. `link` turns the book's own link targets
    (`../02_attention`) into addresses, or None for those that lead nowhere outside the book.
    """
    cells = [_code(SETUP.format(package=package), "setup", folded="Set up")]
    tasks = gates.tasks(nb)
    for cell in nb.cells:
        if cell.id in tasks:
            cells += _exercise(tasks[cell.id], cell.id, link)
            continue
        if cell.cell_type == "markdown":
            cells.append(nbformat.v4.new_markdown_cell(plain_markdown(cell.source, link), id=cell.id))
            continue
        found, source = split(cell.source)
        if not source.strip() or "gate" in found or "exercise" in found:
            continue
        if found.get("eval") == "false":          # Colab's "Run all" knows no tags
            cells.append(nbformat.v4.new_markdown_cell(f"```python\n{source}\n```", id=cell.id))
            continue
        title = next((FOLDED[name] for name in found if name in FOLDED), None)
        cells.append(_code(f"# @title {title}\n{source}" if title else source, cell.id, folded=title))
    metadata = {"accelerator": "GPU", "colab": {"provenance": [], "toc_visible": True},
                "kernelspec": {"display_name": "Python 3", "name": "python3"}, "language_info": {"name": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def _exercise(task: gates.Task, id: str, link) -> list[nbformat.NotebookNode]:
    "The task, its stub, and the call that checks it."
    text = plain_markdown(f"### {task.title}\n\n{task.prompt}", link) + f'\n\nStuck? `hint("{task.id}")`'
    check = f'from transformer_course.exercises import check, hint, solution\n\ncheck("{task.id}", {task.object})'
    return [nbformat.v4.new_markdown_cell(text, id=id), _code(task.stub, f"{id}-stub"), _code(check, f"{id}-check")]


def _code(source: str, id: str, folded: str | None = None):
    return nbformat.v4.new_code_cell(source, id=id, metadata={"cellView": "form"} if folded else {})


def plain_markdown(text: str, link: Callable[[str], str | None]) -> str:
    "MyST as far as the course uses it (labels, fenced directives, roles, side notes), in the Markdown that Colab renders."
    text = re.sub(r"^\([\w:.-]+\)=\n", "", text, flags=re.M)                            # (label)=
    while (plainer := _DIRECTIVE.sub(_directive, text)) != text:                        # the innermost first
        text = plainer
    text = re.sub(r"^(.*\$\$) *\([\w:.-]+\) *$", r"\1", text, flags=re.M)               # $$ ... $$ (label)
    text = re.sub(r"\{(cite(?::\w+)?|eq|ref|numref|doc)\}`([^`]*)`", _role, text)
    text = re.sub(r"^\[\^([\w-]+)\]: ", r"<sup>\1</sup> ", text, flags=re.M)            # side notes
    text = re.sub(r"\[\^([\w-]+)\]", r"<sup>\1</sup>", text)
    return re.sub(r"\[([^\]]*)\]\((?![a-z]+:|\$)([^)\s]+)\)", lambda m: f"[{m[1]}]({url})" if (url := link(m[2])) else m[1], text)


_DIRECTIVE = re.compile(r"^(?P<fence>:{3,}|`{3,})\{(?P<name>[\w-]+)\}[ ]*(?P<title>[^\n]*)\n(?P<body>(?:(?!^(?::{3,}|`{3,})\{)[\s\S])*?)^(?P=fence)[ ]*$", re.M)
_OPTION = re.compile(r"\A(?:[ ]*:[\w-]+:[^\n]*\n)+")
_TITLES = {"admonition": "", "note": "Note", "tip": "Tip", "warning": "Warning", "seealso": "See also", "margin": "", "dropdown": ""}


def _directive(match: re.Match) -> str:
    "An admonition becomes a quotation with its title in bold."
    title = " ".join(filter(None, [_TITLES.get(match["name"], match["name"]), match["title"]]))
    body = _OPTION.sub("", match["body"]).strip("\n")
    lines = [f"**{title}**", "", *body.split("\n")] if title else body.split("\n")
    return "\n".join(f"> {line}".rstrip() for line in lines)


def _role(match: re.Match) -> str:
    "A citation shows its keys as `(Vaswani 2017)`; a cross-reference shows its text."
    role, content = match[1], match[2]
    if role.startswith("cite"):
        names = [re.sub(r"^([a-z]+)(\d{4}).*$", lambda m: f"{m[1].capitalize()} {m[2]}", key.strip()) for key in content.split(",")]
        return "(" + ", ".join(names) + ")" if role != "cite:t" else ", ".join(names)
    return re.sub(r"\s*<[^>]*>$", "", content)
