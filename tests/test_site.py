"""The built site, as a reader meets it: headless Chromium, every request that leaves the site blocked.

Each page is visited twice, from the disk on a screen and from a server on a phone; what was seen there is looked at by many tests.
"""
import ast
import functools
import gzip
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import Visit
from playwright.sync_api import TimeoutError

from builder import ROOT, SITE, chapters, exercise_notebooks, name, notebooks, primer, studies
from builder.directives import split
from transformer_course import exercises, interactive

NOTEBOOKS = [f"nbs/{name(path)}.html" for path in notebooks()]
PROSE = [f"book/{path.stem}.html" for path in sorted((ROOT / "book").glob("*.md"))]
PAGES = [*NOTEBOOKS, *PROSE]
OTHERS = ["search.html", "genindex.html", "_modules/transformer_course/attention.html"]
EVERY_KIND = ["book/intro.html", "nbs/02_attention.html", "nbs/exercises/02_attention.html", "nbs/studies/02_why_softmax.html", "book/checkers.html"]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def each(pages):
    "All tests of a page run in one worker, so that it is visited once on a screen and once on a phone."
    return pytest.mark.parametrize("page", [pytest.param(page, marks=pytest.mark.xdist_group(page)) for page in pages])


SEEN = """() => {
  const article = document.querySelector("article, main"), all = (selector) => [...article.querySelectorAll(selector)];
  const hidden = (node) => node.closest("[aria-hidden=true], button, mjx-container");
  return {
    titles: all("h1").filter((node) => node.checkVisibility()).length, text: document.body.innerText,
    prose: all("p, li, td, figcaption, h1, h2, h3").map((node) => node.innerText).join("\\n"),
    pictures: all("figure.picture").length, captions: all("figure.picture figcaption, figure.live figcaption").map((node) => node.innerText.trim()),
    silent: all("img, svg").filter((node) => !hidden(node) && !(node.getAttribute("alt") || node.getAttribute("aria-label"))).map((node) => node.outerHTML.slice(0, 100)),
    figures: all("[data-figure]").map((root) => ({name: root.dataset.figure, messages: root.querySelectorAll(".live-message").length, parts: root.querySelectorAll(".live-body *").length,
      caption: root.querySelector("figcaption").innerText.trim(), words: root.querySelector(".live-words").textContent})),
    maths: [all(".math").length, all("mjx-container").length, all("mjx-merror").length], serif: document.fonts.check('18px "Source Serif 4"'),
  };
}"""
SIDEWAYS = """() => [...document.querySelectorAll("article *")].filter((node) => node.getBoundingClientRect().right > innerWidth + 1)
  .filter((node) => { for (let up = node.parentElement; up; up = up.parentElement) if (/(auto|scroll|hidden)/.test(getComputedStyle(up).overflowX)) return false; return true; })
  .map((node) => node.outerHTML.slice(0, 120))"""
SMALL = """() => [...document.querySelectorAll("figure.picture svg :is(text, tspan)")].filter((node) => node.getBoundingClientRect().width).map((node) => {
  const {a, b} = node.getScreenCTM(), scale = Math.hypot(a, b); return [parseFloat(getComputedStyle(node).fontSize) * scale, node.textContent]; }).filter(([size]) => size < 8.95)"""
LOOKS = """() => { const met = new Set(); let count = 0;            // marks one of the texts that have the same colours, size and weight
  for (const node of document.querySelectorAll("body *")) {
    delete node.dataset.look;
    if (!node.checkVisibility() || ![...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim())) continue;
    const {color, fill, fontSize, fontWeight} = getComputedStyle(node), key = [node.tagName, node.getAttribute("class"), color, fill, fontSize, fontWeight];
    for (let up = node, back = false; up; up = up.parentElement) {
      const {backgroundColor, opacity} = getComputedStyle(up);
      if (opacity < 1) key.push(opacity);
      if (!back && !/, 0\\)$/.test(backgroundColor)) { back = true; key.push(backgroundColor, up.getAttribute("class")); }
    }
    if (!met.has(key.join())) { met.add(key.join()); node.dataset.look = count++; }
  }
  return count; }"""
