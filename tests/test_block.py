"""Norms and blocks equal PyTorch's, dropout keeps the mean, and bad input is refused."""
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from transformer_course.attention import attention, causal_mask, padding_mask
from transformer_course.block import AddNorm, Block, Dropout, LayerNorm, RMSNorm, dropout, final_norm, norm_layer
from transformer_course.config import PRESETS, Config
from transformer_course.multi_head import MultiHeadAttention
from transformer_course.positions import position_vectors
from transformer_course.prediction import LanguageModel, next_token_loss

size = st.integers(1, 6)


def config(**rest) -> Config:
    return Config(**{"vocab_size": 11, "max_len": 9, "d_model": 12, "n_heads": 3} | rest)


def language_model(**rest) -> LanguageModel:
    chosen = config(**rest)
    layers = [Block(chosen) for _ in range(chosen.n_layers)]
    return LanguageModel(chosen, layers, positions=position_vectors(chosen), norm=final_norm(chosen))


def alike(ours: nn.Module, theirs: nn.Module) -> None:
    "Random parameters, the same in both."
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        nn.init.normal_(one)
        other.data.copy_(one)


@given(st.lists(size, max_size=3), st.integers(1, 9), st.booleans(), st.sampled_from([1e-12, 1e-5, 0.3]), st.sampled_from([1e-3, 1.0, 50.0]))
def test_norms_equal_pytorch_values_and_gradients(lead, width, bias, eps, scale):
    x = scale * torch.randn(*lead, width, dtype=torch.float64) + 0.1
    pairs = [(LayerNorm(width, eps, bias=bias), nn.LayerNorm(width, eps, bias=bias)), (RMSNorm(width, eps), nn.RMSNorm(width, eps))]
    for ours, theirs in pairs:
        ours, theirs = ours.double(), theirs.double()
        alike(ours, theirs)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        inputs = x.clone().requires_grad_()
        out, expected = ours(inputs), theirs(inputs)
        torch.testing.assert_close(out, expected, rtol=1e-8, atol=1e-8)
        into = torch.randn_like(out)
        found = torch.autograd.grad(out, [inputs, *ours.parameters()], into)
        wanted = torch.autograd.grad(expected, [inputs, *theirs.parameters()], into)
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6 * max(1, 1 / scale))


