"""Interactive figures with a kernel: a notebook in a real JupyterLab, driven in the browser, and Python asked what it heard."""
import ast
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import nbformat
import pytest
from jupyter_client import BlockingKernelClient
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import expect

from builder import ROOT

CELL = """
import torch
from transformer_course.interactive import attention_map, attention_steps
tokens = ["the", "cat", "sat", "on"]
weights = torch.eye(4).roll(1, 0) * 0.5 + 0.125
shown = attention_map({"first": weights, "second": weights.T}, tokens, caption="My own weights.")
heard = []
shown.widget.observe(lambda change: heard.append([change.name, change.new]), ["row", "column", "head"])
shown
"""
SECOND = """
steps = attention_steps(torch.randn(3, 4), [torch.randn(4, 2) for _ in range(3)], "abc", caption="My own numbers.")
steps
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "The address of a JupyterLab on a folder with one notebook, and the folder of its running kernels."
    folder = tmp_path_factory.mktemp("lab")
    nbformat.write(new_notebook(cells=[new_code_cell(CELL.strip()), new_code_cell(SECOND.strip())], metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}), folder / "mine.ipynb")
    settings = folder / "config/labconfig"
    settings.mkdir(parents=True)
    quiet = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}}
    (settings / "default_setting_overrides.json").write_text(json.dumps(quiet))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder), "JUPYTER_CONFIG_DIR": str(folder / "config"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
                   "JUPYTER_DATA_DIR": str(folder / "data"), "IPYTHONDIR": str(folder / "ipython"), "OMP_NUM_THREADS": "1"}
    environment.pop("COURSE_FIGURES", None)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.ip=127.0.0.1",
               f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=", "--LabApp.extension_manager=readonly"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            for _ in range(120):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=1)
                    break
                except OSError:
                    assert server.poll() is None, (folder / "log").read_text()
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}", folder / "runtime"
        finally:
            server.terminate()
            server.wait(20)


@pytest.fixture(scope="module")
def notebook(lab, browser):
    "The notebook, run from top to bottom: its page, and a function that asks its kernel."
    site, runtime = lab
    context = browser.new_context(viewport={"width": 1300, "height": 1400})
    outside, broken = [], []

    def local(route):
        if route.request.url.startswith((site, "data:", "blob:")):
            return route.continue_()
        outside.append(route.request.url)
        return route.abort()

    context.route("**/*", local)
    page = context.new_page()
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.goto(f"{site}/lab/tree/mine.ipynb?reset")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=90_000)
    page.wait_for_function("""() => { const kernel = jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel;
        return kernel?.connectionStatus === "connected" && kernel.status === "idle"; }""", timeout=90_000)
    page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")          # not awaited: an evaluation has no time limit
    page.wait_for_selector("[data-figure=attention_steps][data-ready]", timeout=90_000)
    thread = ThreadPoolExecutor(1)                                             # this one already runs Playwright's event loop

    def connect():
        client = BlockingKernelClient(connection_file=str(next(runtime.glob("kernel-*.json"))))
        client.load_connection_file()
        client.start_channels()
        client.wait_for_ready(30)
        return client

    client = thread.submit(connect).result(60)

    def ask(code: str, value: str = "None"):
        def run():
            asked = {"value": f"__import__('json').dumps({value})"}
            return client.execute(code, user_expressions=asked, reply=True, timeout=30)["content"]

        reply = thread.submit(run).result(60)
        assert reply["status"] == "ok", reply
        return json.loads(ast.literal_eval(reply["user_expressions"]["value"]["data"]["text/plain"]))

    yield page, ask
    thread.submit(client.stop_channels).result(60)
    thread.shutdown()
    context.close()
    assert outside == [] and broken == []


def shown(page):
    page.mouse.move(5, 5)                                                      # a pointer that rests on a figure is answered
    found = page.locator(".jp-OutputArea [data-figure=attention_map]")
    found.scroll_into_view_if_needed()
    return found


def test_the_figure_is_a_widget_with_caption_and_words(notebook):
    page, _ = notebook
    found = shown(page)
    assert found.count() == 1 and page.locator("[data-figure]").count() == 2
    assert page.locator(".jp-RenderedHTMLCommon [data-figure], [data-figure] script").count() == 0, "the output for places without widgets"
    expect(found.locator("figcaption")).to_have_text("My own weights.")
    assert "Head first: the: the 0.12" in found.locator(".live-words").text_content() and found.locator(".live-words").bounding_box()["width"] <= 1


def test_what_is_clicked_in_the_page_arrives_in_python(notebook):
    page, ask = notebook
    found = shown(page)
    ask("heard.clear()")
    found.get_by_role("radiogroup", name="Reader").locator(".live-chip").nth(2).click()
    expect(found.locator(".live-title")).to_have_text("What “sat” reads most")
    found.locator(".live-cell").nth(3 * 4 + 1).click()
    expect(found.locator(".live-says")).to_contain_text("“on” reads “cat”")
    page.wait_for_timeout(500)
    assert ask("", "[shown.widget.row, shown.widget.column]") == [3, 1]
    assert ["row", 2] in ask("", "heard") and ["row", 3] in ask("", "heard")


def test_what_python_sets_appears_in_the_page(notebook):
    page, ask = notebook
    found = shown(page)
    ask("shown.widget.head = 1; shown.widget.row = 1; shown.widget.column = 0")
    expect(found.locator(".live-says")).to_have_text(re.compile("“cat” reads “the” with weight 0.125"))
    expect(found.get_by_role("radiogroup", name="Head").locator("input").nth(1)).to_be_checked()


def test_arrow_keys_belong_to_the_figure_and_not_to_the_notebook(notebook):
    page, ask = notebook
    found = shown(page)
    ask("shown.widget.row = 1; shown.widget.column = 1")
    expect(found.locator(".live-cell.live-at")).to_have_count(1)
    found.locator(".live-cell[tabindex='0']").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    page.wait_for_timeout(500)
    assert ask("", "[shown.widget.row, shown.widget.column]") == [2, 2]


def test_new_tensors_go_into_the_figure_on_the_screen(notebook):
    page, ask = notebook
    found = shown(page)
    ask("shown.widget.row = 3; shown.widget.head = 0; shown.widget.column = 3")
    ask("shown.update(attention_map(torch.eye(5), 'abcde', caption='Another size.'))")
    expect(found.locator(".live-cell")).to_have_count(25)
    expect(found.locator("figcaption")).to_have_text("Another size.")
    expect(found.locator(".live-says")).to_have_text("“d” reads “d” with weight 1.000")
    ask("shown.widget.sentences = [{**shown.widget.sentences[0], 'weights': [[[1]]]}]")   # past Python's checks: the page has its own
    expect(found.get_by_role("alert")).to_contain_text("must be 5 × 5, got 1 rows")
    ask("shown.update(attention_map({'first': weights, 'second': weights.T}, tokens, caption='My own weights.'))")
    expect(found.locator(".live-cell")).to_have_count(16)


def test_a_slider_in_the_page_changes_numbers_in_python(notebook):
    page, ask = notebook
    found = page.locator("[data-figure=attention_steps]")
    found.scroll_into_view_if_needed()
    found.get_by_role("grid", name="vectors").locator(".live-cell").nth(1).click()          # the first vector's second number
    found.locator("input[type=range]").fill("2.5")
    page.wait_for_timeout(500)
    assert ask("", "steps.widget.x[0][1]") == 2.5
    expect(found.locator(".live-panel.live-later")).to_have_count(10)
    ask("steps.widget.step = 3")
    expect(found.locator(".live-panel.live-later")).to_have_count(2)


def test_the_figure_follows_jupyterlabs_theme(notebook):
    page, _ = notebook
    blue = lambda: page.evaluate("getComputedStyle(document.querySelector('.live')).getPropertyValue('--lv-blue')").strip()
    assert blue() == "#1c64c8"
    page.evaluate("() => { jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'}); }")
    page.wait_for_function("document.body.dataset.jpThemeLight === 'false'")
    assert blue() == "#4f8ff0"
    page.screenshot(path=os.environ["LAB_PICTURE"]) if "LAB_PICTURE" in os.environ else None
