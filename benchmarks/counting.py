"""How far counting gets: n-grams of one to eight characters with three kinds of smoothing, on the training text and on parts of it,
against window networks that read as many characters, and how much of the validation text stands in the training text
(about six minutes on one core; the networks train in as many processes as there are cores).

    make record NAME=counting            or: python benchmarks/counting.py --workers 4
"""
import argparse
import os
import pydoc_data.topics
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch

from builder.records import record
from transformer_course.config import Config
from transformer_course.prediction import (
    BATCH_SIZE,
    MAX_LEN,
    STEPS,
    CharTokenizer,
    LanguageModel,
    NGram,
    WindowMLP,
    fit,
    load_corpus,
    random_batches,
    train_validation_split,
)

LONGEST = 8                                                          # characters in the longest n-gram
SHARES = (1, 2, 4, 8, 16)                                            # one in so many paragraphs of the training text
ALPHAS, WEIGHTS, DISCOUNTS = (1e-3, 1e-2, 0.1, 1.0), (1, 3, 10, 30, 100), (0.5, 0.75, 0.9, 0.95)
PARTS = (0.1, 0.2, 0.3, 0.5)                                         # of the network, in a mixture of network and counts
SEEDS, LOOK = (0, 1, 2), 100                                         # the validation loss is looked at every so many steps
RATES, LOW, LARGE_RATES = (5e-3, 1e-2, 2e-2, 4e-2), (1e-3, 2.5e-3, 5e-3, 1e-2), (6e-3, 1.2e-2, 2.4e-2)
NETWORKS = {  # name: context, width, hidden width, steps, share of the training text, rates
    "reads 1": (1, 24, 112, STEPS, 1, LOW),
    "reads 3": (3, 24, 112, STEPS, 1, RATES),
    "reads 7": (7, 24, 112, STEPS, 1, RATES),
    "one in 4": (7, 24, 112, STEPS, 4, RATES),
    "one in 16": (7, 24, 112, STEPS, 16, LOW),
    "large": (7, 48, 256, 3 * STEPS, 1, LARGE_RATES),
}


def texts(share: int = 1) -> tuple[torch.Tensor, torch.Tensor, int]:
    "One in `share` paragraphs of the training text, the validation text, and the size of the vocabulary."
    text = load_corpus()
    chars = CharTokenizer(text)
    train, validation = train_validation_split(torch.tensor(chars.encode(text)))
    if share > 1:
        paragraphs = chars.decode(train.tolist()).split("\n\n")
        train = torch.tensor(chars.encode("\n\n".join(paragraphs[::share])))
    return train, validation, chars.vocab_size


def repeated(text: str, size: int) -> float:
    "The share of the last tenth of a text that lies in stretches of that size which the rest contains."
    cut = int(0.9 * len(text))
    known = {text[i:i + size] for i in range(cut - size + 1)}
    covered = np.zeros(len(text) - cut, dtype=bool)
    for i in range(len(covered) - size + 1):
        if text[cut + i:cut + i + size] in known:
            covered[i:i + size] = True
    return float(covered.mean())


