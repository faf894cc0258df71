"""Repeat chapter 4's experiments on the schemes of positions for several seeds: texts longer than ever seen, recall over growing
distances, stretched rotary models, and the race of the scoreboard (about ten minutes).

    python benchmarks/positions.py
"""
import copy
import math
from dataclasses import dataclass

import torch
from torch import nn

from transformer_course.attention import causal_mask
from transformer_course.config import Config
from transformer_course.positions import PositionedLM, Rotary, angles, rotate
from transformer_course.prediction import (
    BATCH_SIZE,
    LENGTH,
    STEPS,
    CharTokenizer,
    cross_entropy,
    evaluate,
    fit,
    load_corpus,
    pieces,
    random_batches,
    split,
)
from transformer_course.records import record

SEEDS = 3
SCHEMES = ("none", "sinusoidal", "learned", "rope", "alibi")
SHORT, LONG = 32, 256
SEGMENTS = ((16, 32), (32, 40), (40, 64), (64, 128), (128, 256))
DISTANCES = (8, 31, 64, 128, 256, 512, 1024, 2048)
KINDS = 16
FUSED = nn.functional.scaled_dot_product_attention


def data():
    text = load_corpus()
    chars = CharTokenizer(text)
    return chars.vocab_size, *split(torch.tensor(chars.encode(text)))


def model(scheme: str, vocab_size: int, n_layers: int, max_len: int) -> PositionedLM:
    sizes = Config(vocab_size=vocab_size, max_len=max_len, d_model=64, n_layers=n_layers, n_heads=4, positions=scheme)
    return PositionedLM(sizes, kernel=FUSED)


@torch.no_grad()
def by_segment(lm: PositionedLM, text, mask=None) -> list[float]:
    "The loss on held-out text in each segment of positions."
    examination = torch.cat(pieces(text, batch_size=64, length=LONG))
    tokens, targets, positions = examination[:, :-1], examination[:, 1:], torch.arange(LONG)
    x, mask = lm.embed(tokens, positions), causal_mask(LONG) if mask is None else mask
    for layer in lm.layers:
        x = x + layer(x, positions, mask)
    logits = lm.vocabulary(x)
    return [cross_entropy(logits[:, a:b], targets[:, a:b]).item() for a, b in SEGMENTS]


def trained(scheme: str, seed: int) -> tuple[PositionedLM, torch.Tensor]:
    vocab_size, train, held_out = data()
    torch.manual_seed(seed)
    lm = model(scheme, vocab_size, 2, LONG)
    fit(lm, random_batches(train, batch_size=32, length=SHORT, seed=seed), steps=400)
    return lm, held_out


def beyond(scheme: str, seed: int) -> dict:
    lm, held_out = trained(scheme, seed)
    window = causal_mask(LONG) & ~causal_mask(LONG).tril(-SHORT)
    return {"all": by_segment(lm, held_out), "window": by_segment(lm, held_out, window)}


def notes(batch_size: int, length: int, seed: int, distance: int | None = None):
    "Noise with one note in it, and a question at the end; the answer is the note."
    generator = torch.Generator().manual_seed(seed)
    while True:
        tokens = torch.randint(0, KINDS, (batch_size, length), generator=generator)
        note = torch.randint(KINDS, 2 * KINDS, (batch_size,), generator=generator)
        at = torch.randint(0, length - 1, (batch_size,), generator=generator)
        if distance is not None:
            at = torch.full_like(at, length - 1 - distance)
        tokens[torch.arange(batch_size), at], tokens[:, -1] = note, 2 * KINDS
        yield tokens, note


def recall(scheme: str, seed: int) -> list[float]:
    "How often the note is found, by its distance."
    torch.manual_seed(seed)
    lm = model(scheme, 2 * KINDS + 1, 1, max(DISTANCES) + 1)
    fit(lm, notes(64, SHORT, seed), steps=300, loss=lambda lm, batch: cross_entropy(lm(batch[0])[:, -1], batch[1]))
    found = []
    with torch.no_grad():
        for distance in DISTANCES:
            tokens, note = next(notes(100, max(distance + 1, SHORT), 1000 + seed, distance))
            found.append((lm(tokens)[:, -1].argmax(-1) == note).float().mean().item())
    return found


@dataclass(frozen=True)
class Stretched:
    "Hands that turn slower by a factor, all of them or only those that were slow to begin with."
    factor: float
    slow: float = math.inf                                           # turns in a text of training length: below, stretched
    fast: float = math.inf                                           # above, left alone

    def queries(self, q, positions):
        by = angles(positions, q.shape[-1])
        if math.isinf(self.slow):
            return rotate(q, by / self.factor)
        turns = SHORT * angles(torch.ones(1), q.shape[-1])[0] / (2 * math.pi)
        kept = ((turns - self.slow) / (self.fast - self.slow)).clamp(0, 1)
        return rotate(q, by * (kept + (1 - kept) / self.factor))

    keys = queries


def stretch(seed: int) -> dict:
    "The loss of a rotary model that is stretched eightfold, before and after forty more steps on long pieces."
    lm, held_out = trained("rope", seed)
    _, train, _ = data()
    d_head, factor = 16, LONG / SHORT
    ways = {"as it was": Rotary(), "interpolated": Stretched(factor), "larger base": Rotary(10_000 * factor ** (d_head / (d_head - 2))),
            "by parts": Stretched(factor, 0.5, 2.0)}
    out = {}
    for name, marks in ways.items():
        changed = copy.deepcopy(lm)
        for layer in changed.layers:
            layer.marks = marks
        before = by_segment(changed, held_out)
        fit(changed, random_batches(train, batch_size=8, length=LONG, seed=100 + seed), steps=40, learning_rate=1e-3)
        out[name] = {"before": before, "after": by_segment(changed, held_out)}
    return out


def race(scheme: str, seed: int) -> float:
    "The loss on held-out text by the rules of the scoreboard."
    vocab_size, train, held_out = data()
    torch.manual_seed(seed)
    lm = model(scheme, vocab_size, 1, LENGTH)
    fit(lm, random_batches(train, batch_size=BATCH_SIZE, length=LENGTH, seed=seed), steps=STEPS)
    return evaluate(lm, pieces(held_out, batch_size=BATCH_SIZE, length=LENGTH))


if __name__ == "__main__":
    seeds = range(SEEDS)
    result = {
        "seeds": SEEDS,
        "segments": SEGMENTS,
        "distances": DISTANCES,
        "beyond": {scheme: [beyond(scheme, seed) for seed in seeds] for scheme in SCHEMES},
        "recall": {scheme: [recall(scheme, seed) for seed in seeds] for scheme in SCHEMES},
        "stretch": [stretch(seed) for seed in seeds],
        "race": {scheme: [race(scheme, seed) for seed in seeds] for scheme in SCHEMES},
    }
    print(record("positions", result, command="python benchmarks/positions.py"))
