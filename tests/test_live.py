"""Interactive figures, part by part: what Python accepts and says, and the logic of each JavaScript module against Python's."""
import itertools
import json
import math
import re
import subprocess
import sys

import ipykernel
import numpy as np
import pytest
import torch

from reader import ROOT, live_figures
from transformer_course import live
from transformer_course.attention import attention, attention_weights, causal_mask

TOKENS = ["the", "cat", "sat", "on"]
WEIGHTS = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.05, 0.05, 0.8, 0.1], [0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 0.3846, 0.6154]])
NAN, INF = float("nan"), float("inf")


def one_of_each() -> list[live.Live]:
    "Every figure once, small."
    vectors = torch.arange(12.0).view(4, 3) / 10 - 0.5
    projections = [torch.eye(3)[:, :2], torch.ones(3, 2), -torch.eye(3)]
    return [live.attention_map({"a": WEIGHTS, "b": WEIGHTS.T.contiguous()}, TOKENS, row=1, caption="A map."),
            live.attention_steps(vectors, projections, TOKENS, caption="Steps."),
            live.mask_growth({"all": torch.ones(4, 4).bool(), "past": causal_mask(4)}, TOKENS, shown=2, caption="Masks."),
            live.timeline(8, longest=32, seconds={8: (1e-3, 2e-4)}, caption="Time."),
            live.position_map(torch.randn(20, 6, generator=torch.manual_seed(0)), length=10, pair=(2, 5), caption="Positions.")]


def test_every_figure_has_a_function_of_its_name():
    assert [figure.name for figure in one_of_each()] == list(live.FIGURES)


