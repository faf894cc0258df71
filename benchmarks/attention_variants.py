"""Train one language model with many kinds of attention and record how good each is: for the studies of chapter 2.

    make record NAME=attention_variants

The model is that of chapter 2, one head of width 128 between embedding and output, trained by the rules of the scoreboard. Each
variant is trained at three learning rates with the first seed, and at further rates as long as the best of them is the smallest or the
largest; at the best rate it is trained with the other seeds. Rates are chosen on the first half of the held-out text, losses are
reported on the second half. The variants are trained beside each other, one on each core: together they take about 12 minutes of one.
"""
import math
import multiprocessing
from functools import cache, partial
from itertools import islice

import torch
from torch import Tensor, nn

from builder.records import record
from transformer_course.attention import AttentionHead, LearnedPositions, Residual, attention
from transformer_course.config import Config
from transformer_course.prediction import (
    BATCH_SIZE,
    MAX_LEN,
    STEPS,
    CharTokenizer,
    LanguageModel,
    evaluate,
    load_corpus,
    next_token_loss,
    random_batches,
    sequential_batches,
    train_validation_split,
)

WIDTH = 128
RATES = [3e-4, 1e-3, 3e-3, 1e-2, 3e-2]
FIRST = RATES[1:4]                                                   # those that every variant is trained at
SEEDS = [0, 1, 2]


# --- weights that are no softmax of scaled products ---------------------------------------------------------------------------------


