"The fast decoder says what the model says, and refuses what it does not know."
import itertools

import pytest
import torch
from torch import nn

from transformer_course import fast_decoding
from transformer_course.architectures import GPT
from transformer_course.config import Config
from transformer_course.fast_decoding import FastDecoder, PackedLinear
from transformer_course.kv_cache import Sampler, generate
from transformer_course.prediction import LanguageModel
from transformer_course.products import has_onednn

SIZES = dict(vocab_size=61, max_len=40, d_model=24, n_layers=3, n_heads=6)
GPT2 = dict(positions="learned", activation="gelu_tanh", tie_embeddings=True)
LLAMA = dict(positions="rope", norm="rms", activation="swiglu", bias=False, n_kv_heads=2, d_ff=40)
MODELS = {
    "GPT-2": GPT2,
    "LLaMA": LLAMA,
    "original": dict(positions="sinusoidal", activation="relu"),
    "one key-value head": dict(positions="rope", rope_base=500.0, n_kv_heads=1),
    "no positions": dict(positions="none", norm="rms", norm_eps=1e-3),
    "no biases": dict(positions="learned", bias=False),
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def built(**parts):
    model = GPT(Config(**SIZES, **parts)).eval()
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.1
    return model


def pieces(decoder, tokens, cuts):
    "The logits after each piece."
    return [(end, decoder(tokens[:, start:end])) for start, end in itertools.pairwise(cuts)]


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_logits_are_those_of_the_model(name, onednn, monkeypatch):
    monkeypatch.setattr(fast_decoding, "_HAS_ONEDNN", onednn and has_onednn())
    model, tokens = built(**MODELS[name]), torch.randint(61, (3, 40))
    expected = model(tokens)
    found = pieces(FastDecoder(model), tokens, [0, 7, 8, 12, *range(13, 41)])
    assert len(found) == 31
    for end, logits in found:
        torch.testing.assert_close(logits, expected[:, end - 1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_bfloat16_is_close(name):
    model, tokens = built(**MODELS[name]), torch.randint(61, (2, 20))
    expected = model(tokens)
    for end, logits in pieces(FastDecoder(model, torch.bfloat16), tokens, [0, 9, *range(10, 21)]):
        assert logits.dtype == torch.float32
        error = (logits - expected[:, end - 1]).norm() / expected[:, end - 1].norm()
        assert 1e-5 < error < 0.05


@pytest.mark.parametrize("parts", [GPT2, LLAMA], ids=["GPT-2", "LLaMA"])
@pytest.mark.parametrize("batch", [1, 3])
def test_greedy_text_is_that_of_chapter_9(parts, batch):
    model, tokens = built(**parts), torch.randint(61, (batch, 5))
    assert torch.equal(FastDecoder(model).generate(tokens, 30), generate(model, tokens, 30, temperature=0))


def test_samplers_draw_the_tokens_that_chapter_9_draws():
    model, tokens = built(**GPT2), torch.randint(61, (2, 5))
    drawn = [torch.Generator().manual_seed(3) for _ in range(2)]
    own = FastDecoder(model).generate(tokens, 20, Sampler(temperature=0.8, top_k=10, repetition_penalty=1.2), generator=drawn[0])
    theirs = generate(model, tokens, 20, temperature=0.8, top_k=10, repetition_penalty=1.2, generator=drawn[1])
    assert torch.equal(own, theirs)


def test_a_new_text_is_not_mixed_with_the_one_before():
    decoder, tokens = FastDecoder(built(**GPT2)), torch.randint(61, (2, 9))
    first = decoder(tokens)
    decoder.reset()
    torch.testing.assert_close(decoder(tokens), first)
    decoder.reset()
    torch.testing.assert_close(decoder(tokens[:1]), first[:1])  # another number of texts


def test_the_model_is_left_as_it_is():
    model, tokens = built(**LLAMA).train(), torch.randint(61, (2, 9))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    FastDecoder(model).generate(tokens, 5)
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_maps_stand_side_by_side(onednn, dtype, monkeypatch):
    monkeypatch.setattr(fast_decoding, "_HAS_ONEDNN", onednn and has_onednn())
    maps = [nn.Linear(7, width).to(dtype) for width in (3, 5)]
    x, residual = torch.randn(4, 7, dtype=dtype), torch.randn(4, 8, dtype=dtype)
    y = torch.cat([one(x) for one in maps], -1).detach()
    close = dict(atol=0.05, rtol=0.05) if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(PackedLinear(maps, dtype)(x), y, **close)
    torch.testing.assert_close(PackedLinear(maps, dtype)(x, residual), y + residual, **close)
    for given, function in ((("gelu", "none"), nn.functional.gelu), (("relu", ""), torch.relu)):
        torch.testing.assert_close(PackedLinear(maps, dtype, given)(x), function(y), **close)


@pytest.mark.refusal
@pytest.mark.parametrize(("parts", "said"), [
    (dict(norm_first=False), "norm_first=False"),
    (dict(positions="alibi"), "alibi"),
    (dict(n_experts=2), "n_experts=2"),
])
def test_parts_that_it_does_not_know_are_refused(parts, said):
    with pytest.raises(ValueError, match=said):
        FastDecoder(GPT(Config(**SIZES, **parts)))


@pytest.mark.refusal
def test_other_models_and_types_are_refused():
    with pytest.raises(ValueError, match="LanguageModel"):
        FastDecoder(LanguageModel(Config(**{**SIZES, "n_layers": 1, "n_heads": 1}), [nn.Identity()]))
    with pytest.raises(ValueError, match=r"torch\.float16"):
        FastDecoder(built(**GPT2), torch.float16)


@pytest.mark.refusal
def test_texts_that_do_not_fit_are_refused():
    decoder = FastDecoder(built(**GPT2))
    for tokens, new in ((torch.zeros(1, 0, dtype=torch.long), 3), (torch.zeros(1, 5, dtype=torch.long), 37)):
        with pytest.raises(ValueError, match="max_len=40"):
            decoder.generate(tokens, new)
    assert decoder.generate(torch.zeros(1, 5, dtype=torch.long), 36).shape == (1, 41)  # the last token is not read
    decoder.reset()
    decoder(torch.zeros(2, 5, dtype=torch.long))
    with pytest.raises(ValueError, match="3 texts do not go on 2"):
        decoder(torch.zeros(3, 1, dtype=torch.long))
    with pytest.raises(ValueError, match="max_len=40"):
        decoder(torch.zeros(2, 36, dtype=torch.long))
    with pytest.raises(ValueError, match="shape"):
        decoder(torch.zeros(3, dtype=torch.long))
