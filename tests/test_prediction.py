"""The first chapter's tools: tokens, batches, the loss, training, generation, and the skeleton of a language model."""
import math
import subprocess
import sys
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from transformer_course.config import Config
from transformer_course.prediction import (
    ByteTokenizer,
    CharTokenizer,
    LanguageModel,
    NGram,
    WindowMLP,
    check_positions,
    check_tokens,
    cross_entropy,
    evaluate,
    fit,
    generate,
    load_corpus,
    next_token_loss,
    random_batches,
    sample,
    scoreboard,
    sequential_batches,
    train_and_score,
    train_validation_split,
)
from transformer_course.records import recorded


def table(vocab_size: int) -> nn.Embedding:
    "The smallest model that can be trained: a row of logits for each token, zero at first."
    return nn.Embedding.from_pretrained(torch.zeros(vocab_size, vocab_size), freeze=False)


@given(st.text())
def test_bytes_round_trip(text):
    assert ByteTokenizer().decode(ByteTokenizer().encode(text)) == text


@given(st.text(min_size=1))
def test_characters_round_trip(text):
    tokens = CharTokenizer(text).encode(text)
    assert CharTokenizer(text).decode(tokens) == text and all(0 <= token < CharTokenizer(text).vocab_size for token in tokens)


@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 9), st.sampled_from([1e-2, 1.0, 1e4]))
def test_cross_entropy_equals_pytorch(batch, length, vocabulary, scale):
    logits = scale * torch.randn(batch, length, vocabulary, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, vocabulary, (batch, length))
    ours, theirs = cross_entropy(logits, targets), F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits))


@given(st.integers(2, 60), st.integers(1, 9), st.integers(1, 4))
def test_sequential_batches_ask_for_each_token_once(n, max_len, batch_size):
    if n <= max_len:
        with pytest.raises(ValueError, match=rf"max_len \+ 1 = {max_len + 1} tokens"):
            sequential_batches(torch.arange(n), batch_size=batch_size, max_len=max_len)
        return
    batches = sequential_batches(torch.arange(n), batch_size=batch_size, max_len=max_len)
    asked = torch.cat([batch[:, 1:].flatten() for batch in batches]).tolist()
    assert asked == list(range(1, (n - 1) // max_len * max_len + 1))
    assert all(batch.shape[1] == max_len + 1 and len(batch) <= batch_size for batch in batches)


def test_random_batches_are_pieces_of_the_text_and_repeat_with_the_seed():
    text = torch.arange(100)
    one, same, other = (list(islice(random_batches(text, batch_size=4, max_len=7, seed=seed), 5)) for seed in (3, 3, 4))
    assert all(batch.shape == (4, 8) and (batch.diff(dim=1) == 1).all() for batch in one)
    starts = torch.cat([batch[:, 0] for batch in islice(random_batches(text[:10], batch_size=64, max_len=7), 5)])
    assert set(starts.tolist()) == {0, 1, 2}                          # every place where a piece fits, and no other
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True)) and not torch.equal(one[0], other[0])


def test_split_keeps_order_and_loses_nothing():
    learning, rest = train_validation_split(torch.arange(11))
    assert torch.cat([learning, rest]).tolist() == list(range(11)) and len(rest) == 2


def test_a_table_learns_what_counting_finds():
    torch.manual_seed(0)
    text = torch.randint(0, 3, (4000,)).cumsum(0) % 5                 # the step is random, so ln 3 is the floor
    model = table(5)
    assert abs(next_token_loss(model, text[None, :50]).item() - math.log(5)) < 1e-6
    history = fit(model, random_batches(text, batch_size=32, max_len=20), steps=150, learning_rate=0.1, progress=False)
    batches = sequential_batches(text, batch_size=16, max_len=20)
    loss, counted = evaluate(model, batches), evaluate(NGram(text, 2, 5), batches)
    assert len(history) == 150 and math.log(3) - 0.02 < loss < math.log(3) + 0.02 and abs(loss - counted) < 0.01


