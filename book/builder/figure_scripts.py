"""The Sphinx side of interactive figures: a page gets the modules of the figures that it shows, and other pages get none.

The outputs hold data alone (execute.py says so to the kernels), so a fix in a module reaches the pages without running a
notebook. A module comes as a classic script that keeps its source as text: a page on a disk can import a text, not a file.
"""
import json
import re
from pathlib import Path

from transformer_course import interactive

FOLDER = "figures"
START = 'globalThis.courseFolder = document.currentScript.src.replace(/[^/]*$/, "");\nstart(globalThis.courseFigures);'


def write_scripts(folder: Path):
    "The style sheet, the host and every figure, for the static files of a site."
    folder.mkdir(parents=True, exist_ok=True)
    files = {"figures.css": interactive.style(), "host.js": f"(() => {{\n{interactive.host()}\n{START}\n}})();\n"}
    for name in interactive.FIGURES:
        if name in interactive.DATA:
            files[f"{interactive.DATA[name]}.js"] = interactive.data_script(name)      # no page loads it; the figure does, when asked
        files[f"{name}.js"] = f"(globalThis.courseFigures ??= {{}}).{name} = {json.dumps(interactive.module(name))};\n"
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def shown(body: str) -> list[str]:
    "The names of the figures in a page, each once."
    return sorted(set(re.findall(r'<figure class="live" data-figure="(\w+)"', body)))


def put_scripts(app):
    if app.builder.format == "html":
        write_scripts(Path(app.outdir) / "_static" / FOLDER)


def load_scripts(app, pagename, templatename, context, doctree):
    if names := shown(context.get("body", "")):
        app.add_css_file(f"{FOLDER}/figures.css")
        for name in names:
            app.add_js_file(f"{FOLDER}/{name}.js", loading_method="defer")
        app.add_js_file(f"{FOLDER}/host.js", loading_method="defer", priority=900)          # after the figures


def setup(app):
    app.connect("builder-inited", put_scripts)
    app.connect("html-page-context", load_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
