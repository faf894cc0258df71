"""Feed-forward networks equal PyTorch's and those of published models, work on each token alone, and bad input is refused."""
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from transformer_course.attention import Residual
from transformer_course.config import PRESETS, Config
from transformer_course.feed_forward import ACTIVATIONS, FeedForward, MixtureOfExperts, SwiGLU, feed_forward, gelu
from transformer_course.positions import SelfAttention
from transformer_course.prediction import LanguageModel, next_token_loss

size = st.integers(1, 7)
KINDS = {
    "relu": {"activation": "relu"}, "gelu": {}, "gelu_tanh": {"activation": "gelu_tanh"}, "swiglu": {"activation": "swiglu"},
    "experts": {"n_experts": 5, "n_active_experts": 2}, "one expert": {"n_experts": 3},
    "gated experts": {"n_experts": 4, "n_active_experts": 3, "activation": "swiglu", "bias": False},
}


def config(d_model: int = 6, d_ff: int = 9, **rest) -> Config:
    return Config(**{"vocab_size": 11, "max_len": 9, "d_model": d_model, "d_ff": d_ff} | rest)


@given(size, size, size, size, st.sampled_from(["relu", "gelu", "gelu_tanh"]), st.booleans())
def test_equals_pytorch_values_and_gradients(batch, length, d_model, d_ff, activation, bias):
    layer = FeedForward(config(d_model, d_ff, activation=activation, bias=bias)).double()
    between = {"relu": nn.ReLU(), "gelu": nn.GELU(), "gelu_tanh": nn.GELU("tanh")}[activation]
    theirs = nn.Sequential(nn.Linear(d_model, d_ff, bias=bias), between, nn.Linear(d_ff, d_model, bias=bias)).double()
    theirs[0].load_state_dict(layer.up.state_dict())
    theirs[2].load_state_dict(layer.down.state_dict())
    x = torch.randn(batch, length, d_model, dtype=torch.float64, requires_grad=True)
    out, expected = layer(x), theirs(x)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    into = torch.randn_like(out)
    ours = torch.autograd.grad(out, [x, *layer.parameters()], into)
    for a, b in zip(ours, torch.autograd.grad(expected, [x, *theirs.parameters()], into), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", ["none", "tanh"])
def test_gelu_equals_pytorch_everywhere(form):
    x = torch.cat([torch.linspace(-9, 9, 2001), torch.tensor([0.0, -50, 50, 1e4, -1e4])]).double().requires_grad_()
    ours, theirs = gelu(x, form), F.gelu(x, approximate=form)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    slopes = (torch.autograd.grad(each.sum(), x)[0] for each in (ours, theirs))
    torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-10)
    if form == "none":
        torch.testing.assert_close(ours, x * torch.distributions.Normal(0, 1).cdf(x), rtol=1e-9, atol=1e-9)


def test_equals_the_networks_of_published_models():
    from transformers import GPT2Config, LlamaConfig, MixtralConfig
    from transformers.models.gpt2.modeling_gpt2 import GPT2MLP
    from transformers.models.llama.modeling_llama import LlamaMLP
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    torch.manual_seed(0)
    x = torch.randn(2, 5, 6)
    ours, theirs = FeedForward(config(d_ff=24, activation="gelu_tanh")), GPT2MLP(24, GPT2Config(n_embd=6, resid_pdrop=0.0))
    with torch.no_grad():
        for one, other in ((ours.up, theirs.c_fc), (ours.down, theirs.c_proj)):
            one.weight.copy_(other.weight.T)
            one.bias.copy_(other.bias)
    torch.testing.assert_close(ours(x), theirs(x))

    gated = config(activation="swiglu", bias=False)
    ours, theirs = SwiGLU(gated), LlamaMLP(LlamaConfig(hidden_size=6, intermediate_size=9, num_attention_heads=2))
    ours.load_state_dict({name.replace("_proj", ""): weight for name, weight in theirs.state_dict().items()})
    torch.testing.assert_close(ours(x), theirs(x))

    ours = MixtureOfExperts(gated.replace(n_experts=4, n_active_experts=2))
    theirs = MixtralSparseMoeBlock(MixtralConfig(hidden_size=6, intermediate_size=9, num_attention_heads=2, num_key_value_heads=1, num_local_experts=4, num_experts_per_tok=2))
    with torch.no_grad():
        theirs.gate.weight.copy_(ours.router.weight)
        for i, expert in enumerate(ours.experts):
            theirs.experts.gate_up_proj[i].copy_(torch.cat([expert.gate.weight, expert.up.weight]))
            theirs.experts.down_proj[i].copy_(expert.down.weight)
    found = theirs(x)
    torch.testing.assert_close(ours(x), found[0] if isinstance(found, tuple) else found)


@pytest.mark.parametrize("kind", KINDS)
def test_each_token_is_computed_by_itself(kind):
    torch.manual_seed(0)
    layer = feed_forward(config(**KINDS[kind])).double()
    x = torch.randn(3, 4, 6, dtype=torch.float64)
    out = layer(x)
    assert out.shape == x.shape
    for b in range(3):
        for t in range(4):
            torch.testing.assert_close(layer(x[b, t]), out[b, t], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer(x, mask=torch.zeros(4, 4, dtype=torch.bool)), out, rtol=0, atol=0)
    assert layer(x[:0]).shape == (0, 4, 6)


