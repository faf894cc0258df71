"""The Triton kernels of chapter 10b against PyTorch's fused attention and the matrix, on a GPU: bfloat16, causal, forward, and forward and
backward, over lengths and head widths (three minutes). Where there is no GPU, `--smoke` runs it once, small, in Triton's interpreter.

    make record NAME=triton_speed          or: python benchmarks/triton_speed.py --smoke
"""
import argparse
import math
import os
from statistics import median

import torch
import torch.nn.functional as F

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"                             # before Triton is imported

from torch.nn.attention import SDPBackend, sdpa_kernel

from builder.records import record
from transformer_course.triton_flash import triton_attention

HAS_GPU = torch.cuda.is_available()
TOKENS = 16_384                                                      # of all texts of a batch
LENGTHS, WIDTHS = (1024, 2048, 4096, 8192, 16_384), (64, 128)
TILES = ((64, 64), (128, 64), (128, 128))


def matrix(q, k, v):
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    hidden = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).triu(1)
    return scores.masked_fill(hidden, -math.inf).softmax(-1) @ v


def fused(backend=None):
    def call(q, k, v):
        if backend is None:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return call


def contenders(tiles) -> dict:
    ours = {f"Triton, tiles {a} x {b}": lambda q, k, v, a=a, b=b: triton_attention(q, k, v, None, True, a, b) for a, b in tiles}
    theirs = {"PyTorch fused": fused()}
    if HAS_GPU:
        theirs |= {"PyTorch FlashAttention-2": fused(SDPBackend.FLASH_ATTENTION), "PyTorch cuDNN": fused(SDPBackend.CUDNN_ATTENTION)}
    return {"matrix": matrix} | theirs | ours


def seconds(call, warm: int, times: int) -> float:
    "The median time of a call, by the GPU's own clock."
    for _ in range(warm):
        call()
    if not HAS_GPU:
        return math.nan
    taken = []
    for _ in range(times):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        taken.append(start.elapsed_time(end) / 1000)
    return median(taken)


def measured(length: int, width: int, tokens: int, heads: int, dtype: torch.dtype, tiles) -> list[dict]:
    device = "cuda" if HAS_GPU else "cpu"
    shape = (max(1, tokens // length), heads, length, width)
    q, k, v = (torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for _ in range(3))
    into, rows, exact = torch.randn_like(q), [], None
    operations = 2 * math.prod(shape) * length                       # two products, half of the pairs
    for name, attend in contenders(tiles).items():
        if name == "matrix" and length > 4096:
            continue

        def both(attend=attend):
            torch.autograd.grad(attend(q, k, v), (q, k, v), into)

        try:
            with torch.no_grad():
                found = attend(q, k, v).float()
                exact = found if exact is None else exact
                error = ((found - exact).norm() / exact.norm()).item()
                forward = seconds(lambda attend=attend: attend(q, k, v), 3 if HAS_GPU else 1, 20)
            whole = seconds(both, 3 if HAS_GPU else 1, 10)
            row = {"error": error, "forward TFLOP/s": operations / forward / 1e12, "both TFLOP/s": 3.5 * operations / whole / 1e12}
        except Exception as problem:                                 # one contender that fails leaves the others
            row = {"failed": f"{type(problem).__name__}: {problem}"[:300]}
        rows.append({"attention": name, "length": length, "width": width} | row)
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--smoke", action="store_true", help="one small size, nothing kept")
    if options.parse_args().smoke:
        rows = measured(64, 16, 64, 2, torch.bfloat16 if HAS_GPU else torch.float16, [(32, 16)])
        assert not any("failed" in row for row in rows) and all(row["error"] < 0.02 for row in rows), rows
    elif not HAS_GPU:
        raise SystemExit("no GPU: run with --smoke")
    else:
        rows = [row for width in WIDTHS for length in LENGTHS
                for row in measured(length, width, TOKENS, 2048 // width, torch.bfloat16, TILES)]
        result = {"device": torch.cuda.get_device_name(), "tokens": TOKENS, "rows": rows}
        print(record("triton_speed", result, __file__))
