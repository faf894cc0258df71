"""The drawings: readable on a phone and in both themes, nothing overlaps, words from the data, bad input refused."""
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch

from builder import ROOT
from transformer_course import drawings, figures
from transformer_course.drawings import KEY, NEUTRAL, QUERY, RESIDUAL, VALUE, beside, draw, grid, stacked, text, tokens

SENTENCE = "The cat sat on the mat because it was tired".split()
LONG = "The big cat sat on the old mat because it was tired".split()
CAUSAL = [[column <= row for column in range(10)] for row in range(10)]
STYLES = (ROOT / "book/style/static/course.css").read_text()
FONTS = (ROOT / "book/vendor/fonts").as_uri()


def shared(n: int, at: int) -> list[float]:
    "Weights of n tokens: most at one, the others equal."
    return [0.6 if i == at else 0.4 / (n - 1) for i in range(n)]


GALLERY = {
    "parts": lambda: draw(
        stacked(tokens(["The", "cat", " ", "\n"], lit=[1], dim=[3]),
                beside(drawings.layer("norm"), drawings.layer("attention", role=QUERY, lit=True, sheets=3), drawings.circle(),
                       drawings.layer("W_Q", role=QUERY, lit=True, math=True), text("x_t", math=True))),
        caption="Parts.", alt="Parts."),
    "braces": lambda: draw(
        [row := tokens(["a", "b"]), *(drawings.brace(row, label=side, side=side) for side in ("below", "above", "left", "right"))],
        caption="Braces.", alt="Braces."),
    "frame": lambda: draw([row := tokens(["a", "b"], gap=30), drawings.frame(row, label="framed"), drawings.arrow(row[0].right, row[1].left)],
                          caption="A frame.", alt="A frame."),
    "grids": lambda: draw(
        beside(grid([[1, 0.5], [-0.25, 0]], title="numbers", rows=["long name", "b"], columns=["c", "a longer name"]), "×",
               grid((3, 2), role=KEY, rows="T", columns="k"), "=", drawings.vector([1, 2, 3], role=VALUE, across=True, numbers=True)),
        caption="Grids.", alt="Grids."),
    "attention": lambda: drawings.draw_attention(SENTENCE, 7, [0.04, 0.52, 0.05, 0.02, 0.03, 0.16, 0.06, 0.12, 0, 0]),
    "attention of twelve": lambda: drawings.draw_attention(LONG, 0, shared(12, 11)),
    "attention of one": lambda: drawings.draw_attention(["I"], 0, [1]),
    "cross-attention": lambda: drawings.draw_attention(["Le", "chat"], 1, shared(12, 2), sources=LONG),
    "roles": lambda: drawings.draw_roles("because"),
    "average": lambda: drawings.draw_average([[1, 0, 0], [0.5, 0.5, 0], [0.25, 0.3, 0.45]], [[1, 0, -0.5], [0, 1, 0.3], [1, 1, 0.2]], SENTENCE[:3]),
    **{f"model {lit}": lambda lit=lit: drawings.draw_model(lit) for lit in (*drawings.MODEL_PARTS, "block", "everything")
       if not lit.endswith(("network", "layer"))},
    "window network": lambda: drawings.draw_model("window network", kind="window"),
    "recurrent layer": lambda: drawings.draw_model("everything", kind="recurrent"),
    **{f"{kind} {loop}": lambda kind=kind, loop=loop: drawings.draw_model({"embedding", "lm_head"}, kind=kind, loop=loop)
       for kind in ("transformer", "window", "recurrent") for loop in ("training", "generation")},
    "unrolled": lambda: drawings.draw_unrolled(LONG),
    "unrolled with outputs": lambda: drawings.draw_unrolled(SENTENCE[:-1], SENTENCE[1:]),
    "encoder and decoder": lambda: drawings.draw_encoder_decoder(["the", "cat", "sleeps"], ["le", "chat", "dort", "."]),
    "decoder with attention": lambda: drawings.draw_decoder_attention(SENTENCE, ["le", "chat", "dort"], 2, shared(10, 3)),
    "mask": lambda: drawings.draw_matrix(CAUSAL, rows=SENTENCE, columns=SENTENCE, lit=[(2, None), (None, 3), (0, 0)], caption="A mask."),
    "counts": lambda: drawings.draw_matrix([[0, 12], [1204, 1]], rows=list("ab"), columns=list("ab"), role=NEUTRAL, caption="Counts."),
    "shapes": lambda: drawings.draw_shapes(("Q", ("T", 4), ("k", 3), QUERY), "×", ("Kᵀ", ("k", 3), ("S", 5), KEY), "=",
                                           ("scores", ("T", 4), ("S", 5), NEUTRAL), caption="Shapes."),
    "heads": lambda: drawings.draw_heads(),
    "four heads": lambda: drawings.draw_heads(4, n_tokens=3),
    "window": lambda: drawings.draw_window(list("the cat sat on"), 4, 5, steps=3),
    "bars": lambda: drawings.draw_bars(["t", " ", "next"], [0.4, 0.25, 0.0], lit=[0], numbers=".0%", caption="Bars."),
}


