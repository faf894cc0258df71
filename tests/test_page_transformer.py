"""The transformer that runs in a page: its numbers against PyTorch's, and the figure from a disk, without a network."""
import hashlib
import json
import math

import numpy as np
import pytest
import torch
from offline import look_for_violations, measure_on_a_phone, on_disk, put, state
from playwright.sync_api import expect
from test_site import PHONE
from torch.nn.functional import softmax

from builder import PACKAGE, ROOT
from transformer_course import interactive
from transformer_course.architectures import GPT
from transformer_course.config import Config
from transformer_course.prediction import fit, next_token_loss
from transformer_course.records import recorded

SIZES = {"d_model": 20, "n_layers": 3, "n_heads": 5, "d_ff": 28, "max_len": 12}            # no two alike
LETTERS = "abcdefghijk"
KIND = {"positions": "learned", "activation": "gelu_tanh", "tie_embeddings": True}
FACTS = recorded("page_model").result


def gpt(**sizes) -> GPT:
    "A GPT of that form, with random parameters large enough to be told apart."
    model = GPT(Config(vocab_size=len(LETTERS), **(SIZES | sizes), **KIND))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model


def for_page(model: GPT) -> dict:
    "The same model as the page holds it."
    named = {name: parameter.detach().flatten().tolist() for name, parameter in model.named_parameters()}
    return {"config": {name: getattr(model.config, name) for name in (*SIZES, "norm_eps")}, "characters": list(LETTERS), "parameters": named}


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(len(LETTERS), shape, generator=torch.Generator().manual_seed(1))


MODEL = "const model = {...given.model, parameters: Object.fromEntries(Object.entries(given.model.parameters).map(([name, one]) => [name, Float32Array.from(one)]))};"


@pytest.fixture(scope="module")
def js(browser):
    "`js('return …', …)`: what a function body returns that sees `m`, every function of the figure, and `model`."
    context = browser.new_context()
    page = context.new_page()
    inner = "reader encode read readAll emptyCache predict operationsAt windowStart shares draw unpack lossAndGradients zeros adamW learning newModel randomNumbers shapes"
    source = f"{interactive.module('page_transformer')}\nexport {{ {inner.replace(' ', ', ')} }};"

    def run(body: str, **given):
        return page.evaluate("""async ([source, body, given]) => {
            const m = await import(URL.createObjectURL(new Blob([source], {type: "text/javascript"})));
            return new Function("m", "given", body)(m, given); }""", [source, (MODEL if "model" in given else "") + body, given])

    yield run
    context.close()


# --- the forward pass ------------------------------------------------------------------------------------------------------------


def test_logits_and_attention_are_those_of_pytorch(js):
    model, text = gpt(), tokens(1, 12)
    seen = []

    def watched(q, k, v, mask=None):
        scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~mask, -math.inf)
        seen.append(softmax(scores, -1)[0])
        return seen[-1] @ v

    same = GPT(model.config, attention_fn=watched)
    same.load_state_dict(model.state_dict())
    with torch.no_grad():
        logits = same(text)[0]
    found = js("return m.readAll(model, given.tokens).map(({logits, weights}) => ({logits: [...logits], weights: weights.map((layer) => layer.map((own) => [...own]))}));", model=for_page(model), tokens=text[0].tolist())
    torch.testing.assert_close(torch.tensor([one["logits"] for one in found]), logits, rtol=1e-5, atol=1e-5)
    for t, one in enumerate(found):
        for layer, heads in enumerate(one["weights"]):
            torch.testing.assert_close(torch.tensor(heads).float(), seen[layer][:, t, : t + 1], rtol=1e-5, atol=1e-6)


