"""Interactive figures in the built site: pointer, finger, keyboard, print, screen readers, broken states; no kernel and no network."""
import gzip
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from test_live import TOKENS, WEIGHTS, one_of_each
from test_site import PHONE, luminance

from reader import BUILD, ROOT, SITE, notebooks
from transformer_course import live
from transformer_course.records import recorded

APPENDIX, CHAPTER = "nbs/A4_live.html", "nbs/02_attention.html"
PAGES = [f"nbs/{path.stem}.html" for path in notebooks()]


@pytest.fixture
def appendix(visit):
    "The page with every figure; afterwards nothing may have gone wrong on it."
    opened = []

    def open_page(**options):
        opened.append(visit(APPENDIX, **options))
        return opened[-1].page

    yield open_page
    assert [trouble for one in opened for trouble in one.trouble] == []


def figure(page, name: str):
    found = page.locator(f"[data-figure={name}]")
    found.scroll_into_view_if_needed()
    return found


def state(found, key: str):
    return found.evaluate("(root, key) => root.model.get(key)", key)


def cell(found, i: int, j: int, panel: int = 0):
    return found.locator(".live-grid").nth(panel).locator("[role=row]").nth(i + 1).locator(".live-cell").nth(j)


def chip(found, group: str, n: int):
    return found.get_by_role("radiogroup", name=group).locator(".live-chip").nth(n)


# --- every figure of every page ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_every_figure_is_there_with_its_words(visit, path):
    one = visit(path)
    roots = one.page.locator("[data-figure]").all()
    for root in roots:
        expect(root).to_have_attribute("data-ready", "")
        assert root.locator(".live-message").count() == 0 and root.locator(".live-body > *").count() >= 3
        assert root.locator("figcaption").inner_text().strip().endswith((".", "?"))
        assert len(root.locator(".live-words").text_content()) > 80 and re.search(r"\d", root.locator(".live-words").text_content())
        assert root.get_attribute("data-figure") in live.FIGURES
    assert one.trouble == []
    if path in (APPENDIX, CHAPTER):
        assert {root.get_attribute("data-figure") for root in roots} >= {"attention_map", "attention_steps", "mask_growth"}


def test_a_page_without_figures_loads_none_of_their_code(visit):
    loaded = "performance.getEntriesByType('resource').map((entry) => entry.name).filter((name) => name.includes('/figures/'))"
    assert visit("nbs/A1_figures.html").page.evaluate(loaded) == []
    names = {re.search(r"figures/(\w+)\.", url)[1] for url in visit(CHAPTER).page.evaluate(loaded)}
    assert names == {"host", "figures", "attention_map", "attention_steps", "mask_growth"}


@pytest.mark.parametrize("path", PAGES)
def test_a_figure_adds_less_than_20_kilobytes(built, path):
    "Data, module, host and style sheet together, compressed one by one as a server would."
    packed = lambda text: len(gzip.compress(text.encode()))
    shared = sum(packed((built / f"_static/figures/{name}").read_text()) for name in ("host.js", "figures.css"))
    for found in re.finditer(r'<figure class="live" data-figure="(\w+)">.*?</figure>', (built / path).read_text(), re.S):
        weight = shared + packed((built / f"_static/figures/{found[1]}.js").read_text()) + packed(found[0])
        assert weight < 20_000, f"{found[1]}: {weight:,} bytes"


def test_what_was_measured_is_within_the_bounds():
    measured = recorded("figures").result
    assert set(measured["figures"]) == set(live.FIGURES) and measured["page without figures"]["figure files"] == 0
    assert all(row["bytes"] < 20_000 and row["seconds"] < 0.3 for row in measured["figures"].values()), measured


def test_outputs_hold_data_and_no_code(built):
    text = (built / CHAPTER).read_text()
    assert "export default" not in text and "_esm" not in text
    held = re.findall(r'data-figure="\w+"><script type="application/json">(.*?)</script>', text)
    assert len(held) == 3 and all(json.loads(data) for data in held)


def test_figures_open_from_a_disk(visit, built):
    one = visit(APPENDIX, at=built.as_uri())
    expect(one.page.locator("[data-figure][data-ready]")).to_have_count(5)
    assert one.trouble == []


