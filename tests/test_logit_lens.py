"""The figure of the logit lens: its numbers against chapter 12's, and the figure from a disk, without a network."""
import re

import numpy as np
import pytest
import torch
from offline import look_for_violations, measure_on_a_phone, on_disk, put, state
from playwright.sync_api import expect
from test_interactive import lens_of
from test_site import PHONE

from transformer_course import inside, interactive
from transformer_course.records import recorded

MODEL, TOKENIZER = inside.course_model()
PROMPT, MADE = "The value of the attribute is a", recorded("page_model").result
LONG = (MADE["text"] * 2)[:128]
STAGES = ["embedding", "layer 1", "layer 2", "layer 3", "layer 4"]


def expected(text: str) -> torch.Tensor:
    "The probabilities of every character at every stage and place: (stages, T, V)."
    return inside.logit_lens(MODEL, torch.tensor([TOKENIZER.encode(text)]))[:, 0].softmax(-1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return on_disk(tmp_path_factory.mktemp("lens"), interactive.logit_lens(lens_of(PROMPT), PROMPT, place=25, caption="A lens."))


@pytest.fixture
def page(opened):
    return opened()


def load(page):
    page.get_by_role("button", name="Load the model").click()
    expect(page.get_by_role("textbox", name="Text")).to_be_visible(timeout=20_000)


def listed(page) -> list[list[tuple[str, float]]]:
    "The guesses and probabilities that each stage's line shows."
    return [[(one.locator("span").first.inner_text(), float(one.locator("span").last.inner_text())) for one in line.locator(".live-guess").filter(visible=True).all()] for line in page.locator(".live-lens li").all()]


def said(token: int) -> str:
    return {" ": "·", "\n": "\\n"}.get(TOKENIZER.decode([token]), TOKENIZER.decode([token]))


def compare(page, text: str, place: int, atol: float = 6e-4):
    "The lines of the figure are Python's five likeliest at that place; two characters that are as likely may change places."
    shares = expected(text)[:, place]
    for own, found in zip(shares, listed(page), strict=True):
        assert [part for _, part in found] == pytest.approx(own.topk(5).values.tolist(), abs=atol)
        by_name = {said(token): float(part) for token, part in enumerate(own)}
        assert [part for _, part in found] == pytest.approx([by_name[name] for name, _ in found], abs=atol)


# --- numbers -----------------------------------------------------------------------------------------------------------------------


def test_every_logit_of_every_stage_is_the_chapters(browser):
    "A text as long as the model reads, all stages, all characters: float32 beside sums in 64 bits."
    context = browser.new_context()
    source = f"{interactive.module('logit_lens')}\nexport {{ unpack, readAll, encode, predict }};"
    found = context.new_page().evaluate("""async ([source, data, text]) => {
        const m = await import(URL.createObjectURL(new Blob([source], {type: "text/javascript"})));
        new Function(data)();
        const model = m.unpack(globalThis.courseData.page_model), {tokens} = m.encode(model, text), seen = m.readAll(model, tokens);
        return seen[0].stream.map((_, n) => seen.map(({stream}, t) => ({logits: [...m.predict(model, stream[n])], guess: m.guess(model, stream[n], tokens[t + 1])}))); }""", [source, interactive.data_script("page_transformer"), LONG])
    context.close()
    logits = inside.logit_lens(MODEL, torch.tensor([TOKENIZER.encode(LONG)]))[:, 0]
    ours = torch.tensor([[one["logits"] for one in row] for row in found])
    assert ours.shape == logits.shape == (5, 128, TOKENIZER.vocab_size)
    assert (ours - logits).abs().max() < 2e-4
    shares, tokens = logits.softmax(-1), TOKENIZER.encode(LONG)
    for n, row in enumerate(found):
        for t, one in enumerate(row):
            likely, parts, follows = one["guess"]
            np.testing.assert_allclose(parts, shares[n, t].topk(5).values, atol=1e-5)
            np.testing.assert_allclose([float(shares[n, t, TOKENIZER.encode(name)[0]]) for name in likely], parts, atol=1e-5)
            assert follows is None if t == 127 else abs(follows - float(shares[n, t, tokens[t + 1]])) < 1e-5


def test_before_the_model_is_there_the_page_shows_what_python_gave(page):
    assert page.evaluate("Boolean(globalThis.courseData)") is False and not page.get_by_role("textbox").is_visible()
    expect(page.get_by_role("button", name="Load the model")).to_have_text(f"Load the model, {round(MADE['bytes'] / 1000)} kilobytes")
    for place in (25, 0, 30):
        put(page, "place", place)
        compare(page, PROMPT, place)


def test_loading_changes_no_number_by_more_than_a_rounding(page):
    before = listed(page)
    load(page)
    assert page.evaluate("Boolean(globalThis.courseData)") is True and state(page, "text") == page.get_by_role("textbox").input_value() == PROMPT
    for own, found in zip(before, listed(page), strict=True):
        assert [part for _, part in own] == pytest.approx([part for _, part in found], abs=1.01e-3)
    assert not page.get_by_role("button", name="Load the model").is_visible()


# --- what a reader does ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["if x", "for name in range(", "a"])
def test_a_text_of_the_readers_own(page, text):
    load(page)
    page.get_by_role("textbox", name="Text").fill(text)
    compare(page, text, len(text) - 1)
    cells = page.locator(".live-cell")
    assert cells.count() == 5 * min(12, len(text)) and (state(page, "text"), state(page, "place")) == (text, None)
    expect(page.locator(".live-says").last).to_contain_text("The text ends here.")
    best = expected(text)[:, -12:].max(-1)
    for cell, part, token in zip(cells.all(), best.values.flatten().tolist(), best.indices.flatten().tolist(), strict=True):
        name, number = cell.get_attribute("aria-label").rsplit(", ", 1)
        assert name == said(token) and float(number) == pytest.approx(part, abs=6e-4)


@pytest.mark.parametrize("way", ["pointer", "keyboard", "finger", "slider"])
def test_a_character_and_a_stage_are_chosen(opened, way):
    page = opened(**PHONE) if way == "finger" else opened()
    cell = lambda i, j: page.locator("[role=row]").nth(i + 1).locator(".live-cell").nth(j)
    assert [one.inner_text() for one in page.locator(".live-column-name").all()] == list(PROMPT[14:26].replace(" ", "·"))
    if way in ("pointer", "finger"):
        cell(2, 5).tap() if way == "finger" else cell(2, 5).click()
    elif way == "keyboard":
        cell(4, 11).focus()
        for key in ["ArrowLeft"] * 6 + ["ArrowUp"] * 2:
            page.keyboard.press(key)
        assert page.evaluate("document.activeElement.classList.contains('live-at')")
    else:
        page.get_by_role("slider", name="Character").fill("20")
        put(page, "stage", 2)
    assert (state(page, "place"), state(page, "stage")) == (19, 2)
    assert page.locator(".live-lens .live-now .live-bar-name").inner_text() == "layer 2" and page.locator(".live-at").count() == 1
    shares, follows = expected(PROMPT)[2, 19], TOKENIZER.encode(PROMPT)[20]
    expect(page.locator(".live-title")).to_have_text(f"After “…{PROMPT[4:20]}”")
    expect(page.locator(".live-says").last).to_contain_text(f"Read after “layer 2”, the next character would be “{said(int(shares.argmax()))}” with probability {shares.max():.3f}. The text goes on with “{PROMPT[20]}”, which has {shares[follows]:.3f} at this stage")
    compare(page, PROMPT, 19)


def test_the_columns_move_with_the_slider_and_no_further_than_they_must(page):
    slide, heads = page.get_by_role("slider", name="Character"), lambda: "".join(one.inner_text() for one in page.locator(".live-column-name").all())
    for place, first in ((20, 14), (14, 14), (13, 13), (0, 0), (11, 0), (12, 1), (30, 19)):
        slide.fill(str(place + 1))
        assert heads() == PROMPT[first:first + 12].replace(" ", "·") and state(page, "place") == place


def test_what_the_text_goes_on_with_is_underlined(page):
    shares, tokens = expected(PROMPT)[:, 14:26], torch.tensor(TOKENIZER.encode(PROMPT))[15:27]
    right = (shares.argmax(-1) == tokens).flatten().tolist()
    found = page.locator(".live-cell").evaluate_all("(cells) => cells.map((cell) => cell.classList.contains('live-right'))")
    assert found == right and 10 < sum(right) < 50
    marked = page.locator(".live-guess.live-right > span:first-child").all()
    assert marked and {one.inner_text() for one in marked} == {"·"} and "underline" in marked[0].evaluate("(node) => getComputedStyle(node).textDecorationLine")


def test_unknown_characters_and_long_texts_are_told(page):
    load(page)
    area, told = page.get_by_role("textbox", name="Text"), page.locator(".live-desk .live-says").first
    area.fill("if é x")
    expect(told).to_have_text("The model has never read “é” and leaves it out.")
    compare(page, "if  x", 4)
    area.fill(LONG + "more")
    expect(told).to_have_text(re.compile("It reads the last 68 characters; 128 are the most."))
    compare(page, (LONG + "more")[64:], 67)
    area.fill("")
    expect(page.get_by_text("There is nothing to read yet")).to_be_visible()
    assert page.locator(".live-cell").filter(visible=True).count() == 0
    area.fill("the")
    compare(page, "the", 2)


def test_everything_can_be_done_with_the_keyboard(page):
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    area = page.get_by_role("textbox", name="Text")
    expect(area).to_be_focused(timeout=20_000)
    page.keyboard.press("Control+End")
    page.keyboard.type("nd")
    assert state(page, "text") == PROMPT + "nd" and state(page, "place") is None
    compare(page, PROMPT + "nd", 32)
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowUp")
    assert (state(page, "stage"), state(page, "place")) == (3, 32)
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    assert state(page, "place") == 31


def test_the_table_holds_every_character(page):
    page.locator("summary").click()
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(31)
    best = expected(PROMPT)[:, 3].max(-1)
    assert rows.nth(3).locator("td").all_inner_texts() == [f"{said(int(token))} {part:.3f}" for part, token in zip(best.values, best.indices)]


# --- how it looks, and where ---------------------------------------------------------------------------------------------------------


def states(page):
    "The figure in each of its states, one after the other."
    yield "before anything is loaded"
    load(page)
    page.locator(".live-table").evaluate("(node) => { node.open = true; }")
    page.get_by_role("textbox").fill(LONG[:90] + "é")
    put(page, "stage", 1)
    yield "a long text, with its table"
    page.get_by_role("textbox").fill("a")
    yield "one character"
    page.get_by_role("textbox").fill("")
    yield "nothing"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("options", [{}, PHONE], ids=["desk", "phone"])
def test_axe_finds_nothing_in_any_state(opened, options, scheme):
    look_for_violations(opened, states, options, scheme)


def test_every_state_fits_a_phone_and_a_finger(opened):
    measure_on_a_phone(opened, states)


def test_a_missing_file_is_said_and_can_be_tried_again(browser, folder, tmp_path):
    for path in folder.iterdir():
        if path.name != "page_model.js":
            (tmp_path / path.name).write_text(path.read_text())
    context = browser.new_context()
    page = context.new_page()
    page.goto((tmp_path / "x.html").as_uri())
    page.get_by_role("button", name="Load the model").click()
    expect(page.locator(".live-desk").first).to_contain_text("can't be read")
    compare(page, PROMPT, 25)
    (tmp_path / "page_model.js").write_text((folder / "page_model.js").read_text())
    load(page)
    context.close()


def test_alone_it_brings_its_parameters_along(browser):
    one = interactive.logit_lens(lens_of(PROMPT), PROMPT, caption="A lens.")
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.set_content(one.to_html(alone=True))
    load(page)
    context.close()
