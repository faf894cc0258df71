"""The builder: directives, numbers in prose, the cache key, failing notebooks, Colab's Markdown, addresses."""
import ast
import functools
import re
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from rich.console import Console

from builder import ROOT, address, execute, exercises, keys, notebook, prose, testing
from builder.colab import colab_notebook, plain_markdown, setup
from builder.directives import problems, split
from builder.sphinx_extension import header_buttons


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
    assert "directives belong in code cells" in " ".join(problems(nb))
    nb = new_notebook(cells=[new_code_cell("#| export\nx = 1")])
    assert "0 `default_exp`" in " ".join(problems(nb))
    assert problems(new_notebook(cells=[new_code_cell("x = 1")])) == []        # a study exports nothing


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
    for module in (notebook, execute, keys):
        monkeypatch.setattr(module, "ROOT", tmp_path, raising=False)
    for module in (notebook, execute):
        monkeypatch.setattr(module, "name", lambda path: path.stem)
    monkeypatch.setattr(notebook, "EXECUTED", tmp_path / "_build")
    return tmp_path


def key(text):
    return keys.notebook_key(notebook.to_run(text))


def test_key_follows_the_modules_that_a_notebook_uses(elsewhere):
    text, package = book("from transformer_course.high import value", "# Title\n"), elsewhere / "transformer_course"
    before = key(text)
    (package / "alone.py").write_text("value = 10\n")
    assert key(text) == before                                       # a module that it does not import
    (package / "low.py").write_text("value = 2\n")
    assert key(text) != before                                       # one that it imports through another
    (package / "low.py").write_text("value = 1\n\n\ndef unused():\n    return 3\n")
    assert key(text) == before                                       # a function that it does not use
    (package / "low.py").write_text("value = unused()\n\n\ndef unused():\n    return 3\n")
    used = key(text)
    (package / "low.py").write_text("value = unused()\n\n\ndef unused():\n    return 4\n")
    assert before != used != key(text)                               # one that it does


def test_key_follows_the_results_that_a_notebook_reads(elsewhere):
    (elsewhere / "transformer_course/results").mkdir()
    one, other = (elsewhere / f"transformer_course/results/{name}.json" for name in ("heads", "other"))
    text = book('records.recorded("heads")')
    before = key(text)
    other.write_text("{}")
    assert key(text) == before
    one.write_text("{}")
    assert key(text) != before


def test_key_follows_versions(elsewhere, monkeypatch):
    before = key(book("x = 1"))
    monkeypatch.setattr(keys, "version", lambda name: "another")
    assert key(book("x = 1")) != before


@pytest.mark.parametrize(("before", "after"), [
    ("value = 1\n", '"What it is."\n\n# a comment\nvalue = (\n    1\n)\n'),
    ('def f(x):\n    "Doc."\n    return x\n', 'def f(x):\n    "Another."\n    return x  # a remark\n'),
    ('def f(x):\n    raise ValueError(f"{x} is wrong")\n', 'def f(x):\n    raise ValueError(f"{x} does not fit")\n'),
], ids=["layout", "docstring", "words of an error"])
def test_words_change_no_key(elsewhere, before, after):
    low, text = elsewhere / "transformer_course/low.py", book("from transformer_course import low\nlow")
    low.write_text(before)
    first = key(text)
    low.write_text(after)
    assert key(text) == first
    low.write_text(after.replace("1", "2").replace("return x", "return -x").replace("ValueError", "KeyError"))
    assert key(text) != first


def test_run_once_then_kept_until_the_module_changes(elsewhere, monkeypatch):
    path = elsewhere / "nb.ipynb"
    path.write_text(book("from transformer_course.high import value", "# It is {{value + 1}}, or {{value:.2f}}\n", "value"))
    monkeypatch.setattr(notebook, "notebooks", lambda: [path])
    run = lambda: execute.execute([path], workers=1, console=Console(quiet=True))
    assert list(run()) == ["nb"] and run() == {}
    assert "It is 2, or 1.00" in notebook.read(path.read_text()).cells[2].source
    (elsewhere / "transformer_course/low.py").write_text("value = 5\n")
    assert list(run()) == ["nb"]
    shown = notebook.read(path.read_text())
    assert "It is 6, or 5.00" in shown.cells[2].source and shown.cells[1].metadata.tags == ["remove-cell"]
    assert shown.cells[-1].outputs[0].data["text/plain"] == "5"


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