def test_without_javascript_the_words_are_read(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}/{APPENDIX}")
    for words in page.locator(".live-words").all():
        assert words.is_visible() and words.bounding_box()["height"] > 20
    context.close()


def test_the_words_are_for_screen_readers_where_the_figure_is_drawn(appendix):
    words = appendix().locator(".live-words").first
    assert words.bounding_box()["width"] <= 1 and words.evaluate("(node) => getComputedStyle(node).display") != "none"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_any_state(visit, scheme):
    page = visit(APPENDIX, color_scheme=scheme).page
    axe = lambda: [(v["id"], node["html"][:140], node.get("failureSummary", "")[:200]) for v in Axe().run(page, context="figure.live").response["violations"] for node in v["nodes"]]
    assert axe() == []
    page.evaluate("""() => { const put = (name, state) => Object.entries(state).forEach(([key, value]) => document.querySelector(`[data-figure=${name}]`).model.set(key, value));
        put("attention_map", {head: 1, row: 3}); put("attention_steps", {step: 2, row: 2, column: 1}); put("mask_growth", {shown: 6, row: 1});
        put("timeline", {writing: true, step: 5, length: 40}); put("position_map", {length: 5, number: 20, first: 1, second: 4});
        document.querySelectorAll(".live-table").forEach((node) => { node.open = true; }); }""")
    page.wait_for_timeout(300)
    assert axe() == []


@pytest.mark.parametrize("name", live.FIGURES)
def test_what_a_finger_can_press_is_big_enough(appendix, name):
    found = figure(appendix(**PHONE), name)
    for target in found.locator(".live-button, .live-chip, input[type=range], summary").all():
        box = target.bounding_box()
        assert box["height"] >= 44 and box["width"] >= 44, (box, target.evaluate("(node) => node.outerHTML.slice(0, 80)"))


def test_figures_follow_the_readers_theme_at_once(appendix):
    page = appendix(color_scheme="light")
    found = figure(page, "attention_map")
    colours = lambda: [luminance(page, f"[data-figure=attention_map] {node}", name) for node, name in ((".live-title", "color"), (".live-bar", "backgroundColor"))]
    light = colours()
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_timeout(400)
    dark = colours()
    assert light[0] < 0.3 and dark[0] > 0.6 and dark[1] > light[1] + 0.1
    expect(found).to_have_attribute("data-ready", "")


def test_nothing_glides_for_those_who_asked_for_less_motion(appendix):
    moving = "() => [...document.querySelectorAll('.live *')].filter((node) => parseFloat(getComputedStyle(node).transitionDuration) > 0).length"
    assert appendix().evaluate(moving) > 0
    assert appendix(reduced_motion="reduce").evaluate(moving) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_print_is_dark_ink_on_white_and_complete(appendix, scheme):
    page = appendix(color_scheme=scheme)
    page.evaluate("document.querySelector('[data-figure=attention_steps]').model.set('step', 0)")
    page.emulate_media(media="print", color_scheme=scheme)
    page.wait_for_timeout(300)
    for name in live.FIGURES:
        assert luminance(page, f"[data-figure={name}]", "backgroundColor") > 0.97 and luminance(page, f"[data-figure={name}] figcaption", "color") < 0.4
        found = figure(page, name)
        assert all(not control.is_visible() for control in found.locator(".live-button, input[type=range], summary").all())
    numbers = figure(page, "attention_steps").locator(".live-cell > span")
    assert numbers.count() > 50 and all(number.is_visible() for number in numbers.all()), "every step is on paper, whichever was on the screen"
    assert luminance(page, "[data-figure=attention_map] .live-bar", "backgroundColor") < 0.45, "the colours of paper, whatever the screen's theme"
    dim = page.evaluate("""() => [...document.querySelectorAll(".live *")].filter((node) => node.checkVisibility() && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()))
        .filter((node) => !node.closest(".live-words, .live-corner, .live-dark")).filter((node) => { const pen = new OffscreenCanvas(1, 1).getContext("2d");
            pen.fillStyle = getComputedStyle(node).color; pen.fillRect(0, 0, 1, 1); return [...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)].reduce((a, b) => a + b) > 330; })
        .map((node) => node.outerHTML.slice(0, 100))""")
    assert dim == []


