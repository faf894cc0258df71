"""Positions equal those of other people's code, obey their laws in every layout, length and precision, and bad input is refused."""
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import GPTNeoXConfig, LlamaConfig
from transformers.models.gpt_neox import modeling_gpt_neox as gpt_neox
from transformers.models.llama import modeling_llama as llama

from transformer_course.attention import LearnedPositions, Residual, attention, causal_mask
from transformer_course.config import Config
from transformer_course.multi_head import MultiHeadAttention, repeat_kv
from transformer_course.positions import (
    ALiBi,
    NoPositions,
    RoPE,
    SelfAttention,
    SinusoidalPositions,
    alibi_slopes,
    apply_rope,
    position_encoding,
    position_vectors,
    rope_angles,
    rotate_pairs,
    sinusoidal,
)
from transformer_course.prediction import LanguageModel, next_token_loss

SCHEMES = ("none", "sinusoidal", "learned", "rope", "alibi")
LAYOUTS = ("half", "interleaved")
size = st.integers(1, 5)
place = st.integers(-5000, 5000)


def config(positions: str = "rope", n_heads: int = 2, d_head: int = 4, **rest) -> Config:
    sizes = {"vocab_size": 11, "max_len": 9} | rest
    return Config(d_model=n_heads * d_head, n_heads=n_heads, positions=positions, **sizes)


def language_model(positions: str = "rope", attention_fn=attention, **fields) -> LanguageModel:
    "The model of the chapter: layers of attention with the positions of the config."
    sizes = config(positions, **fields)
    layers = [Residual(SelfAttention(sizes, attention_fn=attention_fn)) for _ in range(sizes.n_layers)]
    return LanguageModel(sizes, layers, positions=position_vectors(sizes))


def loud(module: nn.Module) -> nn.Module:
    "The module with weights and biases that nothing can hide behind."
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.7)
    return module


# Sinusoids

@settings(deadline=None)
@given(st.lists(place, min_size=1, max_size=6), st.integers(1, 12), st.sampled_from([2.0, 100.0, 10_000.0]))
def test_sinusoids_are_the_formula_of_the_paper(places, pairs, base):
    table = sinusoidal(torch.tensor(places, dtype=torch.float64), 2 * pairs, base)
    assert table.shape == (len(places), 2 * pairs)
    for row, p in zip(table.tolist(), places):
        for i in range(pairs):
            angle = p / base ** (2 * i / (2 * pairs))
            assert row[2 * i] == pytest.approx(math.sin(angle), abs=1e-9)
            assert row[2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-9)


