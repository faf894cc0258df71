"""The first chapter's tools: tokens, batches, the loss, training, generation."""
import math
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from transformer_course.prediction import (
    Bigram,
    ByteTokenizer,
    CharTokenizer,
    check_tokens,
    cross_entropy,
    evaluate,
    fit,
    generate,
    load_corpus,
    next_token_loss,
    pieces,
    random_batches,
    split,
)


@given(st.text())
def test_bytes_round_trip(text):
    assert ByteTokenizer().decode(ByteTokenizer().encode(text)) == text


@given(st.text(min_size=1))
def test_characters_round_trip(text):
    tokens = CharTokenizer(text).encode(text)
    assert CharTokenizer(text).decode(tokens) == text and all(0 <= token < CharTokenizer(text).vocab_size for token in tokens)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 9), st.sampled_from([1e-2, 1.0, 1e4]))
def test_cross_entropy_equals_pytorch(batch, length, vocabulary, scale):
    logits = scale * torch.randn(batch, length, vocabulary, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, vocabulary, (batch, length))
    ours, theirs = cross_entropy(logits, targets), F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits))


@given(st.integers(2, 60), st.integers(1, 9), st.integers(1, 4))
def test_pieces_ask_for_each_token_once(n, length, batch_size):
    if n <= length:
        with pytest.raises(ValueError, match=str(length + 1)):
            pieces(torch.arange(n), batch_size=batch_size, length=length)
        return
    batches = pieces(torch.arange(n), batch_size=batch_size, length=length)
    asked = torch.cat([batch[:, 1:].flatten() for batch in batches]).tolist()
    assert asked == list(range(1, (n - 1) // length * length + 1))
    assert all(batch.shape[1] == length + 1 and len(batch) <= batch_size for batch in batches)


def test_random_batches_are_pieces_of_the_text_and_repeat_with_the_seed():
    text = torch.arange(100)
    one, same, other = (list(islice(random_batches(text, batch_size=4, length=7, seed=seed), 5)) for seed in (3, 3, 4))
    assert all((batch.diff(dim=1) == 1).all() for batch in one)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True)) and not torch.equal(one[0], other[0])


def test_split_keeps_order_and_loses_nothing():
    learning, rest = split(torch.arange(11))
    assert torch.cat([learning, rest]).tolist() == list(range(11)) and len(rest) == 2


def test_bigram_learns_what_counting_finds():
    torch.manual_seed(0)
    text = torch.randint(0, 3, (4000,)).cumsum(0) % 5                 # the step is random, so ln 3 is the floor
    model = Bigram(5)
    assert abs(next_token_loss(model, text[None, :50]).item() - math.log(5)) < 1e-6
    history = fit(model, random_batches(text, batch_size=32, length=20), steps=150, learning_rate=0.1, progress=False)
    loss = evaluate(model, pieces(text, batch_size=16, length=20))
    assert len(history) == 150 and math.log(3) - 0.02 < loss < math.log(3) + 0.02


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


def test_temperature_divides_the_logits():
    model = lambda tokens: torch.tensor([2.0, 0.0]).expand(*tokens.shape, 2)
    prompt = torch.zeros(4000, 1, dtype=torch.long)
    for temperature in (0.5, 1.0, 2.0):
        drawn = generate(model, prompt, 1, temperature=temperature, generator=torch.Generator().manual_seed(0))[:, 1]
        assert (drawn == 0).float().mean().item() == pytest.approx(torch.sigmoid(torch.tensor(2 / temperature)).item(), abs=0.03)


def test_generate_reads_at_most_max_len():
    lengths = []
    def model(tokens):
        lengths.append(tokens.shape[1])
        return torch.zeros(*tokens.shape, 3)
    generate(model, torch.zeros(1, 2, dtype=torch.long), 4, max_len=3)
    assert lengths == [2, 3, 3, 3]


def test_corpus_is_there_and_files_are_read(tmp_path):
    assert len(load_corpus()) > 100_000
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
        generate(Bigram(3), torch.zeros(1, 0, dtype=torch.long), 1)
    with pytest.raises(ValueError, match="temperature=-1"):
        generate(Bigram(3), torch.zeros(1, 1, dtype=torch.long), 1, temperature=-1)
    with pytest.raises(ValueError, match="1 of 2 steps"):
        fit(Bigram(3), [torch.zeros(1, 2, dtype=torch.long)], steps=2, progress=False)
    with pytest.raises(FloatingPointError, match="nan at step 0"):
        fit(Bigram(3), [torch.zeros(1, 2, dtype=torch.long)], steps=1, loss=lambda model, _: model.table.sum() * math.nan, progress=False)


TOKENS = torch.zeros(2, 3, dtype=torch.long)


@pytest.mark.refusal
@pytest.mark.parametrize(("call", "said"), [
    (lambda: CharTokenizer("ab").decode([-1]), "-1 is not among the tokens 0 to 1"),
    (lambda: ByteTokenizer().decode([256]), "256"),
    (lambda: check_tokens(TOKENS[0]), r"\(3,\)"),
    (lambda: check_tokens(TOKENS, 2), "3 tokens.*max_len=2"),
    (lambda: next_token_loss(Bigram(3), TOKENS[0]), r"\(3,\)"),
    (lambda: next_token_loss(Bigram(3), TOKENS[:, :1]), r"\(2, 0\) hold no token"),
    (lambda: split(TOKENS[0], 1.5), "share=1.5"),
    (lambda: random_batches(TOKENS[0], batch_size=0, length=2), "batch_size=0"),
    (lambda: pieces(TOKENS[0], batch_size=1, length=0), "length=0"),
    (lambda: pieces(TOKENS, batch_size=1, length=1), r"one axis.*\(2, 3\)"),
    (lambda: random_batches(TOKENS[0], batch_size=1, length=9), "10 tokens.*has 3"),
    (lambda: evaluate(Bigram(3), []), "no batch"),
    (lambda: generate(Bigram(3), TOKENS[0], 1), r"\(3,\)"),
    (lambda: generate(Bigram(3), TOKENS, 1, temperature=math.nan), "temperature=nan"),
    (lambda: generate(Bigram(3), TOKENS, -1), "max_new_tokens=-1"),
    (lambda: generate(Bigram(3), TOKENS, 1, max_len=0), "max_len=0"),
])
def test_bad_calls_name_what_is_wrong(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_no_token_counts_from_the_end():
    with pytest.raises(IndexError):
        Bigram(5)(torch.tensor([[-1]]))


def test_a_model_that_is_a_function_gets_its_tokens_where_they_are():
    model = Bigram(5).to("meta")
    tokens = torch.zeros(1, 3, dtype=torch.long, device="meta")
    assert generate(lambda t: model(t), tokens, 2, temperature=0).device.type == "meta"
    assert next_token_loss(lambda t: model(t), tokens).device.type == "meta"


def test_a_default_device_does_not_move_the_batches():
    text = torch.arange(50)
    first = next(random_batches(text, batch_size=2, length=4))
    with torch.device("meta"):
        assert torch.equal(next(random_batches(text, batch_size=2, length=4)), first)


def test_examination_counts_sequences_and_leaves_every_part_in_its_mode():
    batches = [(torch.ones(4, 2),), (torch.full((1, 2), 6.0),)]
    modes = []

    def loss(model, batch):
        modes.append([part.training for part in model.modules()])
        return batch[0].mean()

    model = nn.Sequential(Bigram(2), nn.Dropout(0.5))
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
