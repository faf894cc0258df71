"""Tiled attention equals attention, forwards and backwards, for tiles of any size; it skips what it may, keeps little, and counts bytes right."""
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from transformer_course.architectures import GPT, Encoder, EncoderDecoder
from transformer_course.attention import AttentionFunction, attention, causal_mask, padding_mask
from transformer_course.config import Config
from transformer_course.flash import (
    Partial,
    SlowMemory,
    Tiling,
    elu_features,
    linear_attention,
    merge_tiles,
    online_softmax,
    read_tile,
    sliding_window_attention,
    tiled_attention,
    tiled_forward,
    traffic,
)

size, tile = st.integers(1, 6), st.integers(1, 9)


def randn(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype)


def average(part: Partial) -> torch.Tensor:
    return part.summed / part.total[..., None]


@given(st.lists(st.floats(-1000, 1000) | st.just(-math.inf), max_size=12))
def test_online_softmax_in_one_pass(scores):
    once = iter(scores)                                              # can be read once
    largest, total = online_softmax(once)
    if not scores or max(scores) == -math.inf:
        assert (largest, total) == (-math.inf, 0.0)
        return
    row = torch.tensor(scores, dtype=torch.float64)
    assert largest == max(scores)
    assert largest + math.log(total) == pytest.approx(row.logsumexp(0).item(), abs=1e-9)


@given(size, st.integers(2, 9), size, size, st.data())
def test_parts_merge_wherever_the_keys_are_cut(queries, keys, width, value_width, data):
    q, k, v = randn(2, queries, width), randn(2, keys, width), randn(2, keys, value_width)
    cut = data.draw(st.integers(1, keys - 1))
    mask = torch.rand(queries, keys) < 0.6
    first, second = (read_tile(q, k[:, s], v[:, s], mask[:, s]) for s in (slice(0, cut), slice(cut, None)))
    both = merge_tiles(first, second)
    torch.testing.assert_close(both, merge_tiles(second, first))
    some = mask.any(-1)
    torch.testing.assert_close(average(both)[:, some], attention(q, k, v, mask)[:, some])
    assert (both.total[:, ~some] == 0).all() and (both.summed[:, ~some] == 0).all() and (both.largest[:, ~some] == -math.inf).all()


def test_merging_is_associative_and_survives_large_scores():
    q, k, v = 100 * randn(3, 4), 100 * randn(9, 4), randn(9, 2)
    a, b, c = (read_tile(q, k[s], v[s]) for s in (slice(0, 3), slice(3, 4), slice(4, 9)))
    one, other = merge_tiles(merge_tiles(a, b), c), merge_tiles(a, merge_tiles(b, c))
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(average(one), attention(q, k, v))


@given(st.integers(1, 20), st.integers(0, 6), tile, tile, st.booleans(), st.none() | st.integers(1, 8))
def test_tiles_cover_what_may_be_read_once(queries, more, block_q, block_k, causal, window):
    keys = queries + more
    tiling = Tiling(block_q, block_k, causal or window is not None, window)
    seen = torch.zeros(queries, keys, dtype=torch.int)
    for rows, every in tiling.tiles(queries, keys):
        for columns in every:
            assert 0 < rows.stop - rows.start <= block_q and 0 < columns.stop - columns.start <= block_k
            visible = tiling.visible(rows, columns, keys - queries)
            assert visible is None or not visible.all()
            assert visible is None or visible.any(), "a tile in which nothing is read"
            seen[rows, columns] += 1 if visible is None else visible.int()
    wanted = causal_mask(queries, keys).int() if tiling.causal else torch.ones(queries, keys, dtype=torch.int)
    if window is not None:
        behind = torch.arange(queries)[:, None] + more - torch.arange(keys)
        wanted = wanted * (behind < window)
    assert torch.equal(seen, wanted)


@st.composite
def calls(draw):
    "Queries, keys and values with leading axes that broadcast or share heads, a mask or none, and tiles."
    torch.manual_seed(draw(st.integers(0, 2**31)))
    batch, kv_heads, group, queries, width, value_width = (draw(size) for _ in range(6))
    keys = queries + draw(st.integers(0, 5))
    q, k, v = (randn(batch, h, n, w).requires_grad_() for h, n, w in
               ((kv_heads * group, queries, width), (kv_heads, keys, width), (kv_heads, keys, value_width)))
    shape = draw(st.sampled_from([None, (queries, keys), (batch, 1, queries, keys), (batch, 1, 1, keys), (kv_heads * group, queries, keys)]))
    mask = None if shape is None else torch.rand(shape) < draw(st.sampled_from([0.1, 0.7]))
    return q, k, v, mask, draw(st.booleans()), draw(tile), draw(tile)


