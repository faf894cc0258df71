"""Exercises of chapters 9, 9c and 10: answers that no table foresaw."""
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from transformer_course import exercises
from transformer_course.grading.sandbox import Observed, look_at
from transformer_course.grading.verdicts import judge


def verdict(id, answer):
    one = exercises.exercise(id)
    return judge(one, Observed([look_at(answer, look, seed) for look, seed in one.looks()]))


# --- right answers in an unusual style ----------------------------------------------------------------------------------------------


def padded_cache(cache, k, v):
    if cache is None:
        return [k.data, v.data]
    out = [F.pad(old, (0, 0, 0, k.shape[-2])) for old in cache]
    for whole, new in zip(out, (k, v)):
        whole[:, :, -k.shape[-2]:] = new.data
    return out


def one_step(x, cache, weights, n_heads, rotate):
    W_q, W_k, W_v, W_o = weights
    q, k, v = ((x @ W).reshape(len(x), 1, n_heads, -1).permute(0, 2, 1, 3) for W in (W_q, W_k, W_v))
    q, k = (rotate(one, cache[0].size(2)) for one in (q, k))                     # a plain number is a position too
    cache = [torch.concat(pair, -2) for pair in zip(cache, (k, v))]
    raised = torch.einsum("bhqd,bhkd->bhqk", q, cache[0]).div(k.size(-1) ** 0.5).sub(10).exp()
    return torch.einsum("bhqk,bhkd->bqhd", raised / raised.sum(-1, True), cache[1]).flatten(2) @ W_o, cache


def tri(past, new, window=None):
    return torch.from_numpy(np.tri(new, past + new, past, dtype=bool) & ~np.tri(new, past + new, past - (window or 10**6), dtype=bool))


def in_numpy(probabilities, p):
    given = probabilities.double().numpy()
    order = np.argsort(-given, -1, kind="stable")
    ranked = np.take_along_axis(given, order, -1)
    out = np.zeros_like(given)
    np.put_along_axis(out, order, ranked * (np.cumsum(ranked, -1) - ranked < p), -1)
    return torch.from_numpy(out / out.sum(-1, keepdims=True)).float()


def with_offsets(prompts, pad):
    lengths = torch.tensor([len(one) for one in prompts])
    T = int(lengths.max())
    places = torch.arange(T) - (T - lengths)[:, None]
    tokens = torch.stack([F.pad(torch.tensor(one), (T - len(one), 0), value=pad) for one in prompts])
    return [tokens, places.clamp_min(0), (places >= 0)[:, None] & (torch.arange(T) <= torch.arange(T)[:, None])]


def by_norms(x, dim):
    scale = torch.linalg.vector_norm(x, math.inf, dim, keepdim=True) / 127
    return torch.nan_to_num(x / scale).round().type(torch.int8), scale


def one_buffer(x, sizes, layers):
    kept, out, n = torch.zeros(len(layers), 2, *x.shape), [], 0
    for size in sizes:
        h = x[n:n + size]
        for i, (a, b, c) in enumerate(layers):
            kept[i, :, n:n + size] = torch.stack([h @ b, h @ c])
            k, v = kept[i, :, None, :n + size]
            h = h + F.scaled_dot_product_attention((h @ a)[None], k, v, attn_mask=torch.ones(size, n + size).tril(n).bool())[0]
        out.append(h)
        n += size
    return torch.vstack(out)


def row_after_row(*maps):
    weight, bias = zip(*((row, number) for one in maps for row, number in zip(*one)))
    return [torch.stack(weight), torch.stack(bias)]


def copied(blocks):
    scores = torch.cat([block.clone() for block in blocks], 1)
    m = scores.amax(1)
    return m, (scores - m.clamp(min=-1e30)[:, None]).exp().sum(1)


def sums_in_numpy(blocks):
    m, l = np.float64(-np.inf), 0.0
    for block in blocks:
        scores, before = block.numpy().astype(float), m
        m = np.maximum(before, scores.max(1))
        to = np.where(np.isinf(m), 0.0, m)
        l = l * np.exp(before - to) + np.exp(scores - to[:, None]).sum(1)
    return torch.tensor(m), torch.tensor(l)


def lerped(one, lse_1, other, lse_2):
    share = torch.where((lse_1 - lse_2).isnan(), 0.0, lse_2 - lse_1).sigmoid()
    return one + (other - one) * share[:, None], torch.logaddexp(lse_1, lse_2)


def normed_in_each_tile(q, k, v, block):
    m, l, out = torch.full((len(q), 1), -math.inf), torch.zeros(len(q), 1), torch.zeros(len(q), v.shape[1])
    for keys, values in zip(k.split(block), v.split(block)):
        scores = q @ keys.T / q.shape[1] ** 0.5
        new = m.maximum(scores.max(1, True)[0])
        before, raised = l * (m - new).exp(), (scores - new).exp()
        l, m = before + raised.sum(1, True), new
        out = (out * before + raised @ values) / l
    return out


def tiles_in_numpy(queries, keys, block_q, block_k):
    mask = np.tri(queries, keys, keys - queries)
    tiles = [[mask[i:i + block_q, j:j + block_k] for j in range(0, keys, block_k)] for i in range(0, queries, block_q)]
    return np.array([[int(one.any()) + int(one.all()) for one in row] for row in tiles])


def some_places(x, table, targets, block):
    total, parts = 0.0, math.ceil(len(table) / block)
    for some, wanted in zip(x.split(2), targets.split(2)):
        each = torch.stack([F.linear(some, rows).logsumexp(1) for rows in table.chunk(parts)], 1)
        total = total + (each.logsumexp(1) - torch.einsum("nd,nd->n", some, F.embedding(wanted, table))).sum()
    return total / len(x)


def by_places(x, table, targets, block):
    return torch.cat([F.cross_entropy(one @ table.T, target, reduction="none") for one, target in zip(x.split(1), targets.split(1))]).mean()


def into_empty(q, k, v, out, lse, d_out, block):
    scale, D = q.size(-1) ** -0.5, (out * d_out).sum(-1)
    dq, dk, dv = torch.zeros(q.shape), torch.empty(k.shape), torch.empty(v.shape)
    for i in range(0, len(k), block):
        j = min(i + block, len(k))
        P = torch.exp(scale * q @ k[i:j].t() - lse[:, None])
        dS = P * (d_out @ v[i:j].t() - D[:, None]) * scale
        dv[i:j], dk[i:j] = P.t() @ d_out, dS.t() @ q
        dq.addmm_(dS, k[i:j])
    return dq, dk, dv


def while_loops(q, k, v, block_q, block_k):
    T, out = len(q), []
    for first in range(0, T, block_q):
        rows, begin = torch.arange(first, min(first + block_q, T))[:, None], 0
        m, l, acc = (torch.full((len(rows), n), fill) for n, fill in ((1, -math.inf), (1, 0.0), (v.shape[1], 0.0)))
        while begin < first + len(rows):
            keys = slice(begin, begin + block_k)
            scores = (q[rows[:, 0]] @ k[keys].T / q.shape[1] ** 0.5).where(torch.arange(T)[keys] <= rows, -math.inf)
            new = m.maximum(scores.max(1, True)[0])
            raised, shrink = (scores - new).exp(), (m - new).exp()
            m, l, acc = new, l * shrink + raised.sum(1, True), acc * shrink + raised @ v[keys]
            begin += block_k
        out.append(acc / l)
    return torch.cat(out)


def one_topk_a_row(total, log_p, width):
    each, tokens = (log_p + total.unsqueeze(1)).sort(1, descending=True)
    order = each.flatten().sort(descending=True)[1][:width]
    return each.flatten()[order], torch.div(order, each.shape[1], rounding_mode="floor"), tokens.flatten()[order]


RIGHT = {
    "kv_cache.append": [padded_cache],
    "kv_cache.cached_step": [one_step],
    "kv_cache.chunk_mask": [tri],
    "kv_cache.bytes": [4_718_592_000.0, 4.7e9],
    "kv_cache.top_p": [in_numpy],
    "kv_cache.left_pads": [with_offsets],
    "kv_cache.quantise": [by_norms],
    "kv_cache.find_the_bug": [one_buffer],
    "fast_decoding.pack": [row_after_row],
    "search.beam_step": [one_topk_a_row],
    "search.computed_once": [1_080.0],
    "flash.online_softmax": [sums_in_numpy],
    "flash.merge_tiles": [lerped],
    "flash.tiled_forward": [normed_in_each_tile],
    "flash.causal_tiles": [tiles_in_numpy],
    "flash.log_sum_exp": [some_places],
    "flash.backward": [into_empty],
    "flash.traffic": [103_809_024.0],
    "flash.find_the_bug": [while_loops],
}


@pytest.mark.parametrize("id", RIGHT)
def test_an_unusual_right_answer_is_accepted(id):
    for answer in RIGHT[id]:
        found = verdict(id, answer)
        assert found.status == "right", str(found)


# --- wrong answers that are in no table ---------------------------------------------------------------------------------------------


def keeps_four(cache, k, v):
    return [one[:, :, -4:] for one in padded_cache(cache, k, v)]


def adds_the_residual(x, cache, weights, n_heads, rotate):
    read, cache = one_step(x, cache, weights, n_heads, rotate)
    return read + x, cache


def caches_keys_without_rotation(x, cache, weights, n_heads, rotate):
    read, (_, values) = one_step(x, cache, weights, n_heads, rotate)
    key = (x @ weights[1]).reshape(len(x), 1, n_heads, -1).transpose(1, 2)
    return read, (torch.cat([cache[0], key], 2), values)


def keeps_two_at_least(probabilities, p):
    ranked, order = probabilities.sort(-1, True)
    kept = ranked.cumsum(-1) - ranked < p
    kept[..., :2] = True
    return F.normalize(torch.zeros_like(ranked).scatter(-1, order, ranked * kept), p=1, dim=-1)


def finds_where_pads_end(prompts, pad):
    tokens = with_offsets(prompts, pad)[0]
    real = (tokens != pad).cummax(1)[0]
    return tokens, (real.cumsum(1) - 1).clamp(0), real[:, None] & torch.ones(real.shape[1], real.shape[1]).tril().bool()


def reads_the_first_layers_cache(x, sizes, layers):
    a = [(W_q, layers[0][1], layers[0][2]) for W_q, _, _ in layers]
    return one_buffer(x, sizes, a)


def starts_from_zero(q, k, v, block):
    m, l, acc = torch.zeros(len(q), 1), 0.0, 0.0
    for keys, values in zip(k.split(block), v.split(block)):
        scores = q @ keys.T / q.shape[1] ** 0.5
        new = m.maximum(scores.max(1, True)[0])
        raised, shrink = (scores - new).exp(), (m - new).exp()
        m, l, acc = new, l * shrink + raised.sum(1, True), acc * shrink + raised @ values
    return acc / l


def fills_a_matrix(q, k, v, block):
    scores = torch.empty(len(q), len(k))
    for begin in range(0, len(k), block):
        scores[:, begin:begin + block] = q @ k[begin:begin + block].T / q.shape[1] ** 0.5
    return scores.softmax(1) @ v


def pytorchs(q, k, v, *blocks):
    return F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=len(blocks) == 2)[0]


def over_all_keys(q, k, v, block):
    return torch.cat([(rows @ k.T * q.shape[1] ** -0.5).softmax(-1) @ v for rows in q.split(block)])


def keeps_the_blocks(blocks):
    return copied(list(blocks))


