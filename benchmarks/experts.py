"""Train language models whose feed-forward network is one network or a mixture of experts, and record what the router does with the
characters (about five minutes on one core; one variant is one task).

    make record NAME=experts          or: python benchmarks/experts.py --workers 4

Trained by the rules of the scoreboard. Each variant is trained at three learning rates with the first seed, and at further rates as long
as the best of them is the smallest or the largest; at the best rate it is trained with the other seeds. Rates are chosen on the first
half of the held-out text, losses are reported on the second half.
"""
import argparse
import os
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch import Tensor

from builder.records import record
from transformer_course.attention import Residual
from transformer_course.config import Config
from transformer_course.feed_forward import MixtureOfExperts, feed_forward
from transformer_course.positions import SelfAttention
from transformer_course.prediction import (
    BATCH_SIZE,
    MAX_LEN,
    STEPS,
    CharTokenizer,
    LanguageModel,
    evaluate,
    fit,
    load_corpus,
    next_token_loss,
    random_batches,
    sequential_batches,
    train_validation_split,
)

WIDTH, EXPERTS, ACTIVE, NARROW = 64, 8, 2, 64                        # NARROW: hidden width of an expert
RATES = [1.25e-3, 2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2]
FIRST = RATES[2:5]                                                   # those that every variant is trained at
SEEDS = [0, 1, 2]
BALANCE = 0.01                                                       # factor of the loss that balances the load
CLASSES = {"vowels": "aeiou", "other small letters": "bcdfghjklmnpqrstvwxyz", "capitals": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
           "digits": "0123456789", "space": " ", "line end": "\n"}   # and all others

TEXT = load_corpus()
CHARS = CharTokenizer(TEXT)
TRAIN, HELD_OUT = train_validation_split(torch.tensor(CHARS.encode(TEXT)))
CHOICE, EXAMINATION = (sequential_batches(half, batch_size=BATCH_SIZE, max_len=MAX_LEN) for half in HELD_OUT.tensor_split(2))


class Watched(MixtureOfExperts):
    "A mixture that keeps the router's probabilities and choices of the last batch."

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weights, chosen = super().route(x)
        self.probabilities, self.chosen = self.router(x).softmax(-1), chosen
        return weights, chosen


class AtRandom(Watched):
    "Each token's experts are drawn by lot, with equal weights."

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        super().route(x)
        self.chosen = torch.rand(len(x), EXPERTS).topk(ACTIVE, dim=-1).indices
        return torch.full(self.chosen.shape, 1 / ACTIVE), self.chosen


def load(mixture: Watched) -> Tensor:
    "The share of the choices that each expert got."
    return torch.bincount(mixture.chosen.flatten(), minlength=EXPERTS) / mixture.chosen.numel()


def balanced_loss(model: LanguageModel, batch: Tensor) -> Tensor:
    "The usual loss and a term that is least where all experts get the same load (Fedus et al. 2022, section 2.2)."
    loss = next_token_loss(model, batch)
    mixture = model.layers[1].sublayer
    return loss + BALANCE * EXPERTS * (load(mixture) * mixture.probabilities.mean(0)).sum()


MIXTURE = {"n_experts": EXPERTS, "n_active_experts": ACTIVE, "d_ff": NARROW}
VARIANTS = {  # layer, fields of the config, loss
    "narrow": (feed_forward, {"d_ff": ACTIVE * NARROW}, next_token_loss),
    "wide": (feed_forward, {"d_ff": EXPERTS * NARROW}, next_token_loss),
    "balanced": (Watched, MIXTURE, balanced_loss),
    "not balanced": (Watched, MIXTURE, next_token_loss),
    "at random": (AtRandom, MIXTURE, next_token_loss),
}


def trained(name: str, rate: float, seed: int) -> LanguageModel:
    layer, fields, loss = VARIANTS[name]
    torch.manual_seed(seed)
    config = Config(vocab_size=CHARS.vocab_size, max_len=MAX_LEN, d_model=WIDTH, n_layers=2, n_heads=4, positions="rope", **fields)
    one = LanguageModel(config, [Residual(SelfAttention(config)), Residual(layer(config))])
    batches = random_batches(TRAIN, batch_size=BATCH_SIZE, max_len=MAX_LEN, seed=seed)
    fit(one, batches, steps=STEPS, learning_rate=rate, loss=loss, progress=False)
    return one


def examined(one: LanguageModel) -> float:
    torch.manual_seed(0)                                             # for the experts that are drawn by lot
    return evaluate(one, EXAMINATION)


def best(name: str) -> dict:
    "A variant at its best learning rate: the rate, the number of parameters and the losses of the seeds; of a mixture its loads too."
    tried = {rate: trained(name, rate, SEEDS[0]) for rate in FIRST}
    chosen = {rate: evaluate(one, CHOICE) for rate, one in tried.items()}
    while (rate := min(chosen, key=chosen.get)) in (min(chosen), max(chosen)):
        rate = RATES[RATES.index(rate) + (1 if rate == max(chosen) else -1)]
        tried[rate] = trained(name, rate, SEEDS[0])
        chosen[rate] = evaluate(tried[rate], CHOICE)
    runs = [tried[rate], *(trained(name, rate, seed) for seed in SEEDS[1:])]
    found = {"learning rate": rate, "parameters": sum(p.numel() for p in runs[0].parameters()), "losses": [examined(one) for one in runs]}
    if isinstance(runs[0].layers[1].sublayer, Watched):
        found["routing"] = [routing(one) for one in runs]
    return found


@torch.no_grad()
def routing(one: LanguageModel) -> dict:
    "The load of each expert on the examination, and for each class of characters the share of its choices that went to each expert."
    mixture, chosen = one.layers[1].sublayer, []
    for batch in EXAMINATION:
        one(batch[:, :-1])
        chosen.append(mixture.chosen)
    chosen, read = torch.cat(chosen), torch.cat([batch[:, :-1].flatten() for batch in EXAMINATION])
    kinds = [next((name for name, letters in CLASSES.items() if CHARS.decode([c]) in letters), "others") for c in range(CHARS.vocab_size)]
    classes = {}
    for name in [*CLASSES, "others"]:
        members = torch.tensor([kind == name for kind in kinds])[read]
        classes[name] = (torch.bincount(chosen[members].flatten(), minlength=EXPERTS) / (members.sum() * ACTIVE)).tolist()
    counts = torch.zeros(CHARS.vocab_size, EXPERTS).index_put_((read, chosen[:, 0]), torch.ones(len(read)), accumulate=True)
    return {
        "load": (torch.bincount(chosen.flatten(), minlength=EXPERTS) / chosen.numel()).tolist(), "classes": classes,
        "told by the character": (counts.max(1).values.sum() / len(read)).item(),               # share of first choices that a table by character guesses
        "told by nothing": (counts.sum(0).max() / len(read)).item(),
    }


def measured(pool: Executor) -> dict:
    found = dict(zip(VARIANTS, pool.map(best, VARIANTS)))
    return {"width": WIDTH, "experts": EXPERTS, "active": ACTIVE, "expert width": NARROW, "steps": STEPS, "seeds": len(SEEDS),
            "rates": FIRST, "balance": BALANCE, "variants": found}


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that train at the same time (default: one per core)")
    with ProcessPoolExecutor(
        options.parse_args().workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,),
    ) as pool:
        print(record("experts", measured(pool), __file__))
