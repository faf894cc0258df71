"""Train language models of twelve blocks that differ in their residual connections, their norms and their warm-up, and record how good
each is: for chapter 6 and its studies (about twenty minutes on one core; every training is a task of its own for as many processes as there are cores).

    make record NAME=deep_blocks           or: python benchmarks/deep_blocks.py --workers 4

Each variant is trained with three seeds at three learning rates, and at further rates as long as the best of them is the smallest or the
largest. Rates are chosen by the mean of the seeds on the first half of the held-out text, losses are reported on the second half.
"""
import argparse
import math
import os
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch import Tensor, nn

from builder.records import record
from transformer_course.attention import Residual
from transformer_course.block import Block, final_norm, norm_layer
from transformer_course.config import Config
from transformer_course.feed_forward import FeedForward
from transformer_course.positions import SelfAttention, position_vectors
from transformer_course.prediction import (
    CharTokenizer,
    LanguageModel,
    NGram,
    evaluate,
    load_corpus,
    next_token_loss,
    random_batches,
    sequential_batches,
    train_validation_split,
)

DEPTH, WIDTH, HEADS, LENGTH, BATCH = 12, 32, 2, 32, 16
STEPS, WARM_UP = 300, 100
RATES = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
FIRST = RATES[4:7]                                                   # those that every variant is trained at
SEEDS = [0, 1, 2]

TEXT = load_corpus()
CHARS = CharTokenizer(TEXT)
TRAIN, HELD_OUT = train_validation_split(torch.tensor(CHARS.encode(TEXT)))
CHOICE, EXAMINATION = (sequential_batches(half, batch_size=64, max_len=LENGTH) for half in HELD_OUT.tensor_split(2))


class Chain(nn.Module):
    "A norm, if there is one, and a sublayer, without a residual connection."

    def __init__(self, norm: nn.Module, sublayer: nn.Module):
        super().__init__()
        self.norm, self.sublayer = norm, sublayer

    @property
    def uses(self) -> set[str]:
        return self.sublayer.uses | getattr(self.norm, "uses", set())

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.sublayer(self.norm(x), mask=mask)


def blocks(config: Config) -> LanguageModel:
    layers = [Block(config) for _ in range(config.n_layers)]
    return LanguageModel(config, layers, positions=position_vectors(config), norm=final_norm(config))


def sublayers(config: Config, wrap, norm: nn.Module | None) -> LanguageModel:
    "Attention and feed-forward layers by turns, each in what `wrap` makes of it."
    layers = [wrap(kind(config)) for _ in range(config.n_layers) for kind in (SelfAttention, FeedForward)]
    config = config.replace(n_layers=2 * config.n_layers)
    return LanguageModel(config, layers, positions=position_vectors(config), norm=norm)


def pre(config: Config) -> LanguageModel:
    return blocks(config)


def post(config: Config) -> LanguageModel:
    return blocks(config.replace(norm_first=False))


def only_norms(config: Config) -> LanguageModel:
    return sublayers(config, lambda sublayer: Chain(norm_layer(config), sublayer), norm_layer(config))


def only_residuals(config: Config) -> LanguageModel:
    return sublayers(config, Residual, None)


def neither(config: Config) -> LanguageModel:
    return sublayers(config, lambda sublayer: Chain(nn.Identity(), sublayer), None)


def partly(config: Config, kind: type[nn.Module]) -> LanguageModel:
    "Norms everywhere, and residual connections around the sublayers of one kind only."

    def wrap(sublayer: nn.Module) -> nn.Module:
        chain = Chain(norm_layer(config), sublayer)
        return Residual(chain) if isinstance(sublayer, kind) else chain

    return sublayers(config, wrap, norm_layer(config))


def around_attention(config: Config) -> LanguageModel:
    return partly(config, SelfAttention)


def around_feed_forward(config: Config) -> LanguageModel:
    return partly(config, FeedForward)