def by_hand(text: list[int], context: list[int], following: int, vocab_size: int, smoothing: float) -> float:
    "The probability of a token after a context, from its definition."
    shorter = 1 / vocab_size if not context else by_hand(text, context[1:], following, vocab_size, smoothing)
    runs = [text[i:i + len(context) + 1] for i in range(len(text) - len(context))]
    total = sum(run[:-1] == context for run in runs)
    return (sum(run == [*context, following] for run in runs) + smoothing * shorter) / (total + smoothing)


@given(st.lists(st.integers(0, 3), min_size=4, max_size=30), st.integers(1, 4), st.sampled_from([0.1, 1.0, 10.0]))
def test_n_grams_equal_their_definition_in_loops(text, n, smoothing):
    asked = torch.randint(0, 4, (2, 5))
    logits = NGram(torch.tensor(text), n, 4, smoothing)(asked)
    assert logits.shape == (2, 5, 4)
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(2, 5))
    for b, t, v in ((b, t, v) for b in range(2) for t in range(5) for v in range(4)):
        context = asked[b, max(0, t + 2 - n):t + 1].tolist() if n > 1 else []
        assert logits[b, t, v].exp().item() == pytest.approx(by_hand(text, context, v, 4, smoothing), rel=1e-4)


@given(st.integers(1, 3), st.integers(1, 7), st.integers(1, 4), st.integers(1, 5))
def test_a_window_network_equals_a_loop_over_windows(batch, length, width, context_length):
    layer, x = WindowMLP(width, 6, context_length), torch.randn(batch, length, width)
    made = layer(x, torch.ones(length, length, dtype=torch.bool).tril())
    for b, t in ((b, t) for b in range(batch) for t in range(length)):
        window = torch.zeros(width, context_length)
        for i, s in enumerate(range(t - context_length + 1, t + 1)):
            if s >= 0:
                window[:, i] = x[b, s]
        torch.testing.assert_close(made[b, t], layer.out(layer.hidden(window.flatten()).relu()))


def test_a_window_network_reads_its_window_and_nothing_else():
    lm = skeleton(WindowMLP(4, 6, context_length=3))
    tokens = torch.randint(0, 11, (1, 9))
    before = lm(tokens)
    tokens[0, 4] = (tokens[0, 4] + 1) % 11
    assert (lm(tokens) != before).any(-1)[0].tolist() == [False] * 4 + [True] * 3 + [False] * 2


def test_evaluate_counts_sequences_not_batches():
    model = lambda tokens: F.one_hot(tokens, 2).float() * 9           # predicts a repetition
    repeats, changes = torch.zeros(3, 5, dtype=torch.long), torch.tensor([[0, 1, 0, 1, 0]])
    together = evaluate(model, [torch.cat([repeats, changes])])
    assert evaluate(model, [repeats, changes]) == pytest.approx(together)


def test_fit_takes_any_loss_and_leaves_no_gradient_between_steps():
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    seen = []
    def loss(model, batch):
        seen.append(model.weight.grad is None or float(model.weight.grad))
        return (model.weight * batch).sum()
    fit(model, [torch.ones(1), torch.ones(1)], steps=2, learning_rate=0.1, loss=loss, progress=False)
    assert len(seen) == 2 and model.weight.item() == pytest.approx(0.8, abs=0.01)      # two steps of size lr against a constant gradient


def test_generate_follows_the_model():
    model = lambda tokens: F.one_hot((tokens + 1) % 5, 5).float() * 100
    prompt = torch.tensor([[0], [3]])
    assert generate(model, prompt, 4, temperature=0).tolist() == [[0, 1, 2, 3, 4], [3, 4, 0, 1, 2]]
    assert generate(model, prompt, 4).tolist() == [[0, 1, 2, 3, 4], [3, 4, 0, 1, 2]]
    assert torch.equal(generate(model, prompt, 0), prompt)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_with_the_softmax_of_the_logits_over_the_temperature(temperature):
    logits = torch.tensor([2.0, 0.0, -1.0])
    drawn = sample(logits.expand(20_000, 3), temperature, seeded())
    assert drawn.shape == (20_000, 1)
    torch.testing.assert_close(drawn[:, 0].bincount() / 20_000, (logits / temperature).softmax(0), rtol=0, atol=0.01)


