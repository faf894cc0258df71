"""Recall with full, windowed and linear attention: which part of N pairs does a small model find again? For a study of chapter 10
(about twenty minutes of one core; every training is a task of its own).

    make record NAME=windows               or: python benchmarks/windows.py --workers 4

A sequence holds N pairs, each a key and a value in one position, and ends with one of the keys alone. The model has to name its value.
Trained on 1 to 64 pairs, asked about several numbers of pairs, each kind of attention at the best of four learning rates for all seeds.
"""
import argparse
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from builder.records import record
from transformer_course.attention import attention
from transformer_course.block import Block
from transformer_course.config import Config
from transformer_course.flash import elu_features, linear_attention, sliding_window_attention

KEYS, VALUES, MOST = 128, 32, 64
WIDTH, HEADS, LAYERS = 32, 2, 2
STEPS, BATCH, EXAM = 700, 64, 1000
RATES, SEEDS, PAIRS = [1e-3, 3e-3, 1e-2, 3e-2], [0, 1, 2], [4, 8, 16, 32, 64]


def squares(x: Tensor) -> Tensor:
    "All products of two components: their dot product is the square of that of x."
    x = x / x.shape[-1] ** 0.25
    return torch.cat([torch.ones_like(x[..., :1]), (x[..., :, None] * x[..., None, :]).flatten(-2)], dim=-1)


def exponentials(x: Tensor) -> Tensor:
    "Softmax over the components of x, and of -x: positive features with peaks."
    return torch.cat([x.softmax(-1), (-x).softmax(-1)], dim=-1)


def window(size: int) -> Callable:
    return lambda q, k, v, mask=None: sliding_window_attention(q, k, v, size)


def linear(feature_map: Callable) -> Callable:
    return lambda q, k, v, mask=None: linear_attention(q, k, v, causal=True, feature_map=feature_map)


def uniform(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    "The mean of what may be read: no query and no key."
    return attention(torch.zeros_like(q), k, v, mask)


KINDS = {
    "full": attention, "uniform weights": uniform, "window 16": window(16), "window 32": window(32),
    "linear, elu + 1": linear(elu_features), "linear, softmax features": linear(exponentials), "linear, squares": linear(squares),
}


class Recall(nn.Module):
    "Keys and values (B, N + 1), with no value at the end, to the logits of the value asked for."

    def __init__(self, kind: str):
        super().__init__()
        config = Config(vocab_size=VALUES, max_len=MOST + 1, d_model=WIDTH, n_heads=HEADS, n_layers=LAYERS)
        self.key, self.value = nn.Embedding(KEYS, WIDTH), nn.Embedding(VALUES + 1, WIDTH)
        self.blocks = nn.ModuleList(Block(config, attention_fn=KINDS[kind]) for _ in range(LAYERS))
        self.norm, self.output = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VALUES)

    def forward(self, keys: Tensor, values: Tensor) -> Tensor:
        x = self.key(keys) + self.value(values)
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        for block in self.blocks:
            x = block(x, mask)
        return self.output(self.norm(x[:, -1]))


def questions(pairs: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    "Keys, values with VALUES for none at the end, and answers."
    keys = torch.rand(size, KEYS, generator=generator).argsort(1)[:, :pairs]
    values = torch.randint(VALUES, (size, pairs), generator=generator)
    asked = torch.randint(pairs, (size, 1), generator=generator)
    return (torch.cat([keys, keys.gather(1, asked)], dim=1), F.pad(values, (0, 1), value=VALUES), values.gather(1, asked)[:, 0])


@torch.no_grad()
def accuracy(model: Recall, pairs: int, seed: int) -> float:
    keys, values, answers = questions(pairs, EXAM, torch.Generator().manual_seed(seed))
    return (model(keys, values).argmax(-1) == answers).float().mean().item()


def train(kind: str, rate: float, seed: int) -> dict:
    "One training, in whichever process, and how often the model is right."
    torch.manual_seed(seed)
    model, generator = Recall(kind), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=STEPS)
    for _ in range(STEPS):
        pairs = int(torch.randint(1, MOST + 1, (), generator=generator))
        keys, values, answers = questions(pairs, BATCH, generator)
        optimizer.zero_grad()
        F.cross_entropy(model(keys, values), answers).backward()
        optimizer.step()
        schedule.step()
    choice = sum(accuracy(model, pairs, seed=1000) for pairs in PAIRS) / len(PAIRS)
    return {"choice": choice, "accuracy": [accuracy(model, pairs, seed=2000 + seed) for pairs in PAIRS]}


def measured(pool) -> dict:
    "Every kind at every learning rate with every seed; the rate by all seeds, on sequences of their own."
    found = {(kind, rate): [pool.submit(train, kind, rate, seed) for seed in SEEDS] for kind in KINDS for rate in RATES}
    rows = []
    for kind in KINDS:
        runs = {rate: [run.result() for run in found[kind, rate]] for rate in RATES}
        choices = {rate: sum(run["choice"] for run in runs[rate]) / len(SEEDS) for rate in RATES}
        rate = max(choices, key=choices.get)
        rows.append({"attention": kind, "rate": rate, "accuracy": [run["accuracy"] for run in runs[rate]],
                     "choices": {f"{r:g}": choice for r, choice in choices.items()}})
        print(kind, rows[-1], flush=True)
    setup = {"keys": KEYS, "values": VALUES, "most": MOST, "width": WIDTH, "heads": HEADS, "layers": LAYERS, "steps": STEPS,
             "batch": BATCH, "exam": EXAM, "rates": RATES, "seeds": len(SEEDS), "pairs": PAIRS}
    return {"setup": setup, "rows": rows}


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that train at the same time (default: one per core)")
    with ProcessPoolExecutor(
        options.parse_args().workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,),
    ) as pool:
        print(record("windows", measured(pool), __file__))
