"""Chapter 8: what is each trick worth? A small GPT is trained by the whole recipe, and by the recipe with one trick left out or
exchanged, each at its own best learning rate (about eleven minutes of one core, less on several).

    make record NAME=training_tricks
"""
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice

import torch

from builder.records import record
from transformer_course.architectures import GPT
from transformer_course.config import Config
from transformer_course.prediction import (
    CharTokenizer,
    NGram,
    evaluate,
    load_corpus,
    random_batches,
    sequential_batches,
    train_validation_split,
)
from transformer_course.training import (
    decay_groups,
    set_learning_rate,
    smoothed_cross_entropy,
    train_step,
    warmup_cosine,
)

SEEDS, STEPS, WARMUP, BATCH, LENGTH, WIDTH, DEPTH = (0, 1, 2), 600, 60, 16, 32, 32, 4
DECAY, LARGEST, SMOOTHING = 0.1, 1.0, 0.1
ADAM, DESCENT = (3e-3, 6e-3, 1.2e-2, 2.4e-2), (0.03, 0.1, 0.3, 1.0)

text = load_corpus()
chars = CharTokenizer(text)
train, validation = train_validation_split(torch.tensor(chars.encode(text)))
held_out = sequential_batches(validation, batch_size=64, max_len=LENGTH)
CHOOSE, JUDGE = held_out[: len(held_out) // 2], held_out[len(held_out) // 2:]
CONFIG = Config(vocab_size=chars.vocab_size, max_len=LENGTH, d_model=WIDTH, n_layers=DEPTH, n_heads=4, positions="learned")


def adamw(model, rate: float, decay: float = DECAY):
    return torch.optim.AdamW(decay_groups(model, decay), lr=rate, betas=(0.9, 0.95), fused=True)


def descent(model, rate: float, momentum: float = 0.0):
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)          # no decay, which at such rates would be far stronger than AdamW's


def smoothed(model, batch):
    return smoothed_cross_entropy(model(batch[:, :-1]), batch[:, 1:], SMOOTHING)


def run(rate: float, seed: int, optimizer=adamw, schedule: str = "cosine", max_norm: float = LARGEST, **rest) -> tuple[float, float]:
    "The loss on the text that chooses the rate, and on the text that judges; inf where training fails."
    torch.manual_seed(seed)
    model = GPT(CONFIG)
    steps, factor = optimizer(model, rate), warmup_cosine(WARMUP, STEPS)
    for step, batch in enumerate(islice(random_batches(train, batch_size=BATCH, max_len=LENGTH, seed=seed), STEPS), 1):
        shares = {"cosine": factor(step), "constant": 1.0, "warm-up": min(step / WARMUP, 1.0)}
        set_learning_rate(steps, rate * shares[schedule])
        if not torch.isfinite(train_step(model, steps, [batch], max_norm=max_norm, **rest)[0]):
            return float("inf"), float("inf")
    return evaluate(model, CHOOSE), evaluate(model, JUDGE)


VARIANTS = {  # name: learning rates, what differs from the recipe
    "recipe": (ADAM, {}),
    "constant rate": (ADAM, {"schedule": "constant"}),
    "warm-up, then constant": (ADAM, {"schedule": "warm-up"}),
    "no clipping": (ADAM, {"max_norm": 1e9}),
    "no weight decay": (ADAM, {"optimizer": partial(adamw, decay=0.0)}),
    "label smoothing": (ADAM, {"loss": smoothed}),
    "bfloat16": (ADAM, {"dtype": torch.bfloat16}),
    "momentum": (DESCENT, {"optimizer": partial(descent, momentum=0.9), "max_norm": 1e9}),
    "gradient descent": (DESCENT, {"optimizer": descent, "max_norm": 1e9}),
}


def one(job: tuple[str, float, int]) -> tuple[float, float]:
    torch.set_num_threads(1)
    name, rate, seed = job
    return run(rate, seed, **VARIANTS[name][1])


def variant(by_rate: dict[float, list[tuple[float, float]]]) -> dict:
    "The best rate by one half of the held-out text, and the losses on the other half."
    best = min(by_rate, key=lambda rate: sum(chosen for chosen, _ in by_rate[rate]))
    return {"rate": best, "losses": [judged for _, judged in by_rate[best]],
            "by rate": {f"{rate:g}": [judged for _, judged in losses] for rate, losses in by_rate.items()}}


def report(found: dict[tuple[str, float, int], tuple[float, float]]) -> dict:
    setup = {"steps": STEPS, "warm-up": WARMUP, "batch": BATCH, "length": LENGTH, "width": WIDTH, "depth": DEPTH, "decay": DECAY,
             "largest": LARGEST, "smoothing": SMOOTHING, "parameters": sum(p.numel() for p in GPT(CONFIG).parameters())}
    return {"setup": setup, "unigram": evaluate(NGram(train, 1, chars.vocab_size), JUDGE), "bigram": evaluate(NGram(train, 2, chars.vocab_size), JUDGE),
            "variants": {name: variant({rate: [found[name, rate, seed] for seed in SEEDS] for rate in rates}) for name, (rates, _) in VARIANTS.items()}}


JOBS = [(name, rate, seed) for seed in SEEDS for name, (rates, _) in VARIANTS.items() for rate in rates]

if __name__ == "__main__":
    with ProcessPoolExecutor() as pool:
        found = dict(zip(JOBS, pool.map(one, JOBS)))
    print(record("training_tricks", report(found), __file__))
