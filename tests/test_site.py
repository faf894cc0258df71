"""The built site, as a reader meets it: headless Chromium, every request that leaves the site blocked."""
import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import pytest
from axe_playwright_python.sync_playwright import Axe

from reader import ROOT, SITE, notebooks
from transformer_course import exercises

CHAPTERS = [f"nbs/{path.stem}.html" for path in notebooks()]
PROSE = [f"book/{path.stem}.html" for path in sorted((ROOT / "book").glob("*.md"))]
PAGES = [*CHAPTERS, *PROSE]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.mark.parametrize("page", [*PAGES, "search.html", "genindex.html", "_modules/transformer_course/attention.html"])
def test_page_loads_without_trouble_and_without_the_network(visit, page):
    assert visit(page).trouble == []


@pytest.mark.parametrize("page", PAGES)
def test_page_opens_from_disk(visit, page, built):
    one = visit(page, at=built.as_uri())
    assert one.trouble == []
    assert one.page.evaluate("document.fonts.check('18px \"Source Serif 4\"')") and one.page.locator("h1:visible").count() == 1


def test_the_front_door_leads_to_the_introduction(visit, site):
    one = visit("search.html")
    one.page.goto(f"{site}/")
    one.page.wait_for_url("**/book/intro.html")
    assert one.outside == [] and one.errors == []


def test_maths_is_set(visit):
    page = visit("nbs/02_attention.html").page
    sources, set_, errors = (page.locator(selector).count() for selector in (".math", "mjx-container", "mjx-merror"))
    assert sources > 20 and set_ >= sources and errors == 0


def test_search_finds_a_word_and_leads_to_it(visit):
    one = visit("search.html?q=softmax")
    one.page.wait_for_selector("ul.search li a")
    titles = one.page.locator("ul.search li a").all_inner_texts()
    assert any("Attention" in title for title in titles) and one.trouble == []


def test_search_opens_with_the_keyboard(visit):
    page = visit("nbs/02_attention.html").page
    page.keyboard.press("Control+K")
    assert page.locator("dialog#pst-search-dialog[open] input[type=search]").is_visible()


@pytest.mark.parametrize("page", [*PAGES, "_modules/transformer_course/attention.html"])
def test_no_directive_and_no_unfilled_number_reaches_a_page(built, page):
    text = (built / page).read_text()
    assert "#|" not in text and "{{" not in re.sub(r"<script.*?</script>", "", text, flags=re.S)


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


@pytest.mark.parametrize("page", CHAPTERS)
def test_no_width_between_phone_and_screen_scrolls_sideways(visit, page):
    view = visit(page).page
    for width in (600, 768, 900, 1000, 1100, 1190, 1280):          # at some of them side notes have no margin
        view.set_viewport_size({"width": width, "height": 900})
        assert view.evaluate("document.documentElement.scrollWidth") <= width


CUT_CAPTIONS = """[...document.querySelectorAll("div.numbers")].filter((table) => {
  const [caption, seen] = [table.querySelector("caption"), table].map((one) => one.getBoundingClientRect());
  return seen.width && (caption.left < seen.left - 1 || caption.right > seen.right + 1);
}).map((table) => table.querySelector("caption").textContent)"""


def test_a_wide_table_on_a_phone_keeps_its_caption_in_sight(visit):
    for page in ("nbs/04_positions.html", "nbs/02_attention.html"):
        assert visit(page, **PHONE).page.evaluate(CUT_CAPTIONS) == []


@pytest.mark.parametrize("page", PAGES)
def test_phone_width_does_not_scroll_sideways(visit, page):
    view = visit(page, **PHONE).page
    wide = view.evaluate("""() => [...document.querySelectorAll("article *")].filter((node) => node.getBoundingClientRect().right > innerWidth + 1)
        .filter((node) => { for (let up = node.parentElement; up; up = up.parentElement) if (/(auto|scroll|hidden)/.test(getComputedStyle(up).overflowX)) return false; return true; })
        .map((node) => node.outerHTML.slice(0, 120))""")
    assert wide == [] and view.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing_serious(visit, page, scheme):
    view = visit(page, color_scheme=scheme).page
    found = Axe().run(view).response["violations"]
    serious = [(v["id"], [node["html"][:160] for node in v["nodes"]][:3]) for v in found if v["impact"] in {"serious", "critical"}]
    assert serious == []


@pytest.mark.parametrize("page", CHAPTERS)
def test_every_picture_has_words(visit, page):
    view = visit(page).page
    silent = view.evaluate("""() => [...document.querySelectorAll("article img, article svg")].filter((node) => !node.closest("[aria-hidden=true], button, mjx-container"))
        .filter((node) => !(node.getAttribute("alt") || node.getAttribute("aria-label"))).map((node) => node.outerHTML.slice(0, 100))""")
    assert silent == []
    captions = view.locator("figure.picture figcaption").all_inner_texts()
    assert len(captions) == view.locator("figure.picture").count() and all(caption.strip().endswith((".", "?")) for caption in captions)


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


def test_exercise_box_keeps_hints_and_solution_folded_until_asked(visit):
    one = visit("nbs/02_attention.html")
    box = one.page.locator(".admonition.exercise").first
    hint, solution = box.locator("details", has_text="Hint 1").first, box.locator("details", has_text="Solution").first
    assert box.get_by_text("raise NotImplementedError").is_visible()
    assert not hint.locator("p").first.is_visible() and not solution.locator("pre").is_visible()
    hint.locator("summary").focus()
    one.page.keyboard.press("Enter")
    assert hint.locator("p").first.is_visible() and not solution.locator("pre").is_visible()
    solution.locator("summary").click()
    assert "softmax(dim=-1) @ v" in solution.locator("pre").inner_text()


def test_page_about_gates_shows_the_survey(visit):
    table = visit("book/gates.html").page.locator("article table")
    rows = table.locator("tbody tr").all_inner_texts()
    assert len(rows) == len(exercises.all()) + 1 and rows[-1].startswith("all")
    counts = [int(cell) for cell in rows[-1].split()[1:]]
    assert counts[0] == counts[1] > 50 and counts[3] == counts[4] and counts[6] == counts[7]


def test_numbers_in_prose_were_computed(visit):
    text = visit("nbs/02_attention.html").page.locator("article").inner_text()
    assert re.search(r"each token mostly reads itself: 0\.8\d of its weight", text)


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
    one.page.wait_for_url("**/nbs/0*.html")
    assert one.page.locator("a.left-prev").count() == 1


def test_first_load_of_the_chapter_stays_light(visit, built):
    one = visit("nbs/02_attention.html")
    urls = {urldefrag(url).url.split("?")[0] for url in one.page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")}
    files = [built / url.removeprefix(one.site + "/") for url in {*urls, f"{one.site}/nbs/02_attention.html"} if url.startswith(one.site)]
    weight = sum(min(len(gzip.compress(path.read_bytes())), path.stat().st_size) for path in files)
    assert 100_000 < weight < 1_000_000, f"{weight:,} bytes"


def test_site_is_complete():
    for path in notebooks():
        assert (SITE / "nbs" / f"{path.stem}.html").exists() and (SITE / "colab" / path.name).exists()
    for chapter in {exercises.exercise(id).chapter for id in exercises.all()}:
        assert (SITE / "exercises" / f"{chapter}.ipynb").exists() and (SITE / "exercises" / f"{chapter}.py").exists()
    assert (SITE / ".nojekyll").exists() and Path(SITE / "index.html").exists()