def test_a_temperature_of_zero_takes_the_likeliest_token_and_others_depend_on_the_generator_alone():
    logits = torch.randn(50, 7)
    assert torch.equal(sample(logits, 0), logits.argmax(-1, keepdim=True))
    torch.manual_seed(0)
    one = sample(logits, generator=seeded(3))
    assert torch.equal(one, sample(logits, 1.0, seeded(3))) and not torch.equal(one, sample(logits, 1.0, seeded(4)))
    assert sample(torch.tensor([[9.0, 10.0]]).half(), 1e-4).tolist() == [[1]]       # 10 / 1e-4 is more than half precision holds


def test_generate_draws_each_token_by_sample():
    model = lambda tokens: F.one_hot((tokens + 1) % 5, 5).float() * 2
    prompt = torch.tensor([[0], [3], [1]])
    expected, generator = prompt, seeded()
    for _ in range(6):
        expected = torch.cat([expected, sample(model(expected)[:, -1], 1.5, generator)], dim=1)
    assert torch.equal(generate(model, prompt, 6, temperature=1.5, generator=seeded()), expected)


def test_generate_reads_at_most_max_len():
    lengths = []
    def model(tokens):
        lengths.append(tokens.shape[1])
        return torch.zeros(*tokens.shape, 3)
    generate(model, torch.zeros(1, 2, dtype=torch.long), 4, max_len=3)
    assert lengths == [2, 3, 3, 3]


def test_the_corpus_holds_each_paragraph_once_and_its_end_is_new():
    text = load_corpus()
    paragraphs = text.split("\n\n")
    assert len(text) > 100_000 and len(set(paragraphs)) == len(paragraphs)
    cut, size = int(0.9 * len(text)), 200
    known = {text[i:i + size] for i in range(cut - size + 1)}
    assert not any(text[i:i + size] in known for i in range(cut, len(text) - size + 1))


