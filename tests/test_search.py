"""A cached decoder equals the plain one, and beam search finds what an exhaustive search finds."""
import itertools

import pytest
import torch
from torch import nn

from transformer_course import architectures
from transformer_course.architectures import GPT, EncoderDecoder
from transformer_course.config import Config
from transformer_course.kv_cache import CachedModel, generate
from transformer_course.search import CachedDecoder, beam_search, translate

BOS, EOS = 0, 1
STYLES = {
    "2017": {"positions": "sinusoidal", "norm_first": False, "tie_embeddings": True},
    "pre-norm": {"positions": "learned", "n_kv_heads": 2},
    "rotary": {"positions": "rope", "norm": "rms", "activation": "swiglu", "bias": False},
    "none": {"positions": "none"},
}


def spread(model: nn.Module, std: float = 0.3) -> nn.Module:
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=std)
    return model.eval()


def config(**rest) -> Config:
    return Config(**{"vocab_size": 9, "max_len": 12, "d_model": 24, "n_layers": 3, "n_heads": 6, "kind": "encoder-decoder"} | rest)


def pair(style: str) -> EncoderDecoder:
    torch.manual_seed(0)
    return spread(EncoderDecoder(config(**STYLES[style])))


def some(*shape, seed: int = 0) -> torch.Tensor:
    return torch.randint(9, shape, generator=torch.Generator().manual_seed(seed))


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


MASK = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("style", STYLES)
def test_a_target_in_pieces_equals_the_whole(style, mask):
    model, source, target = pair(style), some(2, 5), some(2, 8, seed=1)
    whole = model(source, target, mask).detach()
    for sizes in ((1,) * 8, (4, 1, 3), (8,)):
        reader = CachedDecoder(model, source, mask)
        close(torch.cat([reader(piece) for piece in target.split(list(sizes), 1)], 1), whole)
    assert not whole.requires_grad and not reader(target[:, :1]).requires_grad


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("style", STYLES)
def test_translations_are_those_of_chapter_7(style, mask):
    model, source = pair(style), some(2, 5)
    for most in (1, 4, 12):
        ours = translate(model, source, BOS, EOS, most, source_mask=mask)
        assert torch.equal(ours, architectures.translate(model, source, BOS, EOS, most, source_mask=mask))


def test_the_source_is_encoded_once():
    model, calls = pair("2017"), []
    model.encoder.register_forward_hook(lambda *_: calls.append("encoder"))
    for block in model.decoder:
        block.cross_attention.sublayer.key.register_forward_hook(lambda *_: calls.append("keys"))
    new = translate(model, some(1, 5), BOS, 99, 6)
    assert new.shape == (1, 6) and calls == ["encoder", "keys", "keys", "keys"]
    for most in (0, 13):
        with pytest.raises(ValueError, match=f"max_new_tokens={most}"):
            translate(model, some(1, 5), BOS, EOS, most)


def log_probabilities(logits_of, prompt, n: int, v: int) -> dict[tuple, float]:
    "Of every continuation of n tokens, all computed in one batch."
    every = list(itertools.product(range(v), repeat=n))
    new = torch.tensor(every)
    log_p = logits_of(torch.cat([prompt.expand(len(new), -1), new], 1)).log_softmax(-1)[:, prompt.shape[1] - 1 : -1]
    return dict(zip(every, log_p.gather(-1, new[..., None]).sum((1, 2)).tolist()))


def decoder(v: int = 4) -> GPT:
    torch.manual_seed(0)
    sizes = config(kind="decoder", vocab_size=v, positions="rope", n_kv_heads=3)
    return spread(GPT(sizes))


@torch.no_grad()
def test_a_wide_beam_is_an_exhaustive_search():
    model, prompt = decoder(), torch.tensor([[2, 0, 3]])
    every = log_probabilities(model, prompt, 4, 4)
    texts, total = beam_search(CachedModel(model), prompt, 4, 4**4)
    assert texts.shape == (256, 7) and (texts[:, :3] == prompt).all()
    assert (total[:-1] >= total[1:]).all() and abs(total.exp().sum() - 1) < 1e-4
    for text, found in zip(texts[:, 3:].tolist(), total.tolist()):
        assert abs(every[tuple(text)] - found) < 1e-4
    both = pair("2017")
    source = some(1, 5)
    every = log_probabilities(lambda text: both(source.expand(len(text), -1), text), torch.tensor([[BOS]]), 2, 9)
    texts, total = beam_search(CachedDecoder(both, source, MASK[:1]), torch.tensor([[BOS]]), 2, 81)
    assert abs(max(every.values()) - total[0].item()) < 1e-4 and tuple(texts[0, 1:].tolist()) == max(every, key=every.get)


@torch.no_grad()
def test_narrow_beams():
    model, prompt = decoder(), torch.tensor([[2, 0, 3]])
    greedy = generate(model, prompt, 6, temperature=0)
    texts, total = beam_search(CachedModel(model), prompt, 6, 1)
    assert torch.equal(texts, greedy)
    for width in (2, 3, 5):
        texts, totals = beam_search(CachedModel(model), prompt, 6, width)
        assert len(texts) == width == len({tuple(text) for text in texts.tolist()})
        for text, found in zip(texts, totals):
            log_p = model(text[None])[0].log_softmax(-1)[2:-1]
            assert abs(log_p[range(6), text[3:]].sum() - found) < 1e-4
    nothing, total = beam_search(CachedModel(model), prompt, 0, 3)
    assert torch.equal(nothing, prompt) and total.tolist() == [0]


@torch.no_grad()
def test_a_beam_that_has_stopped_costs_nothing_more():
    model, prompt, stop = decoder(), torch.tensor([[2, 0, 3]]), 1
    texts, total = beam_search(CachedModel(model), prompt, 5, 4**5, stop=stop)
    every = {}
    for new, found in log_probabilities(model, prompt, 5, 4).items():
        end = new.index(stop) + 1 if stop in new else 5
        every.setdefault(new[:end] + (stop,) * (5 - end), []).append(found)
    best = {text: torch.tensor(found).logsumexp(0).item() for text, found in every.items()}
    finite = total.isfinite()
    assert finite.sum() == len(best)
    for text, found in zip(texts[finite, 3:].tolist(), total[finite].tolist()):
        assert abs(best[tuple(text)] - found) < 1e-4
    short, _ = beam_search(CachedModel(model), prompt, 9, 1, stop=int(generate(model, prompt, 1, temperature=0)[0, -1]))
    assert short.shape == (1, 4)


@pytest.mark.refusal
@pytest.mark.parametrize("prompt, most, width", [(some(2, 3), 2, 2), (some(1, 0), 2, 2), (some(1, 3), 2, 0), (some(1, 3), -1, 2), (some(3), 2, 2)])
def test_bad_searches_are_refused(prompt, most, width):
    with pytest.raises(ValueError):
        beam_search(CachedModel(decoder(9)), prompt, most, width)
    with pytest.raises(ValueError, match="longer than max_len=12"):
        beam_search(CachedModel(decoder(9)), some(1, 3), 20, 2)
