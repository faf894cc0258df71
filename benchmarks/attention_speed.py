"""Causal attention, 8 heads of width 64 and one text: the matrix of weights built, tile by tile (`tiled_attention`), and PyTorch's fused
kernel; time and peak memory over the number of tokens, forward, and forward and backward.

CPU time on one thread, in rounds that take all contenders in turn; medians of the ratios inside a round. Memory is the growth of the
process's resident set at its highest, each in a process of its own (Linux).
"""
import os

os.environ["OMP_NUM_THREADS"] = "1"

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

from builder.records import record
from transformer_course.flash import tiled_attention

torch.set_num_threads(1)
HEADS, WIDTH = 8, 64
TIMED, WEIGHED, ROUNDS = (512, 1024, 2048, 4096), (1024, 2048, 4096, 8192), 5


def naive(q, k, v):
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    later = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -math.inf).softmax(-1) @ v


def fused(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def tiled(q, k, v):
    return tiled_attention(q, k, v, causal=True)


CONTENDERS = {"naive": naive, "tiled": tiled, "fused": fused}


def inputs(n_tokens, backward):
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(1, HEADS, n_tokens, WIDTH, generator=draw).requires_grad_(backward) for _ in range(3)]


def run(attend, parts, backward):
    if not backward:
        with torch.no_grad():
            return [attend(*parts)]
    out = attend(*parts)
    return [out, *torch.autograd.grad(out, parts, torch.ones_like(out))]


def timed(n_tokens, backward):
    parts = inputs(n_tokens, backward)
    exact = run(naive, parts, backward)
    for attend in CONTENDERS.values():
        for ours, theirs in zip(run(attend, parts, backward), exact):
            assert (ours - theirs).norm() < 1e-5 * theirs.norm()
    del exact
    seconds, times = {name: [] for name in CONTENDERS}, max(1, 2 * (2048 // n_tokens) ** 2)
    for number in range(ROUNDS):
        order = list(CONTENDERS)
        for name in order[number % 3:] + order[:number % 3]:
            start = time.process_time()
            for _ in range(times):
                run(CONTENDERS[name], parts, backward)
            seconds[name].append((time.process_time() - start) / times)
    return {name: {"seconds": median(taken), "to_naive": median(n / s for n, s in zip(seconds["naive"], taken)),
                   "to_fused": median(f / s for f, s in zip(seconds["fused"], taken))} for name, taken in seconds.items()}


def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


def weigh(name, n_tokens, backward):
    "Bytes at the highest point, beyond the inputs; run in a process of its own."
    run(CONTENDERS[name], inputs(64, backward), backward)
    parts = inputs(n_tokens, backward)
    Path("/proc/self/clear_refs").write_text("5")  # the highest point begins here
    before = status("VmRSS")
    run(CONTENDERS[name], parts, backward)
    return status("VmHWM") - before


def weighed(name, n_tokens, backward):
    command = [sys.executable, __file__, "weigh", name, str(n_tokens), str(int(backward))]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    if sys.argv[1:2] == ["weigh"]:
        print(weigh(sys.argv[2], int(sys.argv[3]), sys.argv[4] == "1"))
        sys.exit()
    sizes = [int(size) for size in sys.argv[1:]]
    result = {"heads": HEADS, "width": WIDTH, "threads": 1}
    for way, backward in (("forward", False), ("forward and backward", True)):
        rows = result[way] = {"time": {}, "memory": {}}
        for n_tokens in sizes or TIMED:
            rows["time"][n_tokens] = timed(n_tokens, backward)
            print(way, n_tokens, {name: {key: round(value, 4) for key, value in row.items()} for name, row in rows["time"][n_tokens].items()}, flush=True)
        for n_tokens in sizes or WEIGHED:
            if backward and n_tokens == 8192:
                continue  # naive would take 12 GB
            rows["memory"][n_tokens] = {name: weighed(name, n_tokens, backward) for name in CONTENDERS}
            print(way, n_tokens, {name: round(size / 2**20, 1) for name, size in rows["memory"][n_tokens].items()}, "MiB", flush=True)
    if not sizes:
        print(record("attention_speed", result, __file__))
