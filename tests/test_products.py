"The linear map of `products` is PyTorch's, with its gradients."
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from transformer_course import products
from transformer_course.feed_forward import ACTIVATIONS
from transformer_course.products import Linear, linear, linear_of

ONEDNN = pytest.mark.parametrize("onednn", [True, False])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def made(*shape, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


@ONEDNN
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("axes", [(), (5,), (2, 5), (2, 3, 5)])
def test_result_and_gradients_are_those_of_pytorch(onednn, bias, axes, monkeypatch):
    monkeypatch.setattr(products, "_HAS_ONEDNN", onednn and products.has_onednn())
    parts = [made(*axes, 7), made(3, 7), *([made(3)] if bias else [])]
    own, theirs = linear(*parts), F.linear(*parts)
    assert own.shape == theirs.shape
    torch.testing.assert_close(own, theirs)
    seen = torch.randn_like(own)
    for mine, other in zip(torch.autograd.grad(own, parts, seen), torch.autograd.grad(theirs, parts, seen)):
        torch.testing.assert_close(mine, other)


OF_SEVERAL = {name: (one, 1) for name, one in ACTIVATIONS.items()} | {"a gate": (lambda gate, x: F.silu(gate) * x, 2)}


@ONEDNN
@pytest.mark.parametrize("rows", [1, 3, 10])
@pytest.mark.parametrize(("activation", "count"), OF_SEVERAL.values(), ids=OF_SEVERAL)
def test_activations_give_the_same_result_and_gradients(onednn, activation, count, rows, monkeypatch):
    monkeypatch.setattr(products, "_HAS_ONEDNN", onednn and products.has_onednn())
    read, rest = [made(2, rows, 7) for _ in range(count)], [made(3, 7), made(3)]
    own, theirs = linear_of(activation, read, *rest), F.linear(activation(*read), *rest)
    torch.testing.assert_close(own, theirs)
    seen = torch.randn_like(own)
    for mine, other in zip(torch.autograd.grad(own, [*read, *rest], seen), torch.autograd.grad(theirs, [*read, *rest], seen)):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize(("activation", "count"), OF_SEVERAL.values(), ids=OF_SEVERAL)
def test_activations_are_not_kept(activation, count):
    read, weight, kept = [made(64, 128) for _ in range(count)], made(32, 128), []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
        linear_of(activation, read, weight)
    assert products.has_onednn() and sorted(one.data_ptr() for one in kept) == sorted(one.data_ptr() for one in (*read, weight))


def test_strides_of_views_are_read_and_gradients_may_be_broadcast():
    x, weight = made(7, 5, 2), made(7, 3)
    own, theirs = linear(x.transpose(0, 2), weight.T), F.linear(x.transpose(0, 2), weight.T)
    torch.testing.assert_close(own, theirs)
    for mine, other in zip(torch.autograd.grad(own.sum(), (x, weight)), torch.autograd.grad(theirs.sum(), (x, weight))):
        torch.testing.assert_close(mine, other)


def test_only_the_gradients_that_are_asked_for_are_computed():
    x, weight = torch.randn(5, 7), made(3, 7)
    linear(x, weight).sum().backward()
    assert x.grad is None and weight.grad is not None


def test_sums_are_as_precise_as_those_of_pytorch():
    x, weight = torch.randn(64, 2048), torch.randn(32, 2048)
    exact = F.linear(x.double(), weight.double())
    error = [(product(x, weight) - exact).norm() / exact.norm() for product in (linear, F.linear)]
    assert max(error) < 1e-6  # a product of 16-bit numbers would miss by 1e-3


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_left_to_pytorch(dtype):
    x, weight = made(4, 6, dtype=dtype), made(3, 6, dtype=dtype)
    assert torch.equal(linear(x, weight), F.linear(x, weight))


def test_autocast_is_obeyed():
    x, weight = made(4, 6), made(3, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16


def test_no_rows_give_no_rows():
    assert linear(torch.zeros(0, 7), made(3, 7)).shape == (0, 3)


def test_a_layer_shares_the_parameters_of_another():
    other = nn.Linear(7, 3)
    own, x = Linear.sharing(other), torch.randn(2, 7)
    assert own.weight is other.weight and own.bias is other.bias and own.state_dict().keys() == other.state_dict().keys()
    torch.testing.assert_close(own(x), other(x))
    assert Linear.sharing(nn.Linear(7, 3, bias=False)).bias is None


@pytest.mark.refusal
def test_a_width_that_does_not_fit_is_refused():
    with pytest.raises((RuntimeError, ValueError)):
        linear(torch.randn(2, 6), torch.randn(3, 7))


@pytest.mark.compiled
def test_a_compiled_graph_has_the_same_numbers():
    compiled = torch.compile(lambda x, *parts: linear_of(F.gelu, [linear(x, *parts)], *parts).sum(), fullgraph=True)
    parts = [made(2, 5, 7), made(7, 7), made(7)]
    found = torch.autograd.grad(compiled(*parts), parts)
    expected = F.linear(F.gelu(F.linear(*parts)), *parts[1:])
    for mine, other in zip(found, torch.autograd.grad(expected.sum(), parts)):
        torch.testing.assert_close(mine, other)