def test_files_are_read(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("naïve", encoding="utf-8")
    assert load_corpus(file) == "naïve"


@pytest.mark.refusal
def test_bad_input_is_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(ValueError, match="empty"):
        load_corpus(tmp_path / "empty.txt")
    with pytest.raises(ValueError, match="'z' is not among the 2"):
        CharTokenizer("ab").encode("az")
    with pytest.raises(ValueError, match=r"\(2, 3, 4\).*\(2, 4\)"):
        cross_entropy(torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="at least one"):
        generate(table(3), torch.zeros(1, 0, dtype=torch.long), 1)
    with pytest.raises(ValueError, match="temperature=-1"):
        generate(table(3), torch.zeros(1, 1, dtype=torch.long), 1, temperature=-1)
    with pytest.raises(ValueError, match="1 of 2 steps"):
        fit(table(3), [torch.zeros(1, 2, dtype=torch.long)], steps=2, progress=False)
    with pytest.raises(FloatingPointError, match="nan at step 0"):
        fit(table(3), [torch.zeros(1, 2, dtype=torch.long)], steps=1, loss=lambda model, _: model.weight.sum() * math.nan, progress=False)


TOKENS = torch.zeros(2, 3, dtype=torch.long)


@pytest.mark.refusal
@pytest.mark.parametrize(("call", "said"), [
    (lambda: CharTokenizer("ab").decode([-1]), "-1 is not among the 2"),
    (lambda: CharTokenizer("ab").decode([2]), "2 is not among the 2"),
    (lambda: ByteTokenizer().decode([256]), "256"),
    (lambda: check_tokens(TOKENS[0]), r"\(3,\)"),
    (lambda: check_tokens(TOKENS, 2), "3 tokens.*max_len=2"),
    (lambda: next_token_loss(table(3), TOKENS[0]), r"\(3,\)"),
    (lambda: next_token_loss(table(3), TOKENS[:, :1]), r"\(2, 0\) hold no token"),
    (lambda: sequential_batches(TOKENS[0], batch_size=1, max_len=0), r"\(3,\).*max_len \+ 1 = 1"),
    (lambda: sequential_batches(TOKENS, batch_size=1, max_len=1), r"\(2, 3\)"),
    (lambda: next(random_batches(TOKENS[0], batch_size=1, max_len=9)), r"\(3,\).*10 tokens"),
    (lambda: evaluate(table(3), []), "no batch"),
    (lambda: generate(table(3), TOKENS[0], 1), r"\(3,\)"),
    (lambda: generate(table(3), TOKENS, 1, temperature=math.nan), "temperature=nan"),
    (lambda: generate(table(3), TOKENS, -1), "max_new_tokens=-1"),
    (lambda: generate(table(3), TOKENS, 1, max_len=0), "max_len=0"),
    (lambda: sample(torch.zeros(1, 3), -0.5), "temperature=-0.5"),
    (lambda: sample(torch.zeros(1, 3), math.inf), "temperature=inf"),
    (lambda: check_positions(torch.arange(4), TOKENS), r"\(4,\) do not fit 2 sequences of 3 tokens"),
    (lambda: check_positions(torch.zeros(3, 3), TOKENS), r"\(3, 3\) do not fit 2 sequences of 3 tokens"),
    (lambda: skeleton(), "0 layers do not fit n_layers=1"),
    (lambda: skeleton(Shift(1.0), Shift(1.0), n_layers=3), "2 layers do not fit n_layers=3"),
    (lambda: skeleton(Shift(1.0), positions="rope"), "positions='rope' would be ignored"),
    (lambda: skeleton(Shift(1.0), n_heads=2), "n_heads=2 would be ignored"),
    (lambda: skeleton(Shift(1.0), dropout=0.1), "dropout=0.1 would be ignored"),
    (lambda: skeleton(Shift(1.0))(TOKENS[0]), r"\(3,\)"),
    (lambda: skeleton(Shift(1.0))(torch.zeros(1, 10, dtype=torch.long)), "10 tokens.*max_len=9"),
    (lambda: skeleton(Shift(1.0)).embed(TOKENS, torch.arange(2)), r"\(2,\) do not fit 2 sequences of 3 tokens"),
])
def test_bad_calls_name_what_is_wrong(call, said):
    with pytest.raises(ValueError, match=said):
        call()


# The skeleton

class Shift(nn.Module):
    "A layer with one number, which it adds; it keeps the mask it was given."

    def __init__(self, by: float):
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))

    def forward(self, x, mask):
        self.mask = mask
        return x + self.by


class Places(nn.Module):
    "Positions as a multiple of a vector of ones, for a config with learned positions."

    uses = {"positions"}

    def forward(self, positions):
        return positions[..., None].expand(*positions.shape, 4).double()


class Double(nn.Module):
    uses = {"norm"}

    def forward(self, x):
        return 2 * x


def skeleton(*layers, places=None, doubled=None, **fields) -> LanguageModel:
    "A small language model of these layers; the named fields are those of its config."
    sizes = {"vocab_size": 11, "max_len": 9, "d_model": 4} | fields
    return LanguageModel(Config(**sizes), layers, positions=places, norm=doubled)


