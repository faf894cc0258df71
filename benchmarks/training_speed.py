"""A training step (forward, backward, AdamW) of our GPT as the trainer takes it, of nanoGPT (where $NANOGPT names a checkout), of `transformers`'
GPT-2 and of `nn.TransformerEncoder`: 4 layers of width 128, and 6 of width 384.

CPU time on one thread, in rounds that take all contenders in turn; medians of the ratios inside a round. Memory, in bytes, is that of all
tensors at the highest point of a step, and the growth of the process's resident set at its highest: medians of three processes each (Linux).
With oneDNN's products the latter holds its generated code, some megabytes for any size of a model.
"""
import os

os.environ["OMP_NUM_THREADS"] = "1"

import contextlib
import importlib.util
import io
import json
import subprocess
import sys
import time
from itertools import accumulate
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile

from builder.records import record
from transformer_course.architectures import GPT
from transformer_course.config import Config
from transformer_course.trainer import causal_attention, fused, fused_loss, lean
from transformer_course.training import train_step

torch.set_num_threads(1)
RACES = {  # sizes; sequences in a batch; rounds; steps in a turn
    "4 x 128": (Config(vocab_size=65, max_len=64, d_model=128, n_layers=4, n_heads=4, positions="learned", tie_embeddings=True), 12, 15, 4),
    "6 x 384": (Config(vocab_size=65, max_len=256, d_model=384, n_layers=6, n_heads=6, positions="learned", tie_embeddings=True), 8, 5, 1),
}


class OverLogits(nn.Module):
    "The loss of a model of logits, in one call of PyTorch."

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens, targets):
        return F.cross_entropy(self.model(tokens).flatten(0, 1), targets.flatten())


def plain(config):
    return OverLogits(GPT(config))


def ours(config):
    return OverLogits(lean(fused(GPT(config, attention_fn=causal_attention))))


class NanoGPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        if "nanogpt" not in sys.modules:
            spec = importlib.util.spec_from_file_location("nanogpt", Path(os.environ["NANOGPT"], "model.py"))
            sys.modules["nanogpt"] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules["nanogpt"])
        module = sys.modules["nanogpt"]
        sizes = dict(vocab_size=config.vocab_size, block_size=config.max_len, n_layer=config.n_layers, n_head=config.n_heads, n_embd=config.d_model)
        with contextlib.redirect_stdout(io.StringIO()):
            self.model = module.GPT(module.GPTConfig(**sizes))

    def forward(self, tokens, targets):
        return self.model(tokens, targets)[1]


class Transformers(nn.Module):
    def __init__(self, config):
        from transformers import GPT2Config, GPT2LMHeadModel

        super().__init__()
        sizes = dict(vocab_size=config.vocab_size, n_positions=config.max_len, n_embd=config.d_model, n_layer=config.n_layers, n_head=config.n_heads)
        still = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False, bos_token_id=0, eos_token_id=0)
        self.model = GPT2LMHeadModel(GPT2Config(**sizes, **still, activation_function="gelu"))

    def forward(self, tokens, targets):
        return F.cross_entropy(self.model(tokens).logits.flatten(0, 1), targets.flatten())


class TorchEncoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config.d_model
        self.tokens, self.places = nn.Embedding(config.vocab_size, width), nn.Embedding(config.max_len, width)
        layer = nn.TransformerEncoderLayer(width, config.n_heads, config.d_ff, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, config.n_layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(config.max_len), persistent=False)

    def forward(self, tokens, targets):
        length = tokens.shape[1]
        x = self.tokens(tokens) + self.places.weight[:length]
        x = self.layers(x, mask=self.mask[:length, :length], is_causal=True)
        return F.cross_entropy(F.linear(x, self.tokens.weight).flatten(0, 1), targets.flatten())


# who: how it is built; fused AdamW; compiled; autocast to bfloat16
CONTENDERS = {
    "ours": (ours, True, False, False),
    "ours, with clipping": (ours, True, False, False),                # `train_step`, as a run takes it; the others don't clip
    "ours, compiled": (ours, True, True, False),
    "ours, bfloat16": (ours, True, False, True),
    "ours, chapter 7's GPT as it is": (plain, True, False, False),
    "transformers": (Transformers, True, False, False),
    "nn.TransformerEncoder": (TorchEncoder, True, False, False),
}
NANOGPT = {
    "nanoGPT": (NanoGPT, False, False, False),
    "nanoGPT, fused AdamW": (NanoGPT, True, False, False),
    "nanoGPT, compiled": (NanoGPT, True, True, False),
    "nanoGPT, bfloat16": (NanoGPT, True, False, True),
}
if "NANOGPT" in os.environ:
    CONTENDERS |= NANOGPT


