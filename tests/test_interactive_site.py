"""Interactive figures in the built site: pointer, finger, keyboard, print, screen readers, broken states; no kernel and no network."""
import contextlib
import gzip
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import Visit
from playwright.sync_api import expect
from test_interactive import TOKENS, WEIGHTS, expected_works, one_of_each
from test_site import HELD, LOOKS, PHONE, luminance, violations

from builder import BUILD, ROOT, SITE
from transformer_course import interactive, scaling
from transformer_course.config import PRESETS
from transformer_course.kv_cache import cache_bytes
from transformer_course.records import recorded

APPENDIX, CHAPTER = "nbs/tools/interactive.html", "nbs/02_attention.html"


@pytest.fixture
def appendix(visit):
    "The page with every figure; afterwards nothing may have gone wrong on it."
    opened = []

    def open_page(**options):
        opened.append(visit(APPENDIX, **options))
        return opened[-1].page

    yield open_page
    assert [trouble for one in opened for trouble in one.trouble] == []


@pytest.fixture(scope="session")
def figures_alone(built, tmp_path_factory):
    "A page on the disk that holds every figure and nothing else, with the scripts and the styles of the site."
    text = (built / APPENDIX).read_text()
    found = re.findall(r'<figure class="live" data-figure="\w+">.*?</figure>', text, re.S)
    assert len(found) == len(interactive.FIGURES)
    static = f"{built.as_uri()}/_static"
    head = [f'<link rel="stylesheet" href="{static}/{name}.css">' for name in ("figures/figures", "course")]
    head += [f'<script defer src="{static}/figures/{name}.js"></script>' for name in (*interactive.FIGURES, "host")]
    page = tmp_path_factory.mktemp("figures") / "figures.html"
    page.write_text(f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">{"".join(head)}<main>{"".join(found)}</main></html>')
    return page


@pytest.fixture
def drawn(visit, figures_alone, built):
    "A function that opens the page with nothing but figures; afterwards nothing may have gone wrong on it."
    opened = []

    def open_page(**options):
        opened.append(visit(figures_alone.name, at=figures_alone.parent.as_uri(), **options))
        return opened[-1].page

    yield open_page
    assert [trouble for one in opened for trouble in one.trouble if not trouble.startswith(built.as_uri())] == []


def figure(page, name: str):
    found = page.locator(f"[data-figure={name}]")
    found.scroll_into_view_if_needed()
    return found


def state(found, key: str):
    return found.evaluate("(root, key) => root.model.get(key)", key)


def cell(found, i: int, j: int, panel: int = 0):
    return found.locator(".live-grid").nth(panel).locator("[role=row]").nth(i + 1).locator(".live-cell").nth(j)


def unfolded(found):
    "The rows of a figure's table, which is made when it is unfolded."
    found.locator("summary").click()
    expect(rows := found.locator("tbody tr")).not_to_have_count(0)
    return rows


def chip(found, group: str, n: int):
    return found.get_by_role("radiogroup", name=group).locator(".live-chip").nth(n)


# --- every figure of every page ------------------------------------------------------------------------------------------------------


def test_the_pages_with_figures_are_found():
    assert sorted(HELD[APPENDIX]) == sorted(interactive.FIGURES), "the page for contributors shows each of them once"
    assert CHAPTER in HELD


def test_a_page_without_figures_loads_none_of_their_code(visit):
    loaded = "performance.getEntriesByType('resource').map((entry) => entry.name).filter((name) => name.includes('/figures/'))"
    assert visit("nbs/tools/figures.html").page.evaluate(loaded) == []
    names = {re.search(r"figures/(\w+)\.", url)[1] for url in visit(APPENDIX).page.evaluate(loaded)}
    assert names == {"host", "figures", *interactive.FIGURES}


MORE = {"page_transformer": 32_000, "logit_lens": 22_000, "induction_timeline": 22_000}


def most(name: str) -> int:
    "What a figure may weigh. The transformer brings both passes and a text to learn from, the lens a forward pass, the timeline twelve recorded maps."
    return MORE.get(name, 20_000)


def packed(text: str) -> int:
    return len(gzip.compress(text.encode()))


@pytest.mark.parametrize("path", HELD)
def test_a_figure_adds_less_than_20_kilobytes(built, path):
    "Data, module, host and style sheet together, compressed one by one as a server would. The page on real weights shows all 72 heads of a model."
    shared = sum(packed((built / f"_static/figures/{name}").read_text()) for name in ("host.js", "figures.css"))
    found = list(re.finditer(r'<figure class="live" data-figure="(\w+)">.*?</figure>', (built / path).read_text(), re.S))
    assert len(found) >= len(HELD[path]) > 0
    for one in found:
        weight = shared + packed((built / f"_static/figures/{one[1]}.js").read_text()) + packed(one[0])
        assert weight < (32_000 if path == "nbs/07b_pretrained.html" else most(one[1])), f"{one[1]}: {weight:,} bytes"


@pytest.mark.parametrize("one", one_of_each(), ids=lambda one: one.name)
def test_a_module_with_host_and_style_leaves_room_for_data(one):
    weight = packed(interactive.host()) + packed(interactive.style()) + packed(interactive.module(one.name)) + packed(one.to_html(alone=False))
    assert weight < most(one.name) - 2_500, f"{weight:,} bytes"


def test_what_was_measured_is_within_the_bounds():
    measured = recorded("figures").result
    assert set(measured["figures"]) == set(interactive.FIGURES) and measured["page without figures"]["figure files"] == 0
    assert all(row["bytes"] < most(name) and row["seconds"] < 0.3 for name, row in measured["figures"].items()), measured


@pytest.mark.parametrize("path", HELD)
def test_outputs_hold_data_and_no_code(built, path):
    text = (built / path).read_text()
    assert "export default" not in re.sub(r"<pre>.*?</pre>", "", text, flags=re.S) and "application/vnd.jupyter" not in text
    held = re.findall(r'data-figure="\w+"><script type="application/json">(.*?)</script>', text)
    assert len(held) >= len(HELD[path]) > 0 and all(json.loads(data) for data in held)


def test_without_javascript_the_words_are_read(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}/{APPENDIX}")
    every = page.locator(".live-words").all()
    assert len(every) == len(interactive.FIGURES)
    for words in every:
        assert words.is_visible() and words.bounding_box()["height"] > 20
    context.close()


def test_the_words_are_for_screen_readers_where_the_figure_is_drawn(appendix):
    words = appendix().locator(".live-words").first
    assert words.bounding_box()["width"] <= 1 and words.evaluate("(node) => getComputedStyle(node).display") != "none"


STATES = {
    "attention_map": [{"sentence": 1, "head": 1, "row": 3}, {"sentence": 0, "head": 2, "row": 0, "column": 4}],
    "attention_steps": [{"step": 1, "role": 2, "row": 2, "column": 1}, {"step": 3}, {"step": 5}],
    "mask_growth": [{"shown": 6, "row": 1}, {"shown": 1}],
    "timeline": [{"writing": True, "step": 5, "length": 40}, {"length": 512, "step": 1}],
    "rope_clocks": [{"m": 120, "n": 3, "base": 1}, {"way": 1, "m": 20}, {"way": 3}],
    "next_token": [{"temperature": 0, "draws": 3, "context": 1}, {"temperature": 3, "draws": 40, "keep": 2}],
    "head_switches": [{"on": [True, False, True, False]}, {"on": [False] * 4}],
    "stream_sizes": [{"depth": 1, "scale": 0}, {"depth": 20, "on": [True, False]}, {"on": [False, False]}],
    "model_map": [{"view": 0, "part": "encoder norm 2"}, {"view": 1, "part": "encoder output"}, {"view": 2, "part": "decoder lm_head"}],
    "cache_growth": [{"shown": 9, "kept": False, "length": 20, "batch": 10, "share": 0, "format": 0}, {"shown": 4, "length": 0, "batch": 0, "share": 2, "format": 2}],
    "tile_walk": [{"rows": 1, "columns": 1, "step": 100}, {"rows": 16, "columns": 5, "step": 4}, {"step": 0}],
    "model_calculator": [{"preset": 0, "width": 768, "heads": 12, "machine": 1, "batch": 4096, "checkpointed": True, "price": None}, {"preset": 2, "format": 0, "tokens": 1e6, "chips": 1}, {"width": 16384, "layers": 128, "hidden": 65536, "context": 131072, "batch": 4096, "tokens": 7e14, "price": 0.5}],
    "scaling_laws": [{"law": 1, "axis": 1, "budget": 26, "size": 6}, {"budget": 18, "size": 13}, {"axis": 0, "budget": 23.45, "size": 11.2}],
    "roofline": [{"preset": 2, "width": 16384, "layers": 128, "context": 131072, "batch": 4096, "prompt": 131072, "machine": 1}, {"preset": 0, "width": 64, "heads": 1, "key_heads": 1, "layers": 1, "context": 64, "batch": 1, "prompt": 1}, {"preset": 1, "batch": 64, "prompt": 128}],
    "position_map": [{"length": 256, "position": 255, "component": 127}, {"length": 2, "position": 1, "component": 0}],
    "page_transformer": [{"shown": 1}, {"shown": 1, "text": "the object", "temperature": 0, "head": 5, "row": 2, "top_k": 3}, {"shown": 0}],
    "induction_timeline": [{"step": 0, "head": 1, "row": 5}, {"step": 11, "head": 0, "row": 23, "column": 3}],
    "logit_lens": [{"place": 0, "stage": 0}, {"place": 14, "stage": 3}, {"place": None, "stage": 4}],
}


def put(found, state: dict):
    found.evaluate("(root, state) => Object.entries(state).forEach(([key, value]) => root.model.set(key, value))", state)


@pytest.mark.parametrize(("options", "kinds"), [({}, {"colours", "rules"}), ({"color_scheme": "dark"}, {"colours"}), (PHONE, {"rules"})], ids=["light", "dark", "phone"])
def test_axe_finds_nothing_in_any_state(visit, options, kinds):
    "In the dark nothing but colours changes, and on a phone all but colours."
    page = visit(APPENDIX, **options).page

    def axe():
        found = violations(page, "figure.live", rules={"color-contrast": {"enabled": False}}) if "rules" in kinds else []
        if "colours" in kinds:
            assert page.evaluate(LOOKS) > 100
            found += violations(page, {"include": [["figure.live [data-look]"]]}, runOnly=["color-contrast"])
        return [(v["id"], node["html"][:140], node.get("failureSummary", "")[:200]) for v in found for node in v["nodes"]]

    tables = lambda unfold: page.evaluate("(open) => document.querySelectorAll('.live-table').forEach((node) => { node.open = open; })", unfold)
    assert page.locator("figure.live").count() == len(interactive.FIGURES)
    tables(True)
    page.wait_for_timeout(100)
    assert page.locator(".live tbody tr").count() > 100 and axe() == []
    tables(False)
    assert STATES.keys() == set(interactive.FIGURES)
    for turn in range(max(map(len, STATES.values()))):
        for name, states in STATES.items():
            put(page.locator(f"[data-figure={name}]"), states[min(turn, len(states) - 1)])
        page.wait_for_timeout(400)
        assert axe() == []


@pytest.fixture(scope="module")
def on_a_phone(pages, site):
    "The page with every figure, on a phone."
    one = Visit(pages, site, **PHONE)
    yield one.open(APPENDIX)
    one.close()
    assert one.trouble == []


@pytest.mark.parametrize("name", interactive.FIGURES)
def test_what_a_finger_can_press_is_big_enough(on_a_phone, name):
    found = figure(on_a_phone, name)
    for state in STATES[name]:
        put(found, state)
        targets = [target for target in found.locator(".live-button, .live-chip, input[type=range], summary").all() if target.is_visible()]
        assert len(targets) >= 3
        for target in targets:
            box = target.bounding_box()
            assert box["height"] >= 44 and box["width"] >= 44, (box, target.evaluate("(node) => node.outerHTML.slice(0, 80)"))


@pytest.mark.parametrize("name", interactive.FIGURES)
def test_no_state_is_wider_than_a_phone_or_has_letters_below_9_pixels(on_a_phone, name):
    page, found = on_a_phone, figure(on_a_phone, name)
    for state in STATES[name]:
        put(found, state)
        page.wait_for_timeout(50)
        edge = found.locator(".live-body").evaluate("(body) => body.getBoundingClientRect().right + 1")
        wide = found.evaluate("""(root, edge) => [...root.querySelectorAll(".live-body *")].filter((node) => node.checkVisibility() && !node.closest(".live-scroll, svg") && node.getBoundingClientRect().right > edge).map((node) => node.outerHTML.slice(0, 90))""", edge)
        assert wide == [] and page.evaluate("document.documentElement.scrollWidth") <= 390
        letters = found.evaluate("""(root) => [...root.querySelectorAll(".live-body *")].filter((node) => node.checkVisibility() && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()))
            .map((node) => [parseFloat(getComputedStyle(node).fontSize) * (node.ownerSVGElement ? node.ownerSVGElement.getScreenCTM().a : 1), node.outerHTML.slice(0, 90)])""")
        assert len(letters) > 10 and min(letters)[0] >= 9, min(letters)


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
    page.emulate_media(media="print", color_scheme=scheme)
    page.wait_for_timeout(300)
    for name in interactive.FIGURES:
        assert luminance(page, f"[data-figure={name}]", "backgroundColor") > 0.97 and luminance(page, f"[data-figure={name}] figcaption", "color") < 0.4
        controls = figure(page, name).locator(".live-button, input[type=range], summary").all()
        assert controls and all(not control.is_visible() for control in controls)
    numbers = figure(page, "attention_steps").locator(".live-cell > span")
    assert numbers.count() > 70 and all(number.is_visible() for number in numbers.all()), "every step is on paper, whichever was on the screen"
    assert luminance(page, "[data-figure=attention_map] .live-bar", "backgroundColor") < 0.45, "the colours of paper, whatever the screen's theme"
    read, dim = page.evaluate("""() => { const read = [...document.querySelectorAll(".live *")].filter((node) => node.checkVisibility() && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()))
        .filter((node) => !node.closest(".live-words, .live-corner, .live-dark, .live-long, script"));
        return [read.length, read.filter((node) => { const pen = new OffscreenCanvas(1, 1).getContext("2d");
            pen.fillStyle = getComputedStyle(node)[node.ownerSVGElement ? "fill" : "color"]; pen.fillRect(0, 0, 1, 1); return [...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)].reduce((a, b) => a + b) > 330; })
        .map((node) => node.outerHTML.slice(0, 100))]; }""")
    assert read > 200 and dim == []


# --- each figure, moved ----------------------------------------------------------------------------------------------------------------


def weights(found) -> list:
    "The weights of each head of the sentence that is shown."
    return state(found, "sentences")[state(found, "sentence")]["weights"]


def test_attention_map_with_the_pointer(drawn):
    found = figure(drawn(), "attention_map")
    shown, says = weights(found), found.locator(".live-says")
    cell(found, 3, 4).hover()
    expect(says).to_have_text(f"“on” reads “the” with weight {shown[0][3][4] / 1000:.3f}")
    expect(found.locator(".live-title")).to_have_text("What “on” reads most")
    found.locator(".live-row-name").nth(5).hover()                                        # a row's name: what that token reads most
    j = int(np.argmax(shown[0][5]))
    expect(says).to_have_text(f"“mat” reads “{found.locator('.live-column-name').nth(j).inner_text()}” with weight {shown[0][5][j] / 1000:.3f}")
    found.locator("figcaption").hover()                                                   # the pointer has gone: back to what was chosen
    expect(found.locator(".live-title")).to_have_text("What “cat” reads most")
    cell(found, 3, 4).click()
    found.locator("figcaption").hover()
    expect(says).to_contain_text("“on” reads “the”")
    assert (state(found, "row"), state(found, "column")) == (3, 4)
    chip(found, "Reader", 2).hover()
    expect(found.locator(".live-title")).to_have_text("What “sat” reads most")


def test_attention_map_other_head(drawn):
    found = figure(drawn(), "attention_map")
    assert found.get_by_role("radiogroup", name="Head").locator(".live-chip").all_inner_texts() == ["random", "one back", "itself"]
    chip(found, "Head", 1).click()
    chip(found, "Reader", 4).click()
    shown = weights(found)
    expect(found.locator(".live-amount")).to_have_text(f"{shown[1][4][3] / 1000:.3f}")
    assert shown[1][4][3] > 900, "the head that looks one token back"
    assert float(found.locator(".live-bar-name + .live-track + .live-number").first.inner_text()) == max(shown[1][4]) / 1000
    assert found.locator(".live-bar").evaluate_all("(bars) => bars.map((bar) => parseFloat(bar.style.inlineSize))") == pytest.approx([weight / 10 for weight in sorted(shown[1][4], reverse=True)])


def test_attention_map_other_sentence(drawn):
    page = drawn()
    found = figure(page, "attention_map")
    thumbs = lambda: found.locator(".live-thumb > span").evaluate_all("(inks) => inks.map((ink) => ink.style.maskImage)")
    chip(found, "Head", 2).click()
    chip(found, "Reader", 5).click()                                                       # mat
    before = thumbs()
    assert len(set(before)) == 3 and all("data:image/png" in image for image in before)
    found.locator("figcaption").hover()
    found.get_by_role("radiogroup", name="Sentence").locator("input:checked").focus()
    page.keyboard.press("ArrowRight")
    expect(found.locator(".live-title")).to_have_text("What “mat” reads most")              # the same token, at another place
    assert [state(found, key) for key in ("sentence", "row", "column", "head")] == [1, 6, None, 2]
    expect(found.locator(".live-row-name")).to_have_text(["the", "dog", "sat", "on", "a", "big", "mat"])
    expect(found.locator(".live-says")).to_have_text(f"“mat” reads “mat” with weight {weights(found)[2][6][6] / 1000:.3f}")
    assert not set(thumbs()) & set(before) and page.evaluate("document.activeElement.type") == "radio"
    cell(found, 1, 4).click()
    assert (state(found, "row"), state(found, "column")) == (1, 4)
    chip(found, "Sentence", 0).click()                                                      # dog is not in that one
    expect(found.locator(".live-title")).to_have_text("What “cat” reads most")
    expect(found.locator(".live-row-name")).to_have_count(6)
    assert state(found, "column") is None, "another sentence, and so what is read most"


def test_arrow_keys_in_a_map_do_not_scroll_the_page(drawn):
    page = drawn()
    found = figure(page, "attention_map")
    cell(found, 1, 1).click()
    cell(found, 1, 1).focus()
    before = page.evaluate("scrollY")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    page.wait_for_timeout(300)                                                             # scrolling is smooth
    assert page.evaluate("scrollY") == before and state(found, "row") == 2


def test_attention_map_with_the_keyboard(drawn):
    page = drawn()
    found = figure(page, "attention_map")
    found.locator("input[type=radio]:checked").first.focus()                              # sentences
    page.keyboard.press("Tab")
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
    assert focused == ["gridcell", f"{weights(found)[1][4][1] / 1000:.3f}", True]
    expect(found.locator(".live-says")).to_have_attribute("aria-live", "off")               # the cell speaks for itself
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_attention_map_with_a_finger(drawn):
    found = figure(drawn(**PHONE), "attention_map")
    cell(found, 5, 2).tap()
    expect(found.locator(".live-says")).to_contain_text("“mat” reads “sat”")
    chip(found, "Reader", 0).tap()
    expect(found.locator(".live-title")).to_have_text("What “the” reads most")
    assert state(found, "row") == 0


def test_attention_map_follows_a_finger_that_slides(drawn):
    page = drawn(**PHONE)
    found = figure(page, "attention_map")
    start, end = cell(found, 1, 0).bounding_box(), cell(found, 1, 4).bounding_box()
    touch = page.context.new_cdp_session(page)
    at = lambda box: [{"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}]
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": at(start)})
    for share in (0.3, 0.6, 1):
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": at({**start, "x": start["x"] + share * (end["x"] - start["x"])})})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert (state(found, "row"), state(found, "column")) == (1, 4)


def test_attention_map_as_a_table(drawn):
    found = figure(drawn(), "attention_map")
    rows = unfolded(found)
    expect(rows).to_have_count(6)
    shown = [[float(text) for text in row.locator("td").all_inner_texts()] for row in rows.all()]
    assert shown == [[weight / 1000 for weight in row] for row in weights(found)[0]]
    chip(found, "Head", 1).click()
    assert float(rows.nth(2).locator("td").nth(1).inner_text()) > 0.9


PANELS = ["query matrix", "key matrix", "value matrix", "vectors", "queries", "keys", "values", "scores", "scaled", "weights", "outputs"]
PARTS = [["vectors"], ["query matrix", "vectors", "queries"], ["queries", "keys", "scores"], ["scores", "scaled"], ["scaled", "weights"], ["values", "weights", "outputs"]]


def two_digits(number: float) -> str:
    return re.sub(r"^−(?=[0.]+$)", "", f"{number:.2f}".replace("-", "−"))


def in_steps(found, panel: str, i: int, j: int):
    return cell(found, i, j, panel=PANELS.index(panel))


def test_attention_steps_step_by_step(drawn):
    found = figure(drawn(), "attention_steps")
    empty = lambda: found.locator(".live-panel.live-later").evaluate_all("(panels) => panels.map((panel) => panel.querySelector('.live-panel-name').firstChild.data)")
    expect(found.locator(".live-box .live-title")).to_have_text("Step 1 of 6: vectors, “be”, number 1")
    assert empty() == [panel for panel in PANELS if panel != "vectors"]
    assert in_steps(found, "weights", 0, 0).get_attribute("aria-label") == "not computed yet"
    assert in_steps(found, "vectors", 0, 0).locator("span").is_visible() and not in_steps(found, "query matrix", 0, 0).locator("span").is_visible()
    for expected in (["scores", "scaled", "weights", "outputs"], ["scaled", "weights", "outputs"], ["weights", "outputs"], ["outputs"], []):
        found.get_by_role("button", name="One step on").click()
        assert empty() == expected
    found.get_by_role("button", name="Back to the start").click()
    assert len(empty()) == 10
    chip(found, "Step", 2).click()
    expect(found.locator(".live-box .live-title")).to_have_text("Step 3 of 6: scores, “be” with “to”")
    x, projections = (torch.tensor(state(found, key), dtype=torch.float64) for key in ("x", "projections"))
    score = (x[1] @ projections[0]) @ (x[0] @ projections[1])
    assert found.locator(".live-sum").inner_text().endswith(f"= {two_digits(score)}")
    assert found.locator(".live-used").count() == 4                                        # a query and a key of two numbers


def test_attention_steps_shows_the_matrices_where_they_are_used(drawn):
    found = figure(drawn(), "attention_steps")
    chip(found, "Step", 1).click()
    projections = state(found, "projections")
    for n in range(3):
        shown = found.locator(".live-grid").nth(n).locator(".live-cell > span").all_inner_texts()
        assert shown == [two_digits(number) for row in projections[n] for number in row]
    in_steps(found, "values", 2, 1).click()                                                 # a click asks for another role
    expect(found.locator(".live-box .live-title")).to_have_text("Step 2 of 6: values, “or”, number 2")
    assert state(found, "role") == 2 and found.locator(".live-used").count() == 8           # a row of four numbers, a column of four
    x, value = torch.tensor(state(found, "x"))[2], torch.tensor(projections[2])[:, 1]
    assert found.locator(".live-sum").inner_text().endswith(f"= {two_digits(x @ value)}") and found.locator(".live-sum").inner_text().count("×") == 4
    in_steps(found, "key matrix", 1, 0).hover()
    expect(found.locator(".live-says")).to_contain_text("learned")


def test_attention_steps_on_a_phone_keeps_steps_matrices_and_explanation_together(drawn):
    page = drawn(**PHONE)
    found = figure(page, "attention_steps")
    for n, parts in enumerate(PARTS):
        chip(found, "Step", n).tap()
        visible = [panel for panel, whole in zip(PANELS, found.locator(".live-panel").all(), strict=True) if whole.is_visible()]
        assert visible == [panel for panel in PANELS if panel in parts]
        top, bottom = chip(found, "Step", 0).bounding_box(), found.locator(".live-box").bounding_box()
        assert bottom["y"] + bottom["height"] - top["y"] < 660, n
        assert found.locator(".live-sum").is_visible() and page.evaluate("document.documentElement.scrollWidth") <= 390
    chip(found, "Step", 1).tap()
    chip(found, "Role", 2).tap()
    visible = [panel for panel, whole in zip(PANELS, found.locator(".live-panel").all(), strict=True) if whole.is_visible()]
    assert visible == ["value matrix", "vectors", "values"]
    expect(found.locator(".live-box .live-title")).to_have_text("Step 2 of 6: values, “be”, number 1")
    over, left, made = (found.locator(".live-grid").nth(PANELS.index(panel)).bounding_box() for panel in ("value matrix", "vectors", "values"))
    assert abs(over["x"] - made["x"]) < 1 and abs(left["y"] - made["y"]) < 1, "the product stands under one factor and beside the other"
    chip(found, "Step", 2).tap()
    assert not found.get_by_role("radiogroup", name="Role").is_visible()


def test_attention_steps_explains_the_cell_under_the_pointer_or_the_focus(drawn):
    page = drawn()
    found = figure(page, "attention_steps")
    chip(found, "Step", 5).click()
    in_steps(found, "weights", 2, 1).hover()
    expect(found.locator(".live-box .live-title")).to_have_text("Step 5 of 6: weights, “or” with “be”")
    by_pointer = found.locator(".live-sum").inner_text()
    found.locator("figcaption").hover()
    expect(found.locator(".live-box .live-title")).to_contain_text("outputs")
    in_steps(found, "weights", 1, 1).click()
    page.keyboard.press("ArrowDown")
    expect(found.locator(".live-sum")).to_have_text(by_pointer)
    chip(found, "Step", 1).click()
    in_steps(found, "outputs", 0, 0).hover()                                               # not computed yet
    expect(found.locator(".live-box .live-title")).to_contain_text("Step 2 of 6")


def test_attention_steps_changes_a_number_and_puts_it_back(drawn):
    found = figure(drawn(), "attention_steps")
    chip(found, "Step", 5).click()
    outputs = lambda: [one.inner_text() for one in found.locator(".live-grid").nth(10).locator(".live-cell").all()]
    before = outputs()
    in_steps(found, "vectors", 2, 3).click()
    expect(found.locator(".live-slider")).to_contain_text("Change number 4 of “or”")
    found.locator("input[type=range]").fill("-2.5")
    assert state(found, "x")[2][3] == -2.5
    x, projections = (torch.tensor(state(found, key), dtype=torch.float64) for key in ("x", "projections"))
    q, k, v = (x @ matrix for matrix in projections)
    expected = torch.softmax(q @ k.T / 2**0.5, -1) @ v
    assert outputs() == [two_digits(number) for number in expected.flatten().tolist()] != before
    found.get_by_role("button", name="Put back").click()
    assert outputs() == before


def test_attention_steps_plays_and_stops_at_the_end(drawn):
    page = drawn()
    page.clock.install()
    found = figure(page, "attention_steps")
    page.clock.run_for(20_000)
    assert state(found, "step") == 0                                                       # nothing moves until somebody asks
    chip(found, "Step", 5).click()
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
def test_mask_growth_generates(drawn, way):
    page = drawn(**(PHONE if way == "finger" else {}))
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


def test_mask_growth_says_who_reads_what(drawn):
    page = drawn()
    found = figure(page, "mask_growth")
    cell(found, 2, 0, panel=1).hover()
    expect(found.locator(".live-says")).to_have_text("Of 4 tokens, “sat” may read: the past 3, a window of two 2.")
    cell(found, 1, 1).click()
    page.keyboard.press("ArrowUp")
    expect(found.locator(".live-says")).to_have_text("Of 4 tokens, “the” may read: the past 1, a window of two 1.")
    assert cell(found, 0, 3).get_attribute("aria-label") == "may not read" and cell(found, 5, 0).get_attribute("aria-label") == "not written yet"


def test_no_word_of_mask_growth_depends_on_where_a_panel_stands(drawn):
    found = figure(drawn(), "mask_growth")
    for n in range(1, 7):
        put(found, {"shown": n})
        said = found.inner_text() + found.locator(".live-words").text_content() + " ".join(found.locator("[aria-label]").evaluate_all("(nodes) => nodes.map((node) => node.getAttribute('aria-label'))"))
        assert len(said) > 300 and not re.search(r"\b(left|right|above|below|beside|side by side|upper|lower)\b", said, re.I)


def test_timeline_slides_and_plays(drawn):
    page = drawn()
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
    assert unfolded(found).last.locator("td").all_inner_texts() == ["512", "512", "131,328"]


def test_timeline_stops_when_it_is_out_of_sight(drawn):
    page = drawn()
    found = figure(page, "timeline")
    found.locator("input[type=range]").fill("512")
    found.get_by_role("button", name="Play").click()
    expect(found.get_by_role("button", name="Pause")).to_be_visible()
    page.evaluate("scrollTo(0, 0)")
    expect(found.get_by_role("button", name="Play")).to_have_count(1)
    reached = state(found, "step")
    page.wait_for_timeout(400)
    assert 1 <= state(found, "step") == reached < 512


def test_timeline_is_calm_for_those_who_asked(drawn):
    page = drawn(reduced_motion="reduce")
    page.clock.install()
    found = figure(page, "timeline")
    found.locator("input[type=range]").fill("80")
    found.get_by_role("button", name="Play").click()
    page.clock.run_for(1_000)
    assert state(found, "step") == 1
    page.clock.run_for(300)
    assert state(found, "step") == 11


@pytest.mark.parametrize("way", ["keyboard", "slider"])
def test_rope_clocks_keeps_the_score_while_both_move(drawn, way):
    page = drawn()
    found = figure(page, "rope_clocks")
    title, hands = found.locator(".live-title"), lambda role: found.locator(f"line.live-as-{role}").evaluate_all("(lines) => lines.map((line) => [line.x2.baseVal.value, line.y2.baseVal.value])")
    m, n, both = found.locator("input[type=range]").all()
    score = re.search(r"score (.+)", title.inner_text())[1]
    expect(title).to_have_text(f"Query at 12, key at 7: distance 5, score {score}")
    before = [np.array(hands(role)) for role in ("query", "key")]
    if way == "keyboard":
        both.focus()
        for _ in range(9):
            page.keyboard.press("ArrowRight")
    else:
        both.fill("16")
    expect(title).to_have_text(f"Query at 21, key at 16: distance 5, score {score}")
    expect(found.locator(".live-says")).to_contain_text(f"the score stays {score}.")
    for role, old in zip(("query", "key"), before):
        new, speeds = np.array(hands(role)), state(found, "speeds")[0][0]
        complex_ = [np.array([x, -y]) @ [1, 1j] for side in (old, new) for x, y in side]
        turned = np.angle(np.array(complex_[len(old):]) / complex_[:len(old)])
        assert turned == pytest.approx(np.angle(np.exp(9j * np.array(speeds))), abs=1e-5), "every hand turns by its own speed"
    m.fill("30")
    assert score not in title.inner_text() and "Only the distance counts" in found.locator(".live-says").inner_text()
    assert both.get_attribute("aria-valuetext") == "t − s = 14" and both.get_attribute("max") == str(127 - 14)
    n.fill("60")
    expect(title).to_contain_text("distance −30")
    both.fill("97")
    assert (state(found, "m"), state(found, "n")) == (97, 127)


def test_rope_clocks_writes_the_sum_that_it_shows(drawn):
    found = figure(drawn(), "rope_clocks")
    for m, n, base in ((0, 0, 0), (100, 3, 0), (17, 90, 1)):
        put(found, {"m": m, "n": n, "base": base})
        query, key = (np.array(state(found, name)) @ [1, 1j] for name in ("query", "key"))
        parts = (query * key.conj() * np.exp(1j * (m - n) * np.array(state(found, "speeds")[0][base]))).real
        adds = [float(text.replace("−", "-")) for text in found.locator(".live-clock-card strong").all_inner_texts()]
        assert adds == pytest.approx(parts, abs=0.0051)
        written, result = found.locator(".live-sum").inner_text().replace("−", "-").replace("- ", "-").replace("+ ", "").split(" = ")
        assert [float(part) for part in written.split()] == pytest.approx(parts, abs=0.0051) and float(result) == pytest.approx(parts.sum(), abs=0.0051)
        assert found.locator(".live-title").inner_text().endswith(f"score {parts.sum():.2f}".replace("-", "−"))
    assert unfolded(found).count() == 4 and found.locator("tbody td").first.inner_text() == "1 and 5"


def test_rope_clocks_shows_what_stretching_does_beyond_training(drawn):
    found = figure(drawn(), "rope_clocks")
    fresh = lambda: [bool(card.locator(".live-mark").inner_text()) for card in found.locator(".live-clock-card").all()]
    put(found, {"m": 30, "n": 0})
    assert fresh() == [False] * 4
    expect(found.locator(".live-says")).to_contain_text("Training showed distances below 32. No pair stands at a new angle.")
    put(found, {"m": 100})
    assert fresh() == [False, True, True, True]                                             # the fastest went round in training
    expect(found.locator(".live-says")).to_contain_text("Here 3 pairs of 4 stand at an angle that is new")
    dots = []
    assert found.get_by_role("radiogroup", name="Stretched").locator(".live-chip").all_inner_texts() == ["none", "interpolation", "NTK-aware base", "by parts"]
    for way, new in enumerate((3, 0, None, None)):
        chip(found, "Stretched", way).click()
        assert new is None or sum(fresh()) == new
        dots.append((found.locator("polyline").get_attribute("points"), found.locator(".live-dot").get_attribute("style")))
    assert len(set(dots)) == 4 and sum(fresh()) < 3


def test_next_token_turns_logits_into_probabilities(drawn):
    page = drawn()
    found = figure(page, "next_token")
    logits = torch.tensor(state(found, "logits"), dtype=torch.float64)
    shares = lambda: [float(line.locator(".live-number").nth(1).inner_text().replace("<", "")) for line in found.locator("ol li").all()]

    def expected(context, temperature, keep=None):
        p = torch.softmax(logits[context].sort(descending=True).values[:keep] / temperature, 0)
        p = torch.cat([p, torch.zeros(len(logits[0]) - len(p))])
        return [*(100 * p[:8]).tolist(), 100 * p[8:].sum().item()], torch.distributions.Categorical(p).entropy().exp().item()

    def check(*asked):
        percent, perplexity = expected(*asked)
        assert shares() == pytest.approx(percent, abs=0.0501) and f"Perplexity {perplexity:.1f}:" in found.locator(".live-says").first.inner_text()
        bars = found.locator(".live-bar").evaluate_all("(bars) => bars.map((bar) => parseFloat(bar.style.inlineSize))")
        assert bars == pytest.approx(percent, abs=1e-4)

    check(0, 1)
    slider = found.locator("input[type=range]")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert state(found, "temperature") == 0.9
    check(0, 0.9)
    slider.fill("3")
    check(0, 3)
    chip(found, "Context", 2).click()
    check(2, 3)
    chip(found, "Top-k", 2).click()
    check(2, 3, 5)
    expect(found.locator(".live-says").first).to_contain_text("All but the 5 most probable tokens are left out.")
    slider.fill("0")
    assert shares() == [100, *[0] * 8] and "the largest logit takes everything" in found.locator(".live-says").first.inner_text()


@pytest.mark.parametrize("way", ["pointer", "keyboard", "finger"])
def test_next_token_draws_the_same_numbers_again(drawn, way):
    page = drawn(**(PHONE if way == "finger" else {}))
    found = figure(page, "next_token")
    random, tokens = state(found, "random"), state(found, "tokens")
    p = torch.softmax(torch.tensor(state(found, "logits")[0], dtype=torch.float64), 0)
    places = p.argsort(descending=True, stable=True)
    visible = lambda token: token.replace(" ", "·").replace("\n", "\\n")
    expected = [visible(tokens[places[int((p[places].cumsum(0) > number).nonzero()[0])]]) for number in random]
    drawn = lambda: found.locator(".live-drawn .live-word").all_inner_texts()
    one = found.get_by_role("button", name="Draw a token")
    for n in range(1, 4):
        if way == "pointer":
            one.click()
        elif way == "finger":
            one.tap()
        else:
            one.focus()
            page.keyboard.press("Enter")
        assert drawn() == expected[:n]
    expect(found.locator(".live-says").nth(1)).to_have_text(f"Draw 3: the random number {random[2]:.3f} falls on “{expected[2]}”.")
    assert found.locator(".live-text").inner_text() == state(found, "contexts")[0] + expected[2]
    box, needle = found.locator(".live-strip").bounding_box(), found.locator(".live-needle").bounding_box()
    assert (needle["x"] + needle["width"] / 2 - box["x"]) / box["width"] == pytest.approx(random[2], abs=0.01)
    page.wait_for_timeout(300)
    piece = found.locator(".live-strip > .live-at").bounding_box()
    assert piece["x"] - 2 <= needle["x"] + needle["width"] / 2 <= piece["x"] + piece["width"] + 2, "the number falls into the piece of what was drawn"
    for _ in range(4):
        found.get_by_role("button", name="Draw 10").click(force=True)
    assert drawn() == expected and len(expected) == 40 and one.is_disabled()
    counts = [int(line.locator(".live-number").nth(2).inner_text() or 0) for line in found.locator("ol li").all()]
    assert sum(counts) == 40 and counts[0] == expected.count(visible(tokens[places[0]]))
    found.locator("input[type=range]").fill("0")
    assert set(drawn()) == {expected[0]} if expected[0] == visible(tokens[places[0]]) else len(set(drawn())) == 1
    found.get_by_role("button", name="Start again").click()
    assert drawn() == [] and one.is_enabled()


@pytest.mark.parametrize("way", ["pointer", "keyboard", "finger"])
def test_head_switches_shows_what_was_measured(drawn, way):
    page = drawn(**(PHONE if way == "finger" else {}))
    found = figure(page, "head_switches")
    heads, measured, amount, says = state(found, "heads"), state(found, "measured"), found.locator(".live-amount"), found.locator(".live-says")
    expect(amount).to_have_text(f"{measured[15]:.3f}")
    expect(says).to_contain_text("All heads are on")
    bits = 15
    for h in (1, 3, 0, 1, 2):
        control, old = found.get_by_role("switch", name=heads[h]), measured[bits]
        if way == "keyboard":
            control.focus()
            page.keyboard.press("Space")
        elif way == "finger":
            control.tap()
        else:
            control.click()
        bits ^= 2**h
        on = bool(bits & 2**h)
        assert control.is_checked() is on and state(found, "on") == [bool(bits & 2**k) for k in range(4)]
        expect(amount).to_have_text(f"{measured[bits]:.3f}")
        expect(says).to_contain_text(f"Switching {heads[h]} {'on' if on else 'off'} changed it by {measured[bits] - old:+.3f}.".replace("-", "−"))
        assert found.locator(".live-head.live-off").count() == 4 - bits.bit_count()
        bar = found.locator(".live-gauge .live-bar").evaluate("(bar) => parseFloat(bar.style.inlineSize)")
        assert bar == pytest.approx(100 * measured[bits] / max(measured), abs=0.01)
    found.get_by_role("button", name="All off").click(force=True)
    expect(says).to_have_text(f"No head is on: accuracy {measured[0]:.3f}. ")
    found.get_by_role("button", name="All on").click(force=True)
    expect(amount).to_have_text(f"{measured[15]:.3f}")
    rows = [row.all_inner_texts() for row in (line.locator("th, td") for line in unfolded(found).all())]
    assert len(rows) == 16 and [float(value) for _, value in rows] == pytest.approx(measured, abs=0.0006) and rows[3][0] == f"{heads[0]} and {heads[1]}"


@pytest.mark.parametrize("way", ["pointer", "keyboard", "finger", "sliders"])
def test_position_map_gives_the_value_and_its_formula(drawn, way):
    page = drawn(**(PHONE if way == "finger" else {}))
    found = figure(page, "position_map")
    area, title, sums = found.locator(".live-map"), found.locator(".live-title"), found.locator(".live-sum")
    expect(title).to_have_text("Position 3, component 16: 0.8126")
    box = area.bounding_box()
    for position, component in ((10, 33), (63, 127), (0, 0)):
        at = {"x": (component + 0.5) / 128 * box["width"], "y": (position + 0.5) / 64 * box["height"]}
        if way == "pointer":
            area.hover(position=at)
        elif way == "finger":
            area.tap(position=at)
            wanted, (position, component) = (position, component), (state(found, "position"), state(found, "component"))
            assert abs(position - wanted[0]) <= 1 and abs(component - wanted[1]) <= 2            # a component is less than three pixels wide
        elif way == "sliders":
            for name, number in (("Position", position), ("Component", component)):
                found.locator(".live-slider").filter(has=page.get_by_text(name, exact=True)).locator("input").fill(str(number))
        else:
            put(found, {"position": max(0, position - 1), "component": min(127, component + 1)})
            area.focus()
            page.keyboard.press("ArrowDown" if position else "ArrowUp")
            page.keyboard.press("ArrowLeft" if component < 127 else "ArrowRight")
        angle = position * 10_000 ** (-(component // 2) / 64)
        value, wave = (np.cos(angle), "cos") if component % 2 else (np.sin(angle), "sin")
        expect(title).to_have_text(f"Position {position}, component {component}: {value:.4f}".replace("-", "−"))
        expect(sums).to_contain_text(f"= {wave}({angle:.5f}) = ")
        assert state(found, "position") == (3 if way == "pointer" else position), "to look is not to choose"
    if way == "pointer":
        area.click(position={"x": 1, "y": box["height"] - 2})
        found.locator("figcaption").hover()
        expect(title).to_have_text(f"Position 63, component 0: {np.sin(63):.4f}")


def test_position_map_follows_the_length_of_the_sequence(drawn):
    page = drawn()
    found = figure(page, "position_map")
    image = lambda: found.locator(".live-layer").evaluate_all("(layers) => layers.map((layer) => layer.style.maskImage)")
    size = lambda: page.evaluate("""async (url) => { const image = new Image(); image.src = url.slice(5, -2); await image.decode(); return [image.width, image.height]; }""", image()[0])
    before = image()
    assert len(set(before)) == 2 and size() == [128, 64]
    put(found, {"position": 60})
    found.locator("input[type=range]").first.fill("20")
    assert size() == [128, 20] and not set(image()) & set(before)
    expect(found.locator(".live-title")).to_contain_text("Position 19, component 16")
    assert found.locator("polyline").get_attribute("points").count(",") == 20 and found.locator("input[type=range]").nth(1).get_attribute("max") == "19"
    assert unfolded(found).count() == 128 and found.locator("tbody td").nth(1).inner_text() == f"cos(19 θ₀) = cos(19.00000) = {np.cos(19):.4f}"


def test_the_colours_of_position_map_are_its_numbers(drawn):
    "The opacity of the two images is the positive and the negative part of the table."
    found = figure(drawn(), "position_map")
    layers = found.locator(".live-layer").evaluate_all("""async (layers) => Promise.all(layers.map(async (layer) => { const image = new Image();
        image.src = layer.style.maskImage.slice(5, -2); await image.decode(); const pen = new OffscreenCanvas(image.width, image.height).getContext("2d"); pen.drawImage(image, 0, 0);
        return [...pen.getImageData(0, 0, image.width, image.height).data].filter((_, n) => n % 4 === 3); }))""")
    angles = np.arange(64)[:, None] * 10_000.0 ** (-np.arange(64) / 64)
    table = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(64, 128)
    up, down = (np.array(layer).reshape(64, 128) / 255 for layer in layers)
    assert np.abs(up - down - table).max() < 0.005 and (up * down == 0).all()


@pytest.mark.parametrize("way", ["pointer", "keyboard", "finger"])
def test_model_map_says_what_a_part_is_for(drawn, way):
    page = drawn(**(PHONE if way == "finger" else {}))
    found = figure(page, "model_map")
    title, facts, box = found.locator(".live-title"), found.locator(".live-facts strong"), lambda name: found.get_by_role("radio", name=name, exact=True)
    expect(title).to_have_text("decoder: cross-attention")
    parts = state(found, "parts")
    walked = {"ArrowDown": "decoder norm 1", "ArrowUp": "decoder cross", "End": "decoder lm_head", "Home": "encoder embedding", "ArrowRight": "decoder embedding"}
    if way == "keyboard":
        box("decoder: cross-attention").focus()
    for key, part in walked.items():
        name = parts[part]["name"]
        if way == "pointer":
            box(name).hover()
            assert state(found, "part") == "decoder cross", "to look is not to choose"
        elif way == "finger":
            box(name).tap()
        else:
            page.keyboard.press(key)
            assert page.evaluate("document.activeElement.getAttribute('aria-label')") == name and box(name).is_checked()
        expect(title).to_have_text(name)
        expect(found.locator(".live-says")).to_have_text(parts[part]["says"])
        assert facts.all_inner_texts()[:2] == [parts[part]["takes"], parts[part]["gives"]]
        assert state(found, "part") == ("decoder cross" if way == "pointer" else part) and found.locator(".live-now").count() == 1
    if way == "pointer":
        found.locator("figcaption").hover()
        expect(title).to_have_text("decoder: cross-attention")
        box("encoder: feed-forward").click()
        found.locator("figcaption").hover()
        expect(title).to_have_text("encoder: feed-forward")
        assert found.locator("[role=radio][tabindex='0']").count() == 1


def test_model_map_shows_the_blocks_and_the_whole(drawn):
    found = figure(drawn(), "model_map")
    views = state(found, "views")
    labels = lambda: found.locator(".live-part-box").all_text_contents()
    for n, view in enumerate(views):
        chip(found, "View", n).click()
        assert labels() == [box["label"] for box in view["boxes"]]
        assert f"{view['parameters']:,} parameters" in found.inner_text()
        assert found.locator(".live-way.live-bridge").count() == (0 if view["name"] == "encoder block" else 1)
    rows = [row.locator("td").all_inner_texts() for row in unfolded(found).all()]
    number = lambda text: int(text.replace(",", ""))
    assert sum(number(one) * number(copies) for *_, one, copies in rows) == views[2]["parameters"]
    chip(found, "View", 0).click()                                                          # a part that is not there: the first attention
    expect(found.locator(".live-title")).to_have_text("encoder: self-attention")


@pytest.mark.parametrize("way", ["slider", "keyboard"])
def test_stream_sizes_follows_the_depth(drawn, way):
    page = drawn()
    found = figure(page, "stream_sizes")
    sizes, names, depth = state(found, "sizes"), state(found, "names"), found.locator("input[type=range]")
    last = len(sizes[0]) - 1
    short = lambda x: float(f"{x:.3g}")
    for n in (last, last - 1, last - 2):
        if way == "slider":
            depth.fill(str(n))
        elif n < last:
            depth.focus()
            page.keyboard.press("ArrowLeft")
        expect(found.locator(".live-title")).to_have_text(f"After {n} sublayers")
        assert [float(text.replace(",", "")) for text in found.locator(".live-facts strong").all_inner_texts()] == pytest.approx([short(row[n]) for row in sizes])
        points = [[float(point.split(",")[1]) for point in line.get_attribute("points").split()] for line in found.locator("polyline").all()]
        top = 1.05 * max(map(max, sizes))
        assert len(points) == len(names) and all(len(line) == n + 1 for line in points)
        assert np.array(points) == pytest.approx(1 - np.array(sizes)[:, :n + 1] / top, abs=1e-4)
        assert f"{names[0]} {short(sizes[0][n] / sizes[0][0])} times" in found.locator(".live-says").inner_text()
    chip(found, "Scale", 0).click()
    assert state(found, "scale") == 0 and [line.get_attribute("points") for line in found.locator("polyline").all()] != points
    assert unfolded(found).count() == last + 1


def test_stream_sizes_leaves_out_what_is_switched_off(drawn):
    found = figure(drawn(), "stream_sizes")
    names, sizes = state(found, "names"), state(found, "sizes")
    marks = lambda: found.locator(".live-rule").all_inner_texts()
    before = marks()
    found.get_by_role("switch", name=names[0], exact=True).click()
    assert state(found, "on") == [False, True] and marks() != before and float(marks()[-1]) == pytest.approx(max(sizes[1]), rel=5e-3)
    assert [line.is_visible() for line in found.locator("polyline").all()] == [False, True]
    found.get_by_role("switch", name=names[0], exact=True).click()
    assert marks() == before


@pytest.mark.parametrize("way", ["pointer", "keyboard", "finger"])
def test_cache_growth_keeps_what_was_computed(drawn, way):
    page = drawn(**PHONE) if way == "finger" else drawn()
    found = figure(page, "cache_growth")
    words, press = state(found, "tokens"), found.get_by_role("button", name="Generate")
    row = lambda kind: found.locator(f".live-columns > div:first-child > .live-{kind}").count()
    assert (row("beats"), row("done")) == (4, 0) and "Prefill" in found.locator(".live-says").first.inner_text()
    for n in (5, 6):
        if way == "keyboard":
            press.focus()
            page.keyboard.press("Enter")
        else:
            press.tap() if way == "finger" else press.click()
        expect(found.locator(".live-says").first).to_have_text(f"This step computes 1 column. Since the prompt: {n} in all, {4 + 5 + 6 * (n == 6)} without a cache.")
        assert (row("beats"), row("done")) == (1, n - 1) and found.locator(".live-word:visible").all_inner_texts() == words[:n]
    found.get_by_role("switch", name="Cache").click()
    expect(found.locator(".live-says").first).to_have_text("This step computes 6 columns. Since the prompt: 15 in all, 6 with one.")
    assert (row("beats"), row("done")) == (6, 0) and state(found, "kept") is False


def test_cache_growth_weighs_the_cache(drawn):
    found = figure(drawn(), "cache_growth")
    title, facts = found.locator(".live-title"), found.locator(".live-facts strong")
    token = 2 * 80 * 8 * 128 * 2
    assert title.inner_text() == f"Cache: {token * 4096 / 1e9:.2f} GB" and facts.all_inner_texts() == ["328 kB", "138 GB", "22 GB"]
    expect(found.locator(".live-says").last).to_contain_text(f"room for {int(22e9 // token):,} tokens")
    chip(found, "Key heads", 0).click()
    expect(title).to_have_text(f"Cache: {8 * token * 4096 / 1e9:.1f} GB")
    found.get_by_role("slider", name="Texts at once").fill("3")
    expect(title).to_have_text(f"Cache: {64 * token * 4096 / 1e9:.1f} GB, which does not fit")
    chip(found, "Numbers", 2).click()
    expect(title).to_have_text(f"Cache: {32 * token * 4096 / 1e9:.1f} GB, which does not fit")
    chip(found, "Key heads", 2).click()
    expect(title).to_have_text(f"Cache: {token // 2 * 4096 / 1e6:.0f} MB")
    bars = [found.locator(".live-meter .live-bar").nth(n).evaluate("(node) => parseFloat(node.style.inlineSize)") for n in (0, 1)]
    assert bars[1] / bars[0] == pytest.approx(token / 2 * 4096 / 138e9, rel=1e-3)
    assert unfolded(found).count() == 11


@pytest.mark.parametrize("way", ["pointer", "keyboard"])
def test_tile_walk_walks(drawn, way):
    page = drawn()
    found = figure(page, "tile_walk")
    step, facts = found.get_by_role("button", name="One step on"), found.locator(".live-facts strong")
    expect(found.locator(".live-title")).to_have_text("1 tile of 10")
    for _ in range(9):
        if way == "keyboard":
            step.focus()
            page.keyboard.press("Enter")
        else:
            step.click()
    expect(found.locator(".live-title")).to_have_text("10 tiles of 10")
    expect(found.locator(".live-says")).to_have_text("Queries 13 to 16 read keys 13 to 16; their outputs are complete and are written.")
    moved = 2 * 16 * 8 + 10 * 2 * 4 * 8
    assert facts.all_inner_texts() == [f"{moved - 128:,}", "128", f"{moved:,}", f"{4 * 16 * 8 + 4 * 256:,}", f"{16 + 4 * 4 * 8 + 8}", "6"]
    assert found.locator(".live-tile-now").count() == 1 and found.locator(".live-tile-done").count() == 9
    slide = found.get_by_role("slider", name="Keys in a tile")
    slide.fill("16")
    expect(found.locator(".live-title")).to_have_text("0 tiles of 4")
    expect(found.locator(".live-says")).to_contain_text("Nothing has been moved yet")
    rows = [row.locator("td").all_inner_texts() for row in unfolded(found).all()]
    assert [int(tiles) for tiles, *_ in rows] == [136, 36, 10, 3, 1] and rows[-1][2] == f"{4 * 16 * 8:,}"


@pytest.mark.parametrize("way", ["pointer", "keyboard", "finger", "player"])
def test_induction_timeline_shows_what_was_recorded(drawn, way):
    page = drawn(**PHONE) if way == "finger" else drawn()
    found, kept = figure(page, "induction_timeline"), recorded("induction").result
    points, maps = kept["models"]["two layers of attention"]["runs"][0], kept["maps"]
    slide, on = found.get_by_role("slider", name="Training step"), found.get_by_role("button", name="One step on")
    assert (state(found, "step"), slide.get_attribute("aria-valuetext")) == (5, "100")

    def check(n: int, head: str = "induction", tokens: int = 24):
        "The numbers of the record at that step, under the curves and in the map."
        point, at = next(point for point in points if point["step"] == maps["steps"][n]), maps["heads"]
        amounts = [point["known"], point["new"], kept["uniform"], *(point[kind][at[kind][0]][at[kind][1]] for kind in ("induction", "previous"))]
        expect(found.locator(".live-named strong").first).to_have_text(two_digits(amounts[0]))
        assert [float(one) for one in found.locator(".live-named strong").all_inner_texts()] == pytest.approx(amounts, abs=0.0051)
        shown = found.locator(".live-cell").evaluate_all("(cells) => cells.map((cell) => Math.round(1000 * cell.getAttribute('aria-label')))")
        assert np.array(shown).reshape(tokens, tokens).tolist() == np.array(maps[head][n])[:tokens, :tokens].tolist()

    check(5)
    if way == "player":
        on.click()
        found.get_by_role("button", name="Play").click()
        expect(found.get_by_role("button", name="Play")).to_be_visible(timeout=12_000)
        assert state(found, "step") == 11, "it stops at the end"
        found.get_by_role("button", name="Back to the start").click()
        check(0)
    elif way == "keyboard":
        slide.focus()
        for key, n in (("ArrowRight", 6), ("End", 11), ("ArrowLeft", 10)):
            page.keyboard.press(key)
            assert state(found, "step") == n
            check(n)
    else:
        box = slide.bounding_box()
        (slide.tap if way == "finger" else slide.click)(position={"x": 0.7 * box["width"], "y": box["height"] / 2})
        assert state(found, "step") in (7, 8)
        check(state(found, "step"))
    n = state(found, "step")
    chip(found, "Head", 1).click()
    check(n, "previous", 8)
    cell(found, 4, 3).tap() if way == "finger" else cell(found, 4, 3).click()
    assert (state(found, "row"), state(found, "column"), state(found, "head")) == (4, 3, 1)
    expect(found.locator(".live-side .live-says")).to_have_text(f"“{maps['tokens'][4]}” reads “{maps['tokens'][3]}” with weight {maps['previous'][n][4][3] / 1000:.3f}")


def test_the_curves_of_induction_timeline_are_the_record(drawn):
    found, kept = figure(drawn(), "induction_timeline"), recorded("induction").result
    points, (layer, head) = kept["models"]["two layers of attention"]["runs"][0], kept["maps"]["heads"]["induction"]
    lines = [[tuple(map(float, one.split(","))) for one in line.get_attribute("points").split()] for line in found.locator("polyline").all()]
    assert [len(line) for line in lines] == [len(points)] * 4
    for line, top, measure in ((lines[0], 4, lambda point: point["known"]), (lines[1], 4, lambda point: point["new"]), (lines[2], 1, lambda point: point["induction"][layer][head])):
        assert [y for _, y in line] == pytest.approx([1 - measure(point) / top for point in points], abs=1e-4)
    assert [x for x, _ in lines[0]] == pytest.approx(np.linspace(0, 1, len(points)).tolist(), abs=1e-4)
    dot = found.locator(".live-dot").first.evaluate("(node) => [node.style.left, node.style.top].map(parseFloat)")
    at = [point["step"] for point in points].index(100)
    assert dot == pytest.approx([100 * at / (len(points) - 1), 100 * (1 - points[at]["known"] / 4)], abs=0.01)
    rows = unfolded(found)
    assert rows.count() == len(points) and rows.nth(at).locator("td").all_inner_texts()[0] == f"{points[at]['known']:.3f}"
    ticks = found.locator(".live-ticks").first.locator("span").all_inner_texts()
    assert ticks[0] == "0" and ticks[-1] == "1,000" and len(ticks) > 4


@pytest.mark.parametrize("way", ["pointer", "keyboard", "finger"])
def test_logit_lens_shows_every_stage(drawn, way):
    "The model itself is tested in test_logit_lens.py."
    page = drawn(**PHONE) if way == "finger" else drawn()
    found = figure(page, "logit_lens")
    first = state(found, "first")
    j = found.locator(".live-column-name").count() - 1
    if way == "keyboard":
        cell(found, 4, j).focus()
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowLeft")
    else:
        cell(found, 3, j - 1).tap() if way == "finger" else cell(found, 3, j - 1).click()
    place = state(found, "place")
    assert state(found, "stage") == 3
    for line, row in zip(found.locator(".live-lens li").all(), first["cells"], strict=True):
        likely, parts, _ = row[place]
        assert [one.inner_text() for one in line.locator(".live-guess > span:last-child").all()] == [f"{part / 1000:.3f}" for part in parts] and len(likely) == 5
    expect(found.locator(".live-says").last).to_contain_text("Read after “layer 3”, the next character would be")


def slide(page, found, name: str, way: str):
    "A slider one step on, by a key, a click on its track or a touch of it."
    one = found.get_by_role("slider", name=name, exact=True)
    if way == "keyboard":
        one.focus()
        page.keyboard.press("ArrowRight")
    else:
        place = {"x": one.bounding_box()["width"] * 0.8, "y": one.bounding_box()["height"] / 2}
        one.tap(position=place) if way == "finger" else one.click(position=place)
    return one


@pytest.mark.parametrize("way", ["pointer", "keyboard", "finger"])
def test_model_calculator_recounts_a_changed_model(drawn, way):
    page = drawn(**PHONE) if way == "finger" else drawn()
    found = figure(page, "model_calculator")
    title, usual = found.locator(".live-title").first, PRESETS["llama-3-8b"]
    expect(title).to_have_text("8,030,261,248 parameters")
    before = {key: state(found, key) for key in ("width", "heads", "key_heads", "hidden", "layers")}
    slide(page, found, "Layers", way)
    layers = state(found, "layers")
    assert layers == 33 if way == "keyboard" else 90 < layers < 115
    now = usual.replace(n_layers=layers)
    expect(title).to_have_text(f"{scaling.count_parameters(now).total:,} parameters, with the parts of llama-3-8b")
    assert found.get_by_role("radiogroup", name="Model").locator("input:checked").count() == 0
    slide(page, found, "Width", way)                                                       # heads keep their width, and the hidden layer its share
    width = state(found, "width")
    assert width > before["width"] and width % state(found, "heads") == 0 == state(found, "heads") % state(found, "key_heads")
    assert state(found, "hidden") == pytest.approx(3.5 * width, abs=32)
    now = now.replace(d_model=width, n_heads=state(found, "heads"), n_kv_heads=state(found, "key_heads"), d_ff=state(found, "hidden"))
    expect(title).to_have_text(f"{scaling.count_parameters(now).total:,} parameters, with the parts of llama-3-8b")
    choose = chip(found, "Model", 1)
    if way == "keyboard":
        choose.locator("input").focus()
        page.keyboard.press("Space")
    else:
        choose.tap() if way == "finger" else choose.click()
    expect(title).to_have_text("8,030,261,248 parameters")
    assert {key: state(found, key) for key in before} == before


def test_model_calculator_says_what_fits_how_fast_it_writes_and_what_training_takes(drawn):
    page = drawn()
    found = figure(page, "model_calculator")
    usual, machine = PRESETS["llama-3-8b"], scaling.HARDWARE["h100"]
    titles, says = found.locator(".live-title"), found.locator(".live-says")
    facts = lambda n: dict(zip(*[found.locator(".live-facts").nth(n).locator(kind).all_inner_texts() for kind in ("span", "strong")]))
    expect(titles.nth(1)).to_have_text(f"Writes at most {scaling.tokens_per_second(usual, machine, length=8192):.0f} tokens per second")
    assert facts(0)["in training"] == f"{scaling.flops_per_token(usual, 8192, training=True) / 1e9:.1f} billion" and "limited by the bytes" in says.nth(1).inner_text()
    chip(found, "Numbers", 2).click()
    expect(titles.nth(1)).to_have_text(f"Writes at most {scaling.tokens_per_second(usual, machine, length=8192, bytes_per_number=1):.0f} tokens per second")
    chip(found, "Numbers", 1).click()
    found.get_by_role("slider", name="Texts at once").fill("6")
    needed = (2 * scaling.count_parameters(usual).total + cache_bytes(usual, 8192, 64, torch.float16)) / 1e9
    expect(titles.nth(1)).to_have_text(f"Needs {needed:.1f} GB: does not fit into 80 GB")
    assert facts(1)["each text gets"] == "none"
    found.get_by_role("slider", name="Context").fill("1")                                   # 128 tokens: short caches fit
    speed = scaling.tokens_per_second(usual, machine, batch=64, length=128)
    expect(titles.nth(1)).to_have_text(f"Writes at most {float(f'{speed:.3g}'):,.0f} tokens per second")
    memory = scaling.training_memory(usual, 64, 128)
    assert facts(2)["memory in 32 bits"] == f"{memory.total / 1e9:.0f} GB" and f"activations {memory.activations / 1e9:.0f} GB" in found.locator(".live-legend").last.inner_text()
    found.get_by_role("switch", name="Gradient checkpointing").click()
    expect(found.locator(".live-legend").last).to_contain_text(f"activations {scaling.training_memory(usual, 64, 128, checkpointed=True).activations / 1e9:.1f} GB")
    seconds = scaling.training_seconds(usual, 1e12, machine, length=128, chips=1024)
    expect(titles.nth(2)).to_have_text(f"Training takes {seconds / 86400:.2f} days")
    hours = 1024 * seconds / 3600
    dear = found.get_by_role("spinbutton")
    assert dear.input_value() == "2" and facts(2)["cost"].endswith(", at the price of the example") and "2 is only an example" in found.locator(".live-price").inner_text()
    dear.fill("3.5")
    dear.press("Tab")
    expect(found.locator(".live-facts strong").last).to_have_text(f"{float(f'{3.5 * hours:.3g}'):,.0f}")
    for text in ("", "-1"):
        dear.fill(text)
        expect(found.locator(".live-facts strong").last).to_have_text("type a price")
    assert unfolded(found).count() == 2


def law_of(found) -> scaling.LossLaw:
    return scaling.LossLaw(*state(found, "laws")[state(found, "law")][1:])


@pytest.mark.parametrize("way", ["pointer", "keyboard", "finger"])
def test_scaling_laws_follows_a_budget_and_a_size(drawn, way):
    page = drawn(**PHONE) if way == "finger" else drawn()
    found = figure(page, "scaling_laws")
    title, says = found.locator(".live-title"), found.locator(".live-says")
    law = law_of(found)
    assert law == scaling.LAWS["hoffmann2022"]

    def said():
        flops, n = 10 ** state(found, "budget"), 10 ** state(found, "size")
        m, d = scaling.compute_optimal(flops, law)
        expect(title).to_have_text(f"Your model: loss {law(n, flops / 6 / n):.3f}, the best {law(m, d):.3f}")
        expect(says).to_contain_text(f"the best size is {m / 1e9:.3g} billion parameters on")
        return flops, n

    assert said()[0] == pytest.approx(1e22)
    slide(page, found, "Budget", way)
    flops, n = said()
    assert flops == pytest.approx(10**22.05) if way == "keyboard" else 10**23.5 < flops < 10**25
    slide(page, found, "Model", way)
    assert said()[1] > n
    best = found.get_by_role("button", name="Take the best size")
    if way == "keyboard":
        best.focus()
        page.keyboard.press("Enter")
    else:
        best.tap() if way == "finger" else best.click()
    flops, n = said()
    assert n == pytest.approx(scaling.compute_optimal(flops, law)[0])
    goal, at = (found.locator(f".live-fall .live-dot{kind}").bounding_box() for kind in (".live-goal", ":not(.live-goal)"))
    assert at["x"] + at["width"] / 2 == pytest.approx(goal["x"] + goal["width"] / 2, abs=0.6)
    if way == "keyboard":
        return
    chart = found.locator(".live-fall")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    for axis, share in ((0, 0.25), (1, 0.6)):
        chip(found, "Across", axis).click()
        (chart.tap if way == "finger" else chart.click)(position={"x": share * box["width"], "y": 40})
        flops, n = said()
        power = np.log10(flops / 6 / n) if axis else np.log10(n)
        assert power == pytest.approx([6 + 7 * share, 8 + 8 * share][axis], abs=0.05)
        at = found.locator(".live-fall .live-dot:not(.live-goal)").evaluate("(dot) => parseFloat(dot.style.left)")
        assert at == pytest.approx(100 * share, abs=0.5)
    if way == "pointer":                                                                   # pressed and drawn along
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 50)
        before = state(found, "size")
        page.mouse.down()
        page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 50)
        after = state(found, "size")
        page.mouse.up()
        page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 50)
        assert before != after == state(found, "size")


def test_scaling_laws_compares_published_models_and_laws(drawn):
    found = figure(drawn(), "scaling_laws")
    strong = found.locator(".live-facts strong")
    found.get_by_role("button", name="GPT-3").click()
    expect(strong).to_have_text(["175 billion parameters", "300 billion tokens", f"{300 / 174.6:.3g} tokens", f"{np.divide(*scaling.compute_optimal(6 * 174.6e9 * 300e9, law_of(found))[::-1]):.3g} tokens"])
    curve = lambda: found.locator(".live-fall .live-now").get_attribute("points")
    before = curve()
    chip(found, "Law", 1).click()
    assert law_of(found) == scaling.LAWS["besiroglu2024"] and curve() != before
    expect(strong.last).to_have_text(f"{np.divide(*scaling.compute_optimal(6 * 174.6e9 * 300e9, law_of(found))[::-1]):.3g} tokens")
    expect(found.locator(".live-legend").last).to_contain_text("what no model gets below 1.817")
    lowest = [max(float(point.split(",")[1]) for point in line.get_attribute("points").split()) for line in found.locator(".live-fall .live-thin").all() if line.get_attribute("points")]
    assert len(lowest) == 9 and lowest == sorted(lowest), "more FLOPs, less loss, further down"
    rows = unfolded(found)
    assert rows.count() == 9 and rows.nth(4).locator("td").nth(5).inner_text() == f"{law_of(found)(*scaling.compute_optimal(1e22, law_of(found))):.3f}"


def roofline_of(found):
    "The config, the machine, the batch and the prompt of a roofline's state."
    preset = PRESETS[state(found, "models")[state(found, "preset")]["name"]]
    config = preset.replace(d_model=state(found, "width"), n_layers=state(found, "layers"), n_heads=state(found, "heads"), n_kv_heads=state(found, "key_heads"), d_ff=state(found, "hidden"), max_len=state(found, "context"))
    return config, scaling.HARDWARE[state(found, "hardware")[state(found, "machine")][0]], state(found, "batch"), min(state(found, "prompt"), config.max_len)


def three_digits(x: float) -> str:
    x = float(f"{x:.3g}")
    return f"{x:,.0f}" if x >= 100 else f"{x:.6g}"


def roofline_says_what_python_says(found) -> list[list[float]]:
    "Each work's numbers in words, and its point on the roof."
    config, machine, batch, prompt = roofline_of(found)
    expected = expected_works(config, machine, batch, prompt)
    for n, (intensity, rate, share, speed) in enumerate(expected):
        box = found.locator(".live-works > .live-box").nth(n)
        expect(box.locator(".live-label")).to_have_text(f"{prompt:,} tokens" if n == 1 else f"{batch:,} text{'s' if batch > 1 else ''} of {config.max_len:,} tokens")
        *said, last = box.locator("strong").all_inner_texts()
        assert said == [three_digits(intensity), "bytes" if intensity < machine.corner else "arithmetic", f"{three_digits(100 * share)} %"]
        assert last == three_digits(speed) if speed else last.startswith("needs ")
        left, top = found.locator(".live-roof .live-dot:not(.live-step)").nth(n).evaluate("(dot) => [parseFloat(dot.style.left), parseFloat(dot.style.top)]")
        assert left == pytest.approx(100 * (np.log10(intensity) + 1) / 7, abs=0.01) and top == pytest.approx(100 * (15 - np.log10(rate)) / 4, abs=0.01)
    return expected


@pytest.mark.parametrize("way", ["pointer", "keyboard", "finger"])
def test_roofline_moves_with_the_batch_the_prompt_and_the_model(drawn, way):
    page = drawn(**PHONE) if way == "finger" else drawn()
    found = figure(page, "roofline")
    first = roofline_says_what_python_says(found)
    slide(page, found, "Texts at once", way)
    more = roofline_says_what_python_says(found)
    assert state(found, "batch") == 16 if way == "keyboard" else state(found, "batch") >= 512
    assert more[0][0] > first[0][0] and more[1:] == [first[1], [first[2][0], *more[2][1:]]], "a batch moves a step of generating, and not its attention"
    slide(page, found, "Prompt", way)
    assert roofline_says_what_python_says(found)[1][0] > more[1][0] and state(found, "prompt") > 1024
    slide(page, found, "Key heads", way)
    assert roofline_says_what_python_says(found)[2][0] < 4 == first[2][0], "fewer query heads to each key head"
    assert found.get_by_role("radiogroup", name="Model").locator("input:checked").count() == 0
    expect(found.locator(".live-says")).to_contain_text("llama-3-8b, changed, does")
    slide(page, found, "Layers", way)
    slide(page, found, "Width", way)
    slide(page, found, "Context", way)
    config, *_ = roofline_of(found)
    roofline_says_what_python_says(found)
    assert config.n_layers > 32 and config.d_model > 4096 and config.max_len > 8192 and config.d_model % config.n_heads == 0
    for group, n in (("Chip", 1), ("Model", 2)):
        choose = chip(found, group, n)
        if way == "keyboard":
            choose.locator("input").focus()
            page.keyboard.press("Space")
        else:
            choose.tap() if way == "finger" else choose.click()
        roofline_says_what_python_says(found)
    assert roofline_of(found)[:2] == (PRESETS["mixtral-8x7b"], scaling.HARDWARE["a100-40gb"])
    if way == "keyboard":
        return
    chip(found, "Model", 0).click()
    chart = found.locator(".live-roof")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    steps = found.locator(".live-roof .live-step").evaluate_all("(dots) => dots.map((dot) => parseFloat(dot.style.left) / 100)")
    assert len(steps) == 13 and steps == sorted(steps)
    for n in (0, 3, 12):
        (chart.tap if way == "finger" else chart.click)(position={"x": steps[n] * box["width"], "y": 150})
        assert state(found, "batch") == 2**n
        roofline_says_what_python_says(found)
    if way == "pointer":                                                                   # pressed and drawn along
        page.mouse.move(box["x"] + steps[1] * box["width"], box["y"] + 150)
        page.mouse.down()
        page.mouse.move(box["x"] + steps[5] * box["width"], box["y"] + 150)
        page.mouse.up()
        page.mouse.move(box["x"] + steps[0] * box["width"], box["y"] + 150)
        assert state(found, "batch") == 32


def test_roofline_says_where_the_corner_is_what_fits_and_what_no_batch_exceeds(drawn):
    found = figure(drawn(), "roofline")
    says, roof = found.locator(".live-says"), lambda: found.locator(".live-roof .live-now").get_attribute("points").split()
    expect(says).to_contain_text("llama-3-8b does")
    expect(says).to_contain_text(f"the corner of h100 stands at {scaling.HARDWARE['h100'].corner:.0f}")
    usual = PRESETS["llama-3-8b"]
    limit = scaling.flops_per_token(usual, 8192) / cache_bytes(usual, 8192, dtype=torch.float16)
    expect(says).to_contain_text(f"no batch does more than {three_digits(limit)}, and none reaches the corner. Attention over the cache does 4 with any batch.")
    bend = [float(x) for x in roof()[1].split(",")]
    assert bend == pytest.approx([(np.log10(scaling.HARDWARE["h100"].corner) + 1) / 7, (15 - np.log10(989e12)) / 4]) and len(roof()) == 3
    assert float(found.locator(".live-roof line").get_attribute("x1")) == pytest.approx(bend[0]) and found.locator(".live-sides").inner_text().split("\n")[-2:] == ["corner 295", "arithmetic limits"]
    fits = [2**n for n in range(13) if 2 * scaling.count_parameters(usual).total + cache_bytes(usual, 8192, 2**n, torch.float16) <= 80e9]
    assert found.locator(".live-step:not(.live-off)").count() - 1 == len(fits) == 6, "and one that explains them"
    rows = unfolded(found)
    assert rows.count() == 13
    for n, row in enumerate(rows.all()):
        said, (write, _, look) = row.locator("td").all_inner_texts(), expected_works(usual, scaling.HARDWARE["h100"], 2**n, 1)
        assert said[:3] == [three_digits(write[0]), "4", f"{three_digits(100 * write[2])} %"]
        assert said[3:] == ([three_digits(write[3]), three_digits(write[3] / 2**n)] if 2**n in fits else ["does not fit", "none"]) and look[0] == pytest.approx(4)
    found.get_by_role("slider", name="Texts at once").fill("7")
    needed = 2 * scaling.count_parameters(usual).total + cache_bytes(usual, 8192, 128, torch.float16)
    expect(found.locator(".live-works strong").nth(3)).to_have_text(f"needs {needed / 1e9:.0f} GB")
    found.get_by_role("slider", name="Context").fill("0")                                   # 64 tokens: short caches leave the corner in reach
    expect(says).to_contain_text("reach the corner")
    texts = int(re.search(r"about ([\d,]+) texts reach", says.inner_text())[1].replace(",", ""))
    assert expected_works(usual.replace(max_len=64), scaling.HARDWARE["h100"], texts, 1)[0][0] == pytest.approx(scaling.HARDWARE["h100"].corner, rel=0.05)
    chip(found, "Model", 3).click()                                                         # GPT-3: no machine here holds it
    expect(found.locator(".live-works strong").nth(3)).to_contain_text("needs ")
    assert found.locator(".live-roof .live-step:not(.live-off)").count() == 0


# --- other hosts, and states that can't be drawn -----------------------------------------------------------------------------------------


@pytest.fixture
def alone(pages):
    "A function that shows HTML in an empty page without a network; what goes wrong on it is kept in `page.errors`."
    with contextlib.ExitStack() as stack:
        def show(html: str, **options):
            errors = []
            listeners = {"pageerror": lambda error: errors.append(str(error)), "console": lambda message: message.type in ("error", "warning") and errors.append(message.text)}
            page = stack.enter_context(pages.page(listeners, **{"viewport": {"width": 900, "height": 900}, "offline": True} | options))
            page.errors = errors
            page.set_content(html)
            return page

        yield show


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
    one, two = interactive.attention_map(WEIGHTS, TOKENS, caption="One."), interactive.attention_map(WEIGHTS, TOKENS, caption="One.")
    page = alone(one.to_html(alone=True) + two.to_html(alone=True) + interactive.timeline(caption="Time.").to_html(alone=True))
    expect(page.locator("[data-ready]")).to_have_count(3)
    first, second = page.locator("[data-figure=attention_map]").all()
    cell(first, 3, 3).click()
    assert (state(first, "row"), state(second, "row")) == (3, 0) and first.locator(".live-body").count() == 1 and page.errors == []


def test_what_a_reader_switches_between_has_its_own_name(alone):
    shown = interactive.attention_map({"1": (WEIGHTS, TOKENS), "2": (WEIGHTS.T, TOKENS)}, name="Layer", caption="c")
    assert "Layer “1”. the: the 0.70" in shown.words
    page = alone(shown.to_html(alone=True))
    expect(page.get_by_role("radiogroup", name="Layer").locator("input")).to_have_count(2)
    assert page.get_by_role("radiogroup", name="Sentence").count() == 0 and page.errors == []


@pytest.mark.parametrize(("host", "dark"), [
    ("<html data-theme=dark>", True), ("<html data-theme=light>", False), ("<html theme=dark>", True), ('<html><body data-jp-theme-light="false">', True),
    ('<html><body data-jp-theme-light="true">', False), ('<html><body class="vscode-dark">', True), ('<html><body class="vscode-light">', False), ("<html>", None),
])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_hosts_theme_wins_over_the_systems(alone, host, dark, scheme):
    page = alone(f"{host}{interactive.timeline(caption='c').to_html(alone=True)}", color_scheme=scheme)
    blue = page.evaluate("getComputedStyle(document.querySelector('.live')).getPropertyValue('--lv-blue')").strip()
    assert (blue == "#4f8ff0") == (scheme == "dark" if dark is None else dark)


def broken(name: str, **changes) -> interactive.InteractiveFigure:
    good = next(one for one in one_of_each() if one.name == name)
    return interactive.InteractiveFigure(name, {**good.data, **{k: v for k, v in changes.items() if k in good.data}}, {**good.chosen, **{k: v for k, v in changes.items() if k in good.chosen}}, "c", "w")


MANY = [str(n) for n in range(3000)]


def sentence(**changes) -> list[dict]:
    return [{"name": "", "rows": TOKENS, "columns": None, "weights": [[[1] * 4] * 4] * 2, **changes}]


@pytest.mark.parametrize(("one", "said"), [
    (broken("attention_map", sentences=sentence(weights=[[[1, 2], [3]], [[1]]])), "must be 4 × 4"), (broken("attention_map", sentences=sentence(rows=[])), "no tokens"), (broken("attention_map", sentences=[]), "no sentences"),
    (broken("attention_map", sentences=sentence(weights=[[[None] * 4] * 4] * 2)), "must be numbers, got null"), (broken("attention_map", sentences=sentence(rows=MANY)), "3,000 × 3,000 cells are too many"),
    (broken("attention_map", heads=["a"]), "2 matrices of weights for 1 heads"), (broken("attention_map", sentences=sentence(name="x", weights=[[["NaN"] * 4] * 4] * 2)), "the weights of “a” in “x” must be numbers, got NaN"),
    (broken("attention_steps", tokens=[]), "no tokens"), (broken("attention_steps", x=[[1, 2]]), "the vectors must be 4 × 2, got 1 rows"),
    (broken("attention_steps", projections=[[[1]], [[1]], [[1]]]), "the query projection must be 3 × 1"), (broken("attention_steps", tokens=MANY), "3000 tokens"),
    (broken("mask_growth", masks=[["1", "11"], []]), "must be 4 × 4 zeros and ones, got 2 rows"), (broken("mask_growth", tokens=[]), "no tokens"),
    (broken("mask_growth", source=["a"], masks=[["1"] * 4] * 2), "must be 4 × 4 or 5 × 5"), (broken("mask_growth", tokens=MANY), "3,000 tokens are too many"), (broken("mask_growth", masks=[["1111", "11x1", "1111", "1111"]] * 2), "one is “11x1”"),
    (broken("timeline", longest=10**7), "1 and 1,024, got 10000000"), (broken("timeline", layers=0), "layers"), (broken("timeline", seconds=[[8, None, 1]]), "a length and two times"),
    (broken("rope_clocks", query=[]), "0 pairs can't be drawn"), (broken("rope_clocks", key=[[1, 2]]), "the key must be 3 × 2, got 1 rows"), (broken("rope_clocks", longest=10**6), "2 and 4,096, got 1000000"),
    (broken("rope_clocks", speeds=[[[1, None, 1]] * 2] * 4), "the speeds of “none” must be numbers, got null"), (broken("rope_clocks", ways=["none"]), "4 tables of speeds for 1 ways"), (broken("rope_clocks", trained=-1), "at least 1, got -1"),
    (broken("next_token", tokens=[]), "no contexts or no tokens"), (broken("next_token", logits=[[1, 2]]), "the logits must be 2 × 4, got 1 rows"), (broken("next_token", tokens=MANY), "3,000 tokens are too many"),
    (broken("next_token", random=[0.5, 1]), "the random numbers must lie from 0 to 1"), (broken("next_token", keeps=[0]), "from 1, got 0"),
    (broken("head_switches", measured=[0, 1]), "2 heads have 4 subsets, got 2 measurements"), (broken("head_switches", measured=[0, 1, None, 1]), "must be numbers, got null"), (broken("head_switches", heads=[]), "0 heads"),
    (broken("stream_sizes", names=[]), "0 ways can't be told apart"), (broken("stream_sizes", sizes=[[1, 2], [1]]), "the sizes must be 2 × 2"), (broken("stream_sizes", sizes=[[1, 0], [1, 1]]), "more than 0, got 0"), (broken("stream_sizes", sizes=[[1], [1]]), "there must be a sublayer"),
    (broken("model_map", views=[]), "no views"), (broken("model_map", parts={}), "a box for “encoder norm 1”"), (broken("model_map", views=[{"name": "x", "boxes": []}]), "“x” has no boxes"),
    (broken("position_map", speeds=[]), "0 pairs can't be drawn"), (broken("position_map", speeds=[1, None]), "positive numbers, got null"), (broken("position_map", longest=10**6), "2 and 1,024, got 1000000"), (broken("position_map", base="x"), "got x"),
    (broken("cache_growth", tokens=MANY), "3,000 tokens can't be drawn"), (broken("cache_growth", prompt=9), "the prompt must have 1 to 4 tokens, got 9"), (broken("cache_growth", shares=[["a"]]), "a name and a number"),
    (broken("cache_growth", layers=None), "layers must be at least 1, got null"), (broken("cache_growth", longest=99), "up to 24, got 99"),
    (broken("tile_walk", length=64), "length must lie between 2 and 32, got 64"), (broken("tile_walk", width="x"), "width must lie between 1 and 1,024, got x"),
    (broken("induction_timeline", tokens=MANY), "3,000 tokens can't be drawn"), (broken("induction_timeline", heads=["a"]), "maps of 2 heads for 1 names"), (broken("induction_timeline", steps=[0, 20]), "“late” has 3 maps for 2 steps"),
    (broken("induction_timeline", maps=[[[1, 2]] * 3, [[1]] * 3]), "“late” has 2 weights at each step"), (broken("induction_timeline", maps=[[[1], [1], [None]], [[1]] * 3]), "the weights of “late” must be numbers, got null"),
    (broken("induction_timeline", at=[0, 10, 20, 30]), "nothing was measured at step 100"), (broken("induction_timeline", losses=[["a", [1, 2]]]), "the values of “a” must be 1 × 4"),
    (broken("logit_lens", stages=["a"]), "there are 1 stages and 7 characters"), (broken("logit_lens", stages=["a", "b"]), "5 rows of guesses for 2 stages"),
    (broken("logit_lens", first={"characters": ["a"], "cells": [[["ab", [1], None]]] * 5}), "the probabilities of “embedding” must be 1 × 2"), (broken("logit_lens", first={"characters": ["a"], "cells": [[]] * 5}), "“embedding” has 0 guesses for 1 characters"),
    (broken("model_calculator", models=[]), "1 to 8 models, got 0"), (broken("model_calculator", models=[{"name": "x"}]), "width of x must be a whole number from 1, got undefined"),
    (broken("model_calculator", hardware=[["x", 1, 0, 1]]), "x must have three numbers above 0, got 1, 0, 1"), (broken("model_calculator", hardware=[]), "1 to 8 machines"), (broken("model_calculator", example=None), "must not be negative, got null"),
    (broken("roofline", models=[]), "1 to 8 models, got 0"), (broken("roofline", models=[{"name": "x"}]), "width of x must be a whole number from 1, got undefined"),
    (broken("roofline", hardware=[]), "1 to 8 machines, got 0"), (broken("roofline", hardware=[["x", 1, None, 1]]), "x must have three numbers above 0, got 1, , 1"),
    (broken("scaling_laws", laws=[]), "1 to 4 laws, got 0"), (broken("scaling_laws", laws=[["x", 1, 2, 3, 0, 1]]), "the law x must have 5 numbers above 0, got 1, 2, 3, 0, 1"), (broken("scaling_laws", models=[["y", 1, None]]), "the model y must have 2 numbers"),
    (broken("head_switches", rows=MANY), "3,000 × 4 cells can't be drawn"), (broken("head_switches", chance="x"), "chance must be a number"),
])
def test_a_state_that_cant_be_drawn_becomes_a_sentence(alone, one, said):
    page = alone(one.to_html(alone=True))
    message = page.get_by_role("alert")
    expect(message).to_contain_text("This figure can't be drawn")
    expect(message).to_contain_text(said)
    assert page.errors == []


OUT_OF_RANGE = [{"row": 99, "column": -5, "head": 7}, {"row": None, "column": 1e9, "head": "x"}, {"step": -3, "row": 99}, {"shown": 99}, {"step": 10**9, "length": -1}, {"sentence": 5, "role": 9, "m": -3, "n": 10**9, "base": 7, "way": -1},
                {"context": 99, "keep": 5, "draws": 10**6, "temperature": -4, "on": None}, {"temperature": "hot", "draws": None, "keep": None, "on": [0, "x"]}, {"temperature": None, "on": "yes", "sentence": "x", "m": None}, {"view": 9, "part": "nothing", "component": -1, "position": "x", "depth": 99, "scale": "x", "on": 3},
                {"prompt": 1e9, "context": 1, "batch": "x"}, {"prompt": None, "context": "x", "batch": 1e9}, {"prompt": 2.5, "context": 100}, {"law": 9, "axis": -1, "budget": 99, "size": -3}, {"law": "x", "axis": None, "budget": "x", "size": None},
                {"preset": 9, "width": 1e9, "layers": -1, "heads": 7.5, "key_heads": "x", "hidden": None, "vocabulary": 0, "context": 1e9, "machine": -1, "tokens": "x", "chips": 3, "utilisation": 9, "checkpointed": "x", "price": -1},
                {"preset": "x", "width": 0, "layers": 1e9, "heads": 1e9, "key_heads": 1e9, "hidden": "x", "vocabulary": 1e12, "context": None, "tokens": 1e40, "chips": 1e9, "utilisation": None, "price": "x"},
                {"shown": "x", "kept": 3, "length": 99, "batch": -4, "share": 9, "format": "x", "rows": 99, "columns": 0, "step": -1},
                {"place": 99, "stage": 99, "text": None}, {"place": "x", "stage": "x", "text": 3}, {"place": -1, "stage": -1}]


@pytest.mark.parametrize("name", interactive.FIGURES)
def test_a_choice_out_of_range_is_brought_back(alone, name):
    good = next(one for one in one_of_each() if one.name == name)
    asked = [{**good.chosen, **{key: value for key, value in chosen.items() if key in good.chosen}} for chosen in OUT_OF_RANGE]
    page = alone("".join(interactive.InteractiveFigure(name, good.data, chosen, "c", "w").to_html(alone=True) for chosen in asked))
    expect(page.locator("[data-ready]")).to_have_count(len(OUT_OF_RANGE))
    assert page.locator(".live-message").count() == 0 and page.errors == [], page.locator(".live-body").all_inner_texts()


def test_tokens_with_markup_are_shown_and_not_obeyed(alone):
    evil = ["<b>bold</b>", "<img src=x onerror='window.hit = 1'>", "&lt;i&gt;", "</script>", "a" * 500, "\n", "‮rtl", "${1}"]
    page = alone(interactive.attention_map(np.eye(8), evil, caption=evil[0]).to_html(alone=True) + interactive.mask_growth({evil[1]: np.tri(8)}, evil, shown=8, caption="c").to_html(alone=True)
                 + interactive.attention_steps(np.eye(8), [np.eye(8)] * 3, evil, caption="c").to_html(alone=True)
                 + interactive.next_token({text: np.arange(8.0) for text in evil}, evil, caption="c").to_html(alone=True)
                 + interactive.head_switches({evil[0]: np.eye(8)}, {(): 0.1, (evil[0],): 0.2}, evil, measure=evil[1], caption="c").to_html(alone=True)
                 + interactive.attention_map({text: ({evil[0]: np.eye(8), evil[1]: np.eye(8)}, evil) for text in evil}, caption="c").to_html(alone=True))
    expect(page.locator("[data-ready]")).to_have_count(6)
    page.wait_for_timeout(200)
    assert page.evaluate("window.hit") is None and page.locator(".live img, .live b, .live i:not(.live-beat)").count() == 0 and page.errors == []
    assert page.locator(".live-row-name").first.inner_text() == "<b>bold</b>"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desk", "phone"])
def test_the_most_numbers_that_steps_accept_fit(alone, options):
    "Where a product can't stand beside its factor and under the other one, the panels of a step stand one under the other."
    made = interactive.attention_steps(-np.ones((8, 8)), [np.eye(8)] * 3, [f"unfolded{n}" for n in range(8)], caption="c").to_html(alone=True)
    page = alone(f"<!doctype html><meta name=viewport content='width=device-width'>{made}", **options)
    found = page.locator("figure.live")
    for n in range(6):
        chip(found, "Step", n).click()
        cells = found.locator(".live-part .live-cell:visible")
        assert cells.count() == 64 * [1, 3, 3, 2, 2, 3][n] and found.locator(".live-panel:visible").count() == [1, 3, 3, 2, 2, 3][n]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        edge = found.locator(".live-body").evaluate("(body) => body.getBoundingClientRect().right + 1")
        assert cells.evaluate_all("(cells, edge) => cells.every((cell) => cell.getBoundingClientRect().right <= edge && cell.getBoundingClientRect().width > 24)", edge)
    assert page.errors == []


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desk", "phone"])
def test_mask_growth_with_a_source_that_is_there_from_the_start(alone, options):
    source, target = ["die", "Katze", "saß"], TOKENS
    joint = torch.ones(7, 7).bool()
    joint[:3, 3:], joint[3:, 3:] = False, torch.ones(4, 4).tril().bool()
    masks = {"encoder": torch.ones(4, 4).bool(), "decoder": torch.ones(4, 4).tril().bool(), "encoder-decoder": joint}
    page = alone(f"<!doctype html><meta name=viewport content='width=device-width'>{interactive.mask_growth(masks, target, source=source, shown=1, caption='c').to_html(alone=True)}", **options)
    found = page.locator("figure.live")
    expect(found.locator(".live-news")).to_have_count(3)
    pairs = lambda: [int(re.search(r"(\d+) pairs? in all", text)[1]) for text in found.locator(".live-news").all_inner_texts()]
    open_ = lambda: [found.locator(".live-grid").nth(panel).locator("[aria-label='reads']").count() for panel in range(3)]
    press = found.get_by_role("button", name="Generate")
    for n in (1, 2, 3, 4):
        assert pairs() == open_() == [n * n, n * (n + 1) // 2, 9 + 3 * n + n * (n + 1) // 2]
        assert found.locator(".live-text").first.locator(".live-word").all_inner_texts() == source
        expect(found.locator(".live-says")).to_have_text(f"Of {n} token{'s' if n > 1 else ''} and 3 source tokens, “{target[n - 1]}” may read: encoder {n}, decoder {n}, encoder-decoder {n + 3}.")
        news = found.locator(".live-news").all_inner_texts()
        assert ("Every earlier row changes too." in news[0]) == (n > 1) and "No earlier row changes." in news[2]
        assert cell(found, 6, 6, panel=2).get_attribute("aria-label") == ("reads" if n == 4 else "not written yet")
        if n < 4:
            press.tap() if options else press.click()
    cell(found, 1, 5, panel=2).click()                                                       # a row of the source: the other panels have none
    expect(found.locator(".live-says")).to_have_text("Of 4 tokens and 3 source tokens, “Katze” may read: encoder-decoder 3.")
    assert state(found, "row") == -2 and page.evaluate("document.documentElement.scrollWidth <= innerWidth") and page.errors == []
    cell(found, 1, 1, panel=1).click()
    expect(found.locator(".live-says")).to_contain_text("“cat” may read: encoder 4, decoder 2, encoder-decoder 5.")
    assert cell(found, 4, 4, panel=2).evaluate("(node) => node.classList.contains('live-used')")


def test_steps_follow_the_room_that_they_have(alone):
    page = alone(one_of_each()[1].to_html(alone=True))
    panels = page.locator(".live-panel:visible")
    expect(panels).to_have_count(11)
    page.set_viewport_size({"width": 400, "height": 900})
    expect(panels).to_have_count(1)
    page.set_viewport_size({"width": 900, "height": 900})
    expect(panels).to_have_count(11)
    assert page.errors == []


def test_large_maps_are_drawn(alone):
    weights = np.random.default_rng(0).dirichlet(np.ones(64), (12, 64))
    page = alone(interactive.attention_map(weights, range(64), caption="c").to_html(alone=True))
    expect(page.locator(".live-cell")).to_have_count(64 * 64)
    chip(page.locator("figure.live"), "Head", 11).click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth") and page.errors == []


# --- a fix in JavaScript -------------------------------------------------------------------------------------------------------------------


def test_a_fix_in_javascript_reaches_the_page_without_running_a_notebook(built, tmp_path):
    "In a copy of the project with the outputs that are there: change modules and the style sheet, make the pages, and look."
    copy = tmp_path / "project"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", ".hypothesis", "_build", "__pycache__", "build"))
    for kept in ("executed", "reports"):
        shutil.copytree(BUILD / kept, copy / "book/_build" / kept)
    (copy / "_toc.yml").write_text("format: jb-book\nroot: nbs/tools/interactive\n")        # the other pages would take minutes
    for file, change in (("timeline.js", "const mended = 1;\n"), ("lib.js", "const mendedToo = 1;\n"), ("figures.css", ".mended { top: 0; }\n")):
        with (copy / "transformer_course/js" / file).open("a") as stream:
            stream.write(change)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": f"{copy}/book:{copy}"}
    steps = "from builder.__main__ import build_pages, execute; print(len(execute()), 'ran'); build_pages()"
    done = subprocess.run([sys.executable, "-c", steps], cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "0 ran" in done.stdout, done.stdout + done.stderr
    scripts = copy / "book/_build/html/_static/figures"
    assert "const mended = 1;" in (scripts / "timeline.js").read_text() and "const mendedToo = 1;" in (scripts / "attention_map.js").read_text()
    assert ".mended{top: 0;}" in (scripts / "figures.css").read_text()
    address = lambda site: re.search(r"figures/timeline\.js\?v=\w+", (site / APPENDIX).read_text())[0]
    assert address(copy / "book/_build/html") != address(SITE), "a browser would keep the old one"