def test_the_stream_after_each_layer_is_pytorchs_and_gives_the_logit_lens(js):
    model, text = gpt(), tokens(1, 7)
    streams = []
    for layer in model.layers:
        layer.register_forward_pre_hook(lambda _, given: streams.append(given[0][0]))
    model.layers[-1].register_forward_hook(lambda _, given, made: streams.append(made[0]))
    with torch.no_grad():
        model(text)
        lens = [model.logits(one[None])[0, -1] for one in streams]
    found = js("const {stream} = m.readAll(model, given.tokens).at(-1); return stream.map((x) => [[...x], [...m.predict(model, x)]]);", model=for_page(model), tokens=text[0].tolist())
    assert len(found) == len(streams) == 4
    for (vector, logits), stream, expected in zip(found, streams, lens, strict=True):
        torch.testing.assert_close(torch.tensor(vector), stream[-1], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(torch.tensor(logits), expected, rtol=1e-5, atol=1e-5)


def test_a_full_model_refuses_another_token(js):
    said = js("try { m.readAll(model, given.tokens); } catch (error) { return error.message; }", model=for_page(gpt()), tokens=[1] * 13)
    assert said == "13 tokens are more than max_len=12"


def test_operations_are_counted_by_the_formula_of_pytorchs_counter(js):
    from torch.utils.flop_counter import FlopCounterMode

    model, text = gpt(), tokens(1, 9)
    counted, formula = js("const cache = m.emptyCache(model); m.readAll(model, given.tokens, cache); return [cache.operations, given.tokens.reduce((sum, _, t) => sum + m.operationsAt(model, t), 0)];", model=for_page(model), tokens=text[0].tolist())
    assert counted == formula
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(text[:, :1])
    assert counter.get_total_flops() == js("return m.operationsAt(model, 0);", model=for_page(model))


def test_the_recorded_model_gives_pytorchs_logits_to_a_thousandth(js):
    "The file that the page loads, dequantised by both."
    packed = json.loads(interactive.data_script("page_transformer").split(" = ", 1)[1][:-2])
    weights = interactive.page_weights()
    config = Config(vocab_size=len(packed["characters"]), **packed["config"], **KIND)
    model = GPT(config)
    parameters = {name: torch.from_numpy(one) for name, one in weights.items()}
    model.load_state_dict({**parameters, "lm_head.weight": parameters["token_embedding.weight"]})
    text = (FACTS["text"] * 2)[: config.max_len]
    read = torch.tensor([[packed["characters"].index(one) for one in text]])
    with torch.no_grad():
        logits = model(read)[0]
    found = js("const model = m.unpack(given.packed), {tokens} = m.encode(model, given.text); return m.readAll(model, tokens).map(({logits}) => [...logits]);", packed=packed, text=text)
    assert np.abs(np.array(found) - logits.numpy()).max() < 1e-3
    loss = float(next_token_loss(model, read).detach())
    assert loss < math.log(config.vocab_size)


def test_the_record_and_the_file_belong_together():
    file = ROOT / PACKAGE / "js/page_model.js"
    markup = b"<" in file.read_bytes()                     # it may stand in a script element
    assert not markup and hashlib.sha256(file.read_bytes()).hexdigest()[:16] == FACTS["digest"] and file.stat().st_size == FACTS["bytes"] <= 1_000_000
    assert abs(FACTS["loss of the page"] - FACTS["loss"]) < 0.01 and FACTS["loss"] < recorded_loss("bigram")
    assert FACTS["sample"].startswith(FACTS["prompt"])


def recorded_loss(model: str) -> float:
    return next(row["loss"] for row in recorded("scoreboard").result if row["model"] == model)


# --- drawing, windows, the cache -------------------------------------------------------------------------------------------------------


def kept(logits: torch.Tensor, temperature: float, k: int, p: float) -> torch.Tensor:
    "The probabilities by the definition: top-k, then the fewest likeliest whose sum reaches p."
    logits = logits / temperature
    order = logits.argsort(descending=True)[: k or None]
    inside = softmax(logits[order], -1)
    n = 1 + int((inside.cumsum(-1)[:-1] < p).sum()) if p < 1 else len(order)
    out = torch.zeros_like(logits)
    out[order[:n]] = inside[:n] / inside[:n].sum()
    return out


@pytest.mark.parametrize("k", [0, 1, 4, 40])
@pytest.mark.parametrize("p", [0.05, 0.6, 0.95, 1])
@pytest.mark.parametrize("temperature", [0.3, 1, 2])
def test_temperature_top_k_and_top_p(js, temperature, k, p):
    logits = torch.randn(11, generator=torch.Generator().manual_seed(k), dtype=torch.float64) * 2
    found = js("const {places, shares} = m.shares(Float64Array.from(given.logits), given.settings); return places.map((place, n) => [place, shares[n]]);", logits=logits.tolist(), settings={"temperature": temperature, "topK": k, "topP": p})
    out = torch.zeros(11, dtype=torch.float64)
    out[[place for place, _ in found]] = torch.tensor([share for _, share in found], dtype=torch.float64)
    torch.testing.assert_close(out, kept(logits, temperature, k, p))
    assert [place for place, _ in found] == logits.argsort(descending=True).tolist()


def test_at_temperature_zero_the_likeliest_takes_all(js):
    assert js("return m.shares(Float32Array.from([1, 3, 2]), {temperature: 0});") == {"places": [1, 2, 0], "shares": [1, 0, 0]}


def test_a_draw_falls_on_its_share(js):
    odds = {"places": [7, 2, 5], "shares": [0.5, 0.25, 0.25]}
    assert [js("return m.draw(given.odds, given.u);", odds=odds, u=u) for u in (0, 0.49, 0.5, 0.74, 0.75, 0.999)] == [7, 7, 2, 2, 5, 5]
    assert js("return m.draw({places: [4, 1], shares: [1, 0]}, 0.9999999999);") == 4


def test_a_full_window_goes_on_with_its_second_half(js):
    starts = js("return Array.from({length: 41}, (_, n) => m.windowStart(n, 16));")
    assert starts == [0] * 17 + [8] * 8 + [16] * 8 + [24] * 8 and all(0 < n - start <= 16 for n, start in enumerate(starts) if n)


def test_with_a_cache_the_reading_is_the_same_and_costs_less(js):
    "Texts that grow, shrink, change in the middle and outgrow the window; at each the logits of the last token, and the operations."
    texts = [[1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4], [1, 2], [1, 5, 2, 7], [*range(11), 3], [*range(11), 3, 3], [*range(11), 3, 3, 4]]
    body = """const one = m.reader(model), two = m.reader(model);
        return given.texts.map((text) => { const cached = one.follow(text, true); two.forget(); const all = two.follow(text, false);
            return {cached, all, differ: Math.max(...one.seen().at(-1).logits.map((x, i) => Math.abs(x - two.seen().at(-1).logits[i]))), length: one.seen().length}; });"""
    found = js(body, model=for_page(gpt()), texts=texts)
    at = [js("return m.operationsAt(model, given.t);", model=for_page(gpt()), t=t) for t in range(12)]
    assert all(one["differ"] == 0 for one in found) and [one["length"] for one in found] == [3, 4, 4, 2, 4, 12, 7, 8]
    assert [one["cached"] for one in found] == [sum(at[:3]), at[3], 0, 0, sum(at[1:4]), sum(at[:12]), sum(at[:7]), at[7]]
    assert [one["all"] for one in found] == [sum(at[:n]) for n in (3, 4, 4, 2, 4, 12, 7, 8)]


def test_unknown_characters_are_left_out_and_named(js):
    assert js("return m.encode({characters: [...'abc']}, 'cab\\u00e9ab\\u00e9!');") == {"tokens": [2, 0, 1, 0, 1], "unknown": ["é", "!"]}


def test_the_map_of_the_last_tokens_sums_what_is_before_them(js):
    body = "const one = m.reader(model); one.follow(given.text, true); const map = m.lastMap(model, one.window(), one.seen()); return {...map, weights: map.weights(given.head)};"
    text, model = tokens(1, 29)[0].tolist(), for_page(gpt(max_len=32))
    found = js(body, model=model, text=text, head=7)
    assert len(found["rows"]) == 20 and found["columns"] == ["…", *found["rows"]] and np.shape(found["weights"]) == (20, 21)
    assert np.abs(np.array(found["weights"]).sum(1) - 1000).max() <= 11, "thousandths, rounded"
    short = js(body, model=model, text=text[:6], head=0)
    assert short["columns"] is None and short["rows"] == [LETTERS[n] for n in text[:6]] and short["weights"][0] == [1000, 0, 0, 0, 0, 0]


# --- training -----------------------------------------------------------------------------------------------------------------------------


def test_gradients_are_those_of_pytorch(js):
    model, batch = gpt(), tokens(4, 10)
    loss = next_token_loss(model, batch)
    loss.backward()
    found = js("""const gradients = m.zeros(model.parameters); let loss = 0;
        for (const one of given.batch) loss += m.lossAndGradients(model, one, gradients, 1 / given.batch.length) / given.batch.length;
        return {loss, gradients: Object.fromEntries(Object.entries(gradients).map(([name, one]) => [name, [...one]]))};""", model=for_page(model), batch=batch.tolist())
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)
    expected = dict(model.named_parameters())
    assert found["gradients"].keys() == expected.keys()
    largest = max(one.grad.norm().item() for one in expected.values())
    for name, one in expected.items():
        differ = (torch.tensor(found["gradients"][name]).view(one.shape) - one.grad).norm().item()
        if name.endswith("key.bias"):                     # a bias of the keys changes no softmax: both are rounding errors
            assert one.grad.norm() < 1e-5 * largest and differ < 1e-5 * largest
        else:
            assert differ < 1e-4 * one.grad.norm().item(), name


