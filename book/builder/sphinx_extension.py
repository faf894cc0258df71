"""The Sphinx side of the book: marks on exported cells, the Colab and download buttons, and links that need an address."""
import ast
import html
import re
from pathlib import Path

import nbformat
from docutils import nodes

from transformer_course.figures import table

from . import PACKAGE, ROOT, address, exercises, figure_scripts, front, glossary, name, tools
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
        defined = _defined(code)
        href = app.builder.get_relative_uri(docname, f"_modules/{PACKAGE}/{module.replace('.', '/')}") + (f"#{defined}" if defined else "")
        label = html.escape(f"{module}.{defined}" if defined else module)
        cell.insert(0, nodes.raw("", f'<a class="in-package" href="{href}" title="This cell is part of the package: read the source">'
                                     f'in the package <code>{label}</code></a>', format="html"))


def _defined(code: str) -> str | None:
    "The first public function or class that the code defines."
    return next((node.name for node in ast.parse(code).body
                 if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")), None)


def header_buttons(app, pagename, templatename, context, doctree):
    "The download button serves the Colab notebook (the source holds `#|` lines), and Colab opens the published one."
    source = Path(app.env.doc2path(pagename)) if pagename in app.env.found_docs else Path("none")
    place = _published(source)
    for group in context.get("header_buttons", ()):
        if group.get("label") != "download-buttons":
            continue
        kept = [button for button in group["buttons"] if button["label"] == "download-pdf-button"]
        if place:
            kept.insert(0, {"type": "link", "url": context["pathto"](f"{place}.ipynb", 1), "text": ".ipynb", "icon": "fas fa-code",
                            "tooltip": "Download this page as a notebook", "label": "download-notebook-button"})
        group["buttons"] = kept
    if place and (url := address.colab_url(*place.split("/", 1)[::-1])):
        context["header_buttons"].insert(0, {"type": "link", "url": url, "text": "Run in Colab", "icon": "fas fa-play",
                                             "tooltip": "Open this page in Google Colab", "label": "launch-colab"})


def _published(source: Path) -> str | None:
    "Where the site keeps the notebook that readers run, if a page has one: `colab/02_attention`, `exercises/02_attention`."
    if source.suffix != ".ipynb" or source in tools():
        return None
    place = name(ROOT / source)
    return place if place.startswith("exercises/") else f"colab/{place}"


def fill_report_table(app, docname, source):
    "The page about the checkers shows their reports, which the build has made: `[[reports]]` becomes the table."
    if "[[reports]]" in source[0]:
        source[0] = source[0].replace("[[reports]]", report_table(list(exercises.reports().values())))


def report_table(reports: list[dict]) -> str:
    "The mutation reports as a table, with sums, and below it why some mistakes can't be told apart."
    def of(part: int, whole: int) -> str:
        return f"{part:,} of {whole:,}"

    head = ["exercise", "mistakes rejected", "named", "several slips rejected", "named", "right answers accepted"]
    counted = [[r["rejected"], r["simulated"], r["named"], r["combinations"] - len(r["passed"]), r["combinations"], r["explained"],
                r["equivalents"] - len(r["refused"]), r["equivalents"]] for r in reports]
    names = [*(r["id"] for r in reports), "all"]
    rows = [[name, of(n[0], n[1]), n[2], of(n[3], n[4]), n[5], of(n[6], n[7])] for name, n in zip(names, [*counted, [*map(sum, zip(*counted))]])]
    shown = table(head, rows, caption="Simulated mistakes, alone and several at once, and right answers that are written differently.")
    alike = [f"* `{r['id']}`, mistake {id}: {why}" for r in reports for id, why in r["alike"].items()]
    return shown._repr_html_() + ("\n\nMistakes that can't be told from another one, with the reason:\n\n" + "\n".join(alike) if alike else "")


def repair_roles(app, pagename, templatename, context, doctree):
    "docutils calls citations a list, and its items by a role that is no longer used and that a list can't hold."
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def number_equations(app, env):
    "Labelled equations are numbered from 1 on every page."
    places = {}
    for label, (docname, _) in sorted(env.domaindata["math"]["objects"].items(), key=lambda item: item[1]):
        places[label] = places.get(docname, 0) + 1
        places[docname] = places[label]
        env.domaindata["math"]["objects"][label] = (docname, places[label])


def show_numbers(app, doctree, docname):
    for node in doctree.findall(nodes.math_block):
        if node.get("label") in app.env.domaindata["math"]["objects"]:
            node["number"] = app.env.domaindata["math"]["objects"][node["label"]][1]


def describe(app, pagename, templatename, context, doctree):
    "What search engines and messengers show of a page: its title and its first sentence. And no maths for pages without any."
    sentence = next((node.astext() for node in doctree.findall(nodes.block_quote)), "") if doctree else ""
    if sentence:
        tags = {"name": {"description": sentence}, "property": {"og:title": context["title"], "og:description": sentence, "og:type": "article"}}
        lines = [f'<meta {kind}="{key}" content="{html.escape(re.sub("<.*?>", "", value))}">' for kind, pairs in tags.items() for key, value in pairs.items()]
        context["metatags"] = context.get("metatags", "") + "\n".join(lines)
    if 'class="math' not in context.get("body", ""):
        context["script_files"] = [file for file in context["script_files"] if "mathjax" not in str(getattr(file, "filename", file))]


def name_toggles(app, pagename, templatename, context, doctree):
    "The theme's sidebar folds pages behind toggles without a name."
    if generate := context.get("generate_toctree_html"):
        def named(*arguments, **options):
            return str(generate(*arguments, **options)).replace("<summary>", '<summary aria-label="The pages below">')

        context["generate_toctree_html"] = named


def setup(app):
    app.connect("config-inited", use_address, priority=100)
    app.connect("doctree-resolved", mark_exported)
    app.connect("html-page-context", header_buttons, priority=600)      # the theme adds its buttons at 501
    app.connect("html-page-context", repair_roles)
    app.connect("html-page-context", describe, priority=900)
    app.connect("env-updated", number_equations)
    app.connect("doctree-resolved", show_numbers)
    app.connect("html-page-context", name_toggles, priority=900)
    app.connect("source-read", fill_report_table)
    figure_scripts.setup(app)
    front.setup(app)
    glossary.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
