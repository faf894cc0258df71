"""Read texts that are longer than any in training: the loss by position, with masks that tell new distances from more tokens, for six
schemes of positions. Two layers of attention, each scheme at the best of three learning rates, three seeds (about six minutes).

    make record NAME=beyond_length
"""
import math

import torch
from positions import SEEDS, T5Bias, data, model

from builder.records import record
from transformer_course.attention import causal_mask
from transformer_course.positions import RoPE, alibi_slopes, apply_rope
from transformer_course.prediction import (
    LanguageModel,
    NGram,
    evaluate,
    fit,
    random_batches,
    sequential_batches,
)

SCHEMES = ("none", "sinusoidal", "learned", "T5", "rope", "alibi")
RATES = (3e-3, 1e-2, 3e-2)
SHORT, LONG = 32, 256
SEGMENTS = ((16, 32), (32, 40), (40, 64), (64, 128), (128, 256))
PLAIN = {"progress": False}


# Language beyond the training length

@torch.no_grad()
def loss_by_position(lm: LanguageModel, text, mask=None, attend=None) -> torch.Tensor:
    "The mean loss at each of 256 positions of validation text; `attend` may replace what a layer does."
    pieces = torch.cat(sequential_batches(text, batch_size=64, max_len=LONG))
    mask, losses = causal_mask(LONG) if mask is None else mask, []
    for batch in pieces.split(32):
        x = lm.embed(batch[:, :-1])
        for layer in lm.layers:
            x = layer(x, mask) if attend is None else x + attend(layer.sublayer, x, mask)
        losses.append(-lm.logits(x).log_softmax(-1).gather(-1, batch[:, 1:, None])[..., 0])
    return torch.cat(losses).mean(0)


def segments(curve: torch.Tensor) -> list[float]:
    return [curve[a:b].mean().item() for a, b in SEGMENTS]


def train(scheme: str, rate: float, seed: int, length: int = SHORT) -> LanguageModel:
    "Four hundred steps of 1,024 characters, in pieces of one length."
    vocab_size, text, _ = data()
    torch.manual_seed(seed)
    lm = model(scheme, vocab_size, 2, LONG)
    fit(lm, random_batches(text, batch_size=1024 // length, max_len=length, seed=seed), steps=400, learning_rate=rate, **PLAIN)
    return lm


def best_rate(scheme: str, length: int = SHORT) -> float:
    "By the loss of seed 0 within the training length: its second half."
    *_, text = data()
    return min(RATES, key=lambda rate: loss_by_position(train(scheme, rate, 0, length), text)[length // 2:length].mean().item())


def clipped(sublayer, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    "A layer that reads all tokens, but takes distances above 31 for 31: more tokens, and no new distance."
    heads, length = sublayer.heads, x.shape[1]
    q, (k, v) = heads.queries(x), heads.keys_values(x)
    at = torch.arange(length)
    distance, bias = at[:, None] - at, torch.zeros(1, 1, 1)
    if isinstance(sublayer.encoding, RoPE):
        exact = apply_rope(q, at) @ apply_rope(k, at).mT
        last = apply_rope(q, torch.full((length,), SHORT - 1)) @ k.mT
        scores = torch.where(distance < SHORT, exact, last)
    else:
        scores = q @ k.mT
        if isinstance(heads.attention_fn, T5Bias):
            bias = heads.attention_fn.bias(distance.clamp(max=SHORT - 1))
        else:
            bias = -alibi_slopes(heads.n_heads)[:, None, None] * distance.clamp(0, SHORT - 1)
    scores = (scores / math.sqrt(q.shape[-1]) + bias).masked_fill(~mask, -math.inf)
    return heads.merge(scores.softmax(-1) @ v)


def masks() -> dict[str, torch.Tensor]:
    causal, at = causal_mask(LONG), torch.arange(LONG)
    distance = at[:, None] - at
    window = {f"window of {n}": causal & (distance < n) for n in (8, 16, 32)}
    return {
        "all tokens": causal,
        **window,
        "16 near, 16 far": window["window of 16"] | causal & (distance >= 32) & (distance < 48),
        "window of 28 and the first 4": causal & (distance < 28) | causal & (at < 4),
    }


def beyond(scheme: str) -> dict:
    rate, (*_, text) = best_rate(scheme), data()
    out = {"rate": rate, "curves": [], "masks": {name: [] for name in masks()}}
    for seed in range(SEEDS):
        lm = train(scheme, rate, seed)
        curve = loss_by_position(lm, text)
        out["curves"].append([round(value, 4) for value in curve.tolist()])
        for name, mask in masks().items():
            out["masks"][name].append(segments(loss_by_position(lm, text, mask)))
        if scheme in ("rope", "alibi", "T5"):
            for name in ("all tokens", "window of 28 and the first 4"):
                curve = loss_by_position(lm, text, masks()[name], clipped)
                out["masks"].setdefault(f"{name}, distances up to 31", []).append(segments(curve))
    print(scheme, rate, out["masks"], flush=True)
    return out


def baselines() -> dict:
    "Characters without any context, pairs of characters, and a rotary model that was trained on long pieces, as many characters."
    vocab_size, text, held_out = data()
    shares = (text.bincount(minlength=vocab_size) + 1).double().log()
    unigram = (shares.logsumexp(0) - shares)[held_out].mean().item()
    pairs = NGram(text, 2, vocab_size)
    bigram = evaluate(pairs, sequential_batches(held_out, batch_size=64, max_len=LONG))
    rate = best_rate("rope", LONG)
    long = [segments(loss_by_position(train("rope", rate, seed, LONG), held_out)) for seed in range(SEEDS)]
    return {"unigram": unigram, "bigram": bigram, "trained on 256": long, "rate": rate}


if __name__ == "__main__":
    language = {scheme: beyond(scheme) for scheme in SCHEMES}
    result = {"seeds": SEEDS, "segments": SEGMENTS, "language": language, "baselines": baselines()}
    print(record("beyond_length", result, __file__))