# --- what Python refuses, and what it says ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "said"), [
    (lambda: live.attention_map(WEIGHTS, TOKENS[:3], caption="c"), ["(4, 4)", "3 tokens"]),
    (lambda: live.attention_map(WEIGHTS[:, :3], TOKENS, caption="c"), ["(4, 3)", "4 tokens"]),
    (lambda: live.attention_map(WEIGHTS, TOKENS, TOKENS[:2], caption="c"), ["(4, 4)", "2 that are read"]),
    (lambda: live.attention_map([], [], caption="c"), ["shape (0,)"]),
    (lambda: live.attention_map({}, [], caption="c"), ["0 heads"]),
    (lambda: live.attention_map([[0.5, NAN], [1, 0]], "ab", caption="c"), ["1 of 4", "nan", "(0, 1)"]),
    (lambda: live.attention_map([[0.5, 1], [INF, 0]], "ab", caption="c"), ["1 of 4", "inf", "(1, 0)"]),
    (lambda: live.attention_map([[0.5, 1], [0.5]], "ab", caption="c"), ["even rows", "list"]),
    (lambda: live.attention_map([["a", "b"], ["c", "d"]], "ab", caption="c"), ["expected numbers"]),
    (lambda: live.attention_map(WEIGHTS * 9 - 4, TOKENS, caption="c"), ["from 0 to 1", "-4", "3.2", "scores"]),
    (lambda: live.attention_map(WEIGHTS * 3, TOKENS, caption="c"), ["from 0 to 1", "0 to 2.4", "scores"]),
    (lambda: live.attention_map(torch.eye(3000), range(3000), caption="c"), ["3,000 tokens", "64"]),
    (lambda: live.attention_map(torch.ones(40, 1, 1), ["a"], caption="c"), ["40 heads", "32"]),
    (lambda: live.attention_map(WEIGHTS[None, None], TOKENS, caption="c"), ["axes", "(1, 4, 4)"]),
    (lambda: live.attention_map(WEIGHTS, TOKENS, row=4, caption="c"), ["row", "0 to 3", "4"]),
    (lambda: live.attention_map(WEIGHTS, TOKENS, caption=" "), ["caption=' '"]),
    (lambda: live.attention_steps(torch.ones(2, 3), [torch.ones(3, 2)] * 3, "abc", caption="c"), ["2 vectors", "3 tokens"]),
    (lambda: live.attention_steps(torch.ones(2, 3), [torch.ones(4, 2)] * 3, "ab", caption="c"), ["width 3", "query", "(4, 2)"]),
    (lambda: live.attention_steps(torch.ones(2, 3), [torch.ones(3, 2), torch.ones(3, 4), torch.ones(3, 2)], "ab", caption="c"), ["width 2", "width 4"]),
    (lambda: live.attention_steps(torch.ones(2, 3), [torch.ones(3, 2)] * 2, "ab", caption="c"), ["three projections", "got 2"]),
    (lambda: live.attention_steps(torch.ones(2, 9), [torch.ones(9, 2)] * 3, "ab", caption="c"), ["9", "8"]),
    (lambda: live.attention_steps(torch.full((2, 2), NAN), [torch.ones(2, 2)] * 3, "ab", caption="c"), ["4 of 4", "vectors"]),
    (lambda: live.attention_steps([], [[[1]]] * 3, [], caption="c"), ["vectors", "(0,)"]),
    (lambda: live.attention_steps(torch.ones(2, 2), [torch.ones(2, 2)] * 3, "ab", row=-1, caption="c"), ["row", "-1"]),
    (lambda: live.mask_growth({"past": causal_mask(3)}, TOKENS, caption="c"), ["(3, 3)", "4 tokens"]),
    (lambda: live.mask_growth({"past": causal_mask(4) * 2}, TOKENS, caption="c"), ["past", "true and false", "0 to 2"]),
    (lambda: live.mask_growth({}, TOKENS, caption="c"), ["no masks", "4 tokens"]),
    (lambda: live.mask_growth({"past": []}, [], caption="c"), ["shape (0,)"]),
    (lambda: live.mask_growth({"past": causal_mask(1000)}, range(1000), caption="c"), ["1,000 tokens", "24"]),
    (lambda: live.mask_growth({"past": causal_mask(4)}, TOKENS, shown=0, caption="c"), ["shown", "1 to 4", "0"]),
    (lambda: live.timeline(0, caption="c"), ["length", "0"]),
    (lambda: live.timeline(100, longest=64, caption="c"), ["length", "64", "100"]),
    (lambda: live.timeline(longest=10**6, caption="c"), ["longest", "1024"]),
    (lambda: live.timeline(layers=0, caption="c"), ["layers", "0"]),
    (lambda: live.timeline(seconds={8: (1.0, NAN)}, caption="c"), ["8 tokens", "nan"]),
    (lambda: live.timeline(seconds={8: (1.0, -1.0)}, caption="c"), ["two positive times", "-1"]),
    (lambda: live.position_map(torch.ones(3), caption="c"), ["positions, d", "(3,)"]),
    (lambda: live.position_map([[0.1, INF]], caption="c"), ["inf", "(0, 1)"]),
    (lambda: live.position_map(torch.ones(4096, 8), caption="c"), ["4,096 positions", "512"]),
    (lambda: live.position_map(torch.ones(8, 1024), caption="c"), ["1,024 numbers", "256"]),
    (lambda: live.position_map(torch.ones(8, 2), pair=(0, 8), caption="c"), ["0 to 7", "8"]),
    (lambda: live.position_map(torch.ones(8, 2), number=2, caption="c"), ["number", "2"]),
    (lambda: live.position_map(torch.ones(8, 2), length=9, caption="c"), ["length", "9"]),
    (lambda: live.position_map(torch.ones(1, 2), caption="c"), ["number of positions", "2 to 512", "1"]),
    (lambda: live.attention_map(WEIGHTS, TOKENS, row=1.5, caption="c"), ["row", "whole number", "1.5"]),
    (lambda: live.timeline(2.5, caption="c"), ["length", "whole number", "2.5"]),
    (lambda: live.position_map(torch.ones(8, 2), pair=(0.5, 1), caption="c"), ["positions", "whole number", "0.5"]),
    (lambda: live.module("pie_chart"), ["pie_chart", "attention_map"]),
])
def test_bad_input_is_refused_and_both_sides_are_named(call, said):
    with pytest.raises(ValueError) as error:
        call()
    assert all(part in str(error.value) for part in said), error.value


def test_a_row_may_be_a_number_of_numpy_or_pytorch():
    for row in (np.int64(2), torch.tensor(2)):
        assert bundle(live.attention_map(WEIGHTS, TOKENS, row=row, caption="c")) is not None


