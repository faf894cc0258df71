"""Weigh and time each interactive figure: what it adds to its page, and how much later the page is ready in headless Chromium.

    make book SERVE=0
    make record NAME=figures

A page of the built book is served without its figures and with each of them alone, and a chapter without
and with all of its own. It is ready when it has loaded and every figure is drawn. The two that are compared take turns, so that
a busy moment of the machine meets both.
"""
import gzip
import http.server
import mimetypes
import re
import statistics
import threading
from functools import cache

from playwright.sync_api import sync_playwright

from builder import SITE
from builder.browser import installed
from builder.records import record
from transformer_course.interactive import FIGURES

ROUNDS = 5
PAGE, CHAPTER = "nbs/tools/interactive.html", "nbs/02_attention.html"
FIGURE = re.compile(r'<figure class="live" data-figure="(\w+)">.*?</figure>', re.S)
CODE = re.compile(r'<(?:script|link)[^>]*_static/figures/(\w+)\.[^>]*>(?:</script>)?')


def keep(text: str, names) -> str:
    "The page with these figures alone, and with the files that they need."
    needed = {*names, "host", "figures"} if names else set()
    text = FIGURE.sub(lambda found: found[0] if found[1] in names else "", text)
    return CODE.sub(lambda found: found[0] if found[1] in needed else "", text)


@cache
def variants() -> dict[str, str]:
    "The text of every page to be opened, by its path on the server."
    page, chapter = ((SITE / path).read_text(encoding="utf-8") for path in (PAGE, CHAPTER))
    missing = set(FIGURES) - {found[1] for found in FIGURE.finditer(page)}
    if missing or not FIGURE.search(chapter):
        raise SystemExit(f"{PAGE} has no {', '.join(sorted(missing)) or 'missing figure'}, or {CHAPTER} has no figure: run `make book`")
    return {"nbs/tools/none.html": keep(page, ()), **{f"nbs/tools/{name}.html": keep(page, {name}) for name in FIGURES},
            "nbs/chapter_none.html": keep(chapter, ()), "nbs/chapter.html": chapter}


@cache
def compressed(path: str) -> bytes:
    text = variants().get(path)
    return gzip.compress((SITE / path).read_bytes() if text is None else text.encode(), 6, mtime=0)


class Compressing(http.server.BaseHTTPRequestHandler):
    "The built site and the variants, compressed as servers do."

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.split("?")[0].lstrip("/")
        try:
            body = compressed(path)
        except OSError:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", mimetypes.guess_type(path)[0] or "application/octet-stream")
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


READY = """() => { const marks = performance.getEntriesByType("mark").filter(({name}) => name.startsWith("figure "));
    const waiting = document.querySelectorAll("[data-figure]").length - marks.length, {loadEventEnd} = performance.getEntriesByType("navigation")[0];
    return waiting || !loadEventEnd ? null : Math.max(loadEventEnd, ...marks.map(({startTime}) => startTime)); }"""


def visit(browser, address: str) -> tuple[float, int, list[str]]:
    "Seconds until the page is ready, bytes that came over the line, and the figure files among them; with an empty cache."
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    page, weights = context.new_page(), []
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: weights.append(event["encodedDataLength"]))
    page.goto(address, wait_until="load")
    milliseconds = page.wait_for_function(READY).json_value()
    files = page.evaluate("performance.getEntriesByType('resource').map(({name}) => name).filter((name) => name.includes('/figures/'))")
    context.close()
    return milliseconds / 1000, int(sum(weights)), files


def compare(visits, with_: str, without: str) -> dict:
    "What a page costs more than another: bytes, and the median and the third quartile of the differences in seconds between visits in a row."
    pairs = [(visits(without), visits(with_)) for _ in range(ROUNDS)]
    later = [one[0] - other[0] for other, one in pairs]
    return {"bytes": pairs[0][1][1] - pairs[0][0][1], "seconds": round(statistics.median(later), 3), "third quartile": round(statistics.quantiles(later)[2], 3)}


def measure() -> dict:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Compressing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed(), args=["--no-sandbox"])
        visits = lambda path: visit(browser, f"http://127.0.0.1:{server.server_port}/{path}")
        seconds, weight, files = zip(*(visits("nbs/tools/none.html") for _ in range(ROUNDS)), strict=True)
        result = {"rounds": ROUNDS,
                  "page without figures": {"bytes": weight[-1], "seconds": round(statistics.median(seconds), 3), "figure files": len(files[-1])},
                  "figures": {name: compare(visits, f"nbs/tools/{name}.html", "nbs/tools/none.html") for name in FIGURES},
                  "chapter 2, all its figures": compare(visits, "nbs/chapter.html", "nbs/chapter_none.html")}
        browser.close()
    server.shutdown()
    return result


if __name__ == "__main__":
    result = measure()
    for name, row in result["figures"].items():
        print(f"{name}: {row}")
    print(result["page without figures"], result["chapter 2, all its figures"], sep="\n")
    print(record("figures", result, __file__))
