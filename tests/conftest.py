"""What several test files share: the notebooks, the built site on a local address, a browser that can't leave it."""
import contextlib
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


class Pages:
    """Empty pages of a browser, by the options of their context. They are used again, because a new window costs more than most pages do.

    One that comes back loses what a test has left on it: listeners, what is stored, its size, emulated media, the place of the pointer.
    """

    def __init__(self, browser):
        self.browser, self.free = browser, {}

    @contextlib.contextmanager
    def page(self, listeners: dict | None = None, **options):
        free = self.free.setdefault(repr(sorted(options.items())), [])
        page = free.pop() if free else self.browser.new_context(**options).new_page()
        for event, listener in (listeners or {}).items():
            page.on(event, listener)
        yield page
        for event, listener in (listeners or {}).items():
            page.remove_listener(event, listener)
        page.evaluate("() => { try { localStorage.clear(); sessionStorage.clear(); } catch {} }")      # a frame without an origin has none
        page.goto("about:blank")
        page.mouse.move(0, 0)
        page.set_viewport_size(options["viewport"])
        page.emulate_media(media="null", **{"color_scheme": "light", "reduced_motion": "no-preference"} | {key: options[key] for key in ("color_scheme", "reduced_motion") if key in options})
        free.append(page)


@pytest.fixture(scope="session")
def pages(browser):
    return Pages(browser)


class Visit:
    "A page with a record of what went wrong on it: requests that left the site, requests that failed, errors on the console."

    def __init__(self, pages, site, **options):
        self.site, self.outside, self.failed, self.errors = site, [], [], []
        listeners = {
            "request": lambda r: r.url.startswith((self.site, "data:", "blob:")) or self.outside.append(r.url),
            "response": lambda r: r.status >= 400 and self.failed.append(f"{r.status} {r.url}"),
            "requestfailed": lambda r: self.failed.append(r.url),
            "console": lambda m: m.type in ("error", "warning") and self.errors.append(m.text),
            "pageerror": lambda error: self.errors.append(str(error)),
        }
        self.stack = contextlib.ExitStack()
        self.page = self.stack.enter_context(pages.page(listeners, **{"viewport": {"width": 1440, "height": 1000}} | options))

    def open(self, path: str):
        "Go to a page and wait until its maths is set."
        self.page.goto(f"{self.site}/{path}", wait_until="load")
        self.page.evaluate("() => window.MathJax?.startup?.promise")
        self.page.evaluate("() => document.fonts.ready")
        return self.page

    @property
    def trouble(self) -> list[str]:
        return [*self.outside, *self.failed, *self.errors]

    def close(self):
        self.stack.close()


@pytest.fixture
def visit(pages, site):
    "A function that opens a page: `visit('nbs/02_attention.html', color_scheme='dark')` gives a `Visit`."
    with contextlib.ExitStack() as stack:
        def open_page(path: str, at: str = site, **options) -> Visit:
            one = Visit(pages, at, **options)
            stack.callback(one.close)
            one.open(path)
            return one

        yield open_page


@pytest.fixture
def opened(pages, folder):
    "A function that opens the page of a file's `folder` (see offline.py) without a network; nothing may go wrong on it."
    wrong = []
    listeners = {"pageerror": lambda error: wrong.append(str(error)), "console": lambda message: message.type in ("error", "warning") and wrong.append(message.text)}
    with contextlib.ExitStack() as stack:
        def open_page(**options):
            page = stack.enter_context(pages.page(listeners, **{"viewport": {"width": 1000, "height": 1200}, "offline": True} | options))
            page.goto((folder / "x.html").as_uri())
            page.wait_for_selector("[data-ready]")
            return page

        yield open_page
    assert wrong == []