@pytest.mark.parametrize("weights", [
    WEIGHTS, WEIGHTS.double().requires_grad_(), WEIGHTS.to(torch.bfloat16), WEIGHTS.numpy(), WEIGHTS.tolist(), list(WEIGHTS), [WEIGHTS], WEIGHTS[None], {"head": WEIGHTS},
], ids=["float", "grad", "bfloat16", "array", "lists", "rows", "list of heads", "heads", "mapping"])
def test_weights_come_in_every_form(weights):
    shown = live.attention_map(weights, TOKENS, caption="c")
    assert len(shown.data["weights"]) == 1
    assert np.abs(np.array(shown.data["weights"][0]) - 1000 * WEIGHTS.numpy()).max() <= (3 if getattr(weights, "dtype", None) == torch.bfloat16 else 0.5001)


def test_tokens_may_be_anything():
    odd = ["<b>", "", "\n", "\ud800", "𝄞", '"', "a\x00b", 7, None]
    shown = live.attention_map(np.eye(9), odd, caption="c")
    json.dumps(dict(shown.data)).encode("utf-8")
    assert shown.data["rows"][3] == "?" and shown.data["rows"][7:] == ["7", "None"]
    shown.to_html(alone=True).encode("utf-8")


@pytest.mark.parametrize("alone", [True, False])
def test_nothing_in_a_token_is_markup(alone):
    evil = "</script><img src=x onerror=alert(1)><!--"
    shown = live.mask_growth({evil: np.eye(2)}, [evil, "&amp;"], caption=evil)
    text = shown.to_html(alone=alone)
    assert "<img" not in text and "<!--" not in text and text.count("</script>") == 1 + alone


def test_words_say_the_numbers():
    said = [figure.words for figure in one_of_each()]
    assert "Head a: the: the 0.70, cat 0.10, sat 0.10, on 0.10" in said[0] and "on: the 0.00, cat 0.00, sat 0.38, on 0.62" in said[0]
    assert "past: the 1, cat 2, sat 3, on 4." in said[2] and "all: the 4, cat 4, sat 4, on 4." in said[2]
    assert "To read 8 tokens: 8 and 1; to write them: 8 and 8." in said[3]
    assert "To read 8 tokens: 10 and 3; to write them: 24 and 24." in live.timeline(8, layers=3, caption="c").words
    assert "Vectors of 20 positions with 6 numbers" in said[4]


def test_a_figure_in_twelve_heads_says_little_of_each():
    shown = live.attention_map(WEIGHTS.expand(12, 4, 4), TOKENS, caption="c")
    assert shown.words.count("cat reads sat") == 12 and "0.80" in shown.words and len(shown.words) < 1000


# --- which stage gets what -------------------------------------------------------------------------------------------------------


def bundle(figure):
    made = figure._repr_mimebundle_()
    return made if isinstance(made, dict) else made[0]


WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.mark.parametrize("figure", one_of_each(), ids=lambda figure: figure.name)
def test_the_page_gets_data_alone_and_others_get_everything(figure, monkeypatch):
    monkeypatch.setenv("COURSE_FIGURES", "page")
    page = bundle(figure)
    assert set(page) == {"text/plain", "text/html"} and figure.words in page["text/plain"]
    assert "export default" not in page["text/html"] and f'data-figure="{figure.name}"' in page["text/html"]
    monkeypatch.setenv("COURSE_FIGURES", "html")
    alone = bundle(figure)
    assert "export default" in alone["text/html"] and set(alone) == set(page)
    assert not re.search(r"""(src|href)\s*=|https?://(?!www\.w3\.org)""", alone["text/html"]), "it asks for something outside"
    monkeypatch.setenv("COURSE_FIGURES", "widget")
    both = bundle(figure)
    assert WIDGET in both and both["text/html"] == alone["text/html"]
    assert bundle(figure)["text/html"] == bundle(one_of_each()[live.FIGURES.index(figure.name)])["text/html"], "the same figure twice, two outputs"


def test_the_stage_is_found_without_being_told(monkeypatch):
    monkeypatch.delenv("COURSE_FIGURES", raising=False)
    figure = one_of_each()[0]
    monkeypatch.setitem(sys.modules, "ipykernel", ipykernel)
    assert WIDGET in bundle(figure)                                             # a kernel and anywidget
    monkeypatch.setattr(live, "find_spec", lambda name: None)
    assert WIDGET not in bundle(figure) and "export default" in bundle(figure)["text/html"]      # no anywidget
    monkeypatch.undo()
    monkeypatch.delenv("COURSE_FIGURES", raising=False)
    monkeypatch.setitem(sys.modules, "ipykernel", ipykernel)
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    assert WIDGET not in bundle(figure) and "export default" in bundle(figure)["text/html"]      # Colab
    monkeypatch.setenv("COURSE_FIGURES", "paper")
    with pytest.raises(ValueError, match="page, html or widget, got 'paper'"):
        bundle(figure)


