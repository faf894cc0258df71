"""The reader: directives, numbers in prose, the cache key, failing notebooks, Colab's Markdown, addresses."""
import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from rich.console import Console

from reader import ROOT, address, execute, gates, notebook, prose
from reader.colab import colab_notebook, plain_markdown
from reader.directives import problems, split
from reader.sphinx_extension import header_buttons


def book(*cells):
    "The text of a notebook; a string that starts with `#` and a space is Markdown."
    made = [new_markdown_cell(c) if c.startswith(("# ", "Text")) else new_code_cell(c) for c in cells]
    return nbformat.writes(new_notebook(cells=[new_code_cell("#| default_exp thing"), *made]))


@pytest.mark.parametrize(("source", "found", "body"), [
    ("#| export\nx = 1", {"export": ""}, "x = 1"),
    ("#|export\n#| echo: false\nx", {"export": "", "echo": "false"}, "x"),
    ("# | hide\nx", {"hide": ""}, "x"),
    ("#| default_exp attention", {"default_exp": "attention"}, ""),
    ("x = 1  # | no directive", {}, "x = 1  # | no directive"),
    ("# a comment\n#| export\nx", {}, "# a comment\n#| export\nx"),
])
def test_split(source, found, body):
    assert split(source) == (found, body)


@pytest.mark.parametrize(("cells", "complaint"), [
    (["#| exprot\nx = 1"], "unknown directive `exprot`"),
    (["#| echo: true\nx"], "has the value 'true'"),
    (["#| export yes\nx"], "has the value 'yes'"),
    (["#comment\n#| export\nx = 1"], "not at the top of its cell"),
    (["#| default_exp other"], "2 `default_exp`"),
    (["# Title\n", "Text\n"], None),
    (["#| export\n#| code-fold: true\nx = 1"], None),
])
def test_lint_names_what_is_wrong(cells, complaint):
    said = problems(nbformat.reads(book(*cells), as_version=4))
    assert said == [] if complaint is None else any(complaint in line for line in said), said


def test_lint_sees_directives_in_markdown_and_missing_targets():
    nb = new_notebook(cells=[new_markdown_cell("#| hide\ntext")])
    said = " ".join(problems(nb))
    assert "directives belong in code cells" in said and "0 `default_exp`" in said


def test_directives_become_tags_and_no_line_is_left():
    nb = notebook.to_run(book("#| export\nx = 1", "#| hide\nassert x", "#| echo: false\nx", "#| code-fold: true\nx", "#| eval: false\n1 / 0"))
    assert [c.metadata.get("tags") for c in nb.cells] == [["exported"], ["remove-cell"], ["remove-input"], ["hide-input"], ["skip-execution"]]
    assert not any("#|" in cell.source for cell in nb.cells)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    "A project of its own: a package with two modules, and a cache."
    package = tmp_path / "transformer_course"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "low.py").write_text("value = 1\n")
    (package / "high.py").write_text("from .low import value\n")
    (package / "alone.py").write_text("value = 9\n")
    for module in (notebook, execute):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(notebook, "BUILD", tmp_path / "_build")
    return tmp_path


def key(text):
    return [cell.metadata.depends for cell in notebook.to_run(text).cells if cell.cell_type == "code"]


def test_cache_key_follows_the_modules_that_a_notebook_uses(elsewhere):
    text = book("from transformer_course.high import value", "# Title\n")
    before = key(text)
    (elsewhere / "transformer_course/alone.py").write_text("value = 10\n")
    assert key(text) == before                                       # a module that it does not import
    (elsewhere / "transformer_course/low.py").write_text("value = 2\n")
    assert key(text) != before                                       # one that it imports through another
    (elsewhere / "transformer_course/low.py").write_text("value = 1\n")
    assert key(text) == before                                       # and back
    (elsewhere / "transformer_course/results").mkdir()
    (elsewhere / "transformer_course/results/r.json").write_text("{}")
    assert key(text) != before                                       # recorded results are an input too


def test_cache_key_follows_versions(elsewhere, monkeypatch):
    before = key(book("x = 1"))
    monkeypatch.setattr(notebook, "version", lambda name: "another")
    assert key(book("x = 1")) != before


def test_run_once_then_from_the_cache_until_the_module_changes(elsewhere):
    path = elsewhere / "nb.ipynb"
    path.write_text(book("from transformer_course.high import value", "# It is {{value + 1}}, or {{value:.2f}}\n", "value"))
    run = lambda: execute.execute([path], workers=1, console=Console(quiet=True))
    assert list(run()) == ["nb"] and run() == {}
    assert "It is 2, or 1.00" in notebook.read(path.read_text()).cells[2].source
    (elsewhere / "transformer_course/low.py").write_text("value = 5\n")
    assert list(run()) == ["nb"]
    shown = notebook.read(path.read_text())
    assert "It is 6, or 5.00" in shown.cells[2].source and shown.cells[1].metadata.tags == ["remove-cell"]