PLAIN_CODE = """() => document.querySelectorAll(".highlight pre span").forEach((node) => node.replaceWith(...node.childNodes))"""
FIRST_MODULE = """() => document.querySelectorAll("[id='module-transformer_course.prediction'] ~ section").forEach((node) => node.remove())"""
CUT_CAPTIONS = """() => [...document.querySelectorAll("div.numbers")].filter((table) => {
  const [caption, seen] = [table.querySelector("caption"), table].map((one) => one.getBoundingClientRect());
  return seen.width && (caption.left < seen.left - 1 || caption.right > seen.right + 1);
}).map((table) => table.querySelector("caption").textContent)"""


def violations(page, context=None, **options) -> list[dict]:
    "What axe finds, without the much longer report on what is in order."
    axe = Axe("") if page.evaluate("'axe' in window") else Axe()          # its script, which is long, once
    return axe.run(page, context, {"resultTypes": ["violations"], **options}).response["violations"]


def serious(page, context=None, **options) -> list:
    return [(v["id"], [node["html"][:160] for node in v["nodes"]][:3]) for v in violations(page, context, **options) if v["impact"] in {"serious", "critical"}]


def contrast(page) -> tuple[int, list]:
    "How many looks texts have on a page, and those in which axe finds too little contrast."
    return page.evaluate(LOOKS), serious(page, {"include": [["[data-look]"]]}, runOnly=["color-contrast"])


def called(path: Path) -> list[str]:
    "The interactive figures that a notebook shows: the calls that end its cells."
    names = []
    for cell in nbformat.read(path, as_version=4).cells:
        marks, source = split(cell.source) if cell.cell_type == "code" else ({}, "")
        body = [] if {"hide", "eval"} & set(marks) or source.startswith("%") else ast.parse(source).body
        if body and isinstance(body[-1], ast.Expr) and isinstance(body[-1].value, ast.Call):
            function = body[-1].value.func
            names.append(getattr(function, "id", getattr(function, "attr", None)))
    return [one for one in names if one in interactive.FIGURES]


HELD = {f"nbs/{name(path)}.html": held for path in notebooks() if (held := called(path))}           # figures by page


@pytest.fixture(scope="session")
def on_screen(pages, built):
    @functools.cache
    def look(path: str) -> dict:
        one = Visit(pages, built.as_uri(), color_scheme="light")
        page = one.open(path)
        page.wait_for_function("!document.querySelector('[data-figure]:not([data-ready])')")
        seen = page.evaluate(SEEN) | {"trouble": one.trouble, "wide": []}
        for width in (600, 768, 900, 1000, 1100, 1190, 1280, 1440):    # at some of them side notes have no margin
            page.set_viewport_size({"width": width, "height": 1000})
            try:
                page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width, timeout=3000)    # figures follow
            except TimeoutError:
                seen["wide"].append(width)
        if path == "book/reference.html":
            page.evaluate(FIRST_MODULE)                                 # of one long list from one mould
        seen["looks"], seen["light"] = contrast(page)
        page.add_style_tag(content="* { transition: none !important }")
        page.emulate_media(color_scheme="dark")
        page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
        _, seen["dark"] = contrast(page)
        page.evaluate(PLAIN_CODE)                                       # nothing but colours has changed, and the colours of code have been seen
        seen["rules"] = serious(page, rules={"color-contrast": {"enabled": False}})
        one.close()
        return seen
    return look


@pytest.fixture(scope="session")
def on_a_phone(pages, site):
    @functools.cache
    def look(path: str) -> dict:
        one = Visit(pages, site, color_scheme="light", **PHONE)
        page = one.open(path)
        rules = {} if path in EVERY_KIND else {"runOnly": ["scrollable-region-focusable"]}             # what the width changes inside a page
        seen = {"trouble": one.trouble, "sideways": page.evaluate(SIDEWAYS), "width": page.evaluate("document.documentElement.scrollWidth"), "axe": serious(page, **rules),
                "small": page.evaluate(SMALL), "cut": page.evaluate(CUT_CAPTIONS), "tables": page.locator("div.numbers").count()}
        one.close()
        return seen
    return look


@each([*PAGES, *OTHERS])
def test_page_loads_without_trouble_and_without_the_network(on_a_phone, page):
    assert on_a_phone(page)["trouble"] == []


