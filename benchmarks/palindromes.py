"""Train an encoder to fill gaps and a decoder to continue, on palindromes, and record what each of them can do: for a study of chapter 7
(about four minutes on one core; every training is a task of its own).

    make record NAME=palindromes           or: python benchmarks/palindromes.py --workers 4

Three models of one size: an encoder whose masks hide 15 % of the tokens, as BERT's do, an encoder whose masks hide any share from none to
all, and a GPT. Each has its best of three learning rates by the mean loss of three seeds on new palindromes.
"""
import argparse
import os
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch import Tensor

from builder.records import record
from transformer_course.architectures import GPT, NO_LABEL, Encoder, MaskedLM, mask_tokens, masked_loss
from transformer_course.config import Config
from transformer_course.prediction import evaluate, fit, generate, next_token_loss

LETTERS, LENGTH = 8, 10
MASK, START = 8, 8                                                   # of the encoder and of the GPT
STEPS, BATCH, EXAMS = 400, 64, 1000
RATES, SEEDS = [1e-3, 3e-3, 1e-2], [0, 1, 2]
HIDDEN = 2                                                           # the gap that all models have to fill


def palindromes(size: int, generator: torch.Generator) -> Tensor:
    half = torch.randint(LETTERS, (size, LENGTH // 2), generator=generator)
    return torch.cat([half, half.flip(1)], dim=1)


def batches(kind: str, seed: int):
    "Endless: what `masked_loss` or `next_token_loss` takes."
    generator = torch.Generator().manual_seed(seed)
    while True:
        tokens = palindromes(BATCH, generator)
        if kind == "GPT":
            yield torch.cat([torch.full((BATCH, 1), START), tokens], dim=1)
            continue
        share = 0.15 if kind == "encoder, 15 %" else torch.rand((), generator=generator).item()
        if kind == "encoder, 15 %":
            inputs, labels = mask_tokens(tokens, MASK, LETTERS + 1, share=share, generator=generator)
        else:
            gaps = torch.rand(tokens.shape, generator=generator) <= share
            gaps[0, 0] = True                                        # no batch without a label
            inputs, labels = tokens.masked_fill(gaps, MASK), tokens.masked_fill(~gaps, NO_LABEL)
        yield inputs, None, labels


def build(kind: str):
    sizes = dict(vocab_size=LETTERS + 1, max_len=LENGTH + 1, d_model=32, n_layers=2, n_heads=4, positions="learned")
    return GPT(Config(**sizes)) if kind == "GPT" else MaskedLM(Encoder(Config(kind="encoder", **sizes)))


@torch.no_grad()
def written_by_encoder(model: MaskedLM, size: int, generator: torch.Generator) -> Tensor:
    "From nothing but masks, one random gap at a time filled with a token that the model draws."
    tokens = torch.full((size, LENGTH), MASK)
    order = torch.rand(size, LENGTH, generator=generator).argsort(1)
    for at in order.unbind(1):
        p = model(tokens)[torch.arange(size), at, :LETTERS].softmax(-1)
        tokens[torch.arange(size), at] = torch.multinomial(p, 1, generator=generator)[:, 0]
    return tokens


@torch.no_grad()
def filled(kind: str, model, tokens: Tensor) -> tuple[float, float]:
    "How often the token at HIDDEN is found, and those of the second half: by an encoder one gap at a time, by a GPT from what stands before."
    if kind == "GPT":
        guess = model(torch.cat([torch.full((len(tokens), 1), START), tokens], dim=1)[:, :-1])[..., :LETTERS].argmax(-1)
    else:
        guess = torch.empty_like(tokens)
        for at in range(LENGTH):
            gap = tokens.clone()
            gap[:, at] = MASK
            guess[:, at] = model(gap)[:, at, :LETTERS].argmax(-1)
    right = (guess == tokens).float().mean(0)
    return right[HIDDEN].item(), right[LENGTH // 2:].mean().item()


def train(kind: str, rate: float, seed: int) -> dict:
    "One training, in whichever process, and all that is asked of the model."
    torch.manual_seed(seed)
    model, loss = build(kind), next_token_loss if kind == "GPT" else masked_loss
    fit(model, batches(kind, seed), steps=STEPS, learning_rate=rate, loss=loss, progress=False)
    model.eval()
    exam = batches(kind, 1000)
    found = {"loss": evaluate(model, [next(exam) for _ in range(8)], loss=loss)}
    generator = torch.Generator().manual_seed(2000 + seed)
    found["gap"], found["second half"] = filled(kind, model, palindromes(EXAMS, generator))
    if kind == "GPT":
        out = generate(model, torch.full((EXAMS, 1), START), LENGTH, generator=generator)[:, 1:]
    else:
        out = written_by_encoder(model, EXAMS, generator)
    valid = (out == out.flip(1)).all(1)
    found["valid"] = valid.float().mean().item()
    found["distinct"] = len({tuple(row) for row in out[valid].tolist()})
    found["example"] = out[0].tolist()
    return found | {"parameters": sum(p.numel() for p in model.parameters())}


def measured(pool: Executor) -> dict:
    kinds = ("encoder, 15 %", "encoder, any share", "GPT")
    started = {(k, r): [pool.submit(train, k, r, s) for s in SEEDS] for k in kinds for r in RATES}
    rows = []
    for kind in kinds:
        tried = {rate: [run.result() for run in started[kind, rate]] for rate in RATES}
        rate = min(tried, key=lambda rate: sum(run["loss"] for run in tried[rate]))
        rows.append({"model": kind, "rate": rate, "runs": tried[rate], "losses by rate": {f"{r:g}": [run["loss"] for run in tried[r]] for r in RATES}})
        print(kind, rate, [(run["gap"], run["second half"], run["valid"]) for run in tried[rate]], flush=True)
    setup = {"letters": LETTERS, "length": LENGTH, "steps": STEPS, "batch": BATCH, "exams": EXAMS, "seeds": len(SEEDS), "rates": len(RATES), "hidden": HIDDEN}
    return {"setup": setup, "rows": rows, "chance valid": LETTERS ** -(LENGTH // 2)}


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that train at the same time (default: one per core)")
    with ProcessPoolExecutor(
        options.parse_args().workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,),
    ) as pool:
        print(record("palindromes", measured(pool), __file__))
