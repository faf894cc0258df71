"""Chapter 10b: the Triton kernels against tiled attention in double precision, on small sizes; in Triton's interpreter where there is no GPU
(half a minute). Needs Triton, which is made for Linux.

    make record NAME=triton_kernel
"""
import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"                             # before Triton is imported

import triton

from builder.records import record
from transformer_course.flash import tiled_attention
from transformer_course.triton_flash import triton_attention

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CASES = [  # batch, query heads, key-value heads, queries, keys, width, causal
    (2, 4, 2, 50, 50, 16, True), (1, 2, 2, 37, 37, 24, False), (1, 2, 1, 20, 45, 8, True), (1, 1, 1, 1, 3, 64, True), (1, 2, 1, 40, 17, 32, False),
]


def errors(case: tuple, dtype: torch.dtype) -> list[float]:
    "The largest error of the output and of the three gradients."
    batch, heads, kv_heads, queries, keys, width, causal = case
    sizes = [(batch, heads, queries, width), (batch, kv_heads, keys, width), (batch, kv_heads, keys, width)]
    inputs = [torch.randn(*size, device=DEVICE).to(dtype).requires_grad_() for size in sizes]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    found = triton_attention(*inputs, None, causal, block_q=32, block_k=16)
    wanted = tiled_attention(*exact, None, causal)
    into = torch.randn_like(found)
    ours = [found, *torch.autograd.grad(found, inputs, into)]
    theirs = [wanted, *torch.autograd.grad(wanted, exact, into.double())]
    return [(a.double() - b).abs().max().item() for a, b in zip(ours, theirs)]


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dtypes = [torch.float32, torch.float16] + ([torch.bfloat16] if DEVICE == "cuda" else [])
    result = {"triton": triton.__version__, "on": "GPU" if DEVICE == "cuda" else "the interpreter", "cases": len(CASES), "errors": {}}
    for dtype in dtypes:
        every = [errors(case, dtype) for case in CASES]
        result["errors"][str(dtype).removeprefix("torch.")] = [max(column) for column in zip(*every)]
    print(result, record("triton_kernel", result, __file__))