def test_a_failing_notebook_fails_with_its_traceback_and_the_others_are_kept(elsewhere):
    good, bad = elsewhere / "good.ipynb", elsewhere / "bad.ipynb"
    good.write_text(book("x = 1"))
    bad.write_text(book("def divide(x):\n    return 1 / x", "divide(0)"))
    with pytest.raises(execute.NotebookFailed) as error:
        execute.execute([bad, good], workers=2, console=Console(quiet=True))
    assert "bad.ipynb failed" in str(error.value) and "ZeroDivisionError" in str(error.value) and "divide" in str(error.value)
    assert execute.execute([good], console=Console(quiet=True)) == {}


def test_a_warning_fails_the_notebook_that_would_show_it(elsewhere):
    path = elsewhere / "nb.ipynb"
    path.write_text(book("import warnings\nwarnings.warn('mind the gap')"))
    with pytest.raises(execute.NotebookFailed, match="mind the gap"):
        execute.execute([path], console=Console(quiet=True))


def test_a_page_without_its_run_is_an_error(elsewhere):
    with pytest.raises(KeyError):
        notebook.read(book("x = 1", "# {{x}}\n"))


def test_cells_that_are_shown_but_not_run_are_not_run(elsewhere):
    path = elsewhere / "nb.ipynb"
    path.write_text(book("#| eval: false\n1 / 0", "x = 2"))
    execute.execute([path], console=Console(quiet=True))


def test_numbers_are_asked_for_only_where_prose_has_some():
    assert prose.question(new_markdown_cell("no number, but $x^{{a}}$ braces")) is not None      # double braces always ask …
    assert prose.question(new_markdown_cell("$\\sqrt{d_k}$ and {one} brace")) is None              # … single ones never
    asked = prose.question(new_markdown_cell("{{a['b']:.2f}} and {{c!r}}"))
    scope = {"a": {"b": 2.0}, "c": "d"}
    shown = []
    exec(asked.source.replace('__import__("IPython.display").display.display', "keep"), scope | {"keep": lambda data, raw: shown.append(data)})
    assert shown[0][prose.MIME] == ["2.00", "'d'"]


TASK = """### Double it

*build it · difficulty 1 of 5 · importance 2 of 5 · 3 minutes*

Return twice the number.

:::{dropdown} Hint 1: a question
How often?
:::

:::{dropdown} Hint 2: the plan
Multiply.
:::
"""
SOLUTION = """#| exercise: thing.double
def double(x):
    "Twice x."
    # solution
    return 2 * x
    # end
"""


def test_exercise_has_a_stub_a_solution_and_words():
    nb = nbformat.reads(book("#| gate\ngate = 1", TASK.replace("###", "Text ###", 1), SOLUTION), as_version=4)
    nb.cells[2].source = TASK
    task = next(iter(gates.tasks(nb).values()))
    assert task.stub == 'def double(x):\n    "Twice x."\n    raise NotImplementedError'
    assert task.solution == 'def double(x):\n    "Twice x."\n    return 2 * x'
    assert (task.id, task.title, task.object, task.difficulty, task.importance, task.minutes) == ("thing.double", "Double it", "double", 1, 2, 3)
    assert task.prompt == "Return twice the number." and len(task.hints) == 2 and "Multiply." in task.hints[1]
    shown = gates.box(task, "00_thing")
    assert shown.index("raise NotImplementedError") < shown.index("Solution") < shown.index("return 2 * x")
    ran = notebook.to_run(nbformat.writes(nb))
    assert "# solution" not in ran.cells[-1].source and ran.cells[-1].metadata.tags == ["remove-cell"]


@pytest.mark.parametrize(("source", "stub"), [
    ("# solution\nx = 3\n# stub: x = ...\n# end", "x = ..."),
    ("def f():\n    a = 1\n    # solution\n    return a\n    # stub: return -a\n    # end", "def f():\n    a = 1\n    return -a"),
])
def test_stubs_may_say_something_else(source, stub):
    assert gates.stub_of(source) == stub and "stub" not in gates.solution_of(source + "\n")


@pytest.mark.parametrize(("text", "code", "missing"), [
    (TASK.replace("### Double it", "Double it"), SOLUTION, "title"), (TASK.replace("*build it", "build it"), SOLUTION, "kind and difficulty"),
    (TASK, SOLUTION.replace("# end", ""), "# solution"),
])
def test_exercise_that_is_not_complete_is_an_error(text, code, missing):
    nb = new_notebook(cells=[new_markdown_cell(text), new_code_cell(code)])
    with pytest.raises(gates.TaskError, match=missing):
        gates.tasks(nb)