VARIANTS = {  # name: what builds it, its depth, its optimizer, steps of warm-up
    "pre-norm": (pre, DEPTH, torch.optim.AdamW, 0),
    "post-norm": (post, DEPTH, torch.optim.AdamW, 0),
    "norms, no residuals": (only_norms, DEPTH, torch.optim.AdamW, 0),
    "residuals, no norms": (only_residuals, DEPTH, torch.optim.AdamW, 0),
    "neither": (neither, DEPTH, torch.optim.AdamW, 0),
    "residual around attention": (around_attention, DEPTH, torch.optim.AdamW, 0),
    "residual around feed-forward": (around_feed_forward, DEPTH, torch.optim.AdamW, 0),
    "post-norm, three blocks": (post, 3, torch.optim.AdamW, 0),
    "post-norm, three blocks, warm-up": (post, 3, torch.optim.AdamW, WARM_UP),
    "pre-norm, one block": (pre, 1, torch.optim.AdamW, 0),
    "neither, one block": (neither, 1, torch.optim.AdamW, 0),
    "pre-norm, warm-up": (pre, DEPTH, torch.optim.AdamW, WARM_UP),
    "post-norm, warm-up": (post, DEPTH, torch.optim.AdamW, WARM_UP),
    "post-norm, RAdam": (post, DEPTH, torch.optim.RAdam, 0),
}


def train(name: str, rate: float, seed: int) -> dict:
    "One training, in whichever process: the losses of its steps, and those on both halves of the held-out text (nan where it broke down)."
    build, depth, optimizer, warm_up = VARIANTS[name]
    torch.manual_seed(seed)
    model = build(Config(vocab_size=CHARS.vocab_size, max_len=LENGTH, d_model=WIDTH, n_layers=depth, n_heads=HEADS, positions="learned"))
    steps = optimizer(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(steps, lambda step: min(1, (step + 1) / (warm_up + 1)))
    history = []
    for batch, _ in zip(random_batches(TRAIN, batch_size=BATCH, max_len=LENGTH, seed=seed), range(STEPS)):
        loss = next_token_loss(model, batch)
        steps.zero_grad()
        loss.backward()
        steps.step()
        schedule.step()
        history.append(round(loss.item(), 4))
    return {"history": history, "choice": evaluate(model, CHOICE), "loss": evaluate(model, EXAMINATION), "parameters": sum(p.numel() for p in model.parameters())}


def chosen(tried: dict) -> float:
    "The rate with the least mean loss; one at which a training broke down is the worst."
    means = {rate: sum(run["choice"] for run in runs) for rate, runs in tried.items()}
    return min(means, key=lambda rate: means[rate] if math.isfinite(means[rate]) else math.inf)


def best(name: str, submit) -> dict:
    "A variant at its best learning rate; `submit` starts a training and returns its future."
    started = {rate: [submit(train, name, rate, seed) for seed in SEEDS] for rate in FIRST}
    tried = {rate: [future.result() for future in futures] for rate, futures in started.items()}
    while (rate := chosen(tried)) in (min(tried), max(tried)) and rate not in (RATES[0], RATES[-1]):
        more = RATES[RATES.index(rate) + (1 if rate == max(tried) else -1)]
        tried[more] = [future.result() for future in [submit(train, name, more, seed) for seed in SEEDS]]
    runs = tried[rate]
    return {"rate": rate, "losses": [run["loss"] for run in runs], "parameters": runs[0]["parameters"], "histories": [run["history"][::5] for run in runs],
            "by rate": {f"{rate:g}": [run["loss"] for run in tried[rate]] for rate in sorted(tried)}}


def measured(pool: Executor) -> dict:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(VARIANTS)) as threads:               # they wait; the processes work
        waiting = {name: threads.submit(best, name, pool.submit) for name in VARIANTS}
        variants = {name: one.result() for name, one in waiting.items()}
    counted = {name: evaluate(NGram(TRAIN, n, CHARS.vocab_size), EXAMINATION) for n, name in ((1, "unigram"), (2, "bigram"))}
    return {
        "setup": {"depth": DEPTH, "width": WIDTH, "steps": STEPS, "warm-up": WARM_UP, "length": LENGTH, "batch": BATCH, "seeds": len(SEEDS), "rates": len(FIRST)},
        "variants": variants, "uniform": math.log(CHARS.vocab_size), **counted,
    }


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that train at the same time (default: one per core)")
    with ProcessPoolExecutor(
        options.parse_args().workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,),
    ) as pool:
        print(record("deep_blocks", measured(pool), __file__))
