"""The Triton kernels equal tiled attention, forwards and backwards: on a GPU, or in Triton's interpreter (see conftest.py)."""
import platform
import sys

import pytest
import torch

from transformer_course.architectures import GPT
from transformer_course.attention import attention, causal_mask
from transformer_course.config import Config
from transformer_course.flash import tiled_attention
from transformer_course.triton_flash import triton, triton_attention

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HAS_TRITON = triton is not None
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="Triton is made for Linux")
half = [torch.float16] + ([torch.bfloat16] if DEVICE == "cuda" else [])


def test_triton_is_there_where_it_is_made_for():
    "So that the tests below are skipped on no machine that tests the course for others."
    assert HAS_TRITON or sys.platform != "linux" or platform.machine() != "x86_64", "install requirements.lock"


def inputs(batch, heads, kv_heads, queries, keys, width, dtype=torch.float32):
    torch.manual_seed(0)
    sizes = [(batch, heads, queries, width), (batch, kv_heads, keys, width), (batch, kv_heads, keys, width)]
    return [torch.randn(*size, device=DEVICE).to(dtype).requires_grad_() for size in sizes]


CASES = [(2, 4, 2, 50, 50, 16, True), (1, 2, 2, 37, 37, 24, False), (1, 2, 1, 20, 45, 8, True), (1, 1, 1, 1, 3, 64, True), (1, 2, 1, 40, 17, 32, False)]


@needs_triton
@pytest.mark.compiled
@pytest.mark.parametrize("dtype", [torch.float32, *half], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_tiled_attention_values_and_gradients(case, dtype):
    *sizes, causal = case
    given = inputs(*sizes, dtype)
    exact = [x.detach().double().requires_grad_() for x in given]
    found, wanted = triton_attention(*given, None, causal, 32, 16), tiled_attention(*exact, None, causal)
    assert found.dtype == dtype and found.shape == wanted.shape
    into = torch.randn_like(found)
    tolerance = 1e-5 if dtype == torch.float32 else 8 * torch.finfo(dtype).eps
    ours = [found, *torch.autograd.grad(found, given, into)]
    for one, other in zip(ours, [wanted, *torch.autograd.grad(wanted, exact, into.double())], strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=tolerance)


@needs_triton
@pytest.mark.compiled
@pytest.mark.parametrize("tiles", [(16, 16), (16, 64), (64, 16), (128, 64)], ids=str)
def test_tiles_of_any_size_give_the_same(tiles):
    q, k, v = inputs(1, 2, 1, 33, 40, 8)
    found = triton_attention(q, k, v, None, True, *tiles)
    torch.testing.assert_close(found, attention(q, *(x.expand(1, 2, 40, 8) for x in (k, v)), causal_mask(33, 40, device=DEVICE)))


@needs_triton
@pytest.mark.compiled
def test_keys_that_fill_up_a_tile_have_no_gradient():
    "All scores are far below those of the zeros that a tile is filled up with."
    _, k, v = inputs(1, 1, 1, 4, 20, 16)
    q = torch.full((1, 1, 4, 16), -40.0, device=DEVICE, requires_grad=True)
    k = (10 + k.detach()).requires_grad_()
    found, wanted = triton_attention(q, k, v, None, False, 16, 16), attention(q, k, v)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    for one, other in zip(torch.autograd.grad(found.sum(), (q, k, v)), torch.autograd.grad(wanted.sum(), (q, k, v)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@needs_triton
@pytest.mark.compiled
def test_scores_that_grow_and_large_scores():
    q, k, v = inputs(1, 1, 1, 40, 40, 16)
    growing = (40 * k * torch.linspace(0.1, 3, 40, device=DEVICE)[:, None]).detach()
    torch.testing.assert_close(triton_attention(q, growing, v, block_q=16, block_k=16), attention(q, growing, v), rtol=1e-4, atol=1e-4)


@needs_triton
@pytest.mark.compiled
def test_a_gpt_runs_with_it():
    sizes, logits = Config(vocab_size=13, max_len=20, d_model=32, n_layers=1, n_heads=2, n_kv_heads=1, positions="rope"), []
    tokens = torch.randint(13, (2, 20), device=DEVICE)
    for function in (attention, triton_attention):
        torch.manual_seed(0)
        logits.append(GPT(sizes, attention_fn=function).to(DEVICE)(tokens))
    torch.testing.assert_close(*logits, rtol=0, atol=1e-5)


@needs_triton
def test_no_keys_give_zeros():
    q, k, v = inputs(1, 2, 2, 3, 0, 16)
    assert torch.equal(triton_attention(q, k, v), torch.zeros_like(q))


def test_without_triton_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("transformer_course.triton_flash.triton", None)
    with pytest.raises(ModuleNotFoundError, match="pip install triton"):
        triton_attention(*inputs(1, 1, 1, 4, 4, 16))


@needs_triton
@pytest.mark.refusal
@pytest.mark.parametrize("change, said", [
    ({"mask": torch.ones(4, 6, dtype=torch.bool)}, "not the causal one of 4 queries and 6 keys"),
    ({"mask": torch.ones(6, 6, dtype=torch.bool)}, "(6, 6)"),
    ({"block_q": 24}, "24 rows"), ({"block_k": 8}, "8 rows"),
    ({"sizes": (1, 6, 4, 4, 6, 8)}, "6 query heads can't share 4"),
    ({"sizes": (1, 2, 2, 6, 4, 8), "causal": True}, "6 queries can't be the last of 4"),
    ({"dtype": torch.float64}, "float64"),
], ids=range(7))
def test_bad_input_is_refused(change, said):
    change = dict(change)
    q, k, v = inputs(*change.pop("sizes", (1, 2, 2, 4, 6, 8)), change.pop("dtype", torch.float32))
    if "mask" in change:
        change["mask"] = change["mask"].to(DEVICE)
    with pytest.raises(ValueError, match=said.replace("(", r"\(").replace(")", r"\)")):
        triton_attention(q, k, v, **change)


@needs_triton
@pytest.mark.refusal
@pytest.mark.skipif(DEVICE == "cuda", reason="the interpreter is what is refused")
def test_bfloat16_is_refused_in_the_interpreter():
    with pytest.raises(ValueError, match="bfloat16"):
        triton_attention(*inputs(1, 1, 1, 4, 4, 16, torch.bfloat16))
