"""Do our own losses follow a power law in the number of parameters? Models of six widths, each at its own best learning rate, and one of
them trained for fewer and for more steps (about 14 minutes of one core; every training is a task of its own).

    make record NAME=scaling               or: python benchmarks/scaling.py --workers 4 --keep runs.json

`--keep` names a file to which finished runs are written, so that the script can be stopped and go on.
"""
import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import torch

from builder.records import record
from transformer_course.architectures import GPT
from transformer_course.config import Config
from transformer_course.prediction import (
    CharTokenizer,
    evaluate,
    load_corpus,
    random_batches,
    sequential_batches,
    train_validation_split,
)
from transformer_course.scaling import count_parameters
from transformer_course.trainer import causal_attention, fused, fused_loss
from transformer_course.training import decay_groups, set_learning_rate, train_step, warmup_cosine

WIDTHS, RATES, SEEDS = (8, 16, 24, 32, 48, 64), (0.008, 0.016, 0.032), (0, 1, 2)
DEPTH, LENGTH, BATCH, STEPS, OTHERS = 2, 64, 32, 600, (150, 300, 1200)
MIDDLE = 48  # the width that is also trained for fewer and for more steps
CLOSE = 2  # so many of the best rates of the first seed are compared with all seeds

text = load_corpus()
chars = CharTokenizer(text)
train, validation = train_validation_split(torch.tensor(chars.encode(text)))
held_out = sequential_batches(validation, batch_size=64, max_len=LENGTH)
CHOOSE, JUDGE = held_out[::2], held_out[1::2]


def config(width: int) -> Config:
    return Config(vocab_size=chars.vocab_size, max_len=LENGTH, d_model=width, n_layers=DEPTH, n_heads=width // 8, positions="learned")


def run(width: int, rate: float, steps: int, seed: int) -> list[float]:
    "The loss on the text that chooses the rate, and on the text that judges; inf where training fails."
    torch.manual_seed(seed)
    model = fused(GPT(config(width), attention_fn=causal_attention))
    optimizer = torch.optim.AdamW(decay_groups(model, 0.1), lr=rate, betas=(0.9, 0.95), fused=True)
    factor = warmup_cosine(max(steps // 10, 1), steps)
    batches = random_batches(train, batch_size=BATCH, max_len=LENGTH, seed=seed)
    for step, batch in enumerate(islice(batches, steps), 1):
        set_learning_rate(optimizer, rate * factor(step))
        if not torch.isfinite(train_step(model, optimizer, [batch], loss=fused_loss)[0]):
            return [float("inf")] * 2
    return [evaluate(model, CHOOSE), evaluate(model, JUDGE)]


def measured(pool, keep: Path | None) -> dict:
    "Losses of each width, and of one width for other numbers of steps, all at their own best learning rates."
    known = json.loads(keep.read_text()) if keep and keep.is_file() else {}

    def ask(*jobs: tuple) -> list[list[float]]:
        futures = {job: pool.submit(run, *job) for job in jobs if str(job) not in known}
        for job, future in futures.items():
            known[str(job)] = future.result()
            print(*job, *known[str(job)], flush=True)
            if keep:
                keep.write_text(json.dumps(known))
        return [known[str(job)] for job in jobs]

    def tuned(width: int, steps: int, rates: tuple) -> dict:
        """The losses of all seeds at the best rate, and those that were found at every rate.

        The first seed names the rates that are close, the mean of all seeds chooses among them. Rates are added until neither the
        best of the first seed nor the chosen one is the lowest or the highest.
        """
        rates = list(rates)
        while True:
            found = {rate: [one] for rate, one in zip(rates, ask(*[(width, rate, steps, SEEDS[0]) for rate in rates]))}
            best = min(rates, key=lambda rate: found[rate][0][0])
            if rates[0] < best < rates[-1]:
                close = sorted(rates, key=lambda rate: found[rate][0][0])[:CLOSE]
                for rate in close:
                    found[rate] = ask(*[(width, rate, steps, seed) for seed in SEEDS])
                best = min(close, key=lambda rate: sum(chooses for chooses, _ in found[rate]))
                if rates[0] < best < rates[-1]:
                    judged = {rate: [judges for _, judges in losses] for rate, losses in found.items()}
                    return {"rate": best, "losses": judged[best], "by rate": {f"{rate:g}": losses for rate, losses in judged.items()}}
            rates = [*rates, round(2 * best, 6)] if best == rates[-1] else [round(best / 2, 6), *rates]

    rows = []
    for width in WIDTHS:
        parameters = count_parameters(config(width))
        rows.append({"width": width, **tuned(width, STEPS, RATES), "parameters": parameters.total, "blocks": parameters.attention + parameters.feed_forward})
    middle = next(row for row in rows if row["width"] == MIDDLE)
    around = (middle["rate"] / 2, middle["rate"], 2 * middle["rate"])
    lengths = [{"steps": steps, **tuned(MIDDLE, steps, around)} for steps in OTHERS]
    setup = {"depth": DEPTH, "length": LENGTH, "batch": BATCH, "steps": STEPS, "rates": RATES, "seeds": len(SEEDS), "middle": MIDDLE, "close": CLOSE,
             "vocabulary": chars.vocab_size, "characters": len(train), "held out": len(validation)}
    return {"setup": setup, "rows": rows, "lengths": lengths}


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that train at the same time (default: one per core)")
    options.add_argument("--keep", type=Path, help="a file for finished runs")
    given = options.parse_args()
    with ProcessPoolExecutor(
        given.workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,),
    ) as pool:
        print(record("scaling", measured(pool, given.keep), __file__))