# --- each figure, moved ----------------------------------------------------------------------------------------------------------------


def test_attention_map_with_the_pointer(appendix):
    found = figure(appendix(), "attention_map")
    weights, says = state(found, "weights"), found.locator(".live-says")
    cell(found, 3, 4).hover()
    expect(says).to_have_text(f"“on” reads “the” with weight {weights[0][3][4] / 1000:.3f}")
    expect(found.locator(".live-title")).to_have_text("What “on” reads most")
    found.locator(".live-row-name").nth(5).hover()                                        # a row's name: what that token reads most
    j = int(np.argmax(weights[0][5]))
    expect(says).to_have_text(f"“mat” reads “{found.locator('.live-column-name').nth(j).inner_text()}” with weight {weights[0][5][j] / 1000:.3f}")
    found.locator("figcaption").hover()                                                   # the pointer has gone: back to what was chosen
    expect(found.locator(".live-title")).to_have_text("What “cat” reads most")
    cell(found, 3, 4).click()
    found.locator("figcaption").hover()
    expect(says).to_contain_text("“on” reads “the”")
    assert (state(found, "row"), state(found, "column")) == (3, 4)
    chip(found, "Reader", 2).hover()
    expect(found.locator(".live-title")).to_have_text("What “sat” reads most")


def test_attention_map_other_head(appendix):
    found = figure(appendix(), "attention_map")
    chip(found, "Head", 1).click()
    chip(found, "Reader", 4).click()
    weights = state(found, "weights")
    expect(found.locator(".live-amount")).to_have_text(f"{weights[1][4][3] / 1000:.3f}")
    assert weights[1][4][3] > 900, "the head that looks one token back"
    assert float(found.locator(".live-bar-name + .live-track + .live-number").first.inner_text()) == max(weights[1][4]) / 1000
    assert found.locator(".live-bar").evaluate_all("(bars) => bars.map((bar) => parseFloat(bar.style.inlineSize))") == pytest.approx([weight / 10 for weight in sorted(weights[1][4], reverse=True)])



def test_arrow_keys_in_a_map_do_not_scroll_the_page(appendix):
    page = appendix()
    found = figure(page, "attention_map")
    cell(found, 1, 1).click()
    cell(found, 1, 1).focus()
    before = page.evaluate("scrollY")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    page.wait_for_timeout(300)                                                             # scrolling is smooth
    assert page.evaluate("scrollY") == before and state(found, "row") == 2


def test_attention_map_with_the_keyboard(appendix):
    page = appendix()
    found = figure(page, "attention_map")
    found.locator("input[type=radio]:checked").first.focus()
    page.keyboard.press("ArrowRight")                                                     # heads
    assert state(found, "head") == 1
    page.keyboard.press("Tab")                                                            # words
    page.keyboard.press("ArrowRight")
    assert state(found, "row") == 2
    page.keyboard.press("Tab")                                                            # the map: one stop
    for key in ("ArrowDown", "ArrowDown", "ArrowLeft", "Home", "ArrowRight"):
        page.keyboard.press(key)
    assert (state(found, "row"), state(found, "column")) == (4, 1)
    focused = page.evaluate("[document.activeElement.getAttribute('role'), document.activeElement.getAttribute('aria-label'), document.activeElement.matches(':focus-visible')]")
    assert focused == ["gridcell", f"{state(found, 'weights')[1][4][1] / 1000:.3f}", True]
    expect(found.locator(".live-says")).to_have_attribute("aria-live", "off")               # the cell speaks for itself
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_attention_map_with_a_finger(appendix):
    found = figure(appendix(**PHONE), "attention_map")
    cell(found, 5, 2).tap()
    expect(found.locator(".live-says")).to_contain_text("“mat” reads “sat”")
    chip(found, "Reader", 0).tap()
    expect(found.locator(".live-title")).to_have_text("What “the” reads most")
    assert state(found, "row") == 0


