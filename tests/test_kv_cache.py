"""Reading piece by piece equals reading at once; caches hold what they say; samplers draw what they should."""
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from transformer_course import prediction
from transformer_course.architectures import GPT, Encoder, EncoderDecoder, MaskedLM
from transformer_course.attention import causal_mask
from transformer_course.block import Block, final_norm
from transformer_course.config import PRESETS, Config
from transformer_course.kv_cache import (
    Cache,
    CachedModel,
    GrowingCache,
    PreallocatedCache,
    QuantisedCache,
    Sampler,
    SlidingCache,
    cache_bytes,
    cache_mask,
    can_cache,
    dequantise,
    generate,
    keep_top_k,
    keep_top_p,
    left_pad,
    penalise,
    quantise,
    stream,
)
from transformer_course.positions import position_vectors
from transformer_course.prediction import LanguageModel, NGram, WindowMLP

SCHEMES = ("none", "learned", "sinusoidal", "rope", "alibi")
STYLES = {
    "GPT": {},
    "post-norm": {"norm_first": False},
    "LLaMA": {"norm": "rms", "activation": "swiglu", "bias": False, "n_kv_heads": 2},
    "one key-value head": {"n_kv_heads": 1, "tie_embeddings": True},
    "experts": {"n_experts": 3, "n_active_experts": 2},
}
CACHES = {"growing": GrowingCache, "preallocated": partial(PreallocatedCache, 13)}


def config(**rest) -> Config:
    return Config(**{"vocab_size": 11, "max_len": 13, "d_model": 24, "n_layers": 3, "n_heads": 6, "positions": "rope"} | rest)


def spread(model: nn.Module, std: float = 0.3) -> nn.Module:
    "Random parameters of a size at which every part matters; in evaluation mode."
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=std)
    return model.eval()


def model(**rest) -> GPT:
    torch.manual_seed(0)
    return spread(GPT(config(**rest)))


def some(*shape) -> torch.Tensor:
    return torch.randint(11, shape, generator=torch.Generator().manual_seed(1))


def close(a, b, atol=1e-5):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def in_pieces(reader, tokens, *sizes) -> torch.Tensor:
    return torch.cat([reader(piece) for piece in tokens.split(list(sizes), dim=1)], dim=1)


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("positions", SCHEMES)
def test_pieces_equal_the_whole(positions, style, cache):
    one = model(positions=positions, **STYLES[style])
    tokens = some(2, 12)
    whole = one(tokens).detach()
    assert whole.std() > 0.1
    for sizes in ((1,) * 12, (5, 1, 1, 3, 2), (12,), (1, 11)):
        reader = CachedModel(one, CACHES[cache])
        close(in_pieces(reader, tokens, *sizes), whole)
        assert reader.length == 12 and all(isinstance(part, Cache) for part in reader.caches)


def test_pieces_equal_the_whole_in_double_precision_and_with_fused_attention():
    tokens = some(2, 12)
    one = model().double()
    close(in_pieces(CachedModel(one), tokens, 4, 1, 7), one(tokens).detach(), 1e-13)
    torch.manual_seed(0)
    fused = spread(GPT(config(n_kv_heads=2), attention_fn=F.scaled_dot_product_attention))
    close(in_pieces(CachedModel(fused), tokens, 4, 1, 7), fused(tokens).detach())


@pytest.mark.parametrize("positions", ("none", "sinusoidal", "rope", "alibi"))
@pytest.mark.parametrize("window", (1, 4, 20))
def test_a_sliding_cache_is_a_mask_of_a_band(positions, window):
    one, tokens = model(positions=positions), some(2, 12)
    place = torch.arange(12)
    behind = place[:, None] - place
    x = one.embed(tokens)
    for layer in one.layers:
        x = layer(x, (behind >= 0) & (behind < window))
    whole = one.logits(x).detach()
    for sizes in ((1,) * 12, (5, 1, 1, 3, 2), (12,), (3, 9)):
        reader = CachedModel(one, partial(SlidingCache, window))
        close(in_pieces(reader, tokens, *sizes), whole)
        assert reader.caches[0].window == window and reader.length == 12


def test_a_sliding_cache_does_not_grow_and_reads_on_for_ever():
    one = model()
    reader = CachedModel(one, partial(SlidingCache, 4))
    reader(some(1, 5))
    size = reader.nbytes
    long = generate(one, some(1, 5), 40, temperature=0, cache=partial(SlidingCache, 4))
    assert long.shape == (1, 45) and size == cache_bytes(config(), 4)