def test_steps_of_adamw_are_those_of_fit(js):
    model, batch = gpt(), tokens(3, 10)
    page = for_page(model)
    history = fit(model, iter([batch] * 6), steps=6, learning_rate=2e-3, progress=False)
    found = js("""const optimizer = m.adamW(model.parameters, {rate: 2e-3}), history = [];
        for (let n = 0; n < 6; n++) { const gradients = m.zeros(model.parameters); let loss = 0;
            for (const one of given.batch) loss += m.lossAndGradients(model, one, gradients, 1 / 3) / 3;
            optimizer.step(gradients); history.push(loss); }
        return {history, parameters: Object.fromEntries(Object.entries(model.parameters).map(([name, one]) => [name, [...one]]))};""", model=page, batch=batch.tolist())
    assert found["history"] == pytest.approx(history, rel=1e-4) and history[-1] < history[0] - 0.05
    for name, one in model.named_parameters():
        if not name.endswith("key.bias"):
            torch.testing.assert_close(torch.tensor(found["parameters"][name]).view(one.shape), one.detach(), rtol=1e-3, atol=1e-4)


def test_the_page_trains_a_model_of_the_form_of_a_gpt(js):
    shapes = js("return m.shapes(given.config, 11);", config=SIZES)
    assert {name: tuple(shape) for name, shape in shapes.items()} == {name: tuple(one.shape) for name, one in gpt().named_parameters()}
    begin = js("""const model = m.newModel(given.config, [...'abcdefghijk'], m.randomNumbers(1));
        return Object.fromEntries(Object.entries(model.parameters).map(([name, one]) => [name, [...one]]));""", config={**SIZES, "norm_eps": 1e-5})
    table, down, query = (np.array(begin[name]) for name in ("token_embedding.weight", "layers.1.feed_forward.sublayer.down.weight", "layers.0.attention.sublayer.heads.query.weight"))
    usual = 0.02 * math.sqrt(768 / 20)
    assert table.std() == pytest.approx(usual, rel=0.15) and query.std() == pytest.approx(usual, rel=0.15) and down.std() == pytest.approx(usual / math.sqrt(6), rel=0.15)
    assert set(begin["norm.weight"]) == {1} and set(begin["layers.0.attention.sublayer.heads.query.bias"]) == {0}