@each(PAGES)
def test_page_opens_from_disk(on_screen, page):
    seen = on_screen(page)
    assert seen["trouble"] == [] and seen["serif"]


@each(PAGES)
def test_page_has_one_title_and_its_maths_is_set(on_screen, page):
    seen = on_screen(page)
    sources, set_, errors = seen["maths"]
    assert seen["titles"] == 1 and errors == 0 and set_ >= sources
    assert "#|" not in seen["text"] and "{{" not in seen["prose"] and seen["prose"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@each(PAGES)
def test_text_has_enough_contrast(on_screen, page, scheme):
    seen = on_screen(page)
    assert seen["looks"] >= 10 and seen[scheme] == []


@each(PAGES)
def test_axe_finds_nothing_serious_on_a_screen(on_screen, page):
    assert on_screen(page)["rules"] == []


@each(PAGES)
def test_axe_finds_nothing_serious_on_a_phone(on_a_phone, page):
    assert on_a_phone(page)["axe"] == []


@each(PAGES)
def test_no_width_between_phone_and_screen_scrolls_sideways(on_screen, page):
    assert on_screen(page)["wide"] == []


@each(PAGES)
def test_phone_width_does_not_scroll_sideways(on_a_phone, page):
    seen = on_a_phone(page)
    assert seen["sideways"] == [] and seen["width"] <= 390


@each(PAGES)
def test_a_wide_table_on_a_phone_keeps_its_caption_in_sight(on_a_phone, page):
    assert on_a_phone(page)["cut"] == []


@each(NOTEBOOKS)
def test_labels_in_pictures_can_be_read_on_a_phone(on_a_phone, page):
    assert on_a_phone(page)["small"] == []


@each(NOTEBOOKS)
def test_every_picture_has_words(on_screen, page):
    seen = on_screen(page)
    assert seen["silent"] == [] and all(caption.endswith((".", "?")) for caption in seen["captions"])
    if page in [f"nbs/{name(path)}.html" for path in chapters()]:
        assert seen["pictures"] >= 3 and len(seen["captions"]) >= seen["pictures"]


@each(HELD)
def test_every_figure_is_there_with_its_words(on_screen, page):
    found = on_screen(page)["figures"]
    assert Counter(one["name"] for one in found) >= Counter(HELD[page])
    for one in found:
        assert one["messages"] == 0 and one["parts"] >= 10 and one["caption"].endswith((".", "?"))
        assert len(one["words"]) > 80 and re.search(r"\d", one["words"])


@pytest.mark.xdist_group("one worker")
def test_tests_of_one_page_share_a_worker(request):
    "If groups were ignored, as in some pairs of pytest and xdist, each worker would visit every page."
    assert not hasattr(request.config, "workerinput") or request.node.nodeid.endswith("@one worker")


@pytest.mark.xdist_group("nbs/02_attention.html")                      # whose worker has seen the page
def test_the_looks_above_had_something_to_look_at(on_screen, on_a_phone):
    assert on_screen("nbs/02_attention.html")["maths"][0] > 15 and on_a_phone("nbs/02_attention.html")["tables"] >= 1


def test_the_front_door_leads_to_the_introduction(visit, site):
    one = visit("search.html")
    one.page.goto(f"{site}/")
    one.page.wait_for_url("**/book/intro.html")
    assert one.outside == [] and one.errors == []


def test_the_front_door_is_a_page_of_its_own_where_nothing_leads_on(browser, site):
    "A browser that does not refresh shows a link, a title and the icon; without one named, it would ask for /favicon.ico, which is not there."
    page = browser.new_page(java_script_enabled=False)
    page.route("**/index.html", lambda route: route.fulfill(body=re.sub(r"<meta http-equiv=.refresh.*?>", "", route.fetch().text()), content_type="text/html"))
    page.goto(f"{site}/index.html")
    assert page.title() == "The Transformer Course" == page.get_by_role("link").inner_text()
    icon = page.locator("link[rel=icon]").get_attribute("href")
    assert page.request.get(urljoin(page.url, icon)).ok and page.request.get(urljoin(page.url, page.get_by_role("link").get_attribute("href"))).ok
    page.close()


def test_search_finds_a_word_and_leads_to_it(visit):
    one = visit("search.html?q=softmax")
    one.page.wait_for_selector("ul.search li a")
    titles = one.page.locator("ul.search li a").all_inner_texts()
    assert any("Attention" in title for title in titles) and one.trouble == []


def test_search_opens_with_the_keyboard(visit):
    page = visit("nbs/02_attention.html").page
    page.keyboard.press("Control+K")
    assert page.locator("dialog#pst-search-dialog[open] input[type=search]").is_visible()


def test_nothing_in_the_site_holds_a_directive(built):
    found = [path for path in built.rglob("*") if path.suffix in {".html", ".ipynb", ".txt"} and re.search(r"#\s*\|\s*(export|hide|echo|default_exp)", path.read_text())]
    assert not found


def luminance(page, selector: str, property_: str) -> float:
    "Relative luminance (0 black, 1 white) of a computed colour."
    red, green, blue = page.evaluate(f"""() => {{
        const canvas = new OffscreenCanvas(1, 1).getContext("2d");
        canvas.fillStyle = getComputedStyle(document.querySelector({json.dumps(selector)})).{property_};
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)];
    }}""")
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_page_and_pictures_follow_the_readers_theme(visit, scheme, dark):
    page = visit("nbs/02_attention.html", color_scheme=scheme).page
    background, text = luminance(page, "body", "backgroundColor"), luminance(page, ".bd-article p", "color")
    assert (background < 0.2 and text > 0.7) if dark else (background > 0.9 and text < 0.3)
    label = luminance(page, "figure.picture svg text", "fill")
    assert label > 0.6 if dark else label < 0.4


def test_theme_button_switches_and_is_remembered(visit):
    one = visit("nbs/02_attention.html", color_scheme="light")
    for _ in range(3):
        one.page.locator(".theme-switch-button:visible").first.click()
        if one.page.evaluate("document.documentElement.dataset.theme") == "dark":
            break
    assert luminance(one.page, "body", "backgroundColor") < 0.2
    one.open("book/intro.html")
    assert luminance(one.page, "body", "backgroundColor") < 0.2


class Links(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.targets, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "a" and attributes.get("href"):
            self.targets.append(attributes["href"])


def test_every_link_inside_the_site_leads_somewhere(built):
    pages = {path.relative_to(built).as_posix(): Links(path.read_text()) for path in built.rglob("*.html")}
    broken = []
    for page, links in pages.items():
        for target in links.targets:
            address, anchor = urldefrag(urljoin(f"https://site/{page}", target))
            if not address.startswith("https://site/"):
                continue
            path = address.removeprefix("https://site/")
            if not (built / path).exists() or (anchor and path in pages and anchor not in pages[path].ids):
                broken.append(f"{page}: {target}")
    assert broken == []


def test_exported_cells_link_to_their_source(visit):
    one = visit("nbs/02_attention.html")
    marks = one.page.locator("a.in-package")
    assert marks.count() >= 5
    mark = one.page.locator("a.in-package", has_text="causal_mask")
    mark.click()
    assert one.page.url.endswith("_modules/transformer_course/attention.html#causal_mask")
    assert "def causal_mask" in one.page.locator("#causal_mask").inner_text()


def test_hidden_cells_do_not_show_and_folded_ones_unfold(visit):
    one = visit("nbs/02_attention.html")
    assert "an impossible mask was made" not in one.page.content()
    summary = one.page.locator("details.hide summary").first
    code = one.page.locator("details.hide .highlight").first
    assert not code.is_visible()
    summary.click()
    assert code.is_visible()


def test_copy_buttons_copy_the_code_alone(visit):
    one = visit("nbs/02_attention.html", permissions=["clipboard-read", "clipboard-write"])
    cell = one.page.locator("div.cell", has_text="def causal_mask").first
    cell.hover()
    cell.locator("button.copybtn").first.click()
    copied = one.page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("def causal_mask(") and "in the package" not in copied


def test_download_button_gives_the_notebook(visit, built):
    one = visit("nbs/02_attention.html")
    href = one.page.locator("a[href$='colab/02_attention.ipynb']").first.get_attribute("href")
    assert (built / "nbs" / href).resolve() == (built / "colab/02_attention.ipynb").resolve()


def test_reader_finds_the_way_with_previous_and_next(visit):
    one = visit("nbs/00_prediction.html")
    one.page.locator("a.right-next").click()
    one.page.wait_for_url("**/nbs/*/00_*.html")
    assert one.page.locator("a.left-prev").count() == 1


def test_first_load_of_the_chapter_stays_light(visit, built):
    one = visit("nbs/02_attention.html", viewport={"width": 1441, "height": 1000})        # a window that no other test has used, so that nothing is in its cache
    urls = {urldefrag(url).url.split("?")[0] for url in one.page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")}
    files = [built / url.removeprefix(one.site + "/") for url in {*urls, f"{one.site}/nbs/02_attention.html"} if url.startswith(one.site)]
    weight = sum(min(len(gzip.compress(path.read_bytes())), path.stat().st_size) for path in files)
    assert 100_000 < weight < 1_000_000, f"{weight:,} bytes"


def test_exercise_page_keeps_hints_and_solution_folded_until_asked(visit):
    one = visit("nbs/exercises/02_attention.html")
    box = one.page.locator(".admonition.exercise").first
    hint, solution = box.locator("details", has_text="Hint 1").first, box.locator("details", has_text="Solution").first
    assert box.get_by_text("raise NotImplementedError").is_visible()
    assert not hint.locator("p").first.is_visible() and not solution.locator("pre").is_visible()
    hint.locator("summary").focus()
    one.page.keyboard.press("Enter")
    assert hint.locator("p").first.is_visible() and not solution.locator("pre").is_visible()
    solution.locator("summary").click()
    assert "softmax(dim=-1) @ v" in solution.locator("pre").inner_text()


def test_a_chapter_announces_its_exercises_and_leads_to_them(visit):
    one = visit("nbs/02_attention.html")
    boxes = one.page.locator(".admonition.exercise")
    assert boxes.count() == len(exercises.of_chapter("02"))
    boxes.filter(has_text="Scaled dot-product attention").get_by_role("link").first.click()
    one.page.wait_for_url("**/nbs/exercises/02_attention.html#exercise-attention-scaled-dot-product")


def test_page_about_checkers_shows_their_reports(visit):
    rows = visit("book/checkers.html").page.locator("article table tbody tr").all_inner_texts()
    assert len(rows) == len(exercises.all()) + 1 and rows[-1].startswith("all")
    rejected, simulated, named, several, combinations, explained, accepted, right = (int(count.replace(",", "")) for count in re.findall(r"[\d,]+", rows[-1]))
    assert rejected == simulated >= 459 and several == combinations > named and accepted == right >= 136 and explained > 0


def test_numbers_in_prose_were_computed(built):
    "A chapter's page holds no unfilled number, and its notebook asks for some."
    asked = {path.stem: path.read_text().count("{{") for path in chapters()}
    assert sum(count > 0 for count in asked.values()) >= 5
    for path in chapters():
        assert "{{" not in re.sub(r"<script.*?</script>", "", (built / f"nbs/{path.stem}.html").read_text(), flags=re.S)


def test_site_is_complete(built):
    for path in notebooks():
        assert (SITE / "nbs" / f"{name(path)}.html").exists()
    for path in [*primer(), *chapters(), *studies()]:
        assert (SITE / "colab" / f"{name(path)}.ipynb").exists()
    for path in exercise_notebooks():
        assert (SITE / "exercises" / path.name).exists() and (SITE / "exercises" / f"{path.stem}.py").exists()
    assert (SITE / ".nojekyll").exists() and Path(SITE / "index.html").exists()


def test_wheel_holds_the_package_and_its_data(built, tmp_path):
    wheel = next((built / "wheel").glob("*.whl"))
    shutil.unpack_archive(wheel, tmp_path, "zip")
    packed = {path.relative_to(tmp_path).as_posix() for path in (tmp_path / "transformer_course").rglob("*") if path.is_file()}
    kept = {path.relative_to(ROOT).as_posix() for path in (ROOT / "transformer_course").rglob("*") if path.suffix in {".py", ".json", ".js", ".css"}}
    assert packed == kept - {"transformer_course/_modidx.py"}, "nbdev's index is for those who edit notebooks"