def test_the_package_imports_no_widgets():
    code = "import sys, transformer_course.live as live; live.timeline(caption='c'); print(sorted({'anywidget', 'ipywidgets', 'traitlets', 'IPython', 'matplotlib', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_widget_holds_the_state_and_takes_new_data():
    figure, other = one_of_each()[0], live.attention_map(WEIGHTS.flip(0), TOKENS, caption="Another.")
    assert figure.widget is figure.widget and figure.widget.row == 1 and figure.widget.caption == "A map."
    heard = []
    figure.widget.observe(lambda change: heard.append(change.new), "row")
    figure.widget.row = 3
    figure.update(other)
    assert heard == [3] and figure.widget.weights == other.data["weights"] and figure.widget.heads == ["1"] and figure.widget.caption == "Another."
    assert figure.widget.row == 3, "what the reader chose stays"
    with pytest.raises(ValueError, match="attention_map can't show the data of timeline"):
        figure.update(one_of_each()[3])


def test_pages_get_the_scripts_of_their_figures_and_no_others(tmp_path):
    live_figures.write_scripts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"figures.css", "host.js", *(f"{name}.js" for name in live.FIGURES)}
    body = "".join(figure.to_html(alone=False) for figure in one_of_each()[:2] * 2)
    assert live_figures.shown(body) == ["attention_map", "attention_steps"]
    assert live_figures.shown("a page about <code>data-figure</code>") == []


# --- the modules' own logic, in a browser, one module at a time --------------------------------------------------------------------


@pytest.fixture(scope="module")
def js(browser):
    "`js('timeline', 'm.steps(…)')`: the value of an expression in which `m` is the module, imported from a blob."
    context = browser.new_context()
    page = context.new_page()

    def run(name, expression, **given):
        source = live.module(name) if name in live.FIGURES else (ROOT / "transformer_course/js" / f"{name}.js").read_text()
        return page.evaluate("""async ([source, expression, given]) => {
            const m = await import(URL.createObjectURL(new Blob([source], {type: "text/javascript"})));
            try { return new Function("m", "given", `return (${expression})`)(m, given); } catch (error) { return `${error.name}: ${error.message}`; }
        }""", [source, expression, given])

    yield run
    context.close()


@pytest.mark.parametrize("name", live.FIGURES)
def test_a_module_keeps_anywidgets_contract(js, name):
    assert js(name, "typeof m.default.render") == "function"
    assert not re.search(r"^import\b", live.module(name), re.M) and "innerHTML" not in live.module(name) and "http://" not in live.module(name).replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize(("expression", "value"), [
    ("m.fixed(-0.004, 2)", "0.00"), ("m.fixed(-1.25, 1)", "−1.3"), ("m.fixed(-0.5, 0)", "−1"), ("m.fixed(2, 3)", "2.000"), ("m.fixed(-10, 0)", "−10"),
    ("m.visible('')", "(empty)"), ("m.visible(' the')", "·the"), ("m.visible('a b  ')", "a b··"), ("m.visible('\\n')", "\\n"), ("m.visible('<b>')", "<b>"),
    ("m.plural(1, 'step')", "1 step"), ("m.plural(1200, 'step')", "1,200 steps"), ("m.clamp(7, 0, 3)", 3), ("m.clamp(-1, 0, 3)", 0),
    ("m.move([1, 1], {key: 'ArrowUp'}, 3, 4)", [0, 1]), ("m.move([0, 1], {key: 'ArrowUp'}, 3, 4)", [0, 1]), ("m.move([1, 3], {key: 'ArrowRight'}, 3, 4)", [1, 3]),
    ("m.move([1, 1], {key: 'ArrowLeft'}, 3, 4)", [1, 0]), ("m.move([1, 1], {key: 'ArrowDown'}, 3, 4)", [2, 1]), ("m.move([1, 1], {key: 'Home'}, 3, 4)", [1, 0]),
    ("m.move([1, 1], {key: 'End'}, 3, 4)", [1, 3]), ("m.move([1, 1], {key: 'End', ctrlKey: true}, 3, 4)", [2, 3]), ("m.move([1, 1], {key: 'Home', metaKey: true}, 3, 4)", [0, 0]),
    ("m.move([1, 1], {key: 'Tab'}, 3, 4)", None), ("m.expect('w', [[1, 2]], 1, 2) ?? 'fits'", "fits"),
    ("m.expect('w', [[1, 2]], 2, 2)", "RangeError: w must be 2 × 2, got 1 rows"), ("m.expect('w', [[1, 2], [1]], 2, 2)", "RangeError: w must be 2 × 2, got 2 rows, one of 1 numbers"),
    ("m.expect('w', [[1, NaN]], 1, 2)", "RangeError: w must be numbers, got NaN"), ("m.expect('w', null, 1, 2)", "RangeError: w must be 1 × 2, got no rows"),
])
def test_library(js, expression, value):
    assert js("lib", expression) == value


