"""Train models whose masks leak, on tokens that nobody can predict, and record which tests notice: for the study "How do you find a leak?" of chapter 2.

    make record NAME=leaks
"""
import math
from functools import partial

import torch
from torch import nn

from builder.records import record
from transformer_course.attention import AttentionHead, LearnedPositions, Residual, attention
from transformer_course.config import Config
from transformer_course.prediction import LanguageModel, cross_entropy, fit

VOCABULARY, LENGTH, WIDTH, BATCH, STEPS = 50, 48, 64, 32, 300
SEEDS = [0, 1, 2]


def no_mask(q, k, v, mask):
    return attention(q, k, v)


def one_ahead(q, k, v, mask):
    "The diagonal of the triangle is shifted by one."
    return attention(q, k, v, torch.ones_like(mask).tril(1))


def filled_with(number, q, k, v, mask):
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    return scores.masked_fill(~mask, number).softmax(-1) @ v


def masked_afterwards(q, k, v, mask):
    "Weights are set to 0 after the softmax, which has seen all scores."
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    return scores.softmax(-1).masked_fill(~mask, 0) @ v


def wrong_axis(q, k, v, mask):
    "Each column sums to 1, over queries of which later ones have read later tokens."
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    return scores.masked_fill(~mask, -math.inf).softmax(-2) @ v


MODELS = {                                                           # name: attention function, how far the targets are shifted
    "causal mask": (attention, 1),
    "no mask": (no_mask, 1),
    "mask one token too wide": (one_ahead, 1),
    "forbidden scores set to 0": (partial(filled_with, 0.0), 1),
    "forbidden scores set to -10": (partial(filled_with, -10.0), 1),
    "mask after the softmax": (masked_afterwards, 1),
    "softmax over the queries": (wrong_axis, 1),
    "targets not shifted": (attention, 0),
}


def build(attention_fn) -> LanguageModel:
    config = Config(vocab_size=VOCABULARY, max_len=LENGTH, d_model=WIDTH, positions="learned")
    return LanguageModel(config, [Residual(AttentionHead(WIDTH, WIDTH, attention_fn=attention_fn))], positions=LearnedPositions(config))


def noise(seed: int, size: int) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (size, BATCH, LENGTH + 1), generator=torch.Generator().manual_seed(seed))


def loss_of(shift: int, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return cross_entropy(model(batch[:, :-1]), batch[:, shift:shift + LENGTH])


def trained(attention_fn, shift: int, seed: int) -> float:
    "The loss on fresh noise after training on noise."
    torch.manual_seed(seed)
    model = build(attention_fn)
    loss = partial(loss_of, shift)
    fit(model, noise(seed, STEPS), steps=STEPS, loss=loss, progress=False)
    with torch.no_grad():
        return torch.stack([loss(model, batch) for batch in noise(100 + seed, 10)]).mean().item()


@torch.no_grad()
def leak_at_start(attention_fn) -> float:
    "How far the outputs of an untrained model move, at most, when a later token changes."
    torch.manual_seed(0)
    model = build(attention_fn)
    tokens = noise(7, 1)[0, :1, :-1]
    largest = 0.0
    for place in range(1, LENGTH):
        changed = tokens.clone()
        changed[0, place] = (changed[0, place] + 1) % VOCABULARY
        largest = max(largest, (model(changed) - model(tokens))[0, :place].abs().max().item())
    return largest


def main() -> None:
    torch.set_num_threads(1)
    out = {}
    for name, (attention_fn, shift) in MODELS.items():
        out[name] = {"losses": [trained(attention_fn, shift, seed) for seed in SEEDS], "moved": leak_at_start(attention_fn)}
        print(f"{name:28} {[round(loss, 3) for loss in out[name]['losses']]} {out[name]['moved']:.2e}", flush=True)
    setup = {"vocabulary": VOCABULARY, "length": LENGTH, "width": WIDTH, "steps": STEPS}
    print(record("leaks", {"setup": setup, "models": out}, __file__))


if __name__ == "__main__":
    main()