def test_a_small_model_learns_a_small_text(js):
    body = """const text = [...Array(60)].flatMap(() => [0, 1, 2, 3, 4, 3, 2, 1]), random = m.randomNumbers(4);
        const model = m.newModel({...given.config, max_len: 12}, [...'abcde'], random), lesson = m.learning(model, text, {batch: 4, rate: 5e-3, random}), losses = [];
        let slices = 0;
        while (losses.length < 60) { const loss = lesson.next().value; slices += 1; if (loss !== null) losses.push(loss); }
        return [losses[0], losses.at(-1), slices];"""
    first, last, slices = js(body, config={**SIZES, "norm_eps": 1e-5})
    assert abs(first - math.log(5)) < 0.4 and last < 0.3 and slices == 240


def test_random_numbers_are_even_and_the_same_each_time(js):
    numbers = js("const next = m.randomNumbers(5); return Array.from({length: 4000}, next);")
    assert 0 <= min(numbers) and max(numbers) < 1 and abs(np.mean(numbers) - 0.5) < 0.02 and abs(np.std(numbers) - 12 ** -0.5) < 0.01
    assert numbers[:5] == js("const next = m.randomNumbers(5); return Array.from({length: 5}, next);") != js("const next = m.randomNumbers(6); return Array.from({length: 5}, next);")