def test_host_keeps_the_models_contract(js):
    said = js("host", """(() => { const one = new m.Model({a: 1}), heard = [], f = () => heard.push(one.get("a"));
        one.on("change:a", f); one.set("a", 2); one.set("a", 2); one.set("b", 1); one.off("change:a", f); one.set("a", 3); one.save_changes();
        return [heard, one.get("a"), one.get("b")]; })()""")
    assert said == [[2], 3, 1]


def test_attention_map_finds_the_strongest(js):
    row = [100, 300, 300, 0, 299]
    assert js("attention_map", "m.strongest(given.row, 3)", row=row) == [1, 2, 4] and js("attention_map", "m.weight(385)") == "0.385"


def random_attention(seed):
    generator = torch.Generator().manual_seed(seed)
    t, d, k, v = (torch.randint(1, 8, (4,), generator=generator) + 1).tolist()
    return [torch.randn(size, generator=generator, dtype=torch.float64) for size in ((t, d), (d, k), (d, k), (d, v))]


@pytest.mark.parametrize("seed", range(12))
def test_attention_steps_computes_what_the_package_computes(js, seed):
    x, *projections = random_attention(seed)
    all_ = js("attention_steps", "m.trace(given.x, given.projections)", x=x.tolist(), projections=[p.tolist() for p in projections])
    q, k, v = (x @ matrix for matrix in projections)
    scores = q @ k.mT
    expected = {"vectors": x, "queries": q, "keys": k, "values": v, "scores": scores, "scaled": scores / math.sqrt(q.shape[1]),
                "weights": attention_weights(q, k), "outputs": attention(q, k, v)}
    assert all_.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(torch.tensor(all_[name], dtype=torch.float64), value, rtol=1e-12, atol=1e-12)


def test_attention_steps_does_not_overflow(js):
    assert js("attention_steps", "m.softmax([1e4, 0, 1e4])") == [0.5, 0.0, 0.5]


@pytest.mark.parametrize("seed", range(4))
def test_every_explanation_ends_in_the_number_of_its_cell(js, seed):
    x, *projections = random_attention(seed)
    tokens = [f"t{n}" for n in range(len(x))]
    explained = js("attention_steps", """(() => { const all = m.trace(given.x, given.projections);
        return Object.entries(all).flatMap(([panel, rows]) => rows.flatMap((row, i) => row.map((value, j) =>
            [panel, i, j, m.short(value), m.explain(panel, i, j, all, given.tokens, given.projections)]))); })()""",
        x=x.tolist(), projections=[p.tolist() for p in projections], tokens=tokens)
    assert {panel for panel, *_ in explained} == {"vectors", "queries", "keys", "values", "scores", "scaled", "weights", "outputs"}
    for panel, i, j, value, made in explained:
        assert made["sum"].endswith(value) and made["says"].endswith("."), (panel, made)
        sources = {name for name, *_ in made["uses"]}
        assert sources == {"vectors": set(), "queries": {"vectors"}, "keys": {"vectors"}, "values": {"vectors"}, "scores": {"queries", "keys"},
                           "scaled": {"scores"}, "weights": {"scaled"}, "outputs": {"weights", "values"}}[panel], (panel, i, j)


def test_written_arithmetic_is_right_as_far_as_it_shows(js):
    assert js("attention_steps", "m.written([0.5, -2], [1, -1.25])") == "0.50 × 1.00 + (−2.00) × (−1.25) = 3.00"
    assert js("attention_steps", "m.short(-12.34)") == "−12.3" and js("attention_steps", "m.short(9.996)") == "10.0"