@given(calls())
def test_equals_attention_values_and_gradients(call):
    q, k, v, mask, causal, block_q, block_k = call
    group, full = q.shape[1] // k.shape[1], mask
    if causal:
        ahead = causal_mask(q.shape[-2], k.shape[-2])
        full = ahead if mask is None else ahead & mask
    found = tiled_attention(q, k, v, mask, causal, block_q, block_k)
    expected = attention(q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), full)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    into = torch.randn_like(found)
    for ours, wanted in zip(torch.autograd.grad(found, (q, k, v), into), torch.autograd.grad(expected, (q, k, v), into), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-9)


def test_gradients_in_double_precision():
    torch.manual_seed(0)
    q, k, v = (randn(2, h, 7, 3).requires_grad_() for h in (4, 2, 2))
    mask = torch.rand(7, 7) < 0.5
    mask[3] = False                                                  # nothing to read
    for causal in (False, True):
        assert torch.autograd.gradcheck(lambda q, k, v, c=causal: tiled_attention(q, k, v, mask, c, 3, 2), (q, k, v))


def test_equals_pytorchs_fused_attention():
    torch.manual_seed(0)
    q, k, v = randn(2, 6, 50, 8), randn(2, 3, 50, 8), randn(2, 3, 50, 8)
    wanted = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(tiled_attention(q, k, v, causal=True, block_q=16, block_k=24), wanted)


SHAPES = [((5, 4), (6, 4), (6, 3)), ((2, 5, 4), (6, 4), (6, 3)), ((5, 4), (2, 6, 4), (2, 6, 3)), ((2, 3, 5, 4), (1, 6, 4), (3, 6, 3)),
          ((2, 1, 3, 5, 4), (4, 1, 6, 4), (6, 3)), ((0, 3, 5, 4), (0, 3, 6, 4), (0, 3, 6, 2)), ((2, 3, 0, 4), (2, 3, 6, 4), (2, 3, 6, 2)), ((2, 3, 5, 4), (2, 3, 0, 4), (2, 3, 0, 2))]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_leading_axes_broadcast_as_in_chapter_2(shapes):
    q, k, v = (randn(*shape).requires_grad_() for shape in shapes)
    found, wanted = tiled_attention(q, k, v, block_q=2, block_k=4), attention(q, k, v)
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted)
    if found.numel() and k.numel():
        for ours, theirs in zip(torch.autograd.grad(found.sum(), (q, k, v)), torch.autograd.grad(wanted.sum(), (q, k, v)), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_rows_that_may_read_nothing_are_zero_with_zero_gradients():
    q, k, v = (randn(1, 2, 6, 4).requires_grad_() for _ in range(3))
    mask = torch.ones(6, 6, dtype=torch.bool)
    mask[2], mask[:, 4] = False, False
    found = tiled_attention(q, k, v, mask, block_q=2, block_k=2)
    assert (found[:, :, 2] == 0).all()
    dq, dk, dv = torch.autograd.grad(found.square().sum(), (q, k, v))
    assert (dq[:, :, 2] == 0).all() and (dk[:, :, 4] == 0).all() and (dv[:, :, 4] == 0).all()
    assert all(x.isfinite().all() for x in (dq, dk, dv))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    torch.manual_seed(0)
    q, k, v = (randn(2, 3, 40, 16).to(dtype).requires_grad_() for _ in range(3))
    found = tiled_attention(q, k, v, causal=True, block_q=16, block_k=8)
    exact = attention(*(x.double() for x in (q, k, v)), causal_mask(40))
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=2 * torch.finfo(dtype).eps)
    for gradient in torch.autograd.grad(found.float().square().sum(), (q, k, v)):
        assert gradient.dtype == dtype and gradient.isfinite().all()


def test_autocast_changes_no_number():
    q, k, v = (torch.randn(2, 20, 8) for _ in range(3))
    alone = tiled_attention(q, k, v)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tiled_attention(q, k, v), alone)


def test_large_scores_do_not_overflow():
    q, k, v = 300 * randn(9, 4), 300 * randn(9, 4), randn(9, 3)
    torch.testing.assert_close(tiled_attention(q, k, v, block_q=4, block_k=2), attention(q, k, v))