@pytest.fixture(scope="module", params=GALLERY)
def drawn(request):
    return GALLERY[request.param]()


def test_every_drawing_is_in_the_gallery():
    made = {name for name in dir(drawings) if name.startswith("draw_")}
    shown = set().union(*(function.__code__.co_names for function in GALLERY.values()))
    assert made <= shown and len(made) == 12


def test_text_can_be_read_on_a_phone_and_on_a_desk(drawn):
    assert figures.label_size(drawn) >= figures.READABLE
    sizes = {float(size) for size in re.findall(r'font-size="([\d.]+)"', drawn.svg)}
    assert sizes and 13 <= min(sizes) and max(sizes) <= 17


def test_a_drawing_has_words_a_role_and_no_names_that_could_collide(drawn):
    root = ElementTree.fromstring(drawn.svg)
    assert root.get("role") == "img" and root.get("aria-label") == drawn.alt
    assert drawn.caption.endswith(".") and drawn.alt.endswith(".")
    assert not any(node.get("id") or "#" in node.get("href", "") for node in root.iter()) and "url(" not in drawn.svg


def test_every_colour_is_the_pages(drawn):
    colours = {match[1] for match in re.finditer(r'(?:fill|stroke)="([^"]*)"', drawn.svg)}
    assert colours and all(colour in ("none", "currentColor") or colour.startswith("var(--fig-") for colour in colours)


TROUBLE = """(svg) => {
  const margin = 0.5, box = (node) => node.getBoundingClientRect();
  const apart = (a, b) => a.right <= b.left + margin || b.right <= a.left + margin || a.bottom <= b.top + margin || b.bottom <= a.top + margin;
  const inside = (a, b) => a.left >= b.left - margin && a.right <= b.right + margin && a.top >= b.top - margin && a.bottom <= b.bottom + margin;
  const upright = [...svg.querySelectorAll("text")].filter((node) => !node.closest("[transform^=rotate]"));
  const tight = (node) => {                                  // the letters, without the font's leading
    const { left, right, top, bottom } = box(node), cut = (bottom - top) * 0.16;
    return { left, right, top: top + cut, bottom: bottom - cut };
  };
  const words = upright.map((node) => [node.textContent, tight(node)]);
  const boxes = [...svg.querySelectorAll("rect, circle")].filter((node) => !node.closest("g[fill]")).map(box);
  const trouble = [];
  for (const node of svg.querySelectorAll("text")) if (!inside(box(node), box(svg))) trouble.push(`${node.textContent} leaves the picture`);
  words.forEach(([one, a], i) => {
    for (const [two, b] of words.slice(i + 1)) if (!apart(a, b)) trouble.push(`${one} meets ${two}`);
    for (const b of boxes) if (!apart(a, b) && !inside(a, b)) trouble.push(`${one} meets the edge of a box`);
  });
  return trouble;
}"""


@pytest.mark.parametrize("font", ["Inter", "DejaVu Sans"])
def test_no_text_meets_another_text_or_the_edge_of_a_box(browser, tmp_path, font):
    faces = "".join(f'@font-face {{ font-family: "{name}"; src: url({FONTS}/{file}); font-weight: 100 900; font-style: {style} }}' for name, file, style in (
        ("Inter", "inter-wght-normal.woff2", "normal"), ("Source Serif 4", "source-serif-4-wght-italic.woff2", "italic")))
    style = f'<style>{faces} :root {{ --fig-font: "{font}"; --serif: "Source Serif 4" }}</style>'
    (tmp_path / "gallery.html").write_text("<!doctype html><meta charset=utf-8>" + style + "".join(make().svg for make in GALLERY.values()))
    page = browser.new_page(viewport={"width": 800, "height": 600})
    page.goto((tmp_path / "gallery.html").as_uri())
    page.evaluate("document.fonts.ready")
    found = dict(zip(GALLERY, page.evaluate(f"[...document.querySelectorAll('svg')].map({TROUBLE})"), strict=True))
    page.close()
    assert {name: trouble for name, trouble in found.items() if trouble} == {}


