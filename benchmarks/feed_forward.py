"""Train language models with and without a feed-forward network, most of them with equal parameters, and read the neurons of one of them
(about six minutes on one core; one variant is one task).

    make record NAME=feed_forward          or: python benchmarks/feed_forward.py --workers 4

Trained by the rules of the scoreboard. Each variant is trained at three learning rates with the first seed, and at further rates as long
as the best of them is the smallest or the largest; at the best rate it is trained with the other seeds. Rates are chosen on the first
half of the held-out text, losses are reported on the second half.
"""
import argparse
import os
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch import Tensor, nn

from builder.records import record
from transformer_course.attention import Residual
from transformer_course.config import Config
from transformer_course.feed_forward import FeedForward, feed_forward
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
    random_batches,
    sequential_batches,
    train_validation_split,
)

WIDTH = 64
RATES = [1.25e-3, 2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2]
FIRST = RATES[2:5]                                                   # those that every variant is trained at
SEEDS = [0, 1, 2]
SHOWN, CONTEXT, TRIGGERS = 8, 16, 5                                  # neurons, characters before a trigger, triggers of a neuron
CHANCE = 20                                                          # shuffles of the values

TEXT = load_corpus()
CHARS = CharTokenizer(TEXT)
TRAIN, HELD_OUT = train_validation_split(torch.tensor(CHARS.encode(TEXT)))
CHOICE, EXAMINATION = (sequential_batches(half, batch_size=BATCH_SIZE, max_len=MAX_LEN) for half in HELD_OUT.tensor_split(2))


class Linear(FeedForward):
    "Two matrices and nothing between them."

    def __init__(self, config: Config):
        super().__init__(config)
        self.activation = nn.Identity()


def model(layers: list, **fields) -> LanguageModel:
    "Sublayers with residual connections; rotary positions where there is attention."
    heads = {"n_heads": 4, "positions": "rope"} if SelfAttention in layers else {}
    sizes = {"d_model": WIDTH} | heads | fields
    config = Config(vocab_size=CHARS.vocab_size, max_len=MAX_LEN, n_layers=len(layers), **sizes)
    return LanguageModel(config, [Residual(one(config)) for one in layers])


VARIANTS = {  # layers, fields of the config
    "attention alone": ([SelfAttention], {}),
    "attention alone, wider": ([SelfAttention], {"d_model": 104}),
    "three attention layers": ([SelfAttention] * 3, {}),
    "feed-forward alone": ([feed_forward], {}),
    "no activation": ([SelfAttention, Linear], {}),
    "relu": ([SelfAttention, feed_forward], {"activation": "relu"}),
    "gelu": ([SelfAttention, feed_forward], {}),
    "swiglu": ([SelfAttention, feed_forward], {"activation": "swiglu", "d_ff": 170}),
}


def trained(name: str, rate: float, seed: int) -> LanguageModel:
    layers, fields = VARIANTS[name]
    torch.manual_seed(seed)
    one = model(layers, **fields)
    batches = random_batches(TRAIN, batch_size=BATCH_SIZE, max_len=MAX_LEN, seed=seed)
    fit(one, batches, steps=STEPS, learning_rate=rate, progress=False)
    return one


def best(name: str) -> dict:
    "A variant at its best learning rate: the rate, the number of parameters and the losses of the seeds; of GELU its neurons too."
    tried = {rate: trained(name, rate, SEEDS[0]) for rate in FIRST}
    chosen = {rate: evaluate(one, CHOICE) for rate, one in tried.items()}
    while (rate := min(chosen, key=chosen.get)) in (min(chosen), max(chosen)):
        rate = RATES[RATES.index(rate) + (1 if rate == max(chosen) else -1)]
        tried[rate] = trained(name, rate, SEEDS[0])
        chosen[rate] = evaluate(tried[rate], CHOICE)
    runs = [tried[rate], *(trained(name, rate, seed) for seed in SEEDS[1:])]
    found = {"learning rate": rate, "parameters": sum(p.numel() for p in runs[0].parameters()), "losses": [evaluate(one, EXAMINATION) for one in runs]}
    return found | ({"neurons": neurons(runs[0])} if name == "gelu" else {})


@torch.no_grad()
def neurons(one: LanguageModel) -> dict:
    """What each neuron's key fires on and what its value promotes: a measure of Geva et al. 2021, section 4, with shuffled values as control.

    The agreement is the share of neurons whose value promotes most the character that follows the context on which they fire most.
    """
    attention, network = one.layers
    texts = torch.cat(EXAMINATION)
    x = one.embed(texts[:, :-1])
    place = torch.arange(x.shape[1])
    fired = network.sublayer.hidden(attention(x, place <= place[:, None])).flatten(0, 1)                 # (all places, d_ff)
    following = texts[:, 1:].flatten()
    promoted = one.lm_head.weight @ network.sublayer.down.weight                                         # (V, d_ff)
    strongest, where = fired.topk(TRIGGERS, dim=0)
    after = following[where]                                                                             # (triggers, d_ff)
    favourite = promoted.argmax(0)
    generator = torch.Generator().manual_seed(0)
    shuffled = [favourite[torch.randperm(len(favourite), generator=generator)] for _ in range(CHANCE)]
    same = (after == after[0]).all(0)                                                                    # one character follows all of them
    shown = [number for number in strongest[0].argsort(descending=True).tolist() if same[number]][:SHOWN]
    rows = texts[:, :-1].flatten()
    return {
        "d_ff": fired.shape[1],
        "agreement": (after[0] == favourite).float().mean().item(),
        "agreement, shuffled": [(after[0] == other).float().mean().item() for other in shuffled],
        "active": (fired > 0).float().mean().item(),
        "one character follows": same.float().mean().item(),
        "shown": [
            {
                "neuron": number,
                "contexts": [context(rows, texts.shape[1] - 1, at) for at in where[:, number].tolist()],
                "activations": strongest[:, number].tolist(),
                "follows": CHARS.decode([after[0, number].item()]),
                "promotes": [[CHARS.decode([c]), promoted[c, number].item()] for c in promoted[:, number].topk(3).indices.tolist()],
            }
            for number in shown
        ],
    }


def context(rows: Tensor, length: int, at: int) -> str:
    "The characters up to a place, as far as the model saw them."
    begin = max(at - at % length, at - CONTEXT + 1)
    return CHARS.decode(rows[begin : at + 1].tolist())


def measured(pool: Executor) -> dict:
    found = dict(zip(VARIANTS, pool.map(best, VARIANTS)))
    return {"width": WIDTH, "steps": STEPS, "seeds": len(SEEDS), "rates": FIRST, "variants": found}


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that train at the same time (default: one per core)")
    with ProcessPoolExecutor(
        options.parse_args().workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,),
    ) as pool:
        print(record("feed_forward", measured(pool), __file__))