MYST = """(label)=
## Title

Text {cite:p}`vaswani2017,clark2019` and {cite:t}`sennrich2016`.[^note]
See {eq}`attention` and [the chapter](02_attention.ipynb#masks), [elsewhere](https://example.org), [nowhere](gone.ipynb).

[^note]: A side note.

$$a = b$$ (attention)

:::{admonition} Predict first
:class: predict
1. One?
2. Two?
:::

```{note}
A note.
```
"""
PLAIN = """## Title

Text (Vaswani 2017, Clark 2019) and Sennrich 2016.<sup>note</sup>
See attention and [the chapter](https://site/nbs/02_attention.html#masks), [elsewhere](https://example.org), nowhere.

<sup>note</sup> A side note.

$$a = b$$

> **Predict first**
>
> 1. One?
> 2. Two?

> **Note**
>
> A note.
"""


def test_myst_becomes_plain_markdown():
    link = lambda target: f"https://site/nbs/{target.replace('.ipynb', '.html')}" if "02" in target else None
    assert plain_markdown(MYST, link) == PLAIN


def test_colab_notebook_runs_from_the_top_and_holds_no_directive(notebook):
    nb = colab_notebook(notebook[1], "the_wheel", link=lambda target: None)
    nbformat.validate(nb)
    assert "%pip install -q the_wheel" in nb.cells[0].source and nb.metadata.accelerator == "GPU"
    assert not any(cell.get("outputs") for cell in nb.cells)
    for cell in nb.cells:
        assert "#|" not in cell.source
        if cell.cell_type == "markdown":
            assert ":::" not in cell.source and "`{" not in cell.source and "{cite" not in cell.source, cell.source


def test_colab_installs_the_package_and_touches_nothing_that_colab_ships(notebook):
    install = [line for cell in colab_notebook(notebook[1], "the_wheel", lambda t: None).cells if cell.cell_type == "code"
               for line in cell.source.splitlines() if "pip install" in line]
    assert install == ["%pip install -q the_wheel"]


@pytest.mark.parametrize(("environment", "repository", "site"), [
    ({}, None, None),
    ({"GITHUB_REPOSITORY": "Ann/course"}, "Ann/course", "https://ann.github.io/course"),
    ({"GITHUB_REPOSITORY": "ann/ann.github.io"}, "ann/ann.github.io", "https://ann.github.io"),
    ({"GITHUB_REPOSITORY": "ann/course", "COURSE_URL": "https://course.example/"}, "ann/course", "https://course.example"),
])
def test_address_comes_from_the_environment(environment, repository, site, monkeypatch, tmp_path):
    monkeypatch.setattr(address, "ROOT", tmp_path)                    # no git remote there
    for name in ("GITHUB_REPOSITORY", "COURSE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (address.repository(), address.site_url()) == (repository, site)
    colab = f"https://colab.research.google.com/github/{repository}/blob/gh-pages/colab/02_attention.ipynb" if repository else None
    assert address.colab_url("02_attention") == colab


@pytest.mark.parametrize(("remote", "expected"), [
    ("git@github.com:ann/the.course.git", "ann/the.course"), ("https://github.com/ann/course", "ann/course"), ("https://elsewhere.org/ann/course", None),
])
def test_address_comes_from_the_git_remote(remote, expected, monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    monkeypatch.setattr(address.subprocess, "run", lambda *a, **k: type("Done", (), {"stdout": remote + "\n"}))
    assert address.repository() == expected


@pytest.mark.parametrize("known", [True, False])
def test_launch_button_is_there_exactly_when_the_address_is_known(known, monkeypatch):
    monkeypatch.setattr(address, "repository", lambda: "ann/course" if known else None)
    env = type("Env", (), {"found_docs": {"nbs/02_attention"}, "doc2path": lambda self, name: f"{name}.ipynb"})()
    pdf, source = {"label": "download-pdf-button"}, {"label": "download-source-button"}
    context = {"pathto": lambda path, _: f"../{path}", "header_buttons": [{"label": "download-buttons", "buttons": [source, pdf]}]}
    header_buttons(type("App", (), {"env": env}), "nbs/02_attention", "page.html", context, None)
    urls = [button.get("url", "") for button in context["header_buttons"]]
    assert any("colab.research.google.com/github/ann/course" in url for url in urls) == known
    downloads = context["header_buttons"][-1]["buttons"]
    assert source not in downloads and downloads[0]["url"] == "../colab/02_attention.ipynb"       # the source holds directives


def test_nothing_in_the_project_names_a_published_address():
    invented = ["OWNER/REPO", "example.org/"]
    for path in [*(ROOT / "book").glob("*.md"), ROOT / "README.md", ROOT / "_config.yml", *(ROOT / "nbs").glob("*.ipynb")]:
        assert not any(word in path.read_text() for word in invented), path


def test_wheel_holds_the_package_and_its_results(built, tmp_path):
    wheel = next((built / "wheel").glob("*.whl"))
    shutil.unpack_archive(wheel, tmp_path, "zip")
    packed = {path.relative_to(tmp_path).as_posix() for path in (tmp_path / "transformer_course").rglob("*") if path.is_file()}
    wanted = {path.relative_to(ROOT).as_posix() for pattern in ("*.py", "gates/*.py", "gates/*.json", "results/*.json", "js/*.*") for path in (ROOT / "transformer_course").glob(pattern)}
    assert wanted == packed