def test_a_language_model_is_embedding_layers_norm_and_head():
    lm = skeleton(Shift(1.0), Shift(20.0), places=Places(), doubled=Double(), n_layers=2, positions="learned", norm="rms")
    tokens = torch.randint(0, 11, (2, 5))
    x = lm.token_embedding.weight[tokens] + torch.arange(5.0)[:, None]
    torch.testing.assert_close(lm.embed(tokens), x)
    torch.testing.assert_close(lm(tokens), 2 * (x + 21) @ lm.lm_head.weight.T)
    torch.testing.assert_close(lm.logits(x), 2 * x @ lm.lm_head.weight.T)
    assert lm.lm_head.bias is None and {name for name, _ in lm.named_parameters()} == {
        "token_embedding.weight", "lm_head.weight", "layers.0.by", "layers.1.by"}


def test_layers_may_read_what_is_not_after_them():
    layer = Shift(0.0)
    skeleton(layer)(torch.zeros(2, 6, dtype=torch.long))
    assert layer.mask.tolist() == [[s <= t for s in range(6)] for t in range(6)]
    assert layer.mask.dtype == torch.bool


def test_positions_may_be_given_for_all_sequences_or_for_each():
    lm, tokens = skeleton(Shift(0.0), places=Places(), positions="learned"), torch.randint(0, 11, (2, 3))
    plain = lm.token_embedding.weight[tokens]
    for places in (torch.tensor([5, 0, 7]), torch.tensor([[5, 0, 7]]), torch.tensor([[5, 0, 7], [1, 1, 2]])):
        torch.testing.assert_close(lm.embed(tokens, places), plain + places.float()[..., None])
    without = skeleton(Shift(0.0))
    assert torch.equal(without.embed(tokens, torch.tensor([5, 0, 7])), without.token_embedding(tokens))


def test_tied_embeddings_are_one_matrix_that_starts_near_ignorance():
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "d_model": 64}
    tied, untied = (skeleton(Shift(0.0), tie_embeddings=tie, **sizes) for tie in (True, False))
    assert tied.lm_head.weight is tied.token_embedding.weight and untied.lm_head.weight is not untied.token_embedding.weight
    count = lambda lm: sum(p.numel() for p in lm.parameters())
    assert count(untied) - count(tied) == 50 * 64
    tokens = torch.randint(0, 50, (8, 9))
    for lm in (tied, untied):
        assert abs(next_token_loss(lm, tokens).item() - math.log(50)) < 0.5
    fit(tied, [tokens] * 3, steps=3, progress=False)
    assert torch.equal(*(tied.state_dict()[f"{name}.weight"] for name in ("lm_head", "token_embedding")))


def test_a_field_is_used_if_one_part_uses_it():
    one, other = Shift(0.0), Shift(0.0)
    other.uses = {"n_heads", "bias"}
    assert skeleton(one, other, n_layers=2, n_heads=4, bias=False).max_len == 9


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_the_skeleton_keeps_the_type_of_its_weights(kind):
    lm = skeleton(Shift(0.0), places=Places(), positions="learned").to(kind)
    assert lm(torch.tensor([[1, 2, 3]])).dtype == kind


def test_a_model_is_trained_and_scored_by_the_rules(monkeypatch):
    from transformer_course import prediction

    monkeypatch.setattr(prediction, "STEPS", 2)
    monkeypatch.setattr(prediction, "load_corpus", lambda: "abcdefgh " * 400)
    one, same, other = (train_and_score(table, learning_rate=0.1, seed=seed, progress=False) for seed in (0, 0, 1))
    assert one == same and one["loss"] != other["loss"] and one["loss"] < math.log(9)
    assert one["parameters"] == 81 and one["learning_rate"] == 0.1 and one["seed"] == 0


def test_the_scoreboard_shows_the_models_up_to_a_chapter():
    rows = recorded("scoreboard").result
    for chapter in range(5):
        said = str(scoreboard(chapter))
        assert [row["model"] in said for row in rows] == [row["chapter"] <= chapter for row in rows]
    assert all(row["perplexity"] == pytest.approx(math.exp(row["loss"])) for row in rows)
    assert all(len(row["losses"]) >= 3 and len(row["tried"]) >= 3 for row in rows if row["learning rate"] != "counted")


