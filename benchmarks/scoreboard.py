"""Train and score the language models of all chapters, each at its best learning rate, and record the rows that the chapters show
(about twenty minutes on one core; every training is a task of its own for as many processes as there are cores).

    make record NAME=scoreboard            or: python benchmarks/scoreboard.py --workers 4
"""
import argparse
import math
import os
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch import nn

from builder.records import record
from transformer_course.architectures import GPT
from transformer_course.attention import AttentionHead, LearnedPositions, Residual
from transformer_course.block import Block, final_norm
from transformer_course.config import Config
from transformer_course.feed_forward import FeedForward
from transformer_course.multi_head import MultiHeadAttention
from transformer_course.positions import SelfAttention, position_vectors
from transformer_course.prediction import (
    BATCH_SIZE,
    MAX_LEN,
    CharTokenizer,
    LanguageModel,
    NGram,
    WindowMLP,
    evaluate,
    load_corpus,
    sequential_batches,
    train_and_score,
    train_validation_split,
)
from transformer_course.recurrence import RecurrentLayer

RATES = (3e-3, 1e-2, 2e-2, 4e-2)                                     # more are tried where the best is the first or the last of them
SEEDS = (0, 1, 2)
SMOOTHING = (1, 3, 10, 30, 100)
COUNTED = ("unigram", "bigram", "trigram")


def sizes(vocab_size: int, d_model: int = 64, **rest) -> Config:
    "One layer, of width 64, unless the fields say more."
    return Config(vocab_size=vocab_size, max_len=MAX_LEN, d_model=d_model, **rest)


def window(vocab_size: int) -> LanguageModel:
    return LanguageModel(sizes(vocab_size, 24), [WindowMLP(24, 112, context_length=8)])


def recurrent(kind: type[nn.Module], d_model: int):
    return lambda vocab_size: LanguageModel(sizes(vocab_size, d_model), [RecurrentLayer(kind(d_model, d_model, batch_first=True))])


def one_head(vocab_size: int) -> LanguageModel:
    config = sizes(vocab_size, positions="learned")
    return LanguageModel(config, [Residual(AttentionHead(64, 64))], positions=LearnedPositions(config))


def four_heads(vocab_size: int) -> LanguageModel:
    config = sizes(vocab_size, n_heads=4, positions="learned")
    return LanguageModel(config, [Residual(MultiHeadAttention(config))], positions=LearnedPositions(config))


def rotary_heads(vocab_size: int) -> LanguageModel:
    config = sizes(vocab_size, n_heads=4, positions="rope")
    return LanguageModel(config, [Residual(SelfAttention(config))], positions=position_vectors(config))


def with_feed_forward(vocab_size: int) -> LanguageModel:
    config = sizes(vocab_size, n_layers=2, n_heads=4, positions="rope")
    return LanguageModel(config, [Residual(SelfAttention(config)), Residual(FeedForward(config))])


def blocks(n_layers: int):
    def build(vocab_size: int) -> LanguageModel:
        config = sizes(vocab_size, n_layers=n_layers, n_heads=4, positions="rope")
        return LanguageModel(config, [Block(config) for _ in range(n_layers)], positions=position_vectors(config), norm=final_norm(config))
    return build


def gpt(vocab_size: int) -> GPT:
    "In LLaMA's style: two blocks with three narrower matrices in each feed-forward layer, and GPT-2's first parameters."
    return GPT(sizes(vocab_size, n_layers=2, n_heads=4, d_ff=168, positions="rope", activation="swiglu", norm="rms", bias=False))


TRAINED = {  # name: chapter, what builds it
    "window network": (0, window),
    "RNN": (1, recurrent(nn.RNN, 80)),
    "LSTM": (1, recurrent(nn.LSTM, 48)),
    "one attention head": (2, one_head),
    "four heads": (3, four_heads),
    "rotary positions": (4, rotary_heads),
    "with feed-forward": (5, with_feed_forward),
    "one block": (6, blocks(1)),
    "two blocks": (6, blocks(2)),
    "GPT": (7, gpt),
}


def row(name: str, chapter: int, parameters: int, losses: list[float], rate: float | None = None, **how) -> dict:
    "What the table shows, and what it was made from."
    loss = sum(losses) / len(losses)
    return {
        "model": name, "chapter": chapter, "parameters": parameters, "learning rate": f"{rate:g}" if rate else "counted", "loss": loss,
        "spread": f"± {(max(losses) - min(losses)) / 2:.3f}" if rate else "–", "bits": loss / math.log(2), "perplexity": math.exp(loss),
        "losses": losses, **how,
    }


def counted() -> list[dict]:
    "Uniform guessing and n-grams, which have no seed; each n-gram with its best smoothing. What they store counts as parameters."
    text = load_corpus()
    chars = CharTokenizer(text)
    train, validation = train_validation_split(torch.tensor(chars.encode(text)))
    batches = sequential_batches(validation, batch_size=BATCH_SIZE, max_len=MAX_LEN)
    rows = [row("uniform", 0, 0, [math.log(chars.vocab_size)])]
    for n, name in enumerate(COUNTED, 1):
        tried = {smoothing: evaluate(NGram(train, n, chars.vocab_size, smoothing), batches) for smoothing in SMOOTHING}
        best = min(tried, key=tried.get)
        rows.append(row(name, 0, chars.vocab_size**n, [tried[best]], smoothing=best, tried=tried))
    return rows


def train(name: str, rate: float, seed: int) -> dict:
    "One training, in whichever process; its seed sets all that is random in it."
    return train_and_score(TRAINED[name][1], learning_rate=rate, seed=seed, progress=False)


def trained(pool: Executor) -> list[dict]:
    "Each model at the learning rate with the least mean loss, which lies between two others that were tried."
    started = {(name, rate): [pool.submit(train, name, rate, seed) for seed in SEEDS] for name in TRAINED for rate in RATES}
    rows = []
    for name, (chapter, _) in TRAINED.items():
        runs = {rate: [run.result() for run in started[name, rate]] for rate in RATES}
        while (best := min(runs, key=lambda rate: sum(run["loss"] for run in runs[rate]))) in (min(runs), max(runs)):
            more = best / 2 if best == min(runs) else best * 2
            runs[more] = [run.result() for run in [pool.submit(train, name, more, seed) for seed in SEEDS]]
        tried = {rate: [run["loss"] for run in runs[rate]] for rate in sorted(runs)}
        print(f"{name}: {best}, {tried}", flush=True)
        rows.append(row(name, chapter, runs[best][0]["parameters"], tried[best], best, tried=tried))
    return rows


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that train at the same time (default: one per core)")
    with ProcessPoolExecutor(
        options.parse_args().workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,),
    ) as pool:
        print(record("scoreboard", counted() + trained(pool), __file__))
