"""The front page: `[[chapters]]` becomes the list of chapters with minutes, `[[map]]` the map of the model, `[[figure]]` a live figure.

`python -m builder.front` writes the same into the README: the list, and the map as `book/model.svg`, where no style sheet reaches it.
Minutes of reading are words / 200 + lines of code that are shown / 20 + pictures / 2; those of exercises are what the exercises say.
"""
import os
import re

import nbformat

from transformer_course import exercises
from transformer_course.drawings import draw_model
from transformer_course.interactive import page_transformer

from . import ROOT, chapters, number, studies
from .sizes import measure

README, README_PICTURE = ROOT / "README.md", ROOT / "book" / "model.svg"


def minutes(nb) -> int:
    sizes = measure(nb)
    return round(sizes["words"] / 200 + sizes["shown"] / 20 + sizes["pictures"] / 2)


def chapter_list() -> str:
    "A table: each chapter with its sentence and its minutes."
    lines = ["| | chapter | after it you can | reading | exercises |", "|:--|:--|:--|--:|--:|"]
    for path in chapters():
        title, sentence, reading, work, more = _about(path)
        questions = f", {more} studies" if more else ""
        lines.append(f"| {number(path)} | [{title}](../nbs/{path.name}) | {sentence} | {reading} min{questions} | {sum(one.minutes for one in work)} min |")
    return "\n".join(lines)


def readme_list() -> str:
    "The same for the README, in counts, and in minutes that do not change with every sentence."
    lines = ["| chapter | after it you can | reading | exercises | studies |", "|:--|:--|--:|--:|--:|"]
    for path in chapters():
        title, sentence, reading, work, more = _about(path)
        lines.append(f"| {number(path)} [{title}](nbs/{path.name}) | {sentence} | {5 * round(reading / 5)} min | {len(work)} | {more or ''} |")
    return "\n".join(lines)


def _about(path):
    "Title, sentence, minutes of reading, exercises and number of studies of a chapter."
    nb = nbformat.read(path, as_version=4)
    title, sentence = re.match(r"# (.+)\n\n> (.+)", nb.cells[0].source).groups()
    return title, _small(sentence), minutes(nb), exercises.of_chapter(path.stem), sum(number(study) == number(path) for study in studies())


def _small(sentence: str) -> str:
    sentence = sentence.removeprefix("After this chapter you can ").strip()
    return sentence[0].lower() + sentence[1:]


def model_map():
    return draw_model("everything",
                      caption="The whole model, from the tokens at the bottom to the next token at the top. Chapters 0 to 6 build all of its parts, and chapter 7 connects them in three ways.")


def readme_picture() -> str:
    "The map as a file of its own, which follows light and dark."
    svg = re.search("<svg.*</svg>", _html(model_map()), re.DOTALL).group()
    look = "<style>svg{color:#1f2328}@media (prefers-color-scheme:dark){svg{color:#e6edf3}}</style>"
    return re.sub("^<svg([^>]*)>", rf'<svg xmlns="http://www.w3.org/2000/svg"\1>{look}', svg) + "\n"


def readme() -> str:
    "The README with its list of chapters as it should be."
    return re.sub(r"^\| chapter \|.*?\n\n", lambda _: readme_list() + "\n\n", README.read_text(encoding="utf-8"), count=1, flags=re.M | re.S)


def figure() -> str:
    "A language model of the course, which runs in the page."
    return _html(page_transformer(caption="A GPT that this course has trained. It runs in the page: let it write, look at its heads, switch its cache off, or train a small one from nothing."))


def _html(drawn) -> str:
    html = drawn._repr_mimebundle_()["text/html"]
    return f"```{{raw}} html\n{html}\n```"


def fill(app, docname, source):
    for mark, made in (("[[chapters]]", chapter_list), ("[[map]]", lambda: _html(model_map())), ("[[figure]]", figure)):
        if mark in source[0]:
            source[0] = source[0].replace(mark, made())


def setup(app):
    os.environ["COURSE_FIGURES"] = "page"
    app.connect("source-read", fill)


if __name__ == "__main__":
    README_PICTURE.write_text(readme_picture(), encoding="utf-8")
    README.write_text(readme(), encoding="utf-8")
