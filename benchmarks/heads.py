"""Race models that differ in the number of their heads and in nothing else, and repeat chapter 3's deletion of heads for several
seeds (about ten minutes).

    python benchmarks/heads.py
"""
import torch

from transformer_course.attention import causal_mask
from transformer_course.config import Config
from transformer_course.multi_head import MultiHeadLM
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
HEADS = (1, 2, 4, 8, 16, 32)
KV_HEADS = (8, 4, 2, 1)
DELETION_SEEDS = 8


def race(seed: int, **heads: int) -> float:
    "The loss on held-out text by the rules of the scoreboard, with other weights at the start and other batches for each seed."
    text = load_corpus()
    chars = CharTokenizer(text)
    train, held_out = split(torch.tensor(chars.encode(text)))
    torch.manual_seed(seed)
    model = MultiHeadLM(Config(vocab_size=chars.vocab_size, max_len=LENGTH, d_model=64, n_layers=1, **heads))
    fit(model, random_batches(train, batch_size=BATCH_SIZE, length=LENGTH, seed=seed), steps=STEPS)
    return evaluate(model, pieces(held_out, batch_size=BATCH_SIZE, length=LENGTH))


def repetitions(batch_size: int, seed: int):
    "Sequences of 32 random tokens that start again after 4 to 16 of them, and their periods, as in the chapter."
    generator = torch.Generator().manual_seed(seed)
    while True:
        tokens = torch.randint(0, 16, (batch_size, 32), generator=generator)
        period = torch.randint(4, 17, (batch_size, 1), generator=generator)
        yield tokens.gather(1, torch.arange(32) % period), period


def repetition_loss(model, batch):
    tokens, period = batch
    asked = torch.arange(1, 32) > period
    return cross_entropy(model(tokens[:, :-1])[asked], tokens[:, 1:][asked])


@torch.no_grad()
def accuracy(model, tokens, period, silenced=None) -> float:
    "The share of predictable tokens that the model predicts when one head (layer, head) writes nothing."
    x, mask = model.embed(tokens[:, :-1]), causal_mask(31)
    for number, layer in enumerate(model.layers):
        found = layer.attend(layer.queries(x), *layer.keys_values(x), mask)
        if silenced and silenced[0] == number:
            found[:, silenced[1]] = 0
        x = x + layer.merge(found)
    right = model.vocabulary(x).argmax(-1) == tokens[:, 1:]
    return right[torch.arange(1, 32) > period].float().mean().item()


def deletions(seed: int) -> dict:
    "The accuracy of a trained model, and by layer and head what it is without that head."
    torch.manual_seed(seed)
    model = MultiHeadLM(Config(vocab_size=16, max_len=32, d_model=64, n_layers=2, n_heads=4, bias=False))
    fit(model, repetitions(32, seed=0), steps=900, learning_rate=4e-3, loss=repetition_loss)
    examination = next(repetitions(400, seed=9))
    single = [[accuracy(model, *examination, (layer, head)) for head in range(4)] for layer in range(2)]
    return {"whole": accuracy(model, *examination), "without": single}


if __name__ == "__main__":
    result = {
        "seeds": SEEDS,
        "by heads": {n: [race(seed, n_heads=n) for seed in range(SEEDS)] for n in HEADS},
        "8 heads, by key-value heads": {n: [race(seed, n_heads=8, n_kv_heads=n) for seed in range(SEEDS)] for n in KV_HEADS},
        "deletions": [deletions(seed) for seed in range(DELETION_SEEDS)],
    }
    print(record("heads", result, command="python benchmarks/heads.py"))
