"""Chapter 8: what do number formats lose? A small GPT is trained in float32, float16 and bfloat16, mixed and pure, with and without
loss scaling, each at its own best learning rate (about seven minutes of one core).

    make record NAME=number_formats
"""
from concurrent.futures import ProcessPoolExecutor
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
    next_token_loss,
    random_batches,
    sequential_batches,
    train_validation_split,
)
from transformer_course.training import clip_gradients

SEEDS, RATES, STEPS, BATCH, LENGTH, WIDTH, DEPTH = (0, 1, 2), (1e-3, 3e-3, 1e-2), 200, 16, 32, 32, 2
SHARE, SCALE = 1 / 1024, 2.0**16      # each batch as one of so many micro-batches; what the loss is multiplied by

text = load_corpus()
chars = CharTokenizer(text)
train, validation = train_validation_split(torch.tensor(chars.encode(text)))
held_out = sequential_batches(validation, batch_size=64, max_len=LENGTH)
CHOOSE, JUDGE = held_out[: len(held_out) // 2], held_out[len(held_out) // 2:]
CONFIG = Config(vocab_size=chars.vocab_size, max_len=LENGTH, d_model=WIDTH, n_layers=DEPTH, n_heads=4, positions="learned")

VARIANTS = {  # name: number format of the products, of the parameters, share of the loss, scale of the loss
    "float32": (None, torch.float32, 1.0, 1.0),
    "bfloat16 mixed": (torch.bfloat16, torch.float32, 1.0, 1.0),
    "bfloat16 pure": (None, torch.bfloat16, 1.0, 1.0),
    "float16 mixed": (torch.float16, torch.float32, 1.0, 1.0),
    "float16 pure": (None, torch.float16, 1.0, 1.0),
    "float32 share": (None, torch.float32, SHARE, 1.0),
    "bfloat16 mixed share": (torch.bfloat16, torch.float32, SHARE, 1.0),
    "float16 mixed share": (torch.float16, torch.float32, SHARE, 1.0),
    "float16 mixed share scaled": (torch.float16, torch.float32, SHARE, SCALE),
}


def run(name: str, rate: float, seed: int) -> tuple[float, float, float]:
    "The losses on the texts that choose and judge, inf where training fails; and the share of gradients that are zero in the last step."
    products, parameters, share, scale = VARIANTS[name]
    torch.manual_seed(seed)
    model = GPT(CONFIG).to(parameters)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for batch in islice(random_batches(train, batch_size=BATCH, max_len=LENGTH, seed=seed), STEPS):
        optimizer.zero_grad()
        with torch.autocast("cpu", products, enabled=products is not None):
            loss = next_token_loss(model, batch)
        (loss * share * scale).backward()
        for p in model.parameters():
            p.grad /= share * scale
        if not torch.isfinite(clip_gradients(model.parameters(), 1.0)):
            return float("inf"), float("inf"), float("nan")
        zeros = torch.cat([p.grad.flatten() == 0 for p in model.layers.parameters()]).float().mean().item()
        optimizer.step()
    return evaluate(model, CHOOSE), evaluate(model, JUDGE), zeros


def one(job: tuple[str, float, int]) -> tuple[float, float, float]:
    torch.set_num_threads(1)
    return run(*job)


def variant(by_rate: dict[float, list[tuple[float, float, float]]]) -> dict:
    "The best rate by one half of the held-out text, and the losses on the other half."
    best = min(by_rate, key=lambda rate: sum(chosen for chosen, *_ in by_rate[rate]))
    return {"rate": best, "losses": [judged for _, judged, _ in by_rate[best]], "zeros": [zeros for *_, zeros in by_rate[best]],
            "by rate": {f"{rate:g}": [judged for _, judged, _ in losses] for rate, losses in by_rate.items()}}


def report(found: dict[tuple[str, float, int], tuple[float, float, float]]) -> dict:
    setup = {"steps": STEPS, "batch": BATCH, "length": LENGTH, "width": WIDTH, "depth": DEPTH, "micro-batches": round(1 / SHARE), "scale": SCALE}
    return {"setup": setup, "unigram": evaluate(NGram(train, 1, chars.vocab_size), JUDGE),
            "variants": {name: variant({rate: [found[name, rate, seed] for seed in SEEDS] for rate in RATES}) for name in VARIANTS}}


JOBS = [(name, rate, seed) for seed in SEEDS for name in VARIANTS for rate in RATES]

if __name__ == "__main__":
    with ProcessPoolExecutor() as pool:
        found = dict(zip(JOBS, pool.map(one, JOBS)))
    print(record("number_formats", report(found), __file__))