def test_norms_do_what_they_say():
    x = torch.randn(2, 3, 64, dtype=torch.float64) * 5 + 2
    y = LayerNorm(64).double()(x)
    torch.testing.assert_close(y.mean(-1), torch.zeros(2, 3, dtype=torch.float64))
    torch.testing.assert_close(y.var(-1, correction=0), torch.ones(2, 3, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(RMSNorm(64).double()(x).norm(dim=-1), torch.full((2, 3), 8.0, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(LayerNorm(64)(x * 10 + 3), LayerNorm(64)(x), rtol=1e-4, atol=1e-4)
    assert torch.equal(LayerNorm(64)(torch.full((2, 64), 7.0)), torch.zeros(2, 64))
    assert torch.equal(RMSNorm(64)(torch.zeros(2, 64)), torch.zeros(2, 64))


def test_gradients_agree_with_finite_differences():
    x = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    for norm in (LayerNorm(5).double(), RMSNorm(5).double()):
        assert torch.autograd.gradcheck(norm, (x,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_norms_compute_in_32_bits_and_keep_the_type(dtype):
    x = (torch.randn(4, 256) * 300).to(dtype)                        # squares overflow in 16 bits
    for ours, theirs in ((LayerNorm(256), nn.LayerNorm(256)), (RMSNorm(256), nn.RMSNorm(256, 1e-5))):
        out = ours.to(dtype)(x)
        assert out.dtype == dtype
        torch.testing.assert_close(out, theirs(x.float()).to(dtype), rtol=1e-2, atol=1e-2)


def test_dropout_keeps_the_mean_and_drops_each_number_by_itself():
    generator = torch.Generator().manual_seed(0)
    x = torch.full((400, 50, 10), 3.0)
    y = dropout(x, 0.2, generator=generator)
    dropped = y == 0
    assert abs(dropped.float().mean() - 0.2) < 0.005 and abs(y.mean() - 3) < 0.02
    torch.testing.assert_close(y[~dropped], torch.full_like(y[~dropped], 3 / 0.8))
    for axis in range(3):                                            # no number follows its neighbour
        both = (dropped.narrow(axis, 0, dropped.shape[axis] - 1) & dropped.narrow(axis, 1, dropped.shape[axis] - 1)).float().mean()
        assert abs(both - 0.04) < 0.005
    again = dropout(x, 0.2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(y, again) and torch.equal(dropout(x, 0.0), x)
    assert torch.equal(dropout(torch.full((4,), math.inf), 0.5).isnan(), torch.zeros(4, dtype=torch.bool))


def test_dropout_is_for_training():
    layer, x = Dropout(0.5), torch.ones(100)
    assert (layer(x) == 0).any() and layer.eval()(x) is x and Dropout(0.0)(x) is x


def twin(block: Block, settings: Config) -> nn.TransformerEncoderLayer:
    "PyTorch's layer with the parameters of ours."
    theirs = nn.TransformerEncoderLayer(settings.d_model, settings.n_heads, settings.d_ff, dropout=0.0, activation=settings.activation,
                                        layer_norm_eps=settings.norm_eps, norm_first=settings.norm_first, batch_first=True).double()
    heads, hidden = block.attention.sublayer.heads, block.feed_forward.sublayer
    maps = (heads.query, heads.key, heads.value)
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(torch.cat([one.weight for one in maps]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([one.bias for one in maps]))
    for one, other in ((theirs.self_attn.out_proj, heads.output), (theirs.linear1, hidden.up), (theirs.linear2, hidden.down),
                       (theirs.norm1, block.attention.norm), (theirs.norm2, block.feed_forward.norm)):
        one.load_state_dict(other.state_dict())
    return theirs


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_block_equals_pytorch_values_and_gradients(norm_first, activation, masked):
    torch.manual_seed(0)
    settings = config(norm_first=norm_first, activation=activation, d_ff=20, norm_eps=1e-3)
    block = Block(settings).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    theirs, x = twin(block, settings), torch.randn(2, 5, 12, dtype=torch.float64, requires_grad=True)
    mask = causal_mask(5) if masked else None
    out, expected = block(x, mask), theirs(x, None if mask is None else ~mask)
    torch.testing.assert_close(out, expected)
    into = torch.randn_like(out)
    ours = dict(zip(("x", *(n for n, _ in block.named_parameters())), torch.autograd.grad(out, [x, *block.parameters()], into), strict=True))
    wanted = dict(zip(("x", *(n for n, _ in theirs.named_parameters())), torch.autograd.grad(expected, [x, *theirs.parameters()], into), strict=True))
    for a, b in (("x", "x"), ("attention.norm.weight", "norm1.weight"), ("feed_forward.norm.bias", "norm2.bias"),
                 ("attention.sublayer.heads.output.weight", "self_attn.out_proj.weight"), ("feed_forward.sublayer.up.weight", "linear1.weight")):
        torch.testing.assert_close(ours[a], wanted[b])


def silent(block: Block) -> Block:
    "The block with sublayers that write nothing."
    for one in (block.attention.sublayer.heads.output, block.feed_forward.sublayer.down):
        nn.init.zeros_(one.weight)
        if one.bias is not None:
            nn.init.zeros_(one.bias)
    return block


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_without_writes_pre_norm_returns_its_input_and_post_norm_a_norm_of_it(norm):
    x = torch.randn(2, 5, 12)
    assert torch.equal(silent(Block(config(norm=norm)))(x), x)
    after = silent(Block(config(norm=norm, norm_first=False)))
    torch.testing.assert_close(after(x), after.feed_forward.norm(after.attention.norm(x)))


def test_pre_norm_stream_is_the_sum_of_all_writes():
    torch.manual_seed(0)
    blocks, x, total = [Block(config()).double() for _ in range(3)], torch.randn(2, 5, 12, dtype=torch.float64), 0
    stream = x
    for block in blocks:
        for layer in (block.attention, block.feed_forward):
            write = layer.sublayer(layer.norm(stream))
            total, stream = total + write, stream + write
    through = x
    for block in blocks:
        through = block(through)
    torch.testing.assert_close(through, x + total)


def test_the_two_norms_of_a_block_are_two():
    block = Block(config())
    assert block.attention.norm.weight is not block.feed_forward.norm.weight


def test_add_norm_hands_on_what_its_sublayer_needs():
    torch.manual_seed(0)
    settings = config()
    cross, x, memory = AddNorm(settings, MultiHeadAttention(settings)), torch.randn(2, 5, 12), torch.randn(2, 7, 12)
    mask = padding_mask(torch.tensor([7, 3]), 7)
    torch.testing.assert_close(cross(x, memory, mask=mask), x + cross.sublayer(cross.norm(x), memory, mask=mask))
    assert cross.uses == {"n_heads", "n_kv_heads", "bias", "norm", "norm_eps", "norm_first", "dropout"}


def test_dropout_falls_on_what_is_written_and_not_on_the_stream():
    torch.manual_seed(0)
    settings = config(dropout=0.5)
    layer, x = AddNorm(settings, nn.Identity()), torch.randn(50, 20, 12) * 2
    written = layer(x) - x
    dropped = written.abs() < 1e-6
    assert 0.45 < dropped.float().mean() < 0.55
    torch.testing.assert_close(written[~dropped], 2 * layer.norm(x)[~dropped], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.eval()(x), x + layer.norm(x))
    block = Block(settings)
    assert not torch.equal(block(x[:2]), block(x[:2])) and torch.equal(block.eval()(x[:2]), block(x[:2]))


@pytest.mark.parametrize(("name", "norm", "bias", "last"), [
    ("gpt2", LayerNorm, True, True), ("llama-7b", RMSNorm, None, True), ("bert-base", LayerNorm, True, False), ("transformer-base", LayerNorm, True, False),
])
def test_presets_get_their_norms(name, norm, bias, last):
    settings = PRESETS[name].replace(d_model=64, n_heads=4, n_kv_heads=None, d_ff=None)
    made = norm_layer(settings)
    assert type(made) is norm and made.eps == settings.norm_eps and (final_norm(settings) is not None) is last
    if norm is LayerNorm:
        assert (made.bias is not None) is bias
    assert LayerNorm(8, bias=False).bias is None and norm_layer(config(bias=False)).bias is None


@pytest.mark.parametrize(("settings", "count"), [
    (config(), 12 * 12**2 + 13 * 12),
    (config(bias=False), 12 * 12**2 + 2 * 12),
    (config(norm="rms", bias=False, activation="swiglu", d_ff=20, n_kv_heads=1), 2 * 144 + 2 * 12 * 4 + 3 * 12 * 20 + 24),
])
def test_parameters_are_counted(settings, count):
    assert sum(p.numel() for p in Block(settings).parameters()) == count


def test_attention_function_and_activation_reach_their_places():
    calls = []

    def counted(q, k, v, mask=None):
        calls.append(tuple(q.shape))
        return attention(q, k, v, mask)

    block, x = Block(config(), attention_fn=counted), torch.randn(2, 5, 12)
    fused = Block(config(), attention_fn=F.scaled_dot_product_attention)
    fused.load_state_dict(block.state_dict())
    torch.testing.assert_close(block(x, causal_mask(5)), fused(x, causal_mask(5)))
    assert calls == [(2, 3, 5, 4)]
    assert type(Block(config(activation="swiglu")).feed_forward.sublayer).__name__ == "SwiGLU"


@pytest.mark.parametrize("rest", [
    {}, {"norm_first": False}, {"norm": "rms"}, {"positions": "rope"}, {"positions": "alibi"}, {"activation": "swiglu", "bias": False},
    {"n_kv_heads": 1}, {"norm_first": False, "norm": "rms", "positions": "learned"},
])
def test_language_model_of_blocks_is_causal_and_starts_near_ignorance(rest):
    torch.manual_seed(0)
    model = language_model(n_layers=2, **rest)
    tokens = torch.randint(0, 11, (2, 9))
    for t in (0, 3, 7):
        changed = tokens.clone()
        changed[:, t + 1:] = torch.randint(0, 11, (2, 8 - t))
        torch.testing.assert_close(model(changed)[:, :t + 1], model(tokens)[:, :t + 1], rtol=1e-5, atol=1e-5)
    loss = next_token_loss(model, tokens)
    loss.backward()
    assert abs(loss.item() - math.log(11)) < 1
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def x(*shape, dtype=torch.float32):
    return torch.zeros(*shape, dtype=dtype)


@pytest.mark.refusal
@pytest.mark.parametrize(("call", "names"), [
    (lambda: LayerNorm(8)(x(2, 3, 7)), ["d_model=8", "(2, 3, 7)"]),
    (lambda: RMSNorm(8)(x(2, 7)), ["d_model=8", "(2, 7)"]),
    (lambda: RMSNorm(8)(torch.tensor(1.0)), ["d_model=8", "()"]),
    (lambda: LayerNorm(8)(x(8, dtype=torch.int64)), ["floating-point", "int64"]),
    (lambda: LayerNorm(0), ["d_model=0"]),
    (lambda: RMSNorm(8, -1.0), ["eps=-1.0"]),
    (lambda: dropout(x(3), 1.0), ["p=1.0"]),
    (lambda: Dropout(-0.1), ["p=-0.1"]),
    (lambda: Block(config())(x(2, 5, 8)), ["d_model=12", "(2, 5, 8)"]),
    (lambda: LanguageModel(config(norm_eps=1e-6, n_heads=1), [nn.Identity()]), ["norm_eps=1e-06 would be ignored"]),
    (lambda: language_model(window=4), ["window=4 would be ignored"]),
])
def test_bad_input_is_refused_and_both_sides_are_named(call, names):
    with pytest.raises(ValueError) as error:
        call()
    for name in names:
        assert name in str(error.value)


@pytest.mark.compiled
def test_a_block_is_exported_for_any_batch_and_length():
    class Causal(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block(config())

        def forward(self, x):
            return self.block(x, causal_mask(x.shape[1]))

    of, (batch, length) = Causal().eval(), (torch.export.Dim(name, min=2, max=9) for name in ("batch", "length"))
    exported = torch.export.export(of, (x(3, 5, 12),), dynamic_shapes=({0: batch, 1: length},)).module()
    for shape in ((2, 3, 12), (7, 9, 12)):
        some = torch.randn(*shape)
        torch.testing.assert_close(exported(some), of(some))
