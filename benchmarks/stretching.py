"""Stretch the context of rotary models eightfold in five ways: the loss on short and on long texts, before and after forty more steps of
training on long ones, each way at the best of four learning rates, three seeds (about three minutes).

    make record NAME=stretching
"""
import copy
import math
from dataclasses import dataclass

import torch
from beyond_length import LONG, PLAIN, SEGMENTS, SHORT, best_rate, loss_by_position, segments, train
from positions import SEEDS, data

from builder.records import record
from transformer_course.positions import RoPE, rope_angles, rotate_pairs
from transformer_course.prediction import fit, random_batches

RETRAINING_RATES = (1e-3, 3e-3, 1e-2, 3e-2)


@dataclass(frozen=True)
class Stretched:
    "Angles that grow more slowly by a factor: all of them, or those of pairs with few turns in a training text."
    factor: float
    slow: float = math.inf                                           # turns in a training text: below, stretched in full
    fast: float = math.inf                                           # above, left alone

    def queries(self, q, positions):
        angles = rope_angles(positions, q.shape[-1])
        if math.isinf(self.slow):
            return rotate_pairs(q, angles / self.factor)
        turns = SHORT * rope_angles(torch.ones(1), q.shape[-1])[0] / (2 * math.pi)
        kept = ((turns - self.slow) / (self.fast - self.slow)).clamp(0, 1)
        return rotate_pairs(q, angles * (kept + (1 - kept) / self.factor))

    keys = queries


def ways(d_head: int = 16, factor: float = LONG / SHORT) -> dict:
    return {
        "as it was": RoPE(),
        "interpolation": Stretched(factor),
        "larger base": RoPE(10_000 * factor ** (d_head / (d_head - 2))),
        "by parts": Stretched(factor, 1, 4),                         # the limits of Llama 3.1
        "by parts, other limits": Stretched(factor, 0.5, 2),
    }


def stretch() -> dict:
    "The loss of rotary models that are stretched eightfold, before and after forty more steps on long pieces, at the best of four rates."
    _, text, held_out = data()
    rate = best_rate("rope")
    models = [train("rope", rate, seed) for seed in range(SEEDS)]

    def changed(encoding, seed: int, again: float | None = None) -> torch.Tensor:
        lm = copy.deepcopy(models[seed])
        for layer in lm.layers:
            layer.sublayer.encoding = encoding
        if again:
            fit(lm, random_batches(text, batch_size=8, max_len=LONG, seed=100 + seed), steps=40, learning_rate=again, **PLAIN)
        return loss_by_position(lm, held_out)

    out = {}
    for name, encoding in ways().items():
        again = min(RETRAINING_RATES, key=lambda r: changed(encoding, 0, r).mean().item())
        runs = range(SEEDS)
        out[name] = {"rate": again, "before": [segments(changed(encoding, seed)) for seed in runs],
                     "after": [segments(changed(encoding, seed, again)) for seed in runs]}
        print(name, out[name], flush=True)
    return out


if __name__ == "__main__":
    print(record("stretching", {"seeds": SEEDS, "segments": SEGMENTS, "ways": stretch()}, __file__))
