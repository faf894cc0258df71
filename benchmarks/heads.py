"""Train language models that differ in their heads and in nothing else, and measure one of them with every subset of its heads on
(about nine minutes).

    make record NAME=heads

One layer of width 64, trained by the rules of the scoreboard. Each variant is trained at three learning rates with the first seed, and
at further rates as long as the best of them is the smallest or the largest; at the best rate it is trained with the other seeds. Rates
are chosen on the first half of the held-out text, losses are reported on the second half.
"""
from itertools import combinations

import torch
from torch import Tensor, nn

from builder.records import record
from transformer_course.attention import (
    AttentionFunction,
    LearnedPositions,
    Residual,
    attention,
    attention_weights,
    causal_mask,
)
from transformer_course.config import Config
from transformer_course.multi_head import MultiHeadAttention
from transformer_course.prediction import (
    BATCH_SIZE,
    MAX_LEN,
    STEPS,
    CharTokenizer,
    LanguageModel,
    evaluate,
    fit,
    load_corpus,
    random_batches,
    sequential_batches,
    train_validation_split,
)

WIDTH = 64
RATES = [1.25e-3, 2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2, 8e-2]
FIRST = RATES[2:5]                                                   # those that every variant is trained at
SEEDS = [0, 1, 2]
HEADS = (1, 2, 4, 8, 16)
KV_HEADS = (2, 1)                                                    # for 8 query heads
SHOWN = "The cat sat on the mat because it was tired."

TEXT = load_corpus()
CHARS = CharTokenizer(TEXT)
TRAIN, HELD_OUT = train_validation_split(torch.tensor(CHARS.encode(TEXT)))
CHOICE, EXAMINATION = (sequential_batches(half, batch_size=BATCH_SIZE, max_len=MAX_LEN) for half in HELD_OUT.tensor_split(2))


def even_average(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    "Attention without queries and keys: the same weight for all that may be read."
    return (mask / mask.sum(-1, keepdim=True)) @ v


class Nothing(nn.Module):
    "A layer that returns what it reads."

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x


def model(attention_fn: AttentionFunction | None = attention, **heads: int) -> LanguageModel:
    "One layer of attention, or none, and a table of positions."
    config = Config(vocab_size=CHARS.vocab_size, max_len=MAX_LEN, d_model=WIDTH, positions="learned", **heads)
    layer = Residual(MultiHeadAttention(config, attention_fn=attention_fn)) if attention_fn else Nothing()
    return LanguageModel(config, [layer], positions=LearnedPositions(config))


def trained(rate: float, seed: int, **kind) -> LanguageModel:
    torch.manual_seed(seed)
    one = model(**kind)
    batches = random_batches(TRAIN, batch_size=BATCH_SIZE, max_len=MAX_LEN, seed=seed)
    fit(one, batches, steps=STEPS, learning_rate=rate, progress=False)
    return one


def best(**kind) -> dict:
    "A variant at its best learning rate: the rate, the number of parameters and the losses of the seeds."
    tried = {rate: trained(rate, SEEDS[0], **kind) for rate in FIRST}
    chosen = {rate: evaluate(one, CHOICE) for rate, one in tried.items()}
    while (rate := min(chosen, key=chosen.get)) in (min(chosen), max(chosen)):
        rate = RATES[RATES.index(rate) + (1 if rate == max(chosen) else -1)]
        tried[rate] = trained(rate, SEEDS[0], **kind)
        chosen[rate] = evaluate(tried[rate], CHOICE)
    runs = [tried[rate], *(trained(rate, seed, **kind) for seed in SEEDS[1:])]
    return {"learning rate": rate, "parameters": sum(p.numel() for p in runs[0].parameters()), "losses": [evaluate(one, EXAMINATION) for one in runs]}


@torch.no_grad()
def switches(one: LanguageModel) -> dict:
    "A model with four heads: its loss with every subset of them on, and their maps of a sentence."
    layer = one.layers[0].sublayer

    def loss(on: tuple[int, ...]) -> float:
        keep = torch.tensor([[float(head in on)] for head in range(4)])[..., None]
        layer.attention_fn = lambda *inputs: attention(*inputs) * keep
        return evaluate(one, EXAMINATION)

    subsets = [on for size in range(5) for on in combinations(range(4), size)]
    measured = [[list(on), loss(on)] for on in subsets]
    x = one.embed(torch.tensor([CHARS.encode(SHOWN)]))
    weights = attention_weights(layer.queries(x), layer.keys_values(x)[0], causal_mask(x.shape[1]))[0]
    text = one.embed(EXAMINATION[0][:, :-1])
    every = attention_weights(layer.queries(text), layer.keys_values(text)[0], causal_mask(text.shape[1]))
    back = [every.diagonal(-steps, 2, 3)[..., 8:].mean((0, 2)).tolist() for steps in range(8)]       # from the ninth position on
    return {"text": SHOWN, "weights": [[[round(w, 4) for w in row] for row in head] for head in weights.tolist()], "measured": measured, "back": back}


if __name__ == "__main__":
    by_heads = {n: best(n_heads=n) for n in HEADS}
    result = {
        "width": WIDTH, "steps": STEPS, "seeds": len(SEEDS), "rates": FIRST, "by heads": by_heads,
        "8 heads, by key-value heads": {8: by_heads[8], **{n: best(n_heads=8, n_kv_heads=n) for n in KV_HEADS}},
        "even weights": best(attention_fn=even_average, n_heads=1), "no attention": best(attention_fn=None),
        "switches": switches(trained(by_heads[4]["learning rate"], SEEDS[0], n_heads=4)),
    }
    print(record("heads", result, __file__))