@pytest.mark.parametrize("seed", range(6))
def test_mask_growth_counts(js, seed):
    t = 7
    mask = torch.rand(t, t, generator=torch.Generator().manual_seed(seed)) < 0.5
    bits = ["".join(str(int(bit)) for bit in row) for row in mask]
    for n in range(1, t + 1):
        one = js("mask_growth", "m.growth(given.bits, given.n)", bits=bits, n=n)
        assert one == {"pairs": int(mask[:n, :n].sum()), "added": int(mask[:n, :n].sum() - mask[:n - 1, :n - 1].sum()), "changed": int(mask[:n - 1, n - 1].sum())}


@pytest.mark.parametrize(("mask", "n", "said"), [
    (np.ones((4, 4)), 3, "“sat” brings 5 new pairs. Every earlier row changes too."), (np.tri(4), 3, "“sat” brings 3 new pairs. No earlier row changes."),
    (np.tri(4), 1, "“the” brings 1 new pair."), (np.eye(4) + np.eye(4, k=1), 3, "“sat” brings 2 new pairs. 1 of the 2 earlier rows changes too."),
])
def test_mask_growth_tells_the_news(js, mask, n, said):
    assert js("mask_growth", "m.news(given.mask, given.tokens, given.n)", mask=["".join(str(int(bit)) for bit in row) for row in mask], tokens=TOKENS, n=n) == said


def waits(kind: str, writing: bool, layers: int, length: int) -> dict:
    "The step of each (layer, token) from the things that it waits for, one after the other: the definition."
    step = {}
    for token, layer in itertools.product(range(length), range(layers)):
        before = [step[layer - 1, token]] if layer else []
        if kind == "RNN" and token:
            before.append(step[layer, token - 1])
        if writing and token and not layer:
            before.append(step[layers - 1, token - 1])             # the token itself is written by the last layer
        if kind == "transformer" and layer:
            seen = range(token + 1) if writing else range(length)
            before += [step.get((layer - 1, other), 0) for other in seen]
        step[layer, token] = 1 + max(before, default=0)
    return step


@pytest.mark.parametrize(("kind", "writing", "layers", "length"), [*itertools.product(["RNN", "transformer"], [False, True], [1, 3], [1, 5])])
def test_timeline_counts_the_longest_chain(js, kind, writing, layers, length):
    if kind == "transformer" and not writing:                        # all tokens at once: by layer, not by token
        expected = {(layer, token): layer + 1 for layer in range(layers) for token in range(length)}
    else:
        expected = waits(kind, writing, layers, length)
    for (layer, token), step in expected.items():
        assert js("timeline", "m.done(given.kind, given.writing, given.layer, given.token, given.layers)", kind=kind, writing=writing, layer=layer, token=token, layers=layers) == step
    assert js("timeline", "m.steps(given.kind, given.writing, given.length, given.layers)", kind=kind, writing=writing, length=length, layers=layers) == max(expected.values())


@pytest.mark.parametrize(("expression", "value"), [
    ("m.pairs(false, 9)", 81), ("m.pairs(true, 9)", 45), ("m.time(0.0003)", "300 µs"), ("m.time(0.0451)", "45 ms"), ("m.time(2)", "2 s"), ("m.time(1234)", "1,200 s"),
    ("m.nearest([[8, 1, 2], [64, 3, 4]], 40)", [64, 3, 4]), ("m.nearest([], 40)", None),
    ("m.pace(512, true)", {"wait": 1200, "stride": 64}), ("m.pace(8, false)", {"wait": 700, "stride": 1}), ("m.pace(1024, false)", {"wait": 40, "stride": 7}),
])
def test_timeline_helpers(js, expression, value):
    assert js("timeline", expression) == value


def test_position_similarity_is_the_cosine(js):
    table = torch.randn(6, 9, generator=torch.manual_seed(1), dtype=torch.float64)
    cosine = torch.nn.functional.cosine_similarity(table[:, None], table[None], dim=-1)
    for a, b in itertools.combinations(range(6), 2):
        assert js("position_map", "m.similarity(given.table, given.a, given.b)", table=table.T.tolist(), a=a, b=b) == pytest.approx(cosine[a, b].item(), abs=1e-12)
    assert js("position_map", "m.similarity([[0, 1]], 0, 1)") == 0