@given(st.integers(1, 6), st.data())
def test_a_mixture_is_the_weighted_sum_of_its_best_experts(n_experts, data):
    active = data.draw(st.integers(1, n_experts))
    layer = MixtureOfExperts(config(n_experts=n_experts, n_active_experts=active)).double()
    x = torch.randn(data.draw(st.integers(1, 9)), 6, dtype=torch.float64)
    out, scores = layer(x), layer.router(x)
    for t, one in enumerate(x):
        best = scores[t].argsort(descending=True)[:active]
        weights = scores[t].softmax(0)[best]
        weights = weights / weights.sum() if active > 1 else weights
        torch.testing.assert_close(out[t], sum(w * layer.experts[i](one) for w, i in zip(weights, best.tolist())), rtol=1e-9, atol=1e-9)
    weights, chosen = layer.route(x)
    assert weights.shape == chosen.shape == (len(x), active)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "expert" in kind])
def test_the_router_learns(kind):
    torch.manual_seed(0)
    layer = feed_forward(config(**KINDS[kind]))
    layer(torch.randn(20, 6)).square().sum().backward()
    assert layer.router.weight.grad is not None and layer.router.weight.grad.abs().sum() > 1e-4


def test_gradients_of_a_mixture_agree_with_finite_differences():
    torch.manual_seed(1)
    layer = MixtureOfExperts(config(d_model=3, d_ff=4, n_experts=3, n_active_experts=2)).double()
    assert torch.autograd.gradcheck(layer, torch.randn(4, 3, dtype=torch.float64, requires_grad=True))


@given(size, size, st.booleans(), st.integers(1, 4))
def test_parameters(d_model, d_ff, bias, n_experts):
    def count(**kind):
        return sum(p.numel() for p in feed_forward(config(d_model, d_ff, bias=bias, **kind)).parameters())
    plain = 2 * d_model * d_ff + bias * (d_model + d_ff)
    assert count() == plain
    assert count(activation="swiglu") == 3 * d_model * d_ff + bias * (d_model + 2 * d_ff)
    if n_experts > 1:
        assert count(n_experts=n_experts) == n_experts * plain + n_experts * d_model


def test_presets_build_the_layer_that_they_describe():
    with torch.device("meta"):
        kinds = {name: type(feed_forward(one)) for name, one in PRESETS.items()}
    assert kinds["mixtral-8x7b"] is MixtureOfExperts and kinds["llama-7b"] is SwiGLU and kinds["gpt2"] is FeedForward
    assert PRESETS["llama-7b"].d_ff == math.ceil(8 / 3 * 4096 / 256) * 256
    assert set(ACTIVATIONS) | {"swiglu"} == {"relu", "gelu", "gelu_tanh", "swiglu"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["gelu", "swiglu", "experts"])
def test_types_are_kept(kind, dtype):
    layer = feed_forward(config(**KINDS[kind])).to(dtype)
    assert layer(torch.randn(1, 3, 6, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("kind", KINDS)
def test_a_language_model_of_attention_and_feed_forward(kind):
    torch.manual_seed(0)
    fields = config(d_model=8, n_layers=2, n_heads=2, positions="rope", **KINDS[kind])
    model = LanguageModel(fields, [Residual(SelfAttention(fields)), Residual(feed_forward(fields))])
    tokens = torch.randint(0, 11, (2, 9))
    assert abs(next_token_loss(model, tokens).item() - math.log(11)) < 1
    changed = tokens.clone()
    changed[:, 5:] = torch.randint(0, 11, (2, 4))
    torch.testing.assert_close(model(changed)[:, :5], model(tokens)[:, :5])


PLAIN = FeedForward(config())


@pytest.mark.refusal
@pytest.mark.parametrize(("call", "names"), [
    (lambda: PLAIN(torch.zeros(2, 3, 5)), ["d_model=6", "(2, 3, 5)"]),
    (lambda: PLAIN(torch.tensor(1.0)), ["d_model=6", "()"]),
    (lambda: SwiGLU(config(activation="swiglu"))(torch.zeros(3, 7)), ["d_model=6", "(3, 7)"]),
    (lambda: MixtureOfExperts(config(n_experts=2))(torch.zeros(3, 7)), ["d_model=6", "(3, 7)"]),
    (lambda: FeedForward(config(activation="swiglu")), ["FeedForward", "relu, gelu, gelu_tanh", "activation='swiglu'"]),
    (lambda: SwiGLU(config()), ["SwiGLU", "activation='gelu'"]),
    (lambda: gelu(torch.zeros(2), "sigmoid"), ["'sigmoid'", "'tanh'"]),
    (lambda: config(n_experts=2, n_active_experts=3), ["n_active_experts=3", "n_experts=2"]),
    (lambda: LanguageModel(config(n_experts=2), [Residual(PLAIN)]), ["n_experts=2 would be ignored"]),
    (lambda: LanguageModel(config(dropout=0.1), [Residual(PLAIN)]), ["dropout=0.1 would be ignored"]),
])
def test_bad_input_is_refused_and_both_sides_are_named(call, names):
    with pytest.raises(ValueError) as error:
        call()
    for name in names:
        assert name in str(error.value)


@pytest.mark.compiled
@pytest.mark.parametrize("kind", ["gelu", "swiglu"])
def test_a_layer_is_exported_for_any_batch_and_length(kind):
    layer, (batch, length) = feed_forward(config(**KINDS[kind])), (torch.export.Dim(name, min=2, max=9) for name in ("batch", "length"))
    exported = torch.export.export(layer, (torch.zeros(3, 5, 6),), dynamic_shapes=({0: batch, 1: length},)).module()
    for shape in ((2, 3, 6), (7, 9, 6)):
        given_ = torch.randn(shape)
        torch.testing.assert_close(exported(given_), layer(given_))