@settings(deadline=None)
@given(st.integers(1, 16), place, place, place)
def test_an_offset_is_one_rotation_for_all_positions(pairs, p, q, offset):
    at = lambda n: sinusoidal(torch.tensor([n], dtype=torch.float64), 2 * pairs)[0]
    shift = torch.zeros(2 * pairs, 2 * pairs, dtype=torch.float64)                 # M_k, block by block, from the addition theorem
    for i in range(pairs):
        turn = offset / 10_000 ** (i / pairs)
        cos, sin = math.cos(turn), math.sin(turn)
        shift[2 * i:2 * i + 2, 2 * i:2 * i + 2] = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)
    torch.testing.assert_close(shift @ shift.T, torch.eye(2 * pairs, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(shift @ at(p), at(p + offset), rtol=0, atol=1e-8)
    torch.testing.assert_close(at(p) @ at(p + offset), at(q) @ at(q + offset), rtol=0, atol=1e-8)
    torch.testing.assert_close(at(p) @ at(p + offset), at(p) @ at(p - offset), rtol=0, atol=1e-8)


def test_positions_have_any_leading_axes_and_any_numbers():
    positions = torch.randint(-9, 99, (2, 3, 5))
    for make in (lambda p: sinusoidal(p, 6), lambda p: rope_angles(p, 6)):
        together = make(positions)
        assert together.shape[:3] == (2, 3, 5)
        torch.testing.assert_close(together[1, 2], make(positions[1, 2]), rtol=0, atol=0)
    torch.testing.assert_close(rope_angles(torch.tensor([0.5, 2.0]), 4), rope_angles(torch.tensor([1, 4]), 4) / 2)


@pytest.mark.parametrize("kind", [torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_angles_are_never_computed_in_half_precision(kind):
    precise = torch.float64 if kind == torch.float64 else torch.float32
    assert rope_angles(torch.tensor([3], dtype=kind), 8).dtype == precise
    assert sinusoidal(torch.tensor([3], dtype=kind), 8).dtype == precise


# Rotary positions

def llama_twin(q, k, positions, base):
    "LLaMA's queries and keys (B, h, T, d), from transformers."
    heads, width = q.shape[1], q.shape[-1]
    sizes = {"hidden_size": heads * width, "num_attention_heads": heads, "num_key_value_heads": k.shape[1]}
    turner = llama.LlamaRotaryEmbedding(LlamaConfig(**sizes, rope_parameters={"rope_type": "default", "rope_theta": base}))
    return llama.apply_rotary_pos_emb(q, k, *turner(q, positions))


def neox_twin(q, k, positions, base, share):
    "GPT-NeoX's, which turns only a share of each head's width."
    sizes = {"hidden_size": q.shape[1] * q.shape[-1], "num_attention_heads": q.shape[1]}
    rope = {"rope_type": "default", "rope_theta": base, "partial_rotary_factor": share}
    return gpt_neox.apply_rotary_pos_emb(q, k, *gpt_neox.GPTNeoXRotaryEmbedding(GPTNeoXConfig(**sizes, rope_parameters=rope))(q, positions))


@st.composite
def queries_and_keys(draw, kv_heads=True):
    "q (B, h, T, k), k (B, h_kv, T, k) and positions (B, T) up to 30,000."
    torch.manual_seed(draw(st.integers(0, 2**31)))
    batch, groups, length, pairs = draw(size), draw(size), draw(size), draw(st.integers(1, 20))
    heads = groups * draw(st.integers(1, 3)) if kv_heads else groups
    q, k = torch.randn(batch, heads, length, 2 * pairs), torch.randn(batch, groups, length, 2 * pairs)
    return q.requires_grad_(), k.requires_grad_(), torch.randint(0, 30_000, (batch, length))


def assert_same_with_gradients(ours, theirs, inputs):
    into = [torch.randn_like(one) for one in ours]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    for a, b in zip(torch.autograd.grad(ours, inputs, into), torch.autograd.grad(theirs, inputs, into), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@given(queries_and_keys(), st.sampled_from([100.0, 10_000.0, 500_000.0]))
def test_half_layout_equals_llama_values_and_gradients(call, base):
    q, k, positions = call
    ours = [apply_rope(x, positions[:, None], base=base) for x in (q, k)]
    assert_same_with_gradients(ours, llama_twin(q, k, positions, base), (q, k))


@given(queries_and_keys(kv_heads=False), st.integers(1, 4), st.sampled_from([100.0, 10_000.0]))
def test_a_share_of_the_width_equals_gpt_neox(call, shares, base):
    q, k, positions = call
    still = (shares - 1) * q.shape[-1]                               # as many components stay as they are
    q, k = (torch.cat([x.detach(), torch.randn(*x.shape[:-1], still)], dim=-1).requires_grad_() for x in (q, k))
    turned = q.shape[-1] // shares
    ours = [torch.cat([apply_rope(x[..., :turned], positions[:, None], base=base), x[..., turned:]], dim=-1) for x in (q, k)]
    assert_same_with_gradients(ours, neox_twin(q, k, positions, base, 1 / shares), (q, k))


@given(queries_and_keys(), st.sampled_from([100.0, 10_000.0]))
def test_interleaved_layout_is_multiplication_of_complex_numbers(call, base):
    q, _, positions = call
    numbers = torch.view_as_complex(q.double().unflatten(-1, (-1, 2)).contiguous())
    exact = positions.double()[..., None] / base ** (torch.arange(0, q.shape[-1], 2).double() / q.shape[-1])
    expected = torch.view_as_real(numbers * torch.polar(torch.ones_like(exact), exact)[:, None]).flatten(-2)
    torch.testing.assert_close(apply_rope(q.double(), positions[:, None], base=base, layout="interleaved"), expected, rtol=0, atol=1e-9)


@given(queries_and_keys())
def test_the_layouts_are_one_rotation_up_to_the_order_of_components(call):
    q, _, positions = call
    order = torch.cat([torch.arange(0, q.shape[-1], 2), torch.arange(1, q.shape[-1], 2)])
    torch.testing.assert_close(apply_rope(q, positions[:, None], layout="interleaved")[..., order],
                               apply_rope(q[..., order], positions[:, None], layout="half"), rtol=0, atol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(deadline=None)
@given(st.integers(1, 16), place, place, st.integers(-20_000, 20_000))
def test_rotary_scores_depend_on_the_offset_alone_and_lengths_are_kept(layout, pairs, m, n, shift):
    q, k = torch.randn(2, 1, 2 * pairs, dtype=torch.float64)
    at = lambda x, p: apply_rope(x, torch.tensor([p]), layout=layout)
    torch.testing.assert_close(at(q, m) @ at(k, n).T, at(q, m + shift) @ at(k, n + shift).T, rtol=0, atol=1e-8)
    torch.testing.assert_close(at(q, m) @ at(k, n).T, at(q, m - n) @ k.T, rtol=0, atol=1e-8)
    torch.testing.assert_close(at(q, m).norm(), q.norm())
    torch.testing.assert_close(at(at(q, m), n), at(q, m + n), rtol=0, atol=1e-8)
    assert torch.equal(at(q, 0), q)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("kind", "unit"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_rotation_in_half_precision_errs_by_one_rounding_at_any_position(kind, unit, layout):
    torch.manual_seed(0)
    x, positions = torch.randn(6, 64).to(kind), torch.tensor([0, 257, 2049, 9999, 65_537, 100_003])
    turned, precise = apply_rope(x, positions, layout=layout), apply_rope(x.float(), positions, layout=layout)
    assert turned.dtype == kind
    assert ((turned.float() - precise).abs() <= unit * precise.abs() + 1e-6).all()


def test_positions_keep_their_own_precision():
    far, x = torch.tensor([2.0**24 + 1], dtype=torch.float64), torch.randn(1, 8)         # no float32 is that number
    torch.testing.assert_close(apply_rope(x, far), apply_rope(x.double(), far).float(), rtol=0, atol=1e-6)


# ALiBi

def published_slopes(n: int) -> list[float]:
    "In the words of section 3 and of the rule for other numbers of heads: halves and neighbours of a geometric series."
    if math.log2(n).is_integer():
        ratio = 2 ** (-8 / n)
        return [ratio ** (i + 1) for i in range(n)]
    below = 2 ** math.floor(math.log2(n))
    return published_slopes(below) + published_slopes(2 * below)[0::2][:n - below]


@pytest.mark.parametrize("n_heads", [1, 2, 3, 4, 5, 7, 8, 12, 16, 20, 31, 33, 40, 112])
def test_slopes_are_the_published_ones(n_heads):
    torch.testing.assert_close(alibi_slopes(n_heads), torch.tensor(published_slopes(n_heads)), rtol=1e-6, atol=0)
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]


def distance_bias(n_heads: int, positions) -> torch.Tensor:
    "(h, T, T): minus slope times distance, minus infinity for the future."
    slopes = torch.tensor(published_slopes(n_heads), dtype=torch.float64)
    distance = positions[:, None] - positions[None, :]
    return (-slopes[:, None, None] * distance).masked_fill(distance < 0, -math.inf)


@given(size, st.integers(1, 3), size, size, st.integers(1, 7), st.integers(0, 3000), st.integers(1, 40), st.booleans())
def test_alibi_equals_pytorch_with_an_explicit_bias(groups, group, d_head, batch, length, start, step, fused):
    heads = groups * group
    attention_fn = F.scaled_dot_product_attention if fused else attention
    sizes = config("alibi", heads, d_head, n_kv_heads=groups)
    layer = loud(SelfAttention(sizes, attention_fn=attention_fn).double())
    x = torch.randn(batch, length, heads * d_head, dtype=torch.float64, requires_grad=True)
    positions = start + step * torch.arange(length)
    q, (k, v) = layer.heads.queries(x), layer.heads.keys_values(x)
    expected = layer.merge(F.scaled_dot_product_attention(q, k, v, attn_mask=distance_bias(heads, positions.double()), enable_gqa=True))
    out = layer(x, positions, causal_mask(length))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)     # slopes have the precision of float32
    into = torch.randn_like(out)
    inputs = [x, *layer.parameters()]
    for a, b in zip(torch.autograd.grad(out, inputs, into), torch.autograd.grad(expected, inputs, into), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_alibi_keeps_neighbours_apart_in_half_precision(kind):
    torch.manual_seed(0)
    encoding, positions = ALiBi(12), torch.arange(60_000, 60_012)
    q, k, v = (torch.randn(1, 12, 12, 8).to(kind) for _ in range(3))
    wide_q, wide_k = encoding.queries(q, positions), encoding.keys(k, positions)
    assert wide_q.dtype == wide_k.dtype == kind and wide_q.shape == wide_k.shape == (1, 12, 12, 10)
    found = attention(wide_q.float(), wide_k.float(), v.float(), causal_mask(12))
    expected = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=distance_bias(12, positions.double()).float())
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)   # the rounding of the queries and slopes, not of the positions


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", [3, 8, 20, 64])
def test_slopes_are_rounded_once(kind, width):
    added = ALiBi(24).queries(torch.zeros(1, 24, 1, width, dtype=kind), torch.arange(1))[0, :, 0, width:]
    steps = (alibi_slopes(24) * math.sqrt(width + 2)).to(kind)
    assert torch.equal(added[:, 1], steps) and torch.equal(added[:, 0], 256 * steps)


def test_alibi_is_precise_far_from_the_start():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 4, 9, 16) for _ in range(3))
    for start, tolerance in ((0, 1e-6), (4000, 1e-3), (60_000, 1e-2)):
        positions = start + torch.arange(9)
        found = attention(ALiBi(4).queries(q, positions), ALiBi(4).keys(k, positions), v, causal_mask(9))
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=distance_bias(4, positions.double()).float())
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


# The layer

@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_scheme_of_the_config_is_the_one_that_is_used(scheme):
    sizes = config(scheme, rope_base=77.0)
    encoding = {"rope": RoPE(77.0), "alibi": ALiBi(2)}.get(scheme, NoPositions())
    assert SelfAttention(sizes).encoding == position_encoding(sizes) == encoding
    added = position_vectors(sizes)
    positions = torch.tensor([4, 0, 8])
    if scheme == "sinusoidal":
        assert torch.equal(added(positions), sinusoidal(positions, 8)) and not list(added.parameters())
    elif scheme == "learned":
        assert torch.equal(added(positions), added.table.weight[positions]) and len(added.table.weight) == 9
    else:
        assert added is None


def test_the_layer_uses_what_its_encoding_uses():
    heads = {"n_heads", "n_kv_heads", "bias"}
    assert SelfAttention(config("rope")).uses == heads | {"positions", "rope_base"}
    assert SelfAttention(config("alibi")).uses == heads | {"positions"}
    assert all(SelfAttention(config(scheme)).uses == heads for scheme in ("none", "sinusoidal", "learned"))
    layer = SelfAttention(config("rope"))
    layer.encoding = type("Custom", (NoPositions,), {})()              # need not say what it uses
    assert layer.uses == heads


@pytest.mark.parametrize("scheme", ["none", "sinusoidal", "learned"])
def test_without_an_encoding_the_layer_is_chapter_threes(scheme):
    layer = SelfAttention(config(scheme))
    x, mask = torch.randn(2, 5, 8), causal_mask(5)
    torch.testing.assert_close(layer(x, mask=mask), layer.heads(x, mask=mask), rtol=0, atol=0)
    torch.testing.assert_close(layer(x), MultiHeadAttention.forward(layer.heads, x), rtol=0, atol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("attention_fn", [attention, F.scaled_dot_product_attention])
def test_the_rotary_layer_turns_queries_and_keys_head_by_head_and_leaves_values(attention_fn, layout):
    torch.manual_seed(0)
    layer = loud(SelfAttention(config("rope", 6, 4, n_kv_heads=2, rope_base=50.0), attention_fn=attention_fn))
    layer.encoding = RoPE(50.0, layout)
    x, positions, mask = torch.randn(3, 5, 24), torch.tensor([[7, 2, 30, 4, 4], [0, 1, 2, 3, 4], [9, 8, 7, 6, 5]]), causal_mask(5)
    q, (k, v) = layer.heads.queries(x), layer.heads.keys_values(x)
    expected = torch.empty(3, 6, 5, 4)
    for b in range(3):
        for head in range(6):
            turn = lambda y: apply_rope(y, positions[b], base=50.0, layout=layout)  # noqa: B023
            expected[b, head] = attention(turn(q[b, head]), turn(k[b, head // 3]), v[b, head // 3], mask)
    torch.testing.assert_close(layer(x, positions, mask), layer.merge(expected), rtol=1e-5, atol=1e-5)
    assert torch.equal(layer.keys_values(x, positions)[1], v)


@pytest.mark.parametrize("scheme", ["rope", "alibi", "none"])
def test_only_differences_of_positions_count_inside_attention(scheme):
    torch.manual_seed(0)
    layer = loud(SelfAttention(config(scheme, 3, 4)).double())
    x, mask = torch.randn(2, 6, 12, dtype=torch.float64), causal_mask(6)
    positions = torch.tensor([0, 1, 2, 5, 6, 9])
    torch.testing.assert_close(layer(x, positions, mask), layer(x, positions + 777, mask), rtol=0, atol=1e-8)
    torch.testing.assert_close(layer(x, mask=mask), layer(x, torch.arange(6), mask), rtol=0, atol=0)
    stretched = layer(x, 3 * positions, mask)
    assert torch.allclose(layer(x, positions, mask), stretched) == (scheme == "none")


@pytest.mark.parametrize("scheme", ["rope", "alibi", "none"])
def test_tokens_may_come_in_any_order_with_their_positions(scheme):
    torch.manual_seed(0)
    layer = loud(SelfAttention(config(scheme, 3, 4)).double())
    x, order = torch.randn(2, 6, 12, dtype=torch.float64), torch.tensor([4, 2, 0, 5, 1, 3])
    positions = torch.tensor([0, 3, 4, 7, 20, 21])
    torch.testing.assert_close(layer(x[:, order], positions[order]), layer(x, positions)[:, order])
    kept = torch.allclose(layer(x[:, order], positions), layer(x, positions)[:, order])
    assert kept == (scheme == "none")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_encoded_keys_can_be_kept_while_new_tokens_arrive(scheme):
    torch.manual_seed(0)
    layer = loud(SelfAttention(config(scheme, 4, 4, n_kv_heads=2)).double())
    x = torch.randn(2, 7, 16, dtype=torch.float64)
    whole = layer(x, mask=causal_mask(7))
    keys, values = layer.keys_values(x[:, :3], torch.arange(3))
    for t in range(3, 7):
        at = torch.tensor([t])
        k, v = layer.keys_values(x[:, t:t + 1], at)
        keys, values = torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)
        new = layer.merge(layer.attend(layer.queries(x[:, t:t + 1], at), keys, values))
        torch.testing.assert_close(new[:, 0], whole[:, t], rtol=1e-9, atol=1e-9)


def test_queries_and_keys_are_encoded_before_they_are_repeated():
    layer = SelfAttention(config("alibi", 4, 4, n_kv_heads=2))
    q, (k, v) = layer.queries(torch.randn(2, 3, 16), torch.arange(3)), layer.keys_values(torch.randn(2, 3, 16), torch.arange(3))
    assert q.shape == (2, 4, 3, 6) and k.shape == (2, 2, 3, 6) and v.shape == (2, 2, 3, 4)
    assert repeat_kv(k, 4).shape == q.shape


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_attention_function_that_is_passed_in_is_the_one_that_runs(scheme):
    calls = []

    def counted(q, k, v, mask=None):
        calls.append(mask)
        return attention(q, k, v, mask)

    layer, model = SelfAttention(config(scheme), attention_fn=counted), language_model(scheme, counted, n_layers=2)
    layer(torch.randn(1, 3, 8))
    model(torch.zeros(1, 3, dtype=torch.long))
    assert len(calls) == 3 and calls[0] is None and torch.equal(calls[2], causal_mask(3))


def test_one_row_of_positions_serves_the_batch():
    layer, x = SelfAttention(config("rope")), torch.randn(2, 3, 8)
    positions = torch.tensor([5, 7, 8])
    assert torch.equal(layer(x, positions[None]), layer(x, positions))
    assert torch.equal(layer(x, positions.expand(2, 3)), layer(x, positions))


# The language model

@pytest.mark.parametrize("scheme", SCHEMES)
def test_language_model_adds_what_each_layer_reads(scheme):
    torch.manual_seed(0)
    model = language_model(scheme, n_layers=2)
    tokens, positions = torch.randint(0, 11, (2, 5)), torch.tensor([[0, 1, 2, 3, 4], [3, 8, 1, 2, 5]])
    added = {"sinusoidal": lambda at: sinusoidal(at, 8), "learned": lambda at: model.position_embedding.table.weight[at]}.get(scheme, lambda at: 0)
    words = model.token_embedding.weight[tokens]
    torch.testing.assert_close(model.embed(tokens, positions), words + added(positions), rtol=0, atol=0)
    x = words + added(torch.arange(5))
    for layer in model.layers:
        x = x + layer.sublayer(x, torch.arange(5), causal_mask(5))
    torch.testing.assert_close(model(tokens), x @ model.lm_head.weight.T)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_language_model_is_causal_and_starts_near_ignorance(scheme):
    torch.manual_seed(0)
    model = language_model(scheme, n_layers=2)
    tokens = torch.randint(0, 11, (2, 9))
    for t in range(8):
        changed = tokens.clone()
        changed[:, t + 1:] = torch.randint(0, 11, (2, 8 - t))
        torch.testing.assert_close(model(changed)[:, :t + 1], model(tokens)[:, :t + 1], rtol=0, atol=0)
    assert abs(next_token_loss(model, tokens).item() - math.log(11)) < 1
    assert sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in language_model("none", n_layers=2).parameters()) == (
        9 * 8 if scheme == "learned" else 0)


def test_with_a_learned_table_it_is_chapter_threes_model():
    sizes = config("learned", n_layers=2)
    layers = [Residual(MultiHeadAttention(sizes)) for _ in range(2)]
    ours, before = language_model("learned", n_layers=2), LanguageModel(sizes, layers, positions=LearnedPositions(sizes))
    before.load_state_dict({name.replace(".heads", ""): value for name, value in ours.state_dict().items()})
    tokens = torch.randint(0, 11, (2, 7))
    torch.testing.assert_close(ours(tokens), before(tokens), rtol=0, atol=0)


def test_one_layer_without_positions_can_not_tell_two_orders_of_the_past_apart_and_two_layers_can():
    torch.manual_seed(0)
    one, other = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[2, 3, 1, 4]])
    model = lambda scheme, n_layers: loud(language_model(scheme, n_layers=n_layers).double())
    for scheme in SCHEMES:
        shallow, deep = model(scheme, 1), model(scheme, 2)
        assert torch.allclose(shallow(one)[:, -1], shallow(other)[:, -1], atol=1e-9) == (scheme == "none")
        assert not torch.allclose(deep(one)[:, -1], deep(other)[:, -1], atol=1e-3)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_types_are_kept(scheme, kind):
    model = language_model(scheme).to(kind)
    assert model(torch.tensor([[1, 2, 3]])).dtype == kind


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_obeys_max_len(scheme):
    model = language_model(scheme)
    assert model(torch.zeros(1, 9, dtype=torch.long)).shape == (1, 9, 11)
    with pytest.raises(ValueError, match="10 tokens is longer than max_len=9"):
        model(torch.zeros(1, 10, dtype=torch.long))


def x(*shape):
    return torch.zeros(*shape)


LAYER = SelfAttention(config("rope"))                                # d_model = 8


def no_vectors(scheme: str) -> LanguageModel:
    "A model that leaves out the vectors of the scheme."
    return LanguageModel(config(scheme), [Residual(SelfAttention(config(scheme)))])


@pytest.mark.refusal
@pytest.mark.parametrize(("call", "names"), [
    (lambda: sinusoidal(torch.arange(3), 7), ["7 components", "3 pairs leave 1 over"]),
    (lambda: rope_angles(torch.arange(3), 0), ["0 components"]),
    (lambda: rope_angles(torch.arange(3), 4, -2.0), ["base=-2.0", "more than 0"]),
    (lambda: rope_angles(torch.arange(3), 4, 0.0), ["base=0.0", "more than 0"]),
    (lambda: rope_angles(torch.arange(3), 4, math.nan), ["base=nan", "more than 0"]),
    (lambda: rope_angles(torch.arange(3), 4, math.inf), ["base=inf", "finite"]),
    (lambda: SinusoidalPositions(config("learned")), ["positions='learned'", "sinusoidal"]),
    (lambda: no_vectors("learned"), ["positions='learned' would be ignored"]),
    (lambda: no_vectors("sinusoidal"), ["positions='sinusoidal' would be ignored"]),
    (lambda: language_model("alibi", rope_base=77.0), ["rope_base=77.0 would be ignored"]),
    (lambda: language_model("rope", window=3), ["window=3 would be ignored"]),
    (lambda: apply_rope(x(3, 5), torch.arange(3)), ["5 components", "2 pairs leave 1 over"]),
    (lambda: apply_rope(x(2, 3, 6), torch.arange(4)), ["(2, 3, 6)", "(4, 3)"]),
    (lambda: apply_rope(x(2, 3, 6), torch.arange(1)), ["(2, 3, 6)", "(1, 3)"]),
    (lambda: apply_rope(x(2, 3, 6), torch.zeros(4, 3)), ["(2, 3, 6)", "(4, 3, 3)"]),
    (lambda: apply_rope(x(3, 6), torch.zeros(2, 3)), ["(3, 6)", "(2, 3, 3)"]),
    (lambda: apply_rope(x(3, 6), torch.arange(3), layout="pairs"), ["'pairs'", "'half'", "'interleaved'"]),
    (lambda: rotate_pairs(x(3, 6), x(3, 2)), ["(3, 6)", "(3, 2)"]),
    (lambda: rotate_pairs(x(3, 7), x(3, 3)), ["(3, 7)", "(3, 3)"]),
    (lambda: apply_rope(torch.ones(1, 1, 2, dtype=torch.int64), torch.arange(1)), ["int64", "floating-point"]),
    (lambda: apply_rope(x(3, 8), torch.tensor(3)), ["(4,)", "one per token and pair"]),
    (lambda: alibi_slopes(0), ["n_heads=0", "at least 1"]),
    (lambda: ALiBi(4).keys(x(1, 4, 5, 6), torch.arange(1)), ["1 positions", "5 keys"]),
    (lambda: language_model("sinusoidal").embed(torch.zeros(1, 5, dtype=torch.long), torch.arange(6)), ["(6,)", "1 sequences of 5 tokens"]),
    (lambda: language_model("learned").embed(torch.zeros(1, 1, dtype=torch.long), torch.tensor([9])), ["position 9", "max_len=9"]),
    (lambda: ALiBi(3).queries(x(1, 4, 2, 6), torch.arange(2)), ["3 heads", "queries of 4"]),
    (lambda: config("rope", 2, 3), ["= 3 is odd", "6 / 2"]),
    (lambda: LAYER(x(2, 3, 8), torch.arange(4)), ["(4,)", "2 sequences of 3 tokens"]),
    (lambda: SelfAttention(config("none"))(x(2, 3, 8), torch.arange(1)), ["(1,)", "2 sequences of 3 tokens"]),
    (lambda: LAYER(x(2, 3, 8), torch.zeros(3, 3)), ["(3, 3)", "2 sequences of 3 tokens"]),
    (lambda: LAYER(x(2, 3, 8), torch.zeros(2, 1, 3)), ["(2, 1, 3)", "2 sequences of 3 tokens"]),
    (lambda: LAYER(x(2, 3, 9)), ["d_model=8", "(2, 3, 9)"]),
])
def test_bad_input_is_refused_and_both_sides_are_named(call, names):
    with pytest.raises(ValueError) as error:
        call()
    for name in names:
        assert name in str(error.value)


@pytest.mark.compiled
@pytest.mark.parametrize("scheme", ["none", "sinusoidal", "learned", "rope", "alibi"])
def test_every_scheme_compiles_into_one_graph_is_exported_and_stays_on_its_device(scheme):
    model, tokens = language_model(scheme), torch.randint(0, 7, (2, 5))
    expected = model(tokens)
    for made in (torch.compile(model, backend="eager", fullgraph=True), torch.export.export(model, (tokens,)).module()):
        torch.testing.assert_close(made(tokens), expected)
    with torch.device("meta"):                                   # a default device is not the model's
        torch.testing.assert_close(model(tokens), expected)
    assert model.to("meta")(tokens.to("meta")).shape == expected.shape


def test_positions_may_be_small_numbers():
    for kind in (torch.uint8, torch.int16):
        torch.testing.assert_close(ALiBi(4).keys(x(1, 4, 5, 6), torch.arange(5, dtype=kind)), ALiBi(4).keys(x(1, 4, 5, 6), torch.arange(5)))