def test_log_sum_exp_is_that_of_the_scores():
    q, k, v = randn(2, 1, 7, 4), randn(2, 9, 4), randn(2, 9, 3)
    _, found = tiled_forward(q, k, v, None, Tiling(3, 2, causal=True))
    scores = (q[:, 0] @ k.mT / 2).masked_fill(~causal_mask(7, 9), -math.inf)
    torch.testing.assert_close(found[:, 0], scores.logsumexp(-1))


def test_hidden_tiles_are_never_read():
    "What lies in a skipped tile may be anything, even no number."
    q, k, v = randn(8, 4), randn(8, 4), randn(8, 3)
    mask = causal_mask(8)
    k[6:], v[6:] = math.nan, math.nan
    for found in (tiled_attention(q, k, v, mask, block_q=2, block_k=2), tiled_attention(q, k, v, causal=True, block_q=2, block_k=2)):
        torch.testing.assert_close(found[:6], attention(q[:6], k[:6], v[:6], causal_mask(6)))


def peak(function, n_tokens: int) -> int:
    "The most bytes that a call holds at a time beyond its inputs."
    inputs = [torch.randn(1, 2, n_tokens, 32, requires_grad=True) for _ in range(3)]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        function(*inputs).sum().backward()
    events = sorted((e for e in watched.profiler.kineto_results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns())
    now = most = 0
    for event in events:
        now += event.nbytes()
        most = max(most, now)
    return most


def test_memory_is_linear_and_grouped_heads_are_not_copied():
    tiled = partial(tiled_attention, causal=True, block_q=64, block_k=64)
    small, large = peak(tiled, 512), peak(tiled, 1024)
    assert large < 2.3 * small and large < 0.3 * peak(attention, 1024)
    q, k, v = torch.randn(1, 8, 256, 64), torch.randn(1, 1, 256, 64), torch.randn(1, 1, 256, 64)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        tiled_attention(q, k, v, block_q=16, block_k=16)
    largest = max(e.nbytes() for e in watched.profiler.kineto_results.events() if e.name() == "[memory]")
    assert largest <= q.nbytes                                       # the output; eight copies of the keys would be as large


@pytest.mark.parametrize("config", [
    {"positions": "learned"}, {"positions": "rope", "n_kv_heads": 2}, {"positions": "alibi"}, {"positions": "none", "norm": "rms"}], ids=str)
def test_a_gpt_runs_with_it(config):
    sizes, logits = Config(vocab_size=13, max_len=24, d_model=24, n_layers=2, n_heads=6, **config), []
    tokens = torch.randint(13, (3, 24))
    for function in (attention, partial(tiled_attention, block_q=8, block_k=5)):
        assert isinstance(function, AttentionFunction)
        torch.manual_seed(0)
        logits.append(GPT(sizes, attention_fn=function)(tokens))
    torch.testing.assert_close(*logits, rtol=0, atol=1e-5)


def test_encoders_and_translators_run_with_it():
    sizes = Config(vocab_size=13, max_len=12, d_model=24, n_layers=2, n_heads=4, positions="learned", kind="encoder")
    tokens, real = torch.randint(13, (3, 12)), padding_mask(torch.tensor([12, 5, 9]), 12)[:, 0]
    both = sizes.replace(kind="encoder-decoder")
    found = []
    for function in (attention, partial(tiled_attention, block_q=4, block_k=3)):
        torch.manual_seed(0)
        found.append((Encoder(sizes, attention_fn=function)(tokens, real), EncoderDecoder(both, attention_fn=function)(tokens, tokens[:, :7], real)))
    for ours, wanted in zip(*found, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-5)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(100, 4000), st.booleans())
