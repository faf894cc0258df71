"""The Sphinx side of the book: marks on exported cells, the Colab and download buttons, and links that need an address."""
import ast
import html
import json
from pathlib import Path

import nbformat
from docutils import nodes

from . import BUILD, PACKAGE, address, live_figures
from .directives import module_of


def use_address(app, config):
    "Put the repository's address into the theme, where the environment knows one."
    if url := address.repository_url():
        config.html_theme_options = {**config.html_theme_options, "repository_url": url, "use_repository_button": True}


def mark_exported(app, doctree, docname):
    "Say on each exported cell that it is in the package, with a link to the highlighted source."
    source = Path(app.env.doc2path(docname))
    if source.suffix != ".ipynb" or app.builder.name != "html":
        return
    module = module_of(nbformat.read(source, as_version=4))
    for cell in doctree.findall(lambda node: isinstance(node, nodes.container) and "tag_exported" in node.get("classes", ())):
        code = next(cell.findall(nodes.literal_block)).astext()
        name = _defined(code)
        href = app.builder.get_relative_uri(docname, f"_modules/{PACKAGE}/{module}") + (f"#{name}" if name else "")
        label = html.escape(f"{module}.{name}" if name else module)
        cell.insert(0, nodes.raw("", f'<a class="in-package" href="{href}" title="This cell is part of the package: read the source">'
                                     f'in the package <code>{label}</code></a>', format="html"))


def _defined(code: str) -> str | None:
    "The first public function or class that the code defines."
    return next((node.name for node in ast.parse(code).body
                 if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")), None)


def header_buttons(app, pagename, templatename, context, doctree):
    "The download button serves the Colab notebook (the source holds `#|` lines), and Colab opens the published one."
    chapter = Path(pagename).name
    is_notebook = pagename in app.env.found_docs and app.env.doc2path(pagename).endswith(".ipynb")
    for group in context.get("header_buttons", ()):
        if group.get("label") != "download-buttons":
            continue
        kept = [button for button in group["buttons"] if button["label"] == "download-pdf-button"]
        if is_notebook:
            kept.insert(0, {"type": "link", "url": context["pathto"](f"colab/{chapter}.ipynb", 1), "text": ".ipynb", "icon": "fas fa-code",
                            "tooltip": "Download this chapter as a notebook", "label": "download-notebook-button"})
        group["buttons"] = kept
    if is_notebook and (url := address.colab_url(chapter)):
        context["header_buttons"].insert(0, {"type": "link", "url": url, "text": "Run in Colab", "icon": "fas fa-play",
                                             "tooltip": "Open this chapter in Google Colab", "label": "launch-colab"})


def fill_gate_table(app, docname, source):
    "The page about the gates shows the survey that the build has made: `[[gates]]` becomes its table."
    if "[[gates]]" in source[0]:
        source[0] = source[0].replace("[[gates]]", gate_table(json.loads((BUILD / "survey.json").read_text())["gates"]))


def gate_table(gates: list[dict]) -> str:
    "The survey of the gates as a Markdown table, with sums, and below it why some mistakes can't be told apart."
    head = ["exercise", "mistakes", "rejected", "named", "several slips", "rejected", "named", "right answers", "accepted"]
    rows = [[f"`{g['id']}`", g["simulated"], g["rejected"], g["named"], g["combinations"], g["combinations"] - g["passed"], g["explained"],
             g["equivalents"], g["equivalents"] - len(g["refused"])] for g in gates]
    sums = ["**all**", *(sum(row[column] for row in rows) for column in range(1, len(head)))]
    lines = [" | ".join(map(str, row)) for row in (head, [":--", *["--:"] * (len(head) - 1)], *rows, sums)]
    table = "\n".join(f"| {line} |" for line in lines)
    alike = [f"* `{g['id']}`, mistake {name}: {why}" for g in gates for name, why in g["alike"].items()]
    return table + ("\n\nMistakes that can't be told from another one, with the reason:\n\n" + "\n".join(alike) if alike else "")


def repair_roles(app, pagename, templatename, context, doctree):
    "docutils calls citations a list without list items, which screen readers trip over."
    if "body" in context:
        context["body"] = context["body"].replace('<div role="list" class="citation-list">', '<div class="citation-list">')


def setup(app):
    app.connect("config-inited", use_address, priority=100)
    app.connect("doctree-resolved", mark_exported)
    app.connect("html-page-context", header_buttons, priority=600)      # the theme adds its buttons at 501
    app.connect("html-page-context", repair_roles)
    app.connect("source-read", fill_gate_table)
    live_figures.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