def scores_of(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT / math.sqrt(q.shape[-1])


def unscaled(q, k, v, mask):
    return attention(q * math.sqrt(q.shape[-1]), k, v, mask)         # undoes the division


def divided_by_width(q, k, v, mask):
    return attention(q / math.sqrt(q.shape[-1]), k, v, mask)


def with_a_zero(q, k, v, mask):
    "Softmax over the scores and a zero, whose value is zero: a row may sum to less than 1."
    nothing = torch.zeros_like(k[..., :1, :])
    open_ = torch.ones_like(mask[..., :1])
    return attention(q, torch.cat([nothing, k], -2), torch.cat([nothing, v], -2), torch.cat([open_, mask], -1))


def uniform(q, k, v, mask):
    return attention(q * 0, k, v, mask)


def each_alone(weigh, q, k, v, mask):
    "Each weight from its own score: `weigh` takes scores and the number of keys that a query may read."
    return weigh(scores_of(q, k), mask.sum(-1, keepdim=True)).masked_fill(~mask, 0) @ v


SIGMOID = partial(each_alone, lambda scores, n: (scores - n.log()).sigmoid())
PLAIN_SIGMOID = partial(each_alone, lambda scores, n: scores.sigmoid())
RELU = partial(each_alone, lambda scores, n: scores.relu() / n)
LINEAR = partial(each_alone, lambda scores, n: scores / n)


# --- heads that share or lack projections -----------------------------------------------------------------------------------------


def keys_are_queries(head: AttentionHead) -> None:
    head.key = head.query


def values_are_keys(head: AttentionHead) -> None:
    head.value = head.key


def one_for_all(head: AttentionHead) -> None:
    head.key = head.value = head.query


def values_are_inputs(head: AttentionHead) -> None:
    head.value = nn.Identity()


def no_projections(head: AttentionHead) -> None:
    head.query = head.key = head.value = nn.Identity()


def small_start(head: AttentionHead) -> None:
    "Queries and keys so small at the start that unscaled scores are as large as scaled ones."
    with torch.no_grad():
        head.query.weight *= WIDTH**-0.25
        head.key.weight *= WIDTH**-0.25


class Nothing(nn.Module):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return torch.zeros_like(x)


VARIANTS = {                                                         # name: attention function, change of the head
    "attention": (attention, None),
    "unscaled": (unscaled, None),
    "unscaled, small start": (unscaled, small_start),
    "unscaled, small start and steps": (unscaled, small_start),
    "divided by d": (divided_by_width, None),
    "uniform weights": (uniform, None),
    "no attention": (None, None),
    "softmax with a zero": (with_a_zero, None),
    "sigmoid, shifted by -ln n": (SIGMOID, None),
    "sigmoid": (PLAIN_SIGMOID, None),
    "ReLU, divided by n": (RELU, None),
    "scores, divided by n": (LINEAR, None),
    "K = Q": (attention, keys_are_queries),
    "V = K": (attention, values_are_keys),
    "Q = K = V": (attention, one_for_all),
    "V = x": (attention, values_are_inputs),
    "no projections": (attention, no_projections),
}


def build(name: str, vocab_size: int) -> LanguageModel:
    attention_fn, change = VARIANTS[name]
    config = Config(vocab_size=vocab_size, max_len=MAX_LEN, d_model=WIDTH, positions="learned")
    sublayer = Nothing() if attention_fn is None else AttentionHead(WIDTH, WIDTH, attention_fn=attention_fn)
    if change:
        change(sublayer)
    return LanguageModel(config, [Residual(sublayer)], positions=LearnedPositions(config))


def groups(name: str, model: nn.Module, rate: float) -> list[dict]:
    "What the optimizer trains at which rate: all at one, or queries and keys at a smaller one."
    if not name.endswith("steps"):
        return [{"params": list(model.parameters())}]
    head = model.layers[0].sublayer
    slow = [head.query.weight, head.key.weight]
    rest = [p for p in model.parameters() if all(p is not one for one in slow)]
    return [{"params": rest}, {"params": slow, "lr": rate * WIDTH**-0.25}]


def train(name: str, rate: float, seed: int, data) -> tuple[float, float]:
    "The losses on the two halves of the held-out text."
    tokens, halves, vocab_size = data
    torch.manual_seed(seed)
    model = build(name, vocab_size)
    optimizer = torch.optim.AdamW(groups(name, model, rate), lr=rate)
    for batch in islice(random_batches(tokens, batch_size=BATCH_SIZE, max_len=MAX_LEN, seed=seed), STEPS):
        loss = next_token_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return tuple(evaluate(model, half) for half in halves)


@cache
def load() -> tuple:
    text = load_corpus()
    chars = CharTokenizer(text)
    tokens, held_out = train_validation_split(torch.tensor(chars.encode(text)))
    halves = [sequential_batches(half, batch_size=64, max_len=MAX_LEN) for half in held_out.chunk(2)]
    return tokens, halves, chars.vocab_size


def survey(name: str) -> dict:
    "The best rate of a variant, and its losses there on the half of the text that did not choose it."
    torch.set_num_threads(1)
    data = load()
    by_rate = {rate: train(name, rate, SEEDS[0], data) for rate in FIRST}
    while True:
        best = min(by_rate, key=lambda rate: by_rate[rate][0])
        at = RATES.index(best)
        beyond = [rate for rate in RATES[max(at - 1, 0):at + 2] if rate not in by_rate]
        if not beyond:
            break
        by_rate |= {rate: train(name, rate, SEEDS[0], data) for rate in beyond}
    losses = [by_rate[best][1], *(train(name, best, seed, data)[1] for seed in SEEDS[1:])]
    parameters = sum(p.numel() for p in build(name, data[2]).parameters())
    print(f"{name:32} {best:7} {[round(loss, 3) for loss in losses]} {parameters}", flush=True)
    return {"best rate": best, "losses": losses, "parameters": parameters,
            "by rate": {str(rate): loss for rate, (_, loss) in sorted(by_rate.items())}}


def main() -> None:
    with multiprocessing.get_context("spawn").Pool() as pool:
        surveyed = dict(zip(VARIANTS, pool.map(survey, VARIANTS, chunksize=1), strict=True))
    setup = {"width": WIDTH, "steps": STEPS, "batch size": BATCH_SIZE, "length": MAX_LEN, "seeds": len(SEEDS)}
    print(record("attention_variants", {"setup": setup, "variants": surveyed}, __file__))


if __name__ == "__main__":
    main()