def test_traffic_equals_an_instrumented_run(n_tokens, width, numbers, causal):
    fast = 8 * max(numbers, 4 * width + 3)                           # float64 has 8 bytes
    counted = traffic(n_tokens, width, fast, bytes_per_number=8, causal=causal)
    tensors = {name: randn(n_tokens, width) for name in "qkvo"} | {name: randn(n_tokens, n_tokens) for name in ("scores", "weights")}
    hidden = ~causal_mask(n_tokens) if causal else torch.zeros(n_tokens, n_tokens, dtype=torch.bool)
    memory = SlowMemory(**tensors)
    scores = memory.read("q") @ memory.read("k").T / math.sqrt(width)
    memory.write("scores", scores.masked_fill(hidden, -math.inf))
    memory.write("weights", memory.read("scores").softmax(-1))
    memory.write("o", memory.read("weights") @ memory.read("v"))
    assert memory.moved == counted.naive
    wanted = memory.tensors["o"].clone()
    b = counted.block
    memory = SlowMemory(**tensors, log_sum_exp=randn(n_tokens))
    tiling = Tiling(b, b, causal)
    for rows, every in tiling.tiles(n_tokens, n_tokens):
        q, read = memory.read("q", rows), None
        for columns in every:
            part = read_tile(q, memory.read("k", columns), memory.read("v", columns), tiling.visible(rows, columns, 0))
            read = part if read is None else merge_tiles(read, part)
        memory.write("o", average(read), rows)
        memory.write("log_sum_exp", read.largest + read.total.log(), rows)
    assert memory.moved == counted.tiled
    assert 8 * (b * b + (4 * width + 2) * b) <= fast
    assert b == n_tokens or 8 * ((b + 1) ** 2 + (4 * width + 2) * (b + 1)) > fast
    torch.testing.assert_close(memory.tensors["o"], wanted)


@given(size, st.integers(1, 20), st.integers(1, 9), tile, tile)
def test_a_sliding_window_is_a_mask(heads, length, window, block_q, block_k):
    q, k, v = (randn(2, heads, length, 3).requires_grad_() for _ in range(3))
    behind = torch.arange(length)[:, None] - torch.arange(length)
    found = sliding_window_attention(q, k, v, window, None, block_q, block_k)
    wanted = attention(q, k, v, (behind >= 0) & (behind < window))
    torch.testing.assert_close(found, wanted)
    for ours, theirs in zip(torch.autograd.grad(found.square().sum(), (q, k, v)), torch.autograd.grad(wanted.square().sum(), (q, k, v)), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("block", [1, 3, 64])
def test_linear_attention_is_attention_with_other_weights(causal, block):
    q, k, v = randn(2, 3, 10, 4), randn(2, 3, 10, 4), randn(2, 3, 10, 5)
    weights = elu_features(q) @ elu_features(k).mT
    weights = weights.tril() if causal else weights
    torch.testing.assert_close(linear_attention(q, k, v, causal=causal, block=block), weights @ v / weights.sum(-1, keepdim=True))


@pytest.mark.refusal
@pytest.mark.parametrize("call, said", [
    (lambda: tiled_attention(randn(2, 3), randn(2, 4), randn(2, 3)), "width 3.*width 4"),
    (lambda: tiled_attention(randn(2, 3), randn(4, 3), randn(5, 3)), r"\(4, 3\), \(5, 3\)"),
    (lambda: tiled_attention(randn(2, 3), randn(2, 3).float(), randn(2, 3)), "float64.*float32"),
    (lambda: tiled_attention(randn(2, 0), randn(2, 0), randn(2, 3)), "width 0"),
    (lambda: tiled_attention(randn(1, 6, 2, 3), randn(1, 4, 2, 3), randn(1, 4, 2, 3)), "6 query heads.*4"),
    (lambda: tiled_attention(randn(2, 6, 2, 3), randn(3, 6, 2, 3), randn(3, 6, 2, 3)), r"\(2,\), \(3,\)"),
    (lambda: tiled_attention(randn(5, 3), randn(4, 3), randn(4, 3), causal=True), "5 queries.*4 positions"),
    (lambda: tiled_attention(randn(5, 3), randn(5, 3), randn(5, 3), torch.ones(5, 5)), "boolean.*float32"),
    (lambda: tiled_attention(randn(5, 3), randn(5, 3), randn(5, 3), torch.ones(4, 5, dtype=torch.bool)), r"\(4, 5\)"),
    (lambda: tiled_attention(randn(5, 3), randn(5, 3), randn(5, 3), block_q=0), "block_q=0"),
    (lambda: tiled_attention(randn(5, 3), randn(5, 3), randn(5, 3), block_k=2.0), "block_k=2.0"),
    (lambda: sliding_window_attention(randn(5, 3), randn(5, 3), randn(5, 3), 0), "window=0"),
    (lambda: Tiling(window=4), "window=4 needs causal=True"),
    (lambda: linear_attention(randn(5, 3), randn(4, 3), randn(4, 3), causal=True), "5 queries for 4"),
    (lambda: traffic(64, 8, 32), "fast_memory=32"),
], ids=range(15))
def test_bad_input_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
