"""What several test files share: the notebooks, the built site on a local address, a browser that can't leave it."""
import functools
import http.server
import json
import os
import threading
from pathlib import Path

import nbformat
import pytest
import torch
from filelock import FileLock
from hypothesis import settings

from builder import BUILD, SITE, chapters, name, notebooks, primer, studies
from builder.__main__ import build
from builder.browser import installed

torch.set_num_threads(1)
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"                             # chapter 10's kernels run on the CPU; before anything imports Triton
settings.register_profile("usual", max_examples=60, deadline=None)
settings.load_profile("usual")
settings.register_profile("few", max_examples=5, deadline=None)          # where annotations are checked at every call


@pytest.fixture(autouse=True)
def nothing_set_for_the_next_test():
    "A test that leaves PyTorch's defaults changed fails itself, and not others."
    yield
    left = torch.get_default_dtype(), torch.get_default_device().type, torch.is_grad_enabled()
    torch.set_default_dtype(torch.float32)
    assert left == (torch.float32, "cpu", True)


FAILED = set()


def pytest_runtest_logreport(report):
    if report.failed:
        FAILED.add(Path(report.nodeid.split("::")[0]).stem)


def pytest_collectreport(report):
    if report.failed:
        FAILED.add(Path(report.nodeid.split("::")[0]).stem)


def pytest_sessionfinish(session, exitstatus):
    "Tell the builder which files hold a failure, so that it can leave out what has passed as it stands."
    if (file := os.environ.get("COURSE_TEST_OUTCOME")) and not hasattr(session.config, "workerinput") and exitstatus in (0, 1):
        Path(file).write_text(json.dumps(sorted(FAILED)))


@pytest.fixture(scope="session", params=notebooks(), ids=name)
def notebook(request):
    "(path, notebook) for each notebook in the course."
    return request.param, nbformat.read(request.param, as_version=4)


@pytest.fixture(params=[*primer(), *chapters(), *studies()], ids=name)
def page_notebook(request):
    "Each notebook that has a version for Colab."
    return nbformat.read(request.param, as_version=4)


@pytest.fixture(scope="session")
def built():
    "The folder of the site, built from the package as it is."
    BUILD.mkdir(parents=True, exist_ok=True)
    with FileLock(BUILD / "lock"):
        build(export=False)
    return SITE


@pytest.fixture(scope="session")
def site(built):
    "The address of the built site on this machine."
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=str(built)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="session")
def browser():
    "A headless Chromium that reaches this machine alone."
    from playwright.sync_api import sync_playwright

    path = installed()
    assert path, "no Chromium or Chrome; `make test` installs one"
    arguments = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=arguments)
        yield running
        running.close()


class Visit:
    "A page with a record of what went wrong on it: requests that left the site, requests that failed, errors on the console."

    def __init__(self, browser, site, **options):
        self.site, self.outside, self.failed, self.errors = site, [], [], []
        self.context = browser.new_context(**({"viewport": {"width": 1440, "height": 1000}} | options))
        self.page = self.context.new_page()
        self.page.on("request", lambda r: r.url.startswith((self.site, "data:", "blob:")) or self.outside.append(r.url))
        self.page.on("response", lambda r: r.status >= 400 and self.failed.append(f"{r.status} {r.url}"))
        self.page.on("requestfailed", lambda r: self.failed.append(r.url))
        self.page.on("console", lambda m: m.type in ("error", "warning") and self.errors.append(m.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, path: str):
        "Go to a page and wait until its maths is set."
        self.page.goto(f"{self.site}/{path}", wait_until="load")
        self.page.evaluate("() => window.MathJax?.startup?.promise")
        self.page.evaluate("() => document.fonts.ready")
        return self.page

    @property
    def trouble(self) -> list[str]:
        return [*self.outside, *self.failed, *self.errors]


@pytest.fixture
def visit(browser, site):
    "A function that opens a page: `visit('nbs/02_attention.html', color_scheme='dark')` gives a `Visit`."
    open_visits = []

    def open_page(path: str, at: str = site, **options) -> Visit:
        one = Visit(browser, at, **options)
        open_visits.append(one)
        one.open(path)
        return one

    yield open_page
    for one in open_visits:
        one.context.close()


@pytest.fixture
def opened(browser, folder):
    "A function that opens the page of a file's `folder` (see offline.py) without a network; nothing may go wrong on it."
    contexts, wrong = [], []

    def open_page(**options):
        contexts.append(browser.new_context(**({"viewport": {"width": 1000, "height": 1200}, "offline": True} | options)))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
        page.goto((folder / "x.html").as_uri())
        page.wait_for_selector("[data-ready]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []
