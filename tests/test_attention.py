"""`attention` equals an independent implementation, and refuses or defines everything else."""
import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from transformer_course.attention import (
    AttentionFunction,
    AttentionHead,
    LearnedPositions,
    Residual,
    attention,
    attention_weights,
    causal_mask,
    padding_mask,
)
from transformer_course.config import Config
from transformer_course.prediction import LanguageModel, next_token_loss

size = st.integers(1, 9)


@st.composite
def problems(draw, dtype=torch.float64):
    "Random q, k, v and a mask (or None), with leading axes that broadcast and no reason for two sizes to be equal."
    torch.manual_seed(draw(st.integers(0, 2**31)))
    lead = draw(st.lists(st.integers(1, 3), max_size=2))
    queries, keys, width, out = draw(size), draw(size), draw(size), draw(size)
    squeezed = [1 if draw(st.booleans()) else n for n in lead]
    scale = draw(st.sampled_from([1e-3, 1.0, 30.0]))
    q = scale * torch.randn(*lead, queries, width, dtype=dtype)
    k, v = torch.randn(*squeezed, keys, width, dtype=dtype), torch.randn(*squeezed, keys, out, dtype=dtype)
    kind = draw(st.sampled_from(["none", "random", "shared", "per batch"]))
    if kind == "none":
        return q, k, v, None
    shape = {"random": [*lead, queries, keys], "shared": [queries, keys], "per batch": [*lead, 1, keys]}[kind]
    return q, k, v, torch.rand(shape) < 0.6


@given(problems())
def test_equals_pytorch_values_and_gradients(problem):
    *inputs, mask = problem
    ours, theirs = ([x.clone().requires_grad_() for x in inputs] for _ in range(2))
    out, expected = attention(*ours, mask), F.scaled_dot_product_attention(*theirs, attn_mask=mask)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    into = torch.randn_like(out)
    for a, b in zip(torch.autograd.grad(out, ours, into), torch.autograd.grad(expected, theirs, into), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@given(problems(torch.float32), st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
def test_lower_precision_is_close_to_double_and_keeps_its_type(problem, dtype):
    *inputs, mask = problem
    inputs = [x.to(dtype) for x in inputs]
    out = attention(*inputs, mask)
    exact = attention(*(x.double() for x in inputs), mask)
    tolerance = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), exact, rtol=tolerance, atol=tolerance)


@given(problems())
def test_weights_are_averages_over_what_may_be_read(problem):
    q, k, _, mask = problem
    weights = attention_weights(q, k, mask)
    mask = torch.ones_like(weights, dtype=torch.bool) if mask is None else mask.expand_as(weights)
    assert (weights >= 0).all() and (weights[~mask] == 0).all()
    torch.testing.assert_close(weights.sum(-1), mask.any(-1).to(weights), rtol=0, atol=1e-12)


@given(problems())
def test_one_query_at_a_time_gives_the_same(problem):
    q, k, v, mask = problem
    whole = attention(q, k, v, mask)
    for t in range(q.shape[-2]):
        row = mask if mask is None or mask.shape[-2] == 1 else mask[..., t:t + 1, :]
        torch.testing.assert_close(attention(q[..., t:t + 1, :], k, v, row)[..., 0, :], whole[..., t, :], rtol=1e-10, atol=1e-12)


def test_large_scores_do_not_overflow():
    q, k, v = (1e3 * torch.randn(4, 6) for _ in range(3))
    assert torch.isfinite(attention(q, k, v)).all()
    q = k = torch.full((2, 6), 300.0, dtype=torch.float16)                            # q·k / √6 is 220,454; float16 ends at 65,504
    torch.testing.assert_close(attention_weights(q, k), torch.full((2, 2), 0.5, dtype=torch.float16))


def test_forbidden_keys_lose_even_against_very_low_scores():
    q, k = torch.full((1, 1), 1e3), torch.tensor([[-1e3], [-2e3], [0.0]])            # scores -1e6, -2e6 and 0, the last one forbidden
    weights = attention_weights(q, k, torch.tensor([True, True, False]))
    torch.testing.assert_close(weights, torch.tensor([[1.0, 0.0, 0.0]]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast(dtype):
    q, k, v = (torch.randn(2, 5, 8) for _ in range(3))
    with torch.autocast("cpu", dtype=dtype):
        out = attention(q, k, v, causal_mask(5))
    torch.testing.assert_close(out.float(), attention(q, k, v, causal_mask(5)), rtol=5e-2, atol=5e-2)


def test_a_row_with_nothing_to_read_is_zero_and_poisons_nothing():
    q, k, v = (torch.randn(2, 3, 4, requires_grad=True) for _ in range(3))
    mask = torch.tensor([[False] * 3, [True] * 3, [True, False, True]])
    with torch.autograd.detect_anomaly(check_nan=True):
        out = attention(q, k, v, mask)
        out.square().sum().backward()
    assert (out[:, 0] == 0).all() and (out[:, 1:] != 0).all()
    assert all(torch.isfinite(x.grad).all() for x in (q, k, v)) and (q.grad[:, 0] == 0).all()


@pytest.mark.parametrize(("queries", "keys"), [(0, 3), (3, 0), (0, 0)])
def test_empty_sequences_are_defined(queries, keys):
    out = attention(torch.randn(2, queries, 4), torch.randn(2, keys, 4), torch.randn(2, keys, 5))
    assert out.shape == (2, queries, 5) and (out == 0).all()
    mask = torch.ones(queries, keys, dtype=torch.bool)
    assert attention(torch.randn(2, queries, 4), torch.randn(2, keys, 4), torch.randn(2, keys, 5), mask).shape == (2, queries, 5)
    assert causal_mask(queries, queries + keys).shape == (queries, queries + keys)


def config(positions: str = "learned", **fields) -> Config:
    return Config(**{"vocab_size": 11, "max_len": 9, "d_model": 8, "positions": positions} | fields)


def language_model(attention_fn=attention, **fields) -> LanguageModel:
    "The model of the chapter: one head of full width and a table of positions."
    sizes = config(**fields)
    heads = [Residual(AttentionHead(8, 8, attention_fn=attention_fn)) for _ in range(sizes.n_layers)]
    return LanguageModel(sizes, heads, positions=LearnedPositions(sizes))


def x(*shape, dtype=torch.float32):
    return torch.zeros(*shape, dtype=dtype)


HEAD = [Residual(AttentionHead(8, 8))]


@pytest.mark.refusal
@pytest.mark.parametrize(("call", "names"), [
    (lambda: attention(x(3, 4), x(5, 6), x(5, 4)), ["width 4", "width 6"]),
    (lambda: attention(x(3, 4), x(5, 4), x(6, 4)), ["(5, 4)", "(6, 4)"]),
    (lambda: attention(x(3, 0), x(5, 0), x(5, 4)), ["width 0"]),
    (lambda: attention(x(4), x(5, 4), x(5, 4)), ["(4,)", "(5, 4)"]),
    (lambda: attention(x(3, 4), x(4), x(4)), ["(4,)"]),
    (lambda: attention(x(2, 3, 4), x(3, 5, 4), x(3, 5, 4)), ["(2, 3, 4)", "(3, 5, 4)"]),
    (lambda: attention(x(2, 3, 4), x(2, 5, 4), x(3, 5, 4)), ["(2, 5, 4)", "(3, 5, 4)"]),
    (lambda: attention(x(3, 4), x(5, 4, dtype=torch.float64), x(5, 4)), ["float32", "float64"]),
    (lambda: attention(x(3, 4), x(5, 4), x(5, 4, dtype=torch.float16)), ["float32", "float16"]),
    (lambda: attention(x(3, 4, dtype=torch.int64), x(5, 4, dtype=torch.int64), x(5, 4, dtype=torch.int64)), ["int64"]),
    (lambda: attention(x(3, 4), x(5, 4), x(5, 4), x(3, 5)), ["boolean", "float32"]),
    (lambda: attention(x(3, 4), x(5, 4), x(5, 4), x(3, 5, dtype=torch.int64)), ["boolean", "int64"]),
    (lambda: attention(x(3, 4), x(5, 4), x(5, 4), x(5, 3, dtype=torch.bool)), ["(5, 3)", "(3, 5)"]),
    (lambda: attention(x(3, 4), x(5, 4), x(5, 4), x(2, 3, 5, dtype=torch.bool)), ["(2, 3, 5)", "(3, 5)"]),
    (lambda: attention(x(2, 3, 4), x(1, 3, 4), x(5, 3, 4)), ["queries", "(2, 3, 4)", "values", "(5, 3, 4)"]),
    (lambda: causal_mask(5, 3), ["5 queries", "3 positions"]),
    (lambda: causal_mask(-1), ["-1 queries", "-1 positions"]),
    (lambda: padding_mask(torch.tensor([[1, 2]]), 8), ["one whole number per sequence", "(1, 2)"]),
    (lambda: padding_mask(torch.tensor([1.5]), 8), ["one whole number per sequence", "float32"]),
    (lambda: padding_mask(torch.tensor([True]), 8), ["one whole number per sequence", "bool"]),
    (lambda: padding_mask(torch.tensor([2, 9]), 8), ["n_keys=8", "[2, 9]"]),
    (lambda: LearnedPositions(config())(torch.tensor([3, 9])), ["position 9", "max_len=9", "position 8"]),
    (lambda: LearnedPositions(config())(torch.tensor([3, -1])), ["position -1", "max_len=9"]),
    (lambda: LearnedPositions(config())(torch.tensor([0.5])), ["whole numbers", "float32"]),
    (lambda: LearnedPositions(config("none")), ["positions='none'", "learned"]),
    (lambda: LearnedPositions(config("rope")), ["positions='rope'", "learned"]),
    (lambda: LanguageModel(config("learned"), HEAD), ["positions='learned' would be ignored"]),
    (lambda: LanguageModel(config("none", n_heads=2), HEAD), ["n_heads=2 would be ignored"]),
    (lambda: language_model()(torch.zeros(3, dtype=torch.long)), ["(B, T)", "(3,)"]),
    (lambda: language_model(max_len=4)(torch.zeros(1, 5, dtype=torch.long)), ["5 tokens", "max_len=4"]),
])
def test_bad_input_is_refused_and_both_sides_are_named(call, names):
    with pytest.raises(ValueError) as error:
        call()
    for name in names:
        assert name in str(error.value)


def test_causal_mask_aligns_queries_with_the_last_keys():
    for queries, keys in ((1, 1), (4, 4), (1, 5), (3, 5)):
        expected = [[s <= t + keys - queries for s in range(keys)] for t in range(queries)]
        assert causal_mask(queries, keys).tolist() == expected


def test_padding_mask_marks_the_real_tokens():
    assert padding_mask(torch.tensor([0, 2, 3]), 3)[:, 0].tolist() == [[False] * 3, [True, True, False], [True] * 3]
    assert padding_mask(torch.tensor([], dtype=torch.long), 3).shape == (0, 1, 3)


def test_head_equals_pytorch_with_the_same_weights():
    head = AttentionHead(6, 4).double()
    x, memory, mask = torch.randn(2, 3, 6).double(), torch.randn(2, 5, 6).double(), torch.rand(2, 3, 5) < 0.7
    q, k, v = (F.linear(a, m.weight) for a, m in ((x, head.query), (memory, head.key), (memory, head.value)))
    torch.testing.assert_close(head(x, memory, mask), F.scaled_dot_product_attention(q, k, v, attn_mask=mask))


@pytest.mark.parametrize("attention_fn", [attention, F.scaled_dot_product_attention])
def test_the_attention_function_that_is_passed_in_is_the_one_that_runs(attention_fn):
    calls = []

    def counted(q, k, v, mask=None):
        calls.append(mask)
        return attention_fn(q, k, v, mask)

    torch.manual_seed(0)
    head = AttentionHead(8, 8, attention_fn=counted)
    inputs, mask = torch.randn(2, 5, 8), causal_mask(5)
    torch.testing.assert_close(head(inputs, mask=mask), attention(head.query(inputs), head.key(inputs), head.value(inputs), mask))
    assert len(calls) == 1 and calls[0] is mask and isinstance(attention_fn, AttentionFunction)


# The parts of a language model

def test_a_learned_table_gives_its_rows_in_any_order_and_learns_them():
    table = LearnedPositions(config(max_len=7))
    positions = torch.tensor([[5, 2, 6], [0, 0, 1]])
    assert torch.equal(table(positions), table.table.weight[positions]) and table.uses == {"positions"}
    table(positions).sum().backward()
    assert table.table.weight.grad[:, 0].tolist() == [2, 1, 1, 0, 0, 1, 1]
    assert table(torch.arange(0)).shape == (0, 8)


def test_a_residual_adds_what_its_sublayer_returns_and_uses_what_it_uses():
    head, inputs, mask = AttentionHead(8, 8), torch.randn(2, 5, 8), causal_mask(5)
    torch.testing.assert_close(Residual(head)(inputs, mask), inputs + head(inputs, mask=mask))
    torch.testing.assert_close(Residual(head)(inputs), inputs + head(inputs))
    obeys = nn.Identity()
    obeys.uses = {"bias"}
    assert Residual(head).uses == set() and Residual(obeys).uses == {"bias"}


def test_language_model_adds_what_each_layer_reads():
    torch.manual_seed(0)
    model, tokens = language_model(n_layers=2), torch.randint(0, 11, (2, 5))
    expected = model.token_embedding.weight[tokens] + model.position_embedding.table.weight[:5]
    for layer in model.layers:
        expected = expected + layer.sublayer(expected, mask=causal_mask(5))
    torch.testing.assert_close(model(tokens), expected @ model.lm_head.weight.T)


def test_importing_the_chapter_brings_no_corpora_and_no_plots():
    code = ("import sys, transformer_course.attention; "
            "print(sorted(name for name in sys.modules if name.startswith(('transformer_course.', 'matplotlib'))))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['transformer_course.attention', 'transformer_course.config']"


def test_language_model_does_not_see_the_future_and_starts_near_ignorance():
    torch.manual_seed(0)
    model = language_model()
    tokens = torch.randint(0, 11, (2, 9))
    for t in range(8):
        changed = tokens.clone()
        changed[:, t + 1:] = torch.randint(0, 11, (2, 8 - t))
        torch.testing.assert_close(model(changed)[:, :t + 1], model(tokens)[:, :t + 1], rtol=0, atol=0)
    assert abs(next_token_loss(model, tokens).item() - math.log(11)) < 1


def test_language_model_knows_where_tokens_stand():
    torch.manual_seed(0)
    model = language_model()
    one, other = torch.tensor([[1, 2, 3]]), torch.tensor([[2, 1, 3]])                # without positions the last prediction would be the same
    assert not torch.allclose(model(one)[:, -1], model(other)[:, -1], atol=1e-3)