class Counts:
    "How often each run of `length` tokens occurs, and each of its contexts; looked up for many runs at once."

    def __init__(self, runs: np.ndarray, vocab_size: int):
        self.runs, self.count = np.unique(runs, return_counts=True)
        self.contexts, at, self.kinds = np.unique(self.runs // vocab_size, return_inverse=True, return_counts=True)
        self.total = np.bincount(at, weights=self.count)
        self.vocab_size = vocab_size

    def of(self, runs: np.ndarray) -> np.ndarray:
        return self._look(self.runs, self.count, runs)

    def of_context(self, runs: np.ndarray) -> np.ndarray:
        return self._look(self.contexts, self.total, runs // self.vocab_size)

    def kinds_after(self, runs: np.ndarray) -> np.ndarray:
        "How many different tokens were seen after the context of each run."
        return self._look(self.contexts, self.kinds, runs // self.vocab_size)

    @staticmethod
    def _look(keys, values, wanted):
        at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        return np.where(keys[at] == wanted, values[at], 0).astype(float)


def runs_of(tokens: np.ndarray, length: int, vocab_size: int) -> np.ndarray:
    "Every run of that many tokens as one whole number."
    n = len(tokens) - length + 1
    return sum(tokens[i:i + n].astype(np.int64) * vocab_size ** (length - 1 - i) for i in range(length))


def add(counts, asked, n: int, alpha: float, V: int) -> np.ndarray:
    return (counts[n].of(asked[n]) + alpha) / (counts[n].of_context(asked[n]) + alpha * V)


def mixed(counts, asked, n: int, weight: float, V: int) -> np.ndarray:
    "Counts plus `weight` times what the next shorter context predicts."
    p = np.full(len(asked[1]), 1 / V)
    for k in range(1, n + 1):
        p = (counts[k].of(asked[k]) + weight * p) / (counts[k].of_context(asked[k]) + weight)
    return p


def kneser_ney(counts, before, asked, n: int, discount: float, V: int) -> np.ndarray:
    "Interpolated Kneser-Ney: a shorter context counts in how many longer ones a run occurred (Chen and Goodman 1999, section 2.7)."
    p = np.full(len(asked[1]), 1 / V)
    for k in range(1, n + 1):
        one = counts[k] if k == n else before[k]
        total = one.of_context(asked[k])
        rest = discount * one.kinds_after(asked[k])
        with np.errstate(invalid="ignore", divide="ignore"):
            p = np.where(total > 0, ((one.of(asked[k]) - discount).clip(min=0) + rest * p) / total, p)
    return p


def counted(train: np.ndarray, validation: np.ndarray, V: int) -> dict:
    "The loss of every n and smoothing at each position of the validation text that has a full context."
    counts = {k: Counts(runs_of(train, k, V), V) for k in range(1, LONGEST + 1)}
    before = {k: Counts(counts[k + 1].runs % V**k, V) for k in range(1, LONGEST)}
    asked = {k: runs_of(validation, k, V)[LONGEST - k:] for k in range(1, LONGEST + 1)}
    loss = lambda p: float(-np.log(p).mean())
    rows = []
    for n in range(1, LONGEST + 1):
        tried = {
            "add": {a: loss(add(counts, asked, n, a, V)) for a in ALPHAS},
            "mixed": {w: loss(mixed(counts, asked, n, w, V)) for w in WEIGHTS},
            "kneser_ney": {d: loss(kneser_ney(counts, before, asked, n, d, V)) for d in DISCOUNTS},
        }
        rows.append({
            "n": n, "possible": float(V ** (n - 1)), "seen": len(counts[n].contexts), "stored": sum(len(counts[k].runs) for k in range(1, n + 1)),
            "new contexts": float((counts[n].of_context(asked[n]) == 0).mean()), "never counted": float((counts[n].of(asked[n]) == 0).mean()),
            **{name: min(some.values()) for name, some in tried.items()}, "tried": tried,
        })
    best = min(DISCOUNTS, key=lambda d: rows[-1]["tried"]["kneser_ney"][d])
    return {
        "rows": rows, "new": counts[LONGEST].of_context(asked[LONGEST]) == 0,
        "p": kneser_ney(counts, before, asked, LONGEST, best, V),
    }


@torch.no_grad()
def losses_of(model, validation: torch.Tensor, context: int) -> torch.Tensor:
    "The loss at each position that the counts are asked for, from a full window."
    windows = validation[LONGEST - 1 - context:].unfold(0, context + 1, 1)
    logits = torch.cat([model(some[:, :-1])[:, -1] for some in windows.split(1024)])
    return logits.logsumexp(-1) - logits.gather(-1, windows[:, -1:])[:, 0]


def train(name: str, rate: float, seed: int) -> dict:
    "One window network, as it was when its validation loss was least."
    context, d_model, d_ff, steps, share, _ = NETWORKS[name]
    text, validation, V = texts(share)
    torch.manual_seed(seed)
    model = LanguageModel(Config(vocab_size=V, max_len=MAX_LEN, d_model=d_model), [WindowMLP(d_model, d_ff, context)])
    best = {"loss": float("inf")}

    def look(step: int) -> None:
        each = losses_of(model, validation, context)
        if each.mean() < best["loss"]:
            best.update(loss=each.mean().item(), each=each.numpy(), step=step)

    def watched() -> Iterator[torch.Tensor]:
        for step, batch in enumerate(random_batches(text, batch_size=BATCH_SIZE, max_len=MAX_LEN, seed=seed)):
            if step and step % LOOK == 0:
                look(step)
            yield batch
    fit(model, watched(), steps=steps, learning_rate=rate, progress=False)
    look(steps)
    return {**best, "parameters": sum(p.numel() for p in model.parameters()), "characters": len(text)}


def networks(pool: Executor, new: np.ndarray, counted_p: np.ndarray) -> dict:
    "Each network at the best of its rates, which the first seed decides, for all seeds."
    first = {name: {rate: pool.submit(train, name, rate, SEEDS[0]) for rate in how[-1]} for name, how in NETWORKS.items()}
    at_rates = {name: {rate: run.result()["loss"] for rate, run in runs.items()} for name, runs in first.items()}
    best = {name: min(tried, key=tried.get) for name, tried in at_rates.items()}
    rest = {name: [pool.submit(train, name, best[name], seed) for seed in SEEDS[1:]] for name in NETWORKS}
    out = {}
    for name, (context, _, d_ff, steps, share, _) in NETWORKS.items():
        runs = [run.result() for run in [first[name][best[name]], *rest[name]]]
        out[name] = {
            "context": context, "hidden": d_ff, "steps": steps, "share": share, "characters": runs[0]["characters"],
            "parameters": runs[0]["parameters"], "rate": best[name], "at each rate": at_rates[name], "losses": [run["loss"] for run in runs],
            "best at step": [run["step"] for run in runs], "on new contexts": [float(run["each"][new].mean()) for run in runs],
            "with counts": {
                part: [float(-np.log((1 - part) * counted_p + part * np.exp(-run["each"])).mean()) for run in runs] for part in PARTS},
        }
        print(name, best[name], out[name]["losses"], flush=True)
    return out


def trigram_on(new: np.ndarray, train: torch.Tensor, validation: torch.Tensor, V: int) -> float:
    "The loss of chapter 0's trigram at those positions."
    logits, runs = NGram(train, 3, V, smoothing=30).logits[2], validation[LONGEST - 3:].unfold(0, 3, 1)
    return float(-logits[tuple(runs.T)][torch.tensor(new)].mean())


def main(pool: Executor) -> dict:
    topics = pydoc_data.topics.topics
    raw = "\n\n".join(topics[name] for name in sorted(topics))
    train, validation, V = texts()
    result = {"V": V, "characters": {"training": len(train), "validation": len(validation), "raw": len(raw)}}
    result["overlap"] = {
        name: {size: repeated(one, size) for size in (50, 100, 200)} for name, one in (("as it comes", raw), ("paragraphs once", load_corpus()))}
    everything = counted(train.numpy(), validation.numpy(), V)
    result["counted"], new, p = everything["rows"], everything["new"], everything["p"]
    result["counted"][-1]["on new contexts"] = float(-np.log(p[new]).mean())
    result["trigram on new contexts"] = trigram_on(new, train, validation, V)
    result["by size"] = {}
    for share in SHARES:
        part = texts(share)[0].numpy()
        result["by size"][share] = {"characters": len(part), "kneser_ney": [row["kneser_ney"] for row in counted(part, validation.numpy(), V)["rows"]]}
    result["networks"] = networks(pool, new, p)
    return result


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that train at the same time (default: one per core)")
    torch.set_num_threads(1)
    with ProcessPoolExecutor(
        options.parse_args().workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,),
    ) as pool:
        print(record("counting", main(pool), __file__))