def test_a_long_curve_is_thinned_to_means(js):
    assert js("return m.thinned([1, 3, 5, 7, 9], 2);") == [3, 8] and js("return m.thinned([1, 2], 5);") == [1, 2] and js("return m.thinned([], 5);") == []


# --- the figure, from a disk ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    one = interactive.page_transformer(caption="A model.", text="The cat ", learn="the cat sat on the mat. " * 40)
    return on_disk(tmp_path_factory.mktemp("page"), one)


@pytest.fixture
def page(opened):
    return opened()


def press(page, name: str):
    page.get_by_role("button", name=name, exact=True).filter(visible=True).click()


def cells(page):
    "The cells of the map that is shown."
    return page.locator(".live-cell").filter(visible=True)


def load(page):
    page.get_by_role("button", name="Load the model").click()
    expect(page.get_by_role("textbox", name="Text", exact=True)).to_be_visible(timeout=20_000)


def test_the_parameters_come_only_when_they_are_asked_for(page):
    held = "Boolean(globalThis.courseData)"
    assert page.evaluate(held) is False and page.locator(".live-wrote").first.inner_text().startswith(FACTS["prompt"].strip())
    expect(page.get_by_role("button", name="Load the model")).to_have_text(f"Load the model, {round(FACTS['bytes'] / 1000)} kilobytes")
    assert not page.get_by_role("textbox", name="Text", exact=True).is_visible()
    cells(page).nth(len(FACTS["prompt"])).click()          # a map of one head is there from the start
    assert (state(page, "row"), state(page, "column")) == (1, 0)
    load(page)
    assert page.evaluate(held) is True and page.get_by_role("textbox", name="Text", exact=True).input_value() == "The cat "
    assert not page.get_by_role("button", name="Load the model").is_visible()


def test_a_reader_types_and_sees_probabilities_and_attention(page):
    load(page)
    area = page.get_by_role("textbox", name="Text", exact=True)
    area.fill("if x é")
    expect(page.locator(".live-desk").nth(1)).to_contain_text("has never read “é”")
    expect(page.locator(".live-desk").nth(1)).to_contain_text("5 tokens of at most 128")
    assert state(page, "text") == "if x é" and cells(page).count() == 25
    page.get_by_role("radiogroup", name="Layer and head").locator("input").nth(6).check(force=True)
    assert state(page, "head") == 6
    cells(page).nth(11).click()
    assert (state(page, "row"), state(page, "column")) == (2, 1)
    expect(page.locator(".live-side .live-says").last).to_contain_text("reads “f” with weight")
    numbers = [float(one) for one in page.locator(".live-halves .live-number").all_inner_texts()]
    assert len(numbers) == 8 and numbers == sorted(numbers, reverse=True) and sum(numbers) <= 1.004
    put(page, "temperature", 0)
    assert page.locator(".live-halves .live-number").first.inner_text() == "1.000"
    put(page, "temperature", 1)
    put(page, "top_k", 3)
    expect(page.locator(".live-halves")).to_contain_text("3 of")
    area.fill("")
    expect(page.locator(".live-halves")).to_contain_text("write a character")
    assert cells(page).count() == 0 and page.get_by_role("button", name="Write").is_disabled()


