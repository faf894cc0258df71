"""Train language models of two blocks with layer norms, RMS norms, batch norms and no norms, in large and in small batches, and record
how good each is: for a study of chapter 6 (about six minutes on one core; every training is a task of its own).

    make record NAME=batch_norms           or: python benchmarks/batch_norms.py --workers 4

Each variant is trained with three seeds at three learning rates, and at further rates as long as the best of them is the smallest or the
largest. Rates are chosen by the mean of the seeds on the first half of the held-out text, losses are reported on the second half. Small
batches get as many steps as large ones.
"""
import argparse
import math
import os
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch import Tensor, nn

from builder.records import record
from transformer_course.block import Block, final_norm
from transformer_course.config import Config
from transformer_course.positions import position_vectors
from transformer_course.prediction import (
    CharTokenizer,
    LanguageModel,
    NGram,
    evaluate,
    fit,
    load_corpus,
    next_token_loss,
    random_batches,
    sequential_batches,
    train_validation_split,
)

DEPTH, WIDTH, HEADS, LENGTH = 2, 32, 2, 32
STEPS, BATCHES = 300, (16, 2)
RATES = [3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
FIRST = RATES[2:5]                                                   # those that every variant is trained at
SEEDS = [0, 1, 2]

TEXT = load_corpus()
CHARS = CharTokenizer(TEXT)
TRAIN, HELD_OUT = train_validation_split(torch.tensor(CHARS.encode(TEXT)))
CHOICE, EXAMINATION = (sequential_batches(half, batch_size=64, max_len=LENGTH) for half in HELD_OUT.tensor_split(2))


class BatchNorm(nn.Module):
    "PyTorch's batch normalisation: one mean and one variance per component, over all tokens of all texts of the batch."

    uses = {"norm", "norm_eps", "bias"}

    def __init__(self, d_model: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.flatten(0, 1)).view_as(x)


class NoNorm(nn.Identity):
    uses = {"norm", "norm_eps", "bias"}


def model(norm: str) -> LanguageModel:
    config = Config(vocab_size=CHARS.vocab_size, max_len=LENGTH, d_model=WIDTH, n_layers=DEPTH, n_heads=HEADS, positions="learned",
                    norm="rms" if norm == "RMSNorm" else "layer")
    layers, last = [Block(config) for _ in range(DEPTH)], final_norm(config)
    other = {"BatchNorm": lambda: BatchNorm(WIDTH), "no norm": NoNorm}.get(norm)
    if other:
        last = other()
        for layer in layers:
            layer.attention.norm, layer.feed_forward.norm = other(), other()
    return LanguageModel(config, layers, positions=position_vectors(config), norm=last)


def by_the_batch(trained: LanguageModel, batches: list[Tensor]) -> float:
    "The loss with the statistics of the batch itself, as in training; nothing is learned."
    trained.train()
    with torch.no_grad():
        total = sum(next_token_loss(trained, batch).item() * len(batch) for batch in batches)
    return total / sum(map(len, batches))


def train(norm: str, batch_size: int, rate: float, seed: int) -> dict:
    "One training, in whichever process, and its losses on both halves of the held-out text; infinite where it broke down."
    torch.manual_seed(seed)
    one = model(norm)
    batches = random_batches(TRAIN, batch_size=batch_size, max_len=LENGTH, seed=seed)
    try:
        fit(one, batches, steps=STEPS, learning_rate=rate, progress=False)
    except FloatingPointError:
        return {"choice": math.inf, "loss": math.inf, "by the batch": math.inf}
    found = {"choice": evaluate(one, CHOICE), "loss": evaluate(one, EXAMINATION)}
    return found | {"by the batch": by_the_batch(one, EXAMINATION)}      # last: it moves the running statistics


VARIANTS = [(norm, size) for size in BATCHES for norm in ("LayerNorm", "RMSNorm", "BatchNorm", "no norm")]


def best(variant: tuple[str, int], submit) -> dict:
    "A variant at its best learning rate; `submit` starts a training and returns its future."
    started = {rate: [submit(train, *variant, rate, seed) for seed in SEEDS] for rate in FIRST}
    tried = {rate: [future.result() for future in futures] for rate, futures in started.items()}
    total = lambda rate: sum(run["choice"] for run in tried[rate])
    while (rate := min(tried, key=total)) in (min(tried), max(tried)) and rate not in (RATES[0], RATES[-1]):
        more = RATES[RATES.index(rate) + (1 if rate == max(tried) else -1)]
        tried[more] = [future.result() for future in [submit(train, *variant, more, seed) for seed in SEEDS]]
    return {"norm": variant[0], "batch": variant[1], "rate": rate, "losses": [run["loss"] for run in tried[rate]],
            "by the batch": [run["by the batch"] for run in tried[rate]]}


def measured(pool: Executor) -> dict:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(VARIANTS)) as threads:               # they wait; the processes work
        waiting = [threads.submit(best, variant, pool.submit) for variant in VARIANTS]
        runs = [one.result() for one in waiting]
    return {
        "setup": {"depth": DEPTH, "width": WIDTH, "steps": STEPS, "length": LENGTH, "seeds": len(SEEDS), "rates": len(FIRST), "judged": 64},
        "runs": runs, "unigram": evaluate(NGram(TRAIN, 1, CHARS.vocab_size), EXAMINATION),
    }


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that train at the same time (default: one per core)")
    with ProcessPoolExecutor(
        options.parse_args().workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,),
    ) as pool:
        print(record("batch_norms", measured(pool), __file__))