def luminance(colour) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, two) -> float:
    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_contrast_on_the_page_and_on_the_strongest_colour_under_digits(theme):
    rules = re.search(rf'html\[data-theme="{theme}"\] {{(.*?)}}', STYLES, re.S)[1]
    colours = {name: [int(value[i:i + 2], 16) / 255 for i in (0, 2, 4)] for name, value in re.findall(r"--([\w-]+): #(\w{6});", rules)}
    ink, paper = colours["pst-color-text-base"], colours["pst-color-background"]
    roles = [colours[f"fig-{number}"] for number in range(1, 6)] + [colours["fig-muted"]]
    for role in roles:
        under = [figures.UNDER_TEXT * c + (1 - figures.UNDER_TEXT) * p for c, p in zip(role, paper)]
        assert contrast(role, paper) > 4.5 and contrast(ink, under) > 4.5


def opacities(shown) -> list[float]:
    return [float(value) for value in re.findall(r'<rect[^>]*height="30" fill-opacity="([\d.]+)"', shown.svg)]


def test_larger_numbers_have_more_colour_and_none_hides_its_digits():
    cells = opacities(grid([[-1.0, 0.0, 0.5, 2.0]]))
    assert cells == sorted(cells) and len(set(cells)) == 4 and cells[-1] == figures.UNDER_TEXT


@pytest.mark.parametrize("make", [lambda rows: rows, np.array, torch.tensor], ids=["lists", "array", "tensor"])
def test_numbers_may_be_lists_arrays_and_tensors(make):
    rows = [[0.25, 0.75], [1.0, 0.0]]
    assert drawings.draw_matrix(make(rows), caption="c.").svg == drawings.draw_matrix(rows, caption="c.").svg
    assert drawings.draw_attention(["a", "b"], 1, make(rows)[0]).alt == "“b” reads with these weights: “a” 0.25, “b” 0.75. Most comes from “b”."
    mask = [[True, False]]
    assert drawings.draw_matrix(make(mask), caption="c.").alt == "Matrix of 1 rows and 2 columns. row 1: column 1."


def test_an_average_is_the_product_of_weights_and_vectors():
    weights, vectors = [[1, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]], [[1, 0], [0, 1], [1, 1]]
    shown = drawings.draw_average(weights, vectors, ["the", "cat", "sat"])
    assert "Averages: the: 1.0, 0; cat: 0.5, 0.5; sat: 0.7, 0.8." in shown.alt
    np.testing.assert_allclose(np.array(weights) @ vectors, [[1, 0], [0.5, 0.5], [0.7, 0.8]])


def test_thickness_follows_the_weight_and_what_is_not_read_has_no_arc():
    shown = drawings.draw_attention(["a", "b", "c"], 1, [0.75, 0.25, 0])
    widths = [float(width) for width in re.findall(r'<path[^>]*stroke-width="([\d.]+)"', shown.svg)]
    assert len(widths) == 2 and math.isclose(widths[1] / widths[0], 3) and "“c”" not in shown.alt


def test_a_picture_says_where_the_reader_is():
    one, all_ = drawings.draw_model("attention"), drawings.draw_model("everything")
    assert one.caption.endswith("You are here: attention.") and one.alt.endswith("You are here: attention.")
    assert one.svg.count('font-weight="620"') == 3 and one.svg.count(RESIDUAL) == 0 and QUERY in one.svg     # tokens, attention, next token
    assert all_.svg.count(RESIDUAL) > 10 and drawings.draw_model().caption.endswith("at the top.")


def test_parts_are_placed_without_overlap_and_can_be_moved():
    a, b, c = beside(grid((2, 2), rows=["long name", "b"]), "×", grid((4, 1)), gap=10)
    assert b.bounds[0] - a.bounds[2] == pytest.approx(10) and a.centre[1] == pytest.approx(b.centre[1]) == pytest.approx(c.centre[1])
    high, low = stacked("one", "two", gap=5)
    assert low.bounds[1] - high.bounds[3] == pytest.approx(5) and low.centre[0] == pytest.approx(high.centre[0])
    moved = grid((2, 4)).moved(10, -3)
    assert moved.cell(0, 0) == pytest.approx((10 - 33, -3 - 11)) and moved.top == pytest.approx((10, -3 - 22))
    assert drawings.group(a, [b, [c]]).bounds == (a.bounds[0], min(p.bounds[1] for p in (a, b, c)), c.bounds[2], max(p.bounds[3] for p in (a, b, c)))


def test_spaces_and_line_ends_can_be_seen_and_heard():
    assert all(sign in drawings.token(word).svg for word, sign in ((" ", "␣"), ("\n", "⏎"), ("<s>", "&lt;s&gt;")))
    assert "a space 40%" in drawings.draw_bars([" ", "b"], [0.4, 0.6], numbers=".0%", caption="c.").alt