def test_it_writes_at_least_20_characters_per_second_with_the_cache(page):
    load(page)
    put(page, "text", FACTS["text"][:100])
    press(page, "Write")
    page.wait_for_timeout(1500)
    said = page.locator(".live-news").inner_text()
    rate = int(said.split()[0])
    expect(page.get_by_role("button", name="Write", exact=True)).to_be_enabled(timeout=30_000)
    assert rate >= 20, said
    assert len(state(page, "text")) == 400, "300 characters, then it stops by itself"


def test_the_cache_is_switched_off_and_the_operations_show_it(page):
    load(page)
    put(page, "text", FACTS["text"][:100])
    shown = page.locator(".live-halves .live-amount")
    press(page, "One character")
    expect(shown).to_have_text("1.4 million")
    page.get_by_role("switch", name="Cache of keys and values").uncheck(force=True)
    assert state(page, "cached") is False
    press(page, "One character")
    without = float(shown.inner_text().split()[0])
    assert without == pytest.approx(2 * 102 * FACTS["parameters"] / 1e6, rel=0.15), "two operations for each parameter and token"
    expect(page.locator(".live-halves")).to_contain_text(f"{without} million without it")


def test_writing_pauses_and_starts_again(page):
    load(page)
    press(page, "Write")
    page.wait_for_timeout(200)
    press(page, "Pause")
    text = state(page, "text")
    assert text.startswith("The cat ") and len(text) > 8
    page.wait_for_timeout(200)
    assert state(page, "text") == text
    press(page, "Start again")
    assert state(page, "text") == "The cat "