@pytest.mark.parametrize("positions", SCHEMES)
def test_the_memory_is_that_of_the_formula(positions):
    for rest in ({}, {"n_kv_heads": 2}, {"n_kv_heads": 1, "n_layers": 2}):
        sizes = config(positions=positions, **rest)
        for dtype in (torch.float32, torch.float64):
            reader = CachedModel(spread(GPT(sizes)).to(dtype))
            reader(some(3, 7))
            reader(some(3, 1))
            assert reader.nbytes == cache_bytes(sizes, 8, batch=3, dtype=dtype)
            full = CachedModel(reader.model, partial(PreallocatedCache, 13))
            full(some(3, 7))
            assert full.nbytes == cache_bytes(sizes, 13, batch=3, dtype=dtype)


def test_the_memory_of_published_models():
    "Touvron et al. 2023; CLAIMS C9.08, C9.09, C9.19."
    half = torch.float16
    assert cache_bytes(PRESETS["llama-3-70b"], 4096, dtype=half) == 1_342_177_280
    assert cache_bytes(PRESETS["llama-3-70b"], 1, dtype=half) == 327_680
    assert cache_bytes(PRESETS["llama-3-70b"].replace(n_kv_heads=64), 4096, dtype=half) == 10_737_418_240
    assert cache_bytes(PRESETS["mistral-7b"], 30_000) == cache_bytes(PRESETS["mistral-7b"], 4096)


@pytest.mark.parametrize("cache", [GrowingCache, partial(PreallocatedCache, 9), partial(SlidingCache, 4), partial(QuantisedCache, 3)])
def test_caches_keep_the_interface(cache):
    one = cache()
    assert isinstance(one, Cache) and one.length == 0 and one.nbytes == 0
    torch.manual_seed(0)
    k, v = torch.randn(2, 3, 8, 5), torch.randn(2, 3, 8, 7)
    for start, end in ((0, 5), (5, 6), (6, 8)):
        keys, values = one.append(k[:, :, start:end], v[:, :, start:end])
        kept = end if one.window is None else min(end, one.window - 1 + end - start)
        assert one.length == end and one.nbytes > 0
        close(keys, k[:, :, end - kept : end], 0.02)
        close(values, v[:, :, end - kept : end], 0.02)
    one.select(torch.tensor([1, 1, 0]))
    keys, _ = one.append(k[[1, 1, 0], :, :1], v[[1, 1, 0], :, :1])
    close(keys[0], keys[1])
    close(keys[2, :, -2], k[0, :, 7], 0.02)
    for wrong in (k[:, :2, :1], k[:1, :, :1], k[..., :4], k.double()):
        with pytest.raises(ValueError):
            one.append(wrong[:, :, :1], v[: len(wrong), : wrong.shape[1], :1])
    with pytest.raises(ValueError, match="a value for each key"):
        cache().append(k, v[:, :, 1:])


def test_a_full_cache_refuses_more():
    one = PreallocatedCache(3)
    with pytest.raises(ValueError, match="4 tokens do not fit a cache of 3"):
        one.append(torch.randn(1, 1, 4, 2), torch.randn(1, 1, 4, 2))
    for build in (PreallocatedCache, SlidingCache, QuantisedCache):
        with pytest.raises(ValueError, match="at least 1"):
            build(0)


def test_no_gradients_are_kept():
    one = GPT(config())
    reader = CachedModel(one)
    assert not reader(some(1, 4)).requires_grad
    assert not any(tensor.requires_grad for cache in reader.caches for tensor in cache.kept)