@pytest.mark.refusal
@pytest.mark.parametrize(("make", "said"), [
    (lambda: draw([], caption="c.", alt="a."), "at least one part"),
    (lambda: draw(["a"], caption=" ", alt="a."), "caption=' '"),
    (lambda: draw(["a"], caption="c.", alt=""), "alt=''"),
    (lambda: draw(["wide"], caption="c.", alt="a.", width=10), "a width of 4[0-9], got 10"),
    (lambda: draw(["a" * 80], caption="c.", alt="a."), "at most 556 wide"),
    (lambda: grid([[1, 2], [3]]), "lengths {1, 2}"),
    (lambda: grid([]), "got lengths 0"),
    (lambda: grid([[1, 2]], rows=["a", "b"]), "2 names for 1 rows"),
    (lambda: grid([[1, 2]], columns=["a"]), "1 names for 2 columns"),
    (lambda: grid([[1, 2]], lit=[(1, None)]), "row 1 of a matrix with 1 rows"),
    (lambda: grid([[1, math.nan]]), "NaN or infinity"),
    (lambda: drawings.arrow((0, 0)), "two points or more, got 1"),
    (lambda: drawings.arc((0, 0), (9, 0), 1.5), "between 0 and 1, got 1.5"),
    (lambda: drawings.brace("a", label="b", side="under"), "got 'under'"),
    (lambda: drawings.draw_attention(["a", "b"], 0, [1.0]), "1 weights for 2 tokens"),
    (lambda: drawings.draw_attention(["a", "b"], 2, [0.5, 0.5]), "token 2 of 2 tokens"),
    (lambda: drawings.draw_attention(["a", "b"], 0, [0.5, 0.2]), "sum to 1, these to 0.700"),
    (lambda: drawings.draw_attention(["a", "b"], 0, [1.5, -0.5]), "between 0 and 1, got"),
    (lambda: drawings.draw_attention(["a"], 0, [0.5, 0.5, 0], sources=["b", "c"]), "3 weights for 2 tokens"),
    (lambda: drawings.draw_average([[1, 0], [0, 1]], [[1], [2], [3]], ["a", "b"]), "2 x 2 weights and 3 vectors do not fit 2 words"),
    (lambda: drawings.draw_model("head"), r"\['head'\] is none of"),
    (lambda: drawings.draw_model("attention", kind="window"), r"\['attention'\] is none of \['embedding', 'lm_head', 'window network'\]"),
    (lambda: drawings.draw_model(kind="gpt"), r"\['gpt'\] is none of"),
    (lambda: drawings.draw_model(loop="round"), r"\['round'\] is none of"),
    (lambda: drawings.draw_unrolled(["a", "b"], ["c"]), "1 outputs for 2 tokens"),
    (lambda: drawings.draw_decoder_attention(["a"], ["b"], 1, [1]), "step 1 of 1 steps"),
    (lambda: drawings.draw_window(["a", "b"], 2, 1), "a window of 2 before the tokens 1 to 1 does not fit into 2 tokens"),
    (lambda: drawings.draw_bars(["a"], [1, 2], caption="c."), "1 names for 2 bars"),
    (lambda: drawings.draw_bars(["a"], [-1], caption="c."), r"from zero on, got \[-1.0\]"),
])
def test_bad_input_is_refused_with_both_sides_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.fixture
def plots():
    "matplotlib with the course's style."
    import matplotlib.pyplot as plt

    with plt.style.context(figures.STYLE):
        yield plt
    plt.close("all")


def test_a_plot_in_the_courses_style_can_be_read_on_a_phone(plots):
    figure, axes = plots.subplots()
    axes.loglog([1e-3, 1, 1e4], [1e-2, 1, 1e5], label="a line")
    axes.set(title="title", xlabel="x", ylabel="y")
    axes.legend()
    shown = figures.picture(figure, caption="c.", alt="a.")
    assert shown.svg.count("<text") > 8 and figures.label_size(shown) >= figures.READABLE
    wide = figures.picture(plots.subplots(figsize=(8, 3))[0], caption="c.", alt="a.")
    assert figures.label_size(wide) < figures.READABLE


@pytest.mark.parametrize("size", [3, 6, 20])
def test_a_heat_map_can_be_read_on_a_phone_and_has_the_pages_ink(plots, size):
    names = [f"n{i}" for i in range(size)]
    shown = figures.heat_map(np.eye(size) - 0.3, names, names, caption="c.")
    assert figures.label_size(shown) >= figures.READABLE
    assert "white" not in shown.svg and "#ffffff" not in shown.svg
    if size <= 6:                                               # with digits in the cells
        strongest = max(map(float, re.findall(r"fill-opacity: ([\d.]+)", shown.svg)))
        assert strongest == pytest.approx(figures.UNDER_TEXT, abs=0.01)


def test_a_heading_without_text_is_a_cell():
    shown = figures.table(["", "a"], [["b", 1], ["", 2]], caption="c.")._repr_html_()
    assert re.findall(r"<th [^>]*>(.*?)</th>", shown) == ["a", "b"] and shown.count("<td></td>") == 2
