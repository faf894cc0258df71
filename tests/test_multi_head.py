"""Multi-head attention equals PyTorch's, its parts are the arrangement they claim to be, and bad input is refused."""
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from transformer_course.attention import LearnedPositions, Residual, attention, causal_mask, padding_mask
from transformer_course.config import Config
from transformer_course.multi_head import MultiHeadAttention, merge_heads, repeat_kv, split_heads
from transformer_course.prediction import LanguageModel, next_token_loss

size = st.integers(1, 6)


def config(n_heads: int, d_head: int, n_kv_heads: int | None = None, **rest) -> Config:
    sizes = {"vocab_size": 11, "max_len": 9} | rest
    return Config(d_model=n_heads * d_head, n_heads=n_heads, n_kv_heads=n_kv_heads, **sizes)


def language_model(n_heads: int = 2, d_head: int = 4, attention_fn=attention, **fields) -> LanguageModel:
    "The model of the chapter: multi-head layers and a table of positions."
    sizes = config(n_heads, d_head, positions="learned", **fields)
    layers = [Residual(MultiHeadAttention(sizes, attention_fn=attention_fn)) for _ in range(sizes.n_layers)]
    return LanguageModel(sizes, layers, positions=LearnedPositions(sizes))


def twin(layer: MultiHeadAttention) -> nn.MultiheadAttention:
    "PyTorch's class with our weights."
    theirs = nn.MultiheadAttention(layer.query.in_features, layer.n_heads, bias=layer.query.bias is not None, batch_first=True).double()
    parts = (layer.query, layer.key, layer.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        if layer.query.bias is not None:
            theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.load_state_dict(layer.output.state_dict())
    return theirs


@st.composite
def calls(draw):
    "A layer, x, a memory or None, and no mask, a causal one, or one of a promised shape in which every query may read something."
    torch.manual_seed(draw(st.integers(0, 2**31)))
    n_heads, d_head, batch, queries = draw(size), draw(size), draw(size), draw(size)
    keys = draw(st.one_of(st.none(), size))
    layer = MultiHeadAttention(config(n_heads, d_head, bias=draw(st.booleans()))).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(batch, queries, n_heads * d_head, dtype=torch.float64)
    memory = None if keys is None else torch.randn(batch, keys, n_heads * d_head, dtype=torch.float64)
    keys = keys or queries
    shape = {"none": None, "shared": (queries, keys), "per sequence": (batch, queries, keys), "padding": (batch, 1, keys),
             "per head": (batch, n_heads, queries, keys)}[draw(st.sampled_from(["none", "shared", "per sequence", "padding", "per head"]))]
    mask = None if shape is None else torch.rand(shape) < 0.6
    if mask is not None:
        mask[..., 0] = True
    elif queries <= keys and draw(st.booleans()):
        mask = causal_mask(queries, keys)
    return layer, x, memory, mask


@given(calls())
def test_equals_pytorch_values_and_gradients(call):
    layer, x, memory, mask = call
    theirs = twin(layer)
    keys = (x if memory is None else memory).shape[1]
    inputs = [x.requires_grad_()] + ([] if memory is None else [memory.requires_grad_()])
    full = None
    if mask is not None:                                             # PyTorch wants (B h, T, S), True where reading is forbidden
        full = ~(mask[:, None] if mask.dim() == 3 else mask).expand(len(x), layer.n_heads, x.shape[1], keys).flatten(0, 1)
    read = inputs[-1]
    out, expected = layer(x, memory, mask), theirs(x, read, read, attn_mask=full, need_weights=False)[0]
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)
    into = torch.randn_like(out)
    ours = torch.autograd.grad(out, [*inputs, *layer.parameters()], into)
    wanted = torch.autograd.grad(expected, [*inputs, *theirs.parameters()], into)
    for a, b in zip(ours[:len(inputs)], wanted[:len(inputs)], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
    gradients = dict(zip((name for name, _ in layer.named_parameters()), ours[len(inputs):], strict=True))
    stacked = torch.cat([gradients[f"{part}.weight"] for part in ("query", "key", "value")])
    of_theirs = dict(zip((name for name, _ in theirs.named_parameters()), wanted[len(inputs):], strict=True))
    torch.testing.assert_close(stacked, of_theirs["in_proj_weight"], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(gradients["output.weight"], of_theirs["out_proj.weight"], rtol=1e-8, atol=1e-8)
    if layer.query.bias is not None:
        stacked = torch.cat([gradients[f"{part}.bias"] for part in ("query", "key", "value")])
        torch.testing.assert_close(stacked, of_theirs["in_proj_bias"], rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(gradients["output.bias"], of_theirs["out_proj.bias"], rtol=1e-8, atol=1e-8)


@given(st.integers(1, 4), st.integers(1, 3), size, size, size, size, st.booleans())
def test_grouped_queries_equal_pytorch_and_a_loop(groups, group_size, d_head, batch, queries, keys, masked):
    n_heads = groups * group_size
    layer = MultiHeadAttention(config(n_heads, d_head, groups)).double()
    x, memory = (torch.randn(batch, n, n_heads * d_head, dtype=torch.float64) for n in (queries, keys))
    mask = torch.rand(batch, 1, queries, keys) < 0.7 if masked else None
    if masked:
        mask[..., 0] = True
    q, (k, v) = layer.queries(x), layer.keys_values(memory)
    assert q.shape == (batch, n_heads, queries, d_head) and k.shape == v.shape == (batch, groups, keys, d_head)
    found = layer.attend(q, k, v, mask)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    into = torch.randn_like(found)
    for ours, wanted in zip(*(torch.autograd.grad(out, (q, k, v), into, retain_graph=True) for out in (found, expected)), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-8, atol=1e-8)
    per_head = [attention(q[:, i], k[:, i // group_size], v[:, i // group_size], mask[:, 0] if masked else None) for i in range(n_heads)]
    torch.testing.assert_close(found, torch.stack(per_head, dim=1), rtol=1e-9, atol=1e-9)


def test_a_layer_is_the_sum_of_what_its_heads_write():
    torch.manual_seed(0)
    layer = MultiHeadAttention(config(3, 5)).double()
    x, mask = torch.randn(2, 4, 15, dtype=torch.float64), causal_mask(4)
    total = layer.output.bias.clone()
    for i in range(3):
        rows = slice(5 * i, 5 * i + 5)
        q, k, v = (F.linear(x, part.weight[rows], part.bias[rows]) for part in (layer.query, layer.key, layer.value))
        total = total + attention(q, k, v, mask) @ layer.output.weight[:, rows].T
    torch.testing.assert_close(layer(x, mask=mask), total)


@given(st.lists(size, max_size=2), size, size, size)
def test_split_and_merge_undo_each_other(lead, length, n_heads, d_head):
    x = torch.randn(*lead, length, n_heads * d_head)
    heads = split_heads(x, n_heads)
    assert heads.shape == (*lead, n_heads, length, d_head)
    for i in range(n_heads):
        assert torch.equal(heads[..., i, :, :], x[..., i * d_head:(i + 1) * d_head])
    assert torch.equal(merge_heads(heads), x)


def test_repeated_heads_are_neighbours_and_nothing_is_copied_without_need():
    x = torch.arange(2.0)[None, :, None, None].expand(3, 2, 4, 5).contiguous()
    assert repeat_kv(x, 6)[1, :, 2, 3].tolist() == [0, 0, 0, 1, 1, 1]
    assert repeat_kv(x, 2).data_ptr() == x.data_ptr()


def test_a_mask_belongs_to_its_sequence_and_to_all_heads():
    torch.manual_seed(0)
    layer = MultiHeadAttention(config(2, 4)).double()
    x = torch.randn(3, 5, 8, dtype=torch.float64)                    # 3 sequences and 2 heads
    mask = (torch.rand(3, 5, 5) < 0.5) | torch.eye(5, dtype=torch.bool)
    alone = torch.cat([layer(x[i:i + 1], mask=mask[i]) for i in range(3)])
    torch.testing.assert_close(layer(x, mask=mask), alone)
    lengths = torch.tensor([5, 2, 4])
    both = causal_mask(5) & padding_mask(lengths, 5)
    polluted = x.clone()
    polluted[1, 2:], polluted[2, 4:] = 1e4, -1e4
    clean, dirty = layer(x, mask=both), layer(polluted, mask=both)
    for i, length in enumerate(lengths):
        torch.testing.assert_close(clean[i, :length], dirty[i, :length], rtol=0, atol=0)


def test_questions_can_be_shared_by_the_batch():
    layer = MultiHeadAttention(config(2, 4)).double()
    questions, memory = torch.randn(1, 3, 8, dtype=torch.float64), torch.randn(4, 6, 8, dtype=torch.float64)
    mask = padding_mask(torch.tensor([6, 1, 3, 5]), 6)
    torch.testing.assert_close(layer.attend(layer.queries(questions), *layer.keys_values(memory), mask),
                               layer.attend(layer.queries(questions.expand(4, -1, -1)), *layer.keys_values(memory), mask))


def test_a_memory_can_be_shared_by_the_batch():
    layer = MultiHeadAttention(config(2, 4)).double()
    x, memory = torch.randn(4, 3, 8, dtype=torch.float64), torch.randn(1, 6, 8, dtype=torch.float64)
    mask = padding_mask(torch.tensor([6, 1, 3, 5]), 6)
    torch.testing.assert_close(layer.attend(layer.queries(x), *layer.keys_values(memory), mask),
                               layer.attend(layer.queries(x), *layer.keys_values(memory.expand(4, -1, -1)), mask))


def test_forward_is_the_arrangement_it_says_and_the_attention_function_is_used():
    calls = []

    def counted(q, k, v, mask=None):
        calls.append((tuple(q.shape), tuple(k.shape), None if mask is None else tuple(mask.shape)))
        return attention(q, k, v, mask)

    layer = MultiHeadAttention(config(4, 3, 2), attention_fn=counted)
    x, memory = torch.randn(2, 5, 12), torch.randn(2, 7, 12)
    torch.testing.assert_close(layer(x, memory), layer.merge(layer.attend(layer.queries(x), *layer.keys_values(memory))))
    torch.testing.assert_close(layer(x), layer(x, x))
    layer(x, mask=causal_mask(5))
    assert calls[0] == ((2, 4, 5, 3), (2, 4, 7, 3), None) and calls[-1][2] == (5, 5)
    lm = language_model(4, 3, attention_fn=counted, n_layers=2)
    before = len(calls)
    lm(torch.zeros(1, 3, dtype=torch.long))
    assert len(calls) == before + 2


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 12])
def test_the_number_of_heads_is_not_in_the_count(heads):
    count = lambda **rest: sum(p.numel() for p in MultiHeadAttention(config(heads, 12 // heads, **rest)).parameters())
    assert count(bias=False) == 4 * 12**2 and count() == 4 * 12**2 + 4 * 12
    if heads % 2 == 0:
        shared = MultiHeadAttention(config(heads, 12 // heads, heads // 2, bias=False))
        assert sum(p.numel() for p in shared.parameters()) == 3 * 12**2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_types_are_kept(dtype):
    layer = MultiHeadAttention(config(2, 4)).to(dtype)
    assert layer(torch.randn(1, 3, 8, dtype=dtype), mask=causal_mask(3)).dtype == dtype


def x(*shape, dtype=torch.float32):
    return torch.zeros(*shape, dtype=dtype)


LAYER = MultiHeadAttention(config(2, 4))                             # d_model = 8
FUSED = MultiHeadAttention(config(2, 4), attention_fn=F.scaled_dot_product_attention)


@pytest.mark.refusal
@pytest.mark.parametrize(("call", "names"), [
    (lambda: LAYER(x(2, 3, 7)), ["d_model=8", "(2, 3, 7)"]),
    (lambda: LAYER(x(3, 8)), ["(B, T, d_model=8)", "(3, 8)"]),
    (lambda: LAYER(x(2, 3, 8), x(2, 5, 9)), ["d_model=8", "(2, 5, 9)"]),
    (lambda: LAYER(x(2, 3, 9), x(2, 5, 8)), ["d_model=8", "(2, 3, 9)"]),
    (lambda: LAYER.queries(x(3, 8)), ["(B, T, d_model=8)", "(3, 8)"]),
    (lambda: LAYER(x(2, 3, 8), x(3, 5, 8)), ["(2, 2, 3, 4)", "(3, 2, 5, 4)"]),
    (lambda: LAYER(x(2, 3, 8), mask=x(3, 3, 3, dtype=torch.bool)), ["(3, 3, 3)", "2 sequences", "3 queries", "2 heads"]),
    (lambda: LAYER(x(2, 3, 8), mask=x(2, 5, dtype=torch.bool)), ["(2, 5)", "3 queries and 3 keys"]),
    (lambda: LAYER(x(2, 3, 8), mask=x(3, dtype=torch.bool)), ["(3,)", "(T, S)"]),
    (lambda: LAYER(x(2, 3, 8), mask=x(2, 3, 3, 3, dtype=torch.bool)), ["(2, 3, 3, 3)", "2 heads"]),
    (lambda: LAYER(x(1, 3, 8), mask=x(1, 1, 1, 3, 3, dtype=torch.bool)), ["(1, 1, 1, 3, 3)"]),
    (lambda: LAYER(x(2, 3, 8), mask=x(3, 3)), ["boolean", "float32"]),
    (lambda: FUSED(x(2, 3, 8), mask=x(3, 3)), ["boolean", "float32"]),  # this one would add the numbers
    (lambda: repeat_kv(x(1, 4, 3, 2), 6), ["6 query heads", "4 key-value heads"]),
    (lambda: repeat_kv(x(1, 4, 3, 2), -4), ["-4 query heads", "4 key-value heads"]),
    (lambda: split_heads(x(1, 3, 10), 3), ["10 components", "n_heads=3"]),
    (lambda: split_heads(x(1, 3, 10), 0), ["10 components", "n_heads=0"]),
    (lambda: config(3, 3).replace(n_kv_heads=2), ["n_heads=3", "n_kv_heads=2"]),
    (lambda: LanguageModel(config(2, 4, positions="rope"), [Residual(LAYER)]), ["positions='rope' would be ignored"]),
    (lambda: LanguageModel(config(2, 4, dropout=0.1), [Residual(LAYER)]), ["dropout=0.1 would be ignored"]),
    (lambda: language_model()(torch.zeros(1, 10, dtype=torch.long)), ["10 tokens", "max_len=9"]),
])
def test_bad_input_is_refused_and_both_sides_are_named(call, names):
    with pytest.raises(ValueError) as error:
        call()
    for name in names:
        assert name in str(error.value)


@pytest.mark.compiled
def test_a_masked_layer_is_exported_for_any_batch_and_length():
    class Causal(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = MultiHeadAttention(config(2, 4))

        def forward(self, x):
            return self.layer(x, mask=causal_mask(x.shape[1]))

    of, (batch, length) = Causal(), (torch.export.Dim(name, min=2, max=9) for name in ("batch", "length"))
    exported = torch.export.export(of, (x(3, 5, 8),), dynamic_shapes=({0: batch, 1: length},)).module()
    for shape in ((2, 3, 8), (7, 9, 8)):
        given = x(*shape)
        torch.testing.assert_close(exported(given), of(given))


def test_language_model_is_causal_knows_positions_and_starts_near_ignorance():
    torch.manual_seed(0)
    model = language_model(n_layers=2)
    assert len(model.layers) == 2
    tokens = torch.randint(0, 11, (2, 9))
    for t in range(8):
        changed = tokens.clone()
        changed[:, t + 1:] = torch.randint(0, 11, (2, 8 - t))
        torch.testing.assert_close(model(changed)[:, :t + 1], model(tokens)[:, :t + 1], rtol=0, atol=0)
    assert abs(next_token_loss(model, tokens).item() - math.log(11)) < 1
    shallow = language_model()
    one, other = torch.tensor([[1, 2, 3]]), torch.tensor([[2, 1, 3]])                # without positions the last prediction would be the same
    assert not torch.allclose(shallow(one)[:, -1], shallow(other)[:, -1], atol=1e-3)


def test_language_model_adds_what_each_layer_reads():
    torch.manual_seed(0)
    model = language_model(n_layers=2)
    tokens = torch.randint(0, 11, (2, 5))
    x = model.token_embedding.weight[tokens] + model.position_embedding.table.weight[:5]
    for layer in model.layers:
        x = x + layer.sublayer(x, mask=causal_mask(5))
    torch.testing.assert_close(model(tokens), x @ model.lm_head.weight.T)


def test_the_layer_uses_its_heads_and_biases():
    assert MultiHeadAttention.uses == {"n_heads", "n_kv_heads", "bias"}
    used = {"n_heads": 4, "n_kv_heads": 2, "bias": False, "tie_embeddings": True}
    grouped = Config(vocab_size=11, max_len=9, d_model=8, **used)
    model = LanguageModel(grouped, [Residual(MultiHeadAttention(grouped))])
    assert model.layers[0].sublayer.key.weight.shape == (4, 8) and model.layers[0].sublayer.key.bias is None