WRONG = {
    "kv_cache.append": [(keeps_four, None, "has the shape"), (lambda cache, k, v: None, None, "Is the `return` missing?")],
    "kv_cache.cached_step": [(adds_the_residual, None, "numbers are off"), (caches_keys_without_rotation, None, "In part 2"),
                             (lambda *given: one_step(*given)[0], None, "Two things are asked for")],
    "kv_cache.chunk_mask": [(lambda *given: tri(*given).float(), None, "not boolean"), (lambda past, new, window=None: F.pad(tri(0, new), (past, 0)), None, "numbers are off")],
    "kv_cache.bytes": [(4_718_592_000 / 3, None, "too small"), (2 * 48 * 5120 * 8 * 6_000 * 4 * 2, "K15m", "Factor 40")],
    "kv_cache.top_p": [(keeps_two_at_least, None, "numbers are off"), (lambda *given: in_numpy(*given) > 0, None, "of type torch.bool")],
    "kv_cache.left_pads": [(finds_where_pads_end, None, "numbers are off"), (lambda prompts, pad: with_offsets(sorted(prompts), pad), None, "In part")],
    "kv_cache.quantise": [(lambda x, dim: by_norms(x, dim)[::-1], "K17t", "First the codes"), (lambda x, dim: by_norms(x, -1), "K17b", "along"),
                          (lambda x, dim: (by_norms(x, dim)[0], 1.01 * by_norms(x, dim)[1]), None, "In part 2")],
    "kv_cache.find_the_bug": [(reads_the_first_layers_cache, None, "numbers are off")],
    "fast_decoding.pack": [(lambda *maps: (row_after_row(*maps)[0], row_after_row(*maps)[1][:, None]), None, "has (3, 2) and (3,)"), (lambda *maps: row_after_row(*maps)[0], None, "Two tensors")],
    "search.beam_step": [(lambda total, log_p, width: one_topk_a_row(total, log_p, 1), None, "has the shape"), (lambda *given: one_topk_a_row(*given)[:2], None, "Three things")],
    "search.computed_once": [(540, "E1", "*and* values"), (1_090, None, "too large")],
    "flash.online_softmax": [(keeps_the_blocks, "O20", "overwritten"), (copied, "O20b", "all scores are in memory"), (lambda blocks: torch.stack(copied(blocks)), None, "Two tensors")],
    "flash.merge_tiles": [(lambda *given: (lerped(*given)[0], lerped(*given)[1] - math.log(2)), None, "In part 2")],
    "flash.tiled_forward": [(starts_from_zero, "O28", "Start from -inf"), (fills_a_matrix, "O21", "in memory at once"), (over_all_keys, "O21b", "softmax over all keys"), (pytorchs, None, "Write the loop")],
    "flash.causal_tiles": [(lambda *sizes: tiles_in_numpy(*sizes) > 0, None, "of type torch.bool")],
    "flash.log_sum_exp": [(lambda *given: some_places(*given).item(), None, "It returned"), (lambda *given: some_places(*given) + 1e-3, None, "is right"), (by_places, "O21b", "cuts the vocabulary")],
    "flash.backward": [(lambda *given: into_empty(*given)[:2], None, "2 parts"), (lambda *given: [one / 2 for one in into_empty(*given)], None, "numbers are off")],
    "flash.traffic": [(1e8, None, "too small"), (33 * 2 * 6_144 * 128, "O17", "two bytes")],
    "flash.find_the_bug": [(pytorchs, None, "Write the loop"), (lambda q, k, v, block_q, block_k: while_loops(q, k, v, block_q, block_q), "O55e", "hides the bug")],
}


@pytest.mark.parametrize("id", WRONG)
def test_a_wrong_answer_that_no_table_foresaw_is_rejected(id):
    for answer, name, said in WRONG[id]:
        found = verdict(id, answer)
        assert (found.status, found.name) == ("not yet", name) and said in found.message, str(found)


def test_the_repaired_cache_gives_what_one_reading_gives_and_the_buggy_one_only_for_the_prompt():
    one = exercises.exercise("kv_cache.find_the_bug")
    x, layers = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)), [torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(n)) / 2 for n in range(3)]
    whole, bug = one.right(x, [7], layers), one.answer("untouched")(x, [4, 1, 1, 1], layers)
    torch.testing.assert_close(one.right(x, [4, 1, 1, 1], layers), whole)
    torch.testing.assert_close(bug[:4], whole[:4])
    assert ((bug - whole)[4:].abs().amax(1) > 1e-3).all()


def test_the_buggy_tiles_are_exact_while_they_are_square():
    one = exercises.exercise("flash.find_the_bug")
    q, k, v = torch.randn(3, 12, 4, generator=torch.Generator().manual_seed(0))
    bug = one.answer("untouched")
    torch.testing.assert_close(bug(q, k, v, 4, 4), pytorchs(q, k, v, 4, 4))
    assert (bug(q, k, v, 4, 2) - pytorchs(q, k, v, 4, 2)).abs().max() > 1e-2


@pytest.mark.parametrize("id", ["flash.tiled_forward", "flash.backward", "flash.log_sum_exp", "flash.find_the_bug"])
def test_no_right_answer_makes_a_matrix(id):
    "The laws about memory hold for the reference with room to spare, and not for the whole matrix."
    one = exercises.exercise(id)
    laws = [probe for probe in one.probes if probe.law and isinstance(probe.shape, tuple) and probe.shape[0] == "memory"]
    assert len(laws) >= 2 and all(probe.law(probe.look(one.right)) is None for probe in laws)