def stepper(who, config, batch_size):
    "A function that takes one training step."
    build, fast_adam, compiled, half = CONTENDERS[who]
    torch.manual_seed(0)
    model = build(config)
    loss_of = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=fast_adam or None)
    draw = torch.Generator().manual_seed(0)
    batches = [torch.randint(config.vocab_size, (batch_size, config.max_len + 1), generator=draw) for _ in range(8)]
    pairs = [(batch[:, :-1].contiguous(), batch[:, 1:].contiguous()) for batch in batches]
    taken = 0

    def step():
        nonlocal taken
        tokens, targets = pairs[taken % len(pairs)]
        taken += 1
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = loss_of(tokens, targets)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def clipped_step():
        nonlocal taken
        taken += 1
        return train_step(model.model, optimizer, [batches[taken % len(batches)]], loss=fused_loss)[0]

    taker = clipped_step if who == "ours, with clipping" else step
    taker.parts = model, optimizer
    return taker


def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


def kept(model, optimizer):
    "Bytes of parameters, gradients and the optimiser's state."
    parameters = list(model.parameters())
    state = [value for one in optimizer.state.values() for value in one.values() if isinstance(value, torch.Tensor)]
    return sum(tensor.nbytes for tensor in [*parameters, *(p.grad for p in parameters if p.grad is not None), *state])


def highest(step):
    "Bytes of tensors that a step adds at its highest point, as PyTorch's profiler counts them."
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(changes))


def weigh(who, name):
    "Both memories after three steps, model and optimiser included; run in a process of its own."
    config, batch_size, *_ = RACES[name]
    small = config.replace(max_len=8, d_model=16, n_layers=1, n_heads=1, n_kv_heads=None, d_ff=64)
    stepper(who, small, 1)()  # what is loaded once is not counted
    Path("/proc/self/clear_refs").write_text("5")  # the highest point begins here
    before, step = status("VmRSS"), stepper(who, config, batch_size)
    for _ in range(3):
        step()
    resident = status("VmHWM") - before
    return {"tensors": kept(*step.parts) + highest(step), "resident": resident}


def weighed(who, name):
    "The medians of three processes: where the allocator puts things differs."
    command = [sys.executable, __file__, "weigh", who, name]
    printed = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(3)]
    found = [json.loads(one.splitlines()[-1]) for one in printed]
    return {kind: median(one[kind] for one in found) for kind in found[0]}


def race(name):
    config, batch_size, rounds, times = RACES[name]
    steps = {who: stepper(who, config, batch_size) for who in CONTENDERS}
    losses = {who: [step().item() for _ in range(3)][-1] for who, step in steps.items()}
    seconds = {who: [] for who in steps}
    for number in range(rounds):
        order = list(steps)
        for who in order[number % len(order):] + order[:number % len(order)]:
            start = time.process_time()
            for _ in range(times):
                steps[who]()
            seconds[who].append((time.process_time() - start) / times)
    rows = {}
    for who, taken in seconds.items():
        rows[who] = {"tokens_per_second": batch_size * config.max_len / median(taken), "third_loss": losses[who]}
        for key, base in (("to_nanogpt_fused", "nanoGPT, fused AdamW"), ("to_nanogpt", "nanoGPT")):
            if base in seconds:
                rows[who][key] = median(b / s for b, s in zip(seconds[base], taken))
        print(name, who, {key: round(value, 3) for key, value in rows[who].items()}, flush=True)
    for who, row in rows.items():
        if "compiled" not in who:
            row["memory"] = weighed(who, name)
            print(name, who, {kind: round(size / 2**20, 1) for kind, size in row["memory"].items()}, "MiB", flush=True)
    return {"batch_size": batch_size, "max_len": config.max_len, "rows": rows}


if __name__ == "__main__":
    if sys.argv[1:2] == ["weigh"]:
        print(json.dumps(weigh(*sys.argv[2:])))
        sys.exit()
    result = {name: race(name) for name in sys.argv[1:] or RACES}
    if not sys.argv[1:]:
        print(record("training_speed", {"threads": 1, "processor": torch.backends.cpu.get_cpu_capability(), "races": result}, __file__))
