"""Chapter 1: spell words backwards with an encoder and a decoder, by what the decoder gets to see of the source (about five minutes).

Every variant at the best of four learning rates, chosen by the first seed on words of their own, then three seeds.

    make record NAME=spelling
"""
from functools import partial

import torch
from torch import nn

from builder.records import record
from transformer_course.recurrence import AdditiveAttention, RecurrentEncoderDecoder, fixed_context

SEEDS, RATES, STEPS = (0, 1, 2), (3e-4, 1e-3, 3e-3, 1e-2), 600
START, LETTERS, LONGEST = 0, 26, 12
LENGTHS = tuple(range(2, 17, 2))


def mean_of_memory(state, memory, lengths=None):
    "The ablation: an average of the memory whose weights are all equal."
    weights = torch.full_like(memory[..., 0], 1 / memory.shape[1])
    return memory.mean(1), weights


def dot_product(state, memory, lengths=None):
    "Luong et al. 2015: the score is the dot product of state and memory."
    weights = (memory @ state[..., None])[..., 0].softmax(-1)
    return (weights[:, None] @ memory)[:, 0], weights


MODELS = {                                                          # name: attention, width, steps
    "one vector": (lambda: fixed_context, 64, STEPS),
    "one vector, twice as wide": (lambda: fixed_context, 128, STEPS),
    "one vector, four times the training": (lambda: fixed_context, 64, 4 * STEPS),
    "mean of the memory": (lambda: mean_of_memory, 64, STEPS),
    "additive attention": (lambda: AdditiveAttention(64, 64, 64), 64, STEPS),
    "dot-product attention": (lambda: dot_product, 64, STEPS),
}


def random_words(length: int, number: int, generator=None) -> torch.Tensor:
    "Words of different letters, as tokens 1 to 26."
    return 1 + torch.rand(number, LETTERS, generator=generator).argsort(dim=1)[:, :length]


def predicted(model, source):
    "Logits and targets; the decoder is given the correct letters before."
    target = source.flip(1)
    previous = torch.cat([torch.full_like(target[:, :1], START), target[:, :-1]], dim=1)
    return model(source, previous), target


def trained(name: str, rate: float, seed: int) -> RecurrentEncoderDecoder:
    make, width, steps = MODELS[name]
    torch.manual_seed(seed)
    model = RecurrentEncoderDecoder(LETTERS + 1, LETTERS + 1, width, make(), partial(nn.LSTM, batch_first=True))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for _ in range(steps):
        logits, target = predicted(model, random_words(int(torch.randint(1, LONGEST + 1, ())), 32))
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten()).backward()
        optimizer.step()
    return model


@torch.no_grad()
def right(model, number: int, seed: int) -> list[float]:
    "The share of words without a mistake. All letters right given the right ones before is the same as all written right."
    generator, out = torch.Generator().manual_seed(seed), []
    for length in LENGTHS:
        logits, target = predicted(model, random_words(length, number, generator))
        out.append((logits.argmax(-1) == target).all(1).float().mean().item())
    return out


def measured(name: str) -> dict:
    known = [n for n, length in enumerate(LENGTHS) if length <= LONGEST]
    first = {rate: trained(name, rate, SEEDS[0]) for rate in RATES}
    scores = {rate: right(model, 200, seed=1000) for rate, model in first.items()}
    rate = max(RATES, key=lambda rate: sum(scores[rate][n] for n in known))
    models = [first[rate], *(trained(name, rate, seed) for seed in SEEDS[1:])]
    return {"learning_rate": rate, "parameters": sum(p.numel() for p in models[0].parameters()), "steps": MODELS[name][2],
            "by_rate": {str(r): sum(scores[r][n] for n in known) / len(known) for r in RATES},
            "right": [right(model, 500, seed=2000) for model in models]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    result = {"lengths": LENGTHS, "longest": LONGEST, "rates": RATES, "models": {name: measured(name) for name in MODELS}}
    print(record("spelling", result, __file__))