def test_the_mask_of_a_chunk():
    assert torch.equal(cache_mask(5, 5), causal_mask(5))
    assert torch.equal(cache_mask(3, 7), causal_mask(7)[4:])
    assert cache_mask(1, 6).all()
    banded = cache_mask(3, 5, window=2).int().tolist()
    assert banded == [[0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]
    real = torch.tensor([[False, True, True, True], [True, True, True, True]])
    padded = cache_mask(2, 4, real=real)
    assert padded.shape == (2, 2, 4) and torch.equal(padded[1], causal_mask(4)[2:])
    assert padded[0].int().tolist() == [[0, 1, 1, 0], [0, 1, 1, 1]]
    alone = cache_mask(4, 4, real=real)[0]
    assert alone[0].int().tolist() == [1, 0, 0, 0]  # padding reads itself


def test_quantised_numbers_are_off_by_half_a_scale():
    torch.manual_seed(0)
    x = torch.randn(3, 4, 5)
    for dim in (0, 1, 2, -1):
        whole, scale = quantise(x, dim)
        assert whole.dtype == torch.int8 and whole.shape == x.shape and scale.shape[dim] == 1
        assert ((dequantise(whole, scale) - x).abs() <= scale / 2 + 1e-6).all()
        assert (whole.abs().amax(dim) == 127).all()
    whole, scale = quantise(torch.zeros(2, 3), 1)
    assert not dequantise(whole, scale).any()


def test_a_quantised_cache_is_small_and_close():
    one, tokens = model(), some(2, 12)
    full, small = CachedModel(one), CachedModel(one, partial(QuantisedCache, 4))
    exact, rough = (in_pieces(reader, tokens, 5, 1, 1, 5) for reader in (full, small))
    assert 0 < (exact - rough).abs().max() < 0.3 * exact.std()
    size = config().d_head
    # per group of 4 tokens: whole numbers, one scale per channel of keys, one per token of values
    one_head = 3 * (2 * 4 * size + 4 * size + 4 * 4)
    assert small.nbytes == 2 * 3 * 6 * one_head < full.nbytes
    outlier = torch.randn(1, 1, 64, 8)
    outlier[..., 3] *= 100
    by_channel, by_token = ((dequantise(*quantise(outlier, dim)) - outlier)[..., :3].norm() for dim in (2, 3))
    assert by_channel < by_token / 10


@pytest.mark.parametrize("positions", SCHEMES)
def test_each_padded_row_equals_that_row_alone(positions):
    one = model(positions=positions, n_kv_heads=2)
    prompts = [[3, 1, 4, 1, 5], [9, 2], [6, 5, 3, 5]]
    tokens, mask = left_pad(prompts, pad=7)
    assert tokens[1].tolist() == [7, 7, 7, 9, 2] and mask[1].tolist() == [False] * 3 + [True] * 2
    alone = [generate(one, torch.tensor([prompt]), 6, temperature=0)[0, len(prompt) :] for prompt in prompts]
    for options in ({}, {"use_cache": False}, {"chunk": 2}, {"cache": GrowingCache}):
        new = generate(one, tokens, 6, temperature=0, mask=mask, **options)[:, 5:]
        assert torch.equal(new, torch.stack(alone)), options
    reader = CachedModel(one)
    logits = torch.cat([reader(tokens[:, :3], mask[:, :3]), reader(tokens[:, 3:], mask[:, 3:])], 1)
    for row, prompt in enumerate(prompts):
        close(logits[row, 5 - len(prompt) :], one(torch.tensor([prompt]))[0].detach())


def test_padded_rows_with_a_window():
    one = model(positions="alibi")
    tokens, mask = left_pad([[3, 1, 4, 1, 5], [9, 2]])
    window = {"temperature": 0, "cache": partial(SlidingCache, 3)}
    both = generate(one, tokens, 8, mask=mask, **window)
    assert torch.equal(both[1, 3:], generate(one, torch.tensor([[9, 2]]), 8, **window)[0])


@pytest.mark.parametrize("bad", [[], [[]], [[1], []]])
def test_empty_prompts_are_refused(bad):
    with pytest.raises(ValueError, match="none may be empty"):
        left_pad(bad)


@pytest.mark.parametrize("positions", SCHEMES)
def test_cached_text_equals_plain_text(positions):
    one, prompt = model(positions=positions), some(3, 4)
    plain = prediction.generate(one, prompt, 9, temperature=0)
    for options in ({}, {"use_cache": False}, {"chunk": 3}, {"cache": GrowingCache}):
        assert torch.equal(generate(one, prompt, 9, temperature=0, **options), plain)
    draws = [generate(one, prompt, 9, 0.8, 5, 0.9, use_cache, generator=torch.Generator().manual_seed(3)) for use_cache in (True, False)]
    assert torch.equal(*draws) and draws[0].shape == (3, 13)


def test_each_token_is_read_once():
    one, read = model(), []
    embed = one.embed
    one.embed = lambda tokens, positions=None: read.append(tokens.shape[1]) or embed(tokens, positions)
    generate(one, some(1, 5), 4)
    assert read == [5, 1, 1, 1]
    read.clear()
    generate(one, some(1, 5), 4, chunk=2)
    assert read == [2, 2, 1, 1, 1, 1]
    read.clear()
    generate(one, some(1, 5), 4, use_cache=False)
    assert read == [5, 6, 7, 8]


def test_models_without_a_cache_write_too():
    tokens = some(1, 200)[0]
    ngram = NGram(tokens, 3, 11)
    sizes = Config(vocab_size=11, max_len=13, d_model=8)
    window = spread(LanguageModel(sizes, [WindowMLP(8, 16)]))
    for one in (ngram, window):
        assert not can_cache(one)
        assert torch.equal(generate(one, some(2, 4), 5, 0), prediction.generate(one, some(2, 4), 5, temperature=0))
        padded, mask = left_pad([[1, 2, 3], [4]])
        assert torch.equal(generate(one, padded, 5, 0, mask=mask)[1, 2:], generate(one, torch.tensor([[4]]), 5, 0)[0])
        with pytest.raises(ValueError, match="know no cache"):
            generate(one, some(1, 4), 5, cache=GrowingCache)


def test_a_model_of_blocks_and_its_subclasses():
    sizes = config(positions="learned")
    blocks = [Block(sizes) for _ in range(3)]
    assert can_cache(LanguageModel(sizes, blocks, positions=position_vectors(sizes), norm=final_norm(sizes)))

    class Odd(GPT):
        def forward(self, tokens):
            return -super().forward(tokens)

    odd = spread(Odd(sizes))
    assert not can_cache(odd) and can_cache(GPT(sizes)) and not can_cache(nn.Linear(2, 2)) and not can_cache(None)
    assert torch.equal(generate(odd, some(1, 3), 4, 0), prediction.generate(odd, some(1, 3), 4, temperature=0))


def test_streamed_tokens_are_the_generated_ones():
    one, prompt = model(), some(2, 4)
    steps = stream(one, prompt, 5, temperature=0)
    first = next(steps)
    assert first.shape == (2, 1) and one.training is False
    assert torch.equal(torch.cat([prompt, first, *steps], 1), generate(one, prompt, 5, temperature=0))
    one.train()
    assert generate(one, prompt, 1).shape == (2, 5) and one.training
    assert torch.equal(generate(one, prompt, 0), prompt)


def test_a_row_stops_at_its_stop_token():
    one, prompt = model(), some(3, 4)
    free = generate(one, prompt, 9, temperature=0)[:, 4:]
    stop = int(free[0, 2])
    new = generate(one, prompt, 9, temperature=0, stop=stop)[:, 4:]
    for row, old in zip(new, free):
        at = (old == stop).nonzero()
        end = int(at[0]) if len(at) else len(old)
        assert torch.equal(row[:end], old[:end][: len(row)]) and (row[end:] == stop).all()
    alone = generate(one, prompt[:1], 9, temperature=0, stop=stop)
    assert alone[0, -1] == stop and alone.shape[1] == 4 + 1 + int((free[0] == stop).nonzero()[0])


# Samplers


def share(sampler: Sampler, logits: torch.Tensor, n: int = 20_000) -> torch.Tensor:
    rows = logits.expand(n, -1)
    drawn = sampler(rows, torch.zeros(n, 1, dtype=torch.long), generator=torch.Generator().manual_seed(0))
    return torch.bincount(drawn[:, 0], minlength=logits.shape[-1]) / n


@pytest.mark.parametrize("options, expected", [
    ({}, [0.4, 0.3, 0.2, 0.1]),
    ({"temperature": 0}, [1, 0, 0, 0]),
    ({"temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
    ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0]),
    ({"top_k": 9}, [0.4, 0.3, 0.2, 0.1]),
    ({"top_p": 0.5}, [4 / 7, 3 / 7, 0, 0]),
    ({"top_p": 1.0}, [0.4, 0.3, 0.2, 0.1]),
    ({"temperature": 0.5, "top_p": 0.6}, [16 / 25, 9 / 25, 0, 0]),
    ({"top_k": 3, "top_p": 0.7}, [4 / 7, 3 / 7, 0, 0]),
])
def test_draws_have_the_probabilities_they_should(options, expected):
    "Chi-square with a fixed seed: the 99.9 % point of 3 degrees of freedom is 16.3."
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log() + 2
    order = torch.tensor([2, 0, 3, 1])
    found, expected, n = share(Sampler(**options), logits[:, order])[order.argsort()], torch.tensor(expected), 20_000
    assert not found[expected == 0].any()
    there = expected > 0
    assert (n * (found - expected)[there] ** 2 / expected[there]).sum() < 16.3


def test_the_kept_set_is_the_smallest_that_reaches_p():
    torch.manual_seed(0)
    for p in (0.05, 0.3, 0.8, 0.99):
        logits = 3 * torch.randn(50, 17)
        kept = keep_top_p(logits, p).isfinite()
        probabilities = logits.softmax(-1)
        total = (probabilities * kept).sum(-1)
        least = torch.where(kept, probabilities, 2).amin(-1)
        assert (total >= p - 1e-6).all() and (total - least < p).all()
        assert (torch.where(kept, 0, probabilities).amax(-1) <= least).all()
    tied = keep_top_p(torch.zeros(1, 4), 0.5).isfinite()
    assert tied.sum() == 2 and keep_top_p(logits, 1.0).equal(logits)
    assert keep_top_k(torch.zeros(1, 4), 3).isfinite().sum() == 3


def test_repeated_tokens_become_less_likely():
    logits = torch.tensor([[2.0, -1.0, 3.0, -4.0]])
    assert penalise(logits, torch.tensor([[0, 1, 1]]), 2.0).tolist() == [[1.0, -2.0, 3.0, -4.0]]
    padded = penalise(logits, torch.tensor([[0, 1, 1]]), 2.0, torch.tensor([[False, True, True]]))
    assert padded.tolist() == [[2.0, -2.0, 3.0, -4.0]]
    assert Sampler(0, repetition_penalty=2.0)(logits, torch.tensor([[2]])).item() == 0
    with pytest.raises(ValueError, match="repetition_penalty=0"):
        penalise(logits, torch.tensor([[0]]), 0)


@pytest.mark.refusal
@pytest.mark.parametrize("options, said", [
    ({"temperature": -1}, "temperature=-1"), ({"temperature": math.inf}, "temperature=inf"), ({"top_k": 0}, "top_k=0"),
    ({"top_p": 0.0}, "top_p=0"), ({"top_p": 1.5}, "top_p=1.5"), ({"repetition_penalty": -1.0}, "repetition_penalty=-1"),
    ({"max_new_tokens": -1}, "max_new_tokens=-1"), ({"chunk": 0}, "chunk=0"), ({"max_new_tokens": 11}, "14 tokens.*max_len=13"),
    ({"mask": torch.ones(1, 3, dtype=torch.bool)}, "mask"), ({"mask": torch.ones(1, 4)}, "boolean"),
    ({"mask": torch.tensor([[True, False, True, True]])}, "left"), ({"mask": torch.tensor([[True, True, True, False]])}, "left"),
    ({"cache": GrowingCache, "use_cache": False}, "no use"),
])
def test_bad_requests_are_refused_at_once(options, said):
    with pytest.raises(ValueError, match=said):
        stream(model(), some(1, 4), **{"max_new_tokens": 2} | options)


@pytest.mark.refusal
def test_other_models_and_prompts_are_refused():
    both = config(kind="encoder-decoder", positions="learned")
    encoder = Encoder(config(kind="encoder", positions="learned"))
    for other in (EncoderDecoder(both), encoder, MaskedLM(encoder)):
        with pytest.raises(ValueError, match="continues no text"):
            generate(other, some(1, 4), 2)
    for prompt in (some(1, 0), some(4)):
        with pytest.raises(ValueError):
            generate(model(), prompt, 2)
    assert generate(model(), some(1, 4), 10).shape == (1, 14)


def test_keys_share_scales_by_channel_and_values_by_token():
    torch.manual_seed(0)
    k, v = torch.randn(1, 2, 8, 6), torch.randn(1, 2, 8, 5)
    k[..., 3] *= 1000  # one channel of the keys, one token of the values
    v[:, :, 2] *= 1000
    keys, values = QuantisedCache(8).append(k, v)
    others = torch.arange(6) != 3
    close(keys[..., others], k[..., others], 0.02)
    rest = torch.arange(8) != 2
    close(values[:, :, rest], v[:, :, rest], 0.02)


def test_selected_rows_keep_their_padding():
    one = model()
    tokens, mask = left_pad([[3, 1, 4, 1, 5], [9, 2]])
    reader = CachedModel(one)
    reader(tokens, mask)
    reader.select(torch.tensor([1, 0, 1]))
    new = torch.tensor([[4], [6], [8]])
    logits = reader(new)[:, 0]
    for row, text in enumerate(([9, 2, 4], [3, 1, 4, 1, 5, 6], [9, 2, 8])):
        close(logits[row], one(torch.tensor([text]))[0, -1].detach())


def test_the_model_writes_in_evaluation_mode():
    one = model(dropout=0.5)
    expected = generate(one, some(2, 4), 8, temperature=0)
    one.train()
    assert torch.equal(generate(one, some(2, 4), 8, temperature=0), expected)
    assert torch.equal(generate(one, some(2, 4), 8, temperature=0, use_cache=False), expected) and one.training