def test_a_model_is_trained_from_nothing_while_the_page_answers(page):
    page.get_by_role("radio", name="small, learns here").check(force=True)
    assert page.evaluate("Boolean(globalThis.courseData)") is False
    told = page.locator(".live-school .live-says")
    expect(told).to_contain_text("A uniform guess has a loss of 2.40")
    map_before = [cell.get_attribute("aria-label") for cell in cells(page).all()]
    page.evaluate("""() => { window.gaps = []; let last = performance.now();
        const look = () => { gaps.push(performance.now() - last); last = performance.now(); setTimeout(look, 1); }; look(); }""")
    press(page, "Train")
    expect(told).to_contain_text("Step")
    page.wait_for_function("document.querySelectorAll('.live-school .live-axis span')[2].textContent.replace(',', '') > 40", timeout=60_000)
    press(page, "Pause")
    gaps = page.evaluate("gaps.sort((a, b) => a - b)")
    loss = float(told.locator("strong").inner_text())
    assert loss < 2.2 and gaps[len(gaps) // 2] < 100, (loss, gaps[-5:])
    assert [cell.get_attribute("aria-label") for cell in cells(page).all()] != map_before
    points = page.locator(".live-school polyline").get_attribute("points").split()
    assert len(points) > 40 and len(page.locator(".live-school .live-wrote").inner_text()) > 20
    press(page, "Write")
    page.wait_for_timeout(300)
    assert set(state(page, "text")) - set("The cat ") <= set("the cat sat on the mat. ")
    press(page, "Start again") if page.locator(".live-school").get_by_role("button", name="Start again").is_disabled() else page.locator(".live-school").get_by_role("button", name="Start again").click()
    expect(told).to_contain_text("A uniform guess has a loss of")


def test_a_text_of_ones_own_is_learnt_and_a_short_one_is_not(page):
    page.get_by_role("radio", name="small, learns here").check(force=True)
    area = page.get_by_role("textbox", name="Text to learn from")
    area.fill("short")
    expect(page.locator(".live-school .live-says")).to_have_text("At least 200 characters, please.")
    assert page.get_by_role("button", name="Train", exact=True).is_disabled() and cells(page).count() == 0
    area.fill("0 1 2 3 " * 40)
    expect(page.locator(".live-school .live-says")).to_contain_text("320 characters, 5 of them different")
    assert page.get_by_role("button", name="Train", exact=True).is_enabled()


def states(page):
    "The figure in each of its states, one after the other."
    yield "before anything is loaded"
    page.get_by_role("radio", name="small, learns here").check(force=True)
    yield "a small model that has learnt nothing"
    press(page, "Train")
    page.wait_for_timeout(1200)
    press(page, "Pause")
    page.evaluate("document.querySelectorAll('.live-table').forEach((node) => { node.open = true; })")
    yield "a small model that has learnt something, with its tables"
    page.get_by_role("radio", name="trained by the course").check(force=True)
    load(page)
    put(page, "text", FACTS["text"][:60])
    yield "the large model"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("options", [{}, PHONE], ids=["desk", "phone"])
def test_axe_finds_nothing_in_any_state(opened, options, scheme):
    look_for_violations(opened, states, options, scheme)


def test_every_state_fits_a_phone_and_a_finger(opened):
    measure_on_a_phone(opened, states)


def test_everything_can_be_done_with_the_keyboard(page):
    page.get_by_role("radio", name="trained by the course").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    area = page.get_by_role("textbox", name="Text", exact=True)
    expect(area).to_be_visible(timeout=20_000)
    area.focus()
    page.keyboard.press("Control+End")
    page.keyboard.type("sat")
    assert state(page, "text") == "The cat sat"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")                           # one character
    assert len(state(page, "text")) == 12
    page.get_by_role("slider", name="Temperature").focus()
    page.keyboard.press("ArrowRight")
    assert state(page, "temperature") == pytest.approx(0.6)
    page.get_by_role("switch").focus()
    page.keyboard.press("Space")
    assert state(page, "cached") is False
    page.get_by_role("radiogroup", name="Layer and head").locator("input").first.focus()
    page.keyboard.press("ArrowRight")
    assert state(page, "head") == 1
    cells(page).and_(page.locator("[tabindex='0']")).focus()
    row = page.locator(".live-row").filter(visible=True).count() - 2
    page.keyboard.press("ArrowUp")
    assert state(page, "row") == row - 1


def test_writing_stops_when_it_is_out_of_sight(page):
    load(page)
    page.evaluate("document.body.append(Object.assign(document.createElement('div'), {style: 'height: 4000px'}))")
    press(page, "Write")
    page.evaluate("scrollTo(0, 5000)")
    page.wait_for_timeout(300)
    length = len(state(page, "text"))
    page.wait_for_timeout(300)
    assert len(state(page, "text")) == length < 308


def test_a_missing_file_is_said_and_can_be_tried_again(browser, folder, tmp_path):
    for path in folder.iterdir():
        if path.name != "page_model.js":
            (tmp_path / path.name).write_text(path.read_text())
    context = browser.new_context()
    page = context.new_page()
    page.goto((tmp_path / "x.html").as_uri())
    page.get_by_role("button", name="Load the model").click()
    expect(page.locator(".live-desk").first).to_contain_text("can't be read")
    (tmp_path / "page_model.js").write_text((folder / "page_model.js").read_text())
    load(page)
    context.close()


def test_alone_it_brings_its_parameters_along(browser):
    one = interactive.page_transformer(caption="A model.")
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.set_content(one.to_html(alone=True))
    load(page)
    context.close()