def test_importing_the_chapter_draws_nothing_and_reads_no_record():
    code = ("import sys, transformer_course.prediction as chapter; "
            "print({'matplotlib', f'{chapter.__package__}.figures', f'{chapter.__package__}.records'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_no_token_counts_from_the_end():
    with pytest.raises(IndexError):
        table(5)(torch.tensor([[-1]]))


def test_a_model_that_is_a_function_gets_its_tokens_where_they_are():
    model = table(5).to("meta")
    tokens = torch.zeros(1, 3, dtype=torch.long, device="meta")
    assert generate(lambda t: model(t), tokens, 2, temperature=0).device.type == "meta"
    assert next_token_loss(lambda t: model(t), tokens).device.type == "meta"


def test_a_default_device_does_not_move_the_batches():
    text = torch.arange(50)
    first = next(random_batches(text, batch_size=2, max_len=4))
    with torch.device("meta"):
        assert torch.equal(next(random_batches(text, batch_size=2, max_len=4)), first)


def test_examination_counts_sequences_and_leaves_every_part_in_its_mode():
    batches = [(torch.ones(4, 2),), (torch.full((1, 2), 6.0),)]
    modes = []

    def loss(model, batch):
        modes.append([part.training for part in model.modules()])
        return batch[0].mean()

    model = nn.Sequential(table(2), nn.Dropout(0.5))
    model[1].eval()
    assert evaluate(model, iter(batches), loss=loss) == 2.0
    assert modes == [[False] * 3] * 2 and [part.training for part in model.modules()] == [True, True, False]
    generate(model, TOKENS, 1)
    assert [part.training for part in model.modules()] == [True, True, False]


def test_the_loss_of_half_precision_is_computed_in_full():
    logits, targets = torch.randn(4, 50, dtype=torch.bfloat16), torch.randint(0, 50, (4,))
    torch.testing.assert_close(cross_entropy(logits, targets), F.cross_entropy(logits.float(), targets))
    assert cross_entropy(logits.double(), targets).dtype == torch.float64


@pytest.fixture
def downloads(tmp_path, monkeypatch):
    "A cache of its own, and a server on this machine in place of the network."
    import functools
    import http.server
    import threading

    from transformer_course import prediction

    served, kept = tmp_path / "served", tmp_path / "kept"
    served.mkdir()
    monkeypatch.setattr(prediction, "user_cache_path", lambda name: kept)
    handler = functools.partial(type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}), directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield served, kept, f"http://127.0.0.1:{server.server_port}", lambda name, *value: monkeypatch.setitem(prediction.DOWNLOADS, name, value)
    server.shutdown()


def test_downloads_are_fetched_once_unpacked_and_kept(downloads):
    import zipfile

    served, kept, address, offer = downloads
    (served / "plays.txt").write_text("To be, or not to be")
    with zipfile.ZipFile(served / "words.zip", "w") as packed:
        packed.writestr("words", "anarchism originated as a term")
    offer("plays", f"{address}/plays.txt", 19)
    offer("words", f"{address}/words.zip", (served / "words.zip").stat().st_size)
    assert load_corpus("plays") == "To be, or not to be" and load_corpus("words").startswith("anarchism")
    (served / "plays.txt").unlink()
    assert load_corpus("plays") == "To be, or not to be"                # from the cache
    assert sorted(path.name for path in kept.iterdir()) == ["plays.txt", "words.txt"]


def test_failed_and_short_downloads_leave_nothing_behind(downloads):
    served, kept, address, offer = downloads
    (served / "short.txt").write_text("To be, or")
    offer("short", f"{address}/short.txt", 19)
    offer("gone", f"{address}/gone.txt", 19)
    with pytest.raises(ConnectionError, match="9 bytes, expected 19"):
        load_corpus("short")
    with pytest.raises(ConnectionError, match=r"gone.txt.*without a network, load_corpus\(\)"):
        load_corpus("gone")
    assert not list(kept.glob("*.txt"))