def test_a_page_without_its_run_is_an_error(elsewhere, monkeypatch):
    path = elsewhere / "nb.ipynb"
    path.write_text(book("x = 1", "# {{x}}\n"))
    monkeypatch.setattr(notebook, "notebooks", lambda: [path])
    with pytest.raises(KeyError, match="nb was not run as it stands"):
        notebook.read(path.read_text())


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


ANNOUNCED = """Before.

:::{exercise} attention.causal_mask
Write it before you read on.
:::
"""


def test_an_announced_exercise_becomes_a_box_with_a_link_and_the_check():
    assert exercises.announced_ids(ANNOUNCED) == ["attention.causal_mask"]
    shown = exercises.announced(ANNOUNCED, exercises.box)
    assert "{exercise}" not in shown and "Write it before you read on." in shown
    assert "(#exercise-attention-causal-mask)" in shown and 'check("attention.causal_mask", causal_mask)' in shown and "10 minutes" in shown


def test_a_page_of_exercises_holds_task_stub_hints_and_solution():
    path = ROOT / "nbs/exercises/02_attention.ipynb"
    page = notebook.read(path.read_text())
    assert all(cell.cell_type == "markdown" for cell in page.cells) and page.cells[0].source.startswith("# ")
    cell = next(cell for cell in page.cells if "(exercise-attention-causal-mask)=" in cell.source)
    parts = ["## ", "raise NotImplementedError", "dropdown} Hint 1", "dropdown} Hint 3", "dropdown} Solution", "torch.arange", "../../exercises/02_attention.ipynb"]
    places = [cell.source.index(part) for part in parts]
    assert places == sorted(places)


@pytest.mark.parametrize(("file", "old", "new", "other"), [
    ("checkers/attention.py", "Two queries over five keys", "Three queries over five keys", {"attention.causal_mask"}),
    ("grading/verdicts.py", "def _explains(", "def _explains(changed, ", {"attention.causal_mask", "attention.bill"}),
], ids=["a hint", "the engine"])
def test_a_change_makes_the_reports_anew_that_it_touches_and_runs_no_chapter(monkeypatch, file, old, new, other):
    "The key of a report follows the object of its exercise and what judges it; a chapter imports no checker."
    before = {id: exercises.report_key(id) for id in ("attention.causal_mask", "attention.bill")}
    chapter = notebook.to_run((ROOT / "nbs/02_attention.ipynb").read_text())
    run, statements = keys.notebook_key(chapter), keys.statements

    @functools.cache
    def changed(path):
        if not path.as_posix().endswith(file):
            return statements(path)
        assert old in path.read_text()
        return ast.parse(path.read_text().replace(old, new)).body

    for module in (keys, exercises):
        monkeypatch.setattr(module, "statements", changed)
    assert {id for id, key in before.items() if exercises.report_key(id) != key} == other
    assert keys.notebook_key(chapter) == run


def test_other_tests_read_no_notebook():
    "So they need not run again after a change of text; and those of the inner loop build no page."
    for path in (ROOT / "tests").glob("test_*.py"):
        assert path.stem in testing.SITE_TESTS or not re.search(r"def test\w+\((.*, )?(built|site|visit)\b", path.read_text()), path.name
        if path.stem not in testing.READ_NOTEBOOKS:
            assert not re.search(r"\"nbs|def test\w+\((.*, )?(page_)?notebook\b|README|references", path.read_text()), path.name