def test_attention_map_follows_a_finger_that_slides(appendix):
    page = appendix(**PHONE)
    found = figure(page, "attention_map")
    start, end = cell(found, 1, 0).bounding_box(), cell(found, 1, 4).bounding_box()
    touch = page.context.new_cdp_session(page)
    at = lambda box: [{"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}]
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": at(start)})
    for share in (0.3, 0.6, 1):
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": at({**start, "x": start["x"] + share * (end["x"] - start["x"])})})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert (state(found, "row"), state(found, "column")) == (1, 4)


def test_attention_map_as_a_table(appendix):
    found = figure(appendix(), "attention_map")
    found.locator("summary").click()
    rows = found.locator("tbody tr")
    expect(rows).to_have_count(6)
    shown = [[float(text) for text in row.locator("td").all_inner_texts()] for row in rows.all()]
    assert shown == [[weight / 1000 for weight in row] for row in state(found, "weights")[0]]
    chip(found, "Head", 1).click()
    assert float(rows.nth(2).locator("td").nth(1).inner_text()) > 0.9


def test_the_chapters_map_shows_what_the_chapter_says(visit):
    found = figure(visit(CHAPTER).page, "attention_map")
    said = re.search(r"“trophy” most \((0\.\d\d)\), then “suitcase” \((0\.\d\d)\)", found.locator("figcaption").inner_text())
    names, numbers = found.locator(".live-bar-name").all_inner_texts(), found.locator(".live-number").all_inner_texts()
    assert names[:2] == ["trophy", "suitcase"] and [f"{float(number):.2f}" for number in numbers[:2]] == [said[1], said[2]]
    assert found.get_by_role("radiogroup", name="Head").locator(".live-chip").all_inner_texts() == ["pronoun", "previous token", "parking"]


def test_attention_steps_step_by_step(appendix):
    found = figure(appendix(), "attention_steps")
    empty = lambda: [panel.locator(".live-panel-name").inner_text() for panel in found.locator(".live-panel.live-later").all()]
    expect(found.locator(".live-box .live-title")).to_have_text("Step 6 of 6: outputs, “be”, number 1")
    assert empty() == []
    found.get_by_role("button", name="Back to the start").click()
    assert empty() == ["queries", "keys", "values", "scores", "scaled", "weights", "outputs"]
    assert not cell(found, 0, 0, panel=1).locator("span").is_visible()
    for expected in (["scores", "scaled", "weights", "outputs"], ["scaled", "weights", "outputs"], ["weights", "outputs"], ["outputs"], []):
        found.get_by_role("button", name="One step on").click()
        assert empty() == expected
    chip(found, "Step", 2).click()
    expect(found.locator(".live-box .live-title")).to_have_text("Step 3 of 6: scores, “be” with “to”")
    x, projections = (torch.tensor(state(found, key), dtype=torch.float64) for key in ("x", "projections"))
    score = (x[1] @ projections[0]) @ (x[0] @ projections[1])
    assert found.locator(".live-sum").inner_text().endswith(f"= {score:.2f}".replace("-", "−"))
    assert found.locator(".live-used").count() == 4                                        # a query and a key of two numbers


def test_attention_steps_explains_the_cell_under_the_pointer_or_the_focus(appendix):
    page = appendix()
    found = figure(page, "attention_steps")
    cell(found, 2, 1, panel=6).hover()
    expect(found.locator(".live-box .live-title")).to_have_text("Step 5 of 6: weights, “or” with “be”")
    by_pointer = found.locator(".live-sum").inner_text()
    found.locator("figcaption").hover()
    expect(found.locator(".live-box .live-title")).to_contain_text("outputs")
    cell(found, 1, 1, panel=6).click()
    page.keyboard.press("ArrowDown")
    expect(found.locator(".live-sum")).to_have_text(by_pointer)


def test_attention_steps_changes_a_number_and_puts_it_back(appendix):
    found = figure(appendix(), "attention_steps")
    outputs = lambda: [one.inner_text() for one in found.locator(".live-grid").nth(7).locator(".live-cell").all()]
    before = outputs()
    cell(found, 2, 3, panel=0).click()
    expect(found.locator(".live-slider")).to_contain_text("Change number 4 of “or”")
    found.locator("input[type=range]").fill("-2.5")
    assert state(found, "x")[2][3] == -2.5
    x, projections = (torch.tensor(state(found, key), dtype=torch.float64) for key in ("x", "projections"))
    q, k, v = (x @ matrix for matrix in projections)
    expected = torch.softmax(q @ k.T / 2**0.5, -1) @ v
    assert outputs() == [f"{number:.2f}".replace("-", "−") for number in expected.flatten().tolist()] != before
    found.get_by_role("button", name="Put back").click()
    assert outputs() == before


def test_attention_steps_plays_and_stops_at_the_end(appendix):
    page = appendix()
    page.clock.install()
    found = figure(page, "attention_steps")
    page.clock.run_for(20_000)
    assert state(found, "step") == 5                                                       # nothing moves until somebody asks
    found.get_by_role("button", name="Play").click()
    assert state(found, "step") == 0                                                       # at the end, so from the start
    page.clock.run_for(2_600)
    assert state(found, "step") == 1
    found.get_by_role("button", name="Pause").click()
    page.clock.run_for(20_000)
    assert state(found, "step") == 1
    found.get_by_role("button", name="Play").click()
    page.clock.run_for(60_000)
    assert state(found, "step") == 5 and found.get_by_role("button", name="Play").count() == 1


@pytest.mark.parametrize("way", ["pointer", "keyboard", "finger"])
def test_mask_growth_generates(appendix, way):
    page = appendix(**(PHONE if way == "finger" else {}))
    found = figure(page, "mask_growth")
    press = found.get_by_role("button", name="Generate")
    written = lambda: found.locator(".live-word:not(.live-later)").all_inner_texts()
    pairs = lambda: [int(re.search(r"(\d+) pairs? in all", text)[1]) for text in found.locator(".live-news").all_inner_texts()]
    assert written() == ["the", "cat", "sat", "on"] and pairs() == [10, 7]
    for n in (5, 6):
        if way == "pointer":
            press.click()
        elif way == "finger":
            press.tap()
        else:
            press.focus()
            page.keyboard.press("Enter")
        assert len(written()) == n and pairs() == [n * (n + 1) // 2, 2 * n - 1]
        assert found.locator(".live-grid").first.locator(".live-cell.live-new").count() == n
    expect(found.locator(".live-says")).to_have_text("Of 6 tokens, “mat” may read: the past 6, a window of two 2.")
    found.get_by_role("button", name="Start again").click()
    assert written() == ["the"] and found.get_by_role("button", name="Take one back").is_disabled()


def test_mask_growth_says_who_reads_what(appendix):
    page = appendix()
    found = figure(page, "mask_growth")
    cell(found, 2, 0, panel=1).hover()
    expect(found.locator(".live-says")).to_have_text("Of 4 tokens, “sat” may read: the past 3, a window of two 2.")
    cell(found, 1, 1).click()
    page.keyboard.press("ArrowUp")
    expect(found.locator(".live-says")).to_have_text("Of 4 tokens, “the” may read: the past 1, a window of two 1.")
    assert cell(found, 0, 3).get_attribute("aria-label") == "may not read" and cell(found, 5, 0).get_attribute("aria-label") == "not written yet"


def test_the_chapters_masks_let_the_decoder_keep_its_rows(visit):
    found = figure(visit(CHAPTER).page, "mask_growth")
    found.get_by_role("button", name="Generate").click()
    news = found.locator(".live-news").all_inner_texts()
    assert "Every earlier row changes too. 16 pairs" in news[0] and "No earlier row changes. 10 pairs" in news[1]


def test_timeline_slides_and_plays(appendix):
    page = appendix()
    page.clock.install()
    found = figure(page, "timeline")
    lanes, length = found.locator(".live-news"), found.locator("input[type=range]")
    beats = lambda: [[lane.locator(f".live-{kind}").count() for kind in ("done", "beats")] for lane in found.locator(".live-lane").all()]
    length.fill("40")
    assert beats() == [[0, 1], [0, 40]]
    assert lanes.all_inner_texts() == ["Step 1 of 40: each waits for the one before.", "Done after 1 step."]
    assert found.locator(".live-lane .live-beat").count() == 80 and "1,600 pairs" in found.locator(".live-says").inner_text()
    length.focus()
    page.keyboard.press("ArrowRight")
    assert state(found, "length") == 41
    page.clock.run_for(10_000)
    assert state(found, "step") == 1
    found.get_by_role("button", name="Play").click()
    page.clock.run_for(60_000)
    assert lanes.all_inner_texts() == ["Done after 41 steps.", "Done after 1 step."]
    assert beats() == [[40, 1], [41, 0]]
    chip(found, "Both models", 1).click()
    found.get_by_role("button", name="One step on").click()
    assert lanes.all_inner_texts() == ["Step 2 of 41: each waits for the one before."] * 2
    assert "A step is not a second" in found.locator(".live-says").inner_text() and "Measured for 32 tokens" in found.locator(".live-says").inner_text()
    length.fill("512")
    found.locator("summary").click()
    assert found.locator("tbody tr").last.locator("td").all_inner_texts() == ["512", "512", "131,328"]


def test_timeline_stops_when_it_is_out_of_sight(appendix):
    page = appendix()
    found = figure(page, "timeline")
    found.locator("input[type=range]").fill("512")
    found.get_by_role("button", name="Play").click()
    expect(found.get_by_role("button", name="Pause")).to_be_visible()
    page.evaluate("scrollTo(0, 0)")
    expect(found.get_by_role("button", name="Play")).to_have_count(1)
    reached = state(found, "step")
    page.wait_for_timeout(400)
    assert 1 <= state(found, "step") == reached < 512


def test_timeline_is_calm_for_those_who_asked(appendix):
    page = appendix(reduced_motion="reduce")
    page.clock.install()
    found = figure(page, "timeline")
    found.locator("input[type=range]").fill("80")
    found.get_by_role("button", name="Play").click()
    page.clock.run_for(1_000)
    assert state(found, "step") == 1
    page.clock.run_for(300)
    assert state(found, "step") == 11


@pytest.mark.parametrize("way", ["pointer", "finger"])
def test_position_map_reads_exact_values(appendix, way):
    page = appendix(**(PHONE if way == "finger" else {}))
    found = figure(page, "position_map")
    numbers, place = state(found, "numbers"), found.locator(".live-map")
    box = place.bounding_box()
    at = {"x": (30 + 0.5) / 64 * box["width"], "y": (4 + 0.5) / 32 * box["height"]}
    if way == "finger":
        place.tap(position=at)
        assert (state(found, "first"), state(found, "number")) == (30, 4)
    else:
        place.hover(position=at)
    said = f"Component 4 at position 30: {numbers[4][30] / 1000:.3f}".replace("-", "−")
    expect(found.locator(".live-panel-name").first).to_have_text(said)
    assert said in place.get_attribute("aria-label")


def test_position_map_with_the_keyboard(appendix):
    page = appendix()
    found = figure(page, "position_map")
    sliders = found.locator("input[type=range]")
    table = torch.tensor(state(found, "numbers"), dtype=torch.float64).T
    sliders.nth(2).focus()
    page.keyboard.press("Home")
    sliders.nth(3).focus()
    page.keyboard.press("End")
    cosine = torch.nn.functional.cosine_similarity(table[0], table[63], dim=0)
    expect(found.locator(".live-panel-name").nth(1)).to_have_text(f"Positions 0 and 63: similarity {cosine:.3f}")
    sliders.nth(0).fill("10")
    cosine = torch.nn.functional.cosine_similarity(table[0], table[9], dim=0)
    expect(found.locator(".live-panel-name").nth(1)).to_have_text(f"Positions 0 and 9: similarity {cosine:.3f}")
    assert found.locator("polyline").first.get_attribute("points").count(",") == 10
    sliders.nth(1).fill("31")
    expect(found.locator(".live-panel-name").first).to_contain_text("Component 31 at position 0: 1.000")


def test_position_map_is_drawn_in_both_colours(appendix):
    layers = figure(appendix(), "position_map").locator(".live-layer")
    assert all("data:image/png" in layer.evaluate("(node) => getComputedStyle(node).maskImage") for layer in layers.all()) and layers.count() == 2


# --- other hosts, and states that can't be drawn -----------------------------------------------------------------------------------------


@pytest.fixture
def alone(browser):
    "A function that shows HTML in an empty page without a network; what goes wrong on it is kept in `page.errors`."
    contexts = []

    def show(html: str, **options):
        context = browser.new_context(viewport={"width": 900, "height": 900}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda message: message.type in ("error", "warning") and page.errors.append(message.text))
        page.set_content(html)
        return page

    yield show
    for context in contexts:
        context.close()


@pytest.mark.parametrize("one", one_of_each(), ids=lambda one: one.name)
def test_a_frame_without_an_origin_is_enough_as_in_colab(alone, one):
    html = f"<body>{one.to_html(alone=True)}</body>".replace("&", "&amp;").replace('"', "&quot;")
    page = alone(f'<iframe sandbox="allow-scripts" srcdoc="{html}" width="800" height="800"></iframe>')
    frame = page.frame_locator("iframe")
    expect(frame.locator(f"[data-figure={one.name}]")).to_have_attribute("data-ready", "")
    assert frame.locator(".live-message").count() == 0 and page.errors == []
    if one.name == "attention_map":
        cell(frame.locator("figure.live"), 1, 2).hover()
        expect(frame.locator(".live-says")).to_have_text("“cat” reads “sat” with weight 0.800")


def test_outputs_of_one_notebook_do_not_share_what_was_chosen(alone):
    one, two = live.attention_map(WEIGHTS, TOKENS, caption="One."), live.attention_map(WEIGHTS, TOKENS, caption="One.")
    page = alone(one.to_html(alone=True) + two.to_html(alone=True) + live.timeline(caption="Time.").to_html(alone=True))
    expect(page.locator("[data-ready]")).to_have_count(3)
    first, second = page.locator("[data-figure=attention_map]").all()
    cell(first, 3, 3).click()
    assert (state(first, "row"), state(second, "row")) == (3, 0) and first.locator(".live-body").count() == 1 and page.errors == []


@pytest.mark.parametrize(("host", "dark"), [
    ("<html data-theme=dark>", True), ("<html data-theme=light>", False), ("<html theme=dark>", True), ('<html><body data-jp-theme-light="false">', True),
    ('<html><body data-jp-theme-light="true">', False), ('<html><body class="vscode-dark">', True), ('<html><body class="vscode-light">', False), ("<html>", None),
])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_hosts_theme_wins_over_the_systems(alone, host, dark, scheme):
    page = alone(f"{host}{live.timeline(caption='c').to_html(alone=True)}", color_scheme=scheme)
    blue = page.evaluate("getComputedStyle(document.querySelector('.live')).getPropertyValue('--lv-blue')").strip()
    assert (blue == "#4f8ff0") == (scheme == "dark" if dark is None else dark)


def broken(name: str, **changes) -> live.Live:
    good = next(one for one in one_of_each() if one.name == name)
    return live.Live(name, {**good.data, **{k: v for k, v in changes.items() if k in good.data}}, {**good.chosen, **{k: v for k, v in changes.items() if k in good.chosen}}, "c", "w")


MANY = [str(n) for n in range(3000)]


@pytest.mark.parametrize(("one", "said"), [
    (broken("attention_map", weights=[[[1, 2], [3]], [[1]]]), "must be 4 × 4"), (broken("attention_map", rows=[], columns=[]), "no tokens"),
    (broken("attention_map", weights=[[[None] * 4] * 4] * 2), "must be numbers, got null"), (broken("attention_map", rows=MANY, columns=MANY), "3,000 × 3,000 cells are too many"),
    (broken("attention_map", heads=["a"]), "2 matrices of weights for 1 heads"), (broken("attention_map", weights=[[["NaN"] * 4] * 4] * 2), "must be numbers, got NaN"),
    (broken("attention_steps", tokens=[]), "no tokens"), (broken("attention_steps", x=[[1, 2]]), "the vectors must be 4 × 2, got 1 rows"),
    (broken("attention_steps", projections=[[[1]], [[1]], [[1]]]), "the query projection must be 3 × 1"), (broken("attention_steps", tokens=MANY), "3000 tokens"),
    (broken("mask_growth", masks=[["1", "11"], []]), "must be 4 × 4 zeros and ones, got 2 rows"), (broken("mask_growth", tokens=[]), "no tokens"),
    (broken("mask_growth", tokens=MANY), "3,000 tokens are too many"), (broken("mask_growth", masks=[["1111", "11x1", "1111", "1111"]] * 2), "one is “11x1”"),
    (broken("timeline", longest=10**7), "1 and 1,024, got 10000000"), (broken("timeline", layers=0), "layers"), (broken("timeline", seconds=[[8, None, 1]]), "a length and two times"),
    (broken("position_map", numbers=[]), "no positions"), (broken("position_map", numbers=[[1, 2], [3]]), "2 even rows"), (broken("position_map", numbers=[[0] * 3000]), "3,000 positions"),
])
def test_a_state_that_cant_be_drawn_becomes_a_sentence(alone, one, said):
    page = alone(one.to_html(alone=True))
    message = page.get_by_role("alert")
    expect(message).to_contain_text("This figure can't be drawn")
    expect(message).to_contain_text(said)
    assert page.errors == []


@pytest.mark.parametrize("chosen", [{"row": 99, "column": -5, "head": 7}, {"row": None, "column": 1e9, "head": "x"}, {"step": -3, "row": 99}, {"shown": 99}, {"step": 10**9, "length": -1}, {"length": 0, "first": 77, "number": 99}])
@pytest.mark.parametrize("name", live.FIGURES)
def test_a_choice_out_of_range_is_brought_back(alone, name, chosen):
    page = alone(broken(name, **chosen).to_html(alone=True))
    expect(page.locator("[data-ready]")).to_have_count(1)
    assert page.locator(".live-message").count() == 0 and page.errors == [], page.locator(".live-body").inner_text()


def test_tokens_with_markup_are_shown_and_not_obeyed(alone):
    evil = ["<b>bold</b>", "<img src=x onerror='window.hit = 1'>", "&lt;i&gt;", "</script>", "a" * 500, "\n", "‮rtl", "${1}"]
    page = alone(live.attention_map(np.eye(8), evil, caption=evil[0]).to_html(alone=True) + live.mask_growth({evil[1]: np.tri(8)}, evil, shown=8, caption="c").to_html(alone=True)
                 + live.attention_steps(np.eye(8), [np.eye(8)] * 3, evil, caption="c").to_html(alone=True))
    expect(page.locator("[data-ready]")).to_have_count(3)
    page.wait_for_timeout(200)
    assert page.evaluate("window.hit") is None and page.locator(".live img, .live b, .live i:not(.live-beat)").count() == 0 and page.errors == []
    assert page.locator(".live-row-name").first.inner_text() == "<b>bold</b>"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_large_maps_are_drawn(alone):
    weights = np.random.default_rng(0).dirichlet(np.ones(64), (12, 64))
    page = alone(live.attention_map(weights, range(64), caption="c").to_html(alone=True))
    expect(page.locator(".live-cell")).to_have_count(64 * 64)
    chip(page.locator("figure.live"), "Head", 11).click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth") and page.errors == []


# --- a fix in JavaScript -------------------------------------------------------------------------------------------------------------------


def test_a_fix_in_javascript_reaches_the_page_without_running_a_notebook(built, tmp_path):
    "In a copy of the project with the outputs that are there: change a module and the style sheet, build, and look."
    copy = tmp_path / "project"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", ".hypothesis", "_build", "__pycache__", "build"))
    shutil.copytree(BUILD / ".jupyter_cache", copy / "book/_build/.jupyter_cache")
    shutil.copy(BUILD / "survey.json", copy / "book/_build")
    (copy / "_toc.yml").write_text("format: jb-book\nroot: nbs/A4_live\n")        # the other pages would take minutes
    for file, change in (("timeline.js", "// mended\n"), ("lib.js", "// mended too\n"), ("figures.css", "/* mended */\n")):
        with (copy / "transformer_course/js" / file).open("a") as stream:
            stream.write(change)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": f"{copy}/book:{copy}"}
    done = subprocess.run([sys.executable, "-m", "reader", "--no-serve", "--no-export"], cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and f"0 ran, {len(notebooks())} unchanged" in done.stdout, done.stdout + done.stderr
    scripts = copy / "book/_build/html/_static/figures"
    assert "// mended\\n" in (scripts / "timeline.js").read_text() and "// mended too\\n" in (scripts / "attention_map.js").read_text()
    assert "/* mended */" in (scripts / "figures.css").read_text()
    address = lambda site: re.search(r"figures/timeline\.js\?v=\w+", (site / APPENDIX).read_text())[0]
    assert address(copy / "book/_build/html") != address(SITE), "a browser would keep the old one"