def test_caches_of_tools_are_no_reason_to_build_again(tmp_path, monkeypatch):
    monkeypatch.setattr(keys, "ROOT", tmp_path)
    (tmp_path / "nbs").mkdir()
    (tmp_path / "nbs/page.md").write_text("text")
    before = keys.file_digest(tmp_path / "nbs")
    for place in (".ruff_cache/1", "__pycache__/page.pyc", "_build/page.html"):
        (tmp_path / "nbs" / place).parent.mkdir()
        (tmp_path / "nbs" / place).write_text("made by a tool")
    assert keys.file_digest(tmp_path / "nbs") == before
    (tmp_path / "nbs/page.md").write_text("another text")
    assert keys.file_digest(tmp_path / "nbs") != before


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

Text ([Vaswani et al., 2017](https://arxiv.org/abs/1706.03762); [Clark et al., 2019](https://arxiv.org/abs/1906.04341)) and [Sennrich et al. (2016)](https://arxiv.org/abs/1508.07909).<sup>1</sup>
See (1) and [the chapter](https://site/nbs/02_attention.html#masks), [elsewhere](https://example.org), nowhere.

<sup>1</sup> A side note.

$$a = b \\tag{1}$$

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


def test_colab_notebook_holds_no_directive_and_no_myst(page_notebook):
    nb = colab_notebook(page_notebook, "install()", link=lambda target: None)
    nbformat.validate(nb)
    assert nb.cells[0].source == "install()" and nb.metadata.accelerator == "GPU"
    assert not any(cell.get("outputs") for cell in nb.cells)
    for cell in nb.cells:
        assert "#|" not in cell.source
        if cell.cell_type == "markdown":
            assert ":::" not in cell.source and "`{" not in cell.source and "{cite" not in cell.source, cell.source


def test_hidden_checks_stay_out_of_colab_and_hidden_set_up_stays_in():
    nb = nbformat.reads(book("#| hide\nassert 1 == 1", "#| hide\nsize = 3", "size"), as_version=4)
    sources = [cell.source for cell in colab_notebook(nb, "install()", lambda t: None).cells]
    assert len(sources) == 3 and sources[1].endswith("size = 3") and sources[2] == "size"


def test_a_colab_notebook_brings_the_course_along_where_no_address_is_known(tmp_path):
    wheel = tmp_path / "transformer_course-1-py3-none-any.whl"
    wheel.write_bytes(b"no wheel")
    known = setup(wheel, "https://ann.github.io/course")
    assert "transformer-course[notebook] @ https://ann.github.io/course/wheel/transformer_course-1-py3-none-any.whl" in known and "base64" not in known
    for page in ("07b_pretrained", "exercises/07b_pretrained"):                 # what needs published weights gets them
        assert "transformer-course[notebook,pretrained] @" in setup(wheel, "https://ann.github.io/course", page) and "[notebook,pretrained]" in setup(wheel, None, page)
    done = subprocess.run([sys.executable, "-c", setup(wheel, None)], capture_output=True, text=True)
    assert done.returncode == 1 and "The course could not be installed, so nothing below can run." in done.stderr and "PyTorch" not in done.stdout


@pytest.mark.parametrize(("environment", "repository", "url"), [
    ({}, None, None),
    ({"GITHUB_REPOSITORY": "Ann/course"}, "Ann/course", "https://ann.github.io/course"),
    ({"GITHUB_REPOSITORY": "ann/ann.github.io"}, "ann/ann.github.io", "https://ann.github.io"),
    ({"GITHUB_REPOSITORY": "ann/course", "COURSE_URL": "https://course.example/"}, "ann/course", "https://course.example"),
    ({"GITHUB_REPOSITORY": "ann/course", "COURSE_URL": ""}, "ann/course", None),
])
def test_address_comes_from_the_environment(environment, repository, url, monkeypatch, tmp_path):
    monkeypatch.setattr(address, "ROOT", tmp_path)                    # no git remote there
    for name in ("GITHUB_REPOSITORY", "COURSE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (address.repository(), address.site_url()) == (repository, url)
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
    env = type("Env", (), {"found_docs": {"nbs/02_attention"}, "doc2path": lambda self, name: f"{ROOT}/{name}.ipynb"})()
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
