"""Train encoder-decoders to write a text backwards, and record where their cross-attention looks: for a study of chapter 7 (about four
minutes on one core; every training is a task of its own).

    make record NAME=reversal              or: python benchmarks/reversal.py --workers 4

Trained on sources of one length, on sources of many lengths, and with nothing to read in the source. Each has its best of three learning
rates by the mean loss of three seeds on new sources.
"""
import argparse
import os
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch import Tensor

from builder.records import record
from transformer_course.architectures import NO_LABEL, EncoderDecoder, masked_loss, shift_right, translate
from transformer_course.attention import attention, attention_weights
from transformer_course.config import Config
from transformer_course.prediction import evaluate, fit

LETTERS, BOS, EOS, PAD = 12, 12, 13, 14
LONGEST, MAX_LEN = 8, 12                                            # letters of a source in training, and room for longer ones
STEPS, BATCH, EXAMS = 500, 64, 500
RATES, SEEDS = [1e-3, 3e-3, 1e-2], [0, 1, 2]
KINDS = {"one length": (8, 8), "lengths 3 to 8": (3, 8), "source hidden": (8, 8)}
TESTED = [4, 7, 8, 9, 11]


def pairs(size: int, lengths: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    "Sources, what the decoder reads, where the source is real, and the letters from the last to the first with EOS as labels."
    length = torch.randint(lengths[0], lengths[1] + 1, (size, 1), generator=generator)
    at = torch.arange(lengths[1] + 1)
    real = at < length
    source = torch.randint(LETTERS, real.shape, generator=generator).masked_fill(~real, PAD)
    target = source.gather(1, (length - 1 - at).clamp(min=0)).masked_fill(~real, PAD).scatter(1, length, EOS)
    return source, shift_right(target, BOS), real, target.masked_fill(at > length, NO_LABEL)


def batches(kind: str, seed: int):
    generator = torch.Generator().manual_seed(seed)
    while True:
        source, read, real, labels = pairs(BATCH, KINDS[kind], generator)
        yield source, read, real & (kind != "source hidden"), labels


class Watched:
    "Attention that keeps the weights of its last call."

    def __call__(self, q, k, v, mask=None):
        self.weights = attention_weights(q, k, mask)
        return attention(q, k, v, mask)


def build() -> EncoderDecoder:
    return EncoderDecoder(Config(
        kind="encoder-decoder", vocab_size=15, max_len=MAX_LEN, d_model=32, n_layers=1, n_heads=2, positions="learned",
    ))


def exact(model: EncoderDecoder, kind: str, length: int, generator: torch.Generator) -> float:
    "The share of new sources of that length that are written backwards without a mistake, with EOS at the right place."
    source, _, real, labels = pairs(EXAMS, (length, length), generator)
    written = translate(model, source, BOS, EOS, MAX_LEN, source_mask=real & (kind != "source hidden"))
    written = torch.nn.functional.pad(written, (0, MAX_LEN - written.shape[1]), value=EOS)
    return (written[:, : length + 1] == labels).all(1).float().mean().item()


@torch.no_grad()
def looked_at(model: EncoderDecoder) -> dict:
    "The mean weights of each head, what they give the mirrored place, and what the order of the memory changes."
    generator = torch.Generator().manual_seed(5)
    source, read, real, _ = pairs(EXAMS, (LONGEST, LONGEST), generator)
    watched = Watched()
    model.decoder[0].cross_attention.sublayer.attention_fn = watched
    memory = model.encode(source, real)
    logits = model.decode(read, memory, real)
    weights = watched.weights.mean(0)[:, :LONGEST, :LONGEST]         # (h, T, S)
    order = torch.cat([torch.randperm(LONGEST, generator=generator), torch.tensor([LONGEST])])
    moved = (model.decode(read, memory[:, order], real[:, order]) - logits).abs().max().item()
    model.decoder[0].cross_attention.sublayer.attention_fn = attention
    mirrored = weights.flip(-1).diagonal(dim1=1, dim2=2).mean(1)
    return {"weights": [[[round(w, 4) for w in row] for row in head] for head in weights.tolist()], "mirrored": mirrored.tolist(), "moved": moved}


def train(kind: str, rate: float, seed: int) -> dict:
    "One training, in whichever process, and all that is asked of the model."
    torch.manual_seed(seed)
    model = build()
    fit(model, batches(kind, seed), steps=STEPS, learning_rate=rate, loss=masked_loss, progress=False)
    model.eval()
    exam = batches(kind, 1000)
    found = {"loss": evaluate(model, [next(exam) for _ in range(8)], loss=masked_loss)}
    generator = torch.Generator().manual_seed(2000)
    found["exact"] = {str(length): exact(model, kind, length, generator) for length in TESTED}
    return found | looked_at(model) | {"parameters": sum(p.numel() for p in model.parameters())}


def measured(pool: Executor) -> dict:
    started = {(k, r): [pool.submit(train, k, r, s) for s in SEEDS] for k in KINDS for r in RATES}
    rows = []
    for kind in KINDS:
        tried = {rate: [run.result() for run in started[kind, rate]] for rate in RATES}
        rate = min(tried, key=lambda rate: sum(run["loss"] for run in tried[rate]))
        rows.append({"model": kind, "rate": rate, "runs": tried[rate], "losses by rate": {f"{r:g}": [run["loss"] for run in tried[r]] for r in RATES}})
        print(kind, rate, [(run["exact"], run["mirrored"]) for run in tried[rate]], flush=True)
    setup = {"letters": LETTERS, "length": LONGEST, "steps": STEPS, "batch": BATCH, "exams": EXAMS, "seeds": len(SEEDS), "rates": len(RATES), "tested": TESTED}
    return {"setup": setup, "rows": rows}


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that train at the same time (default: one per core)")
    with ProcessPoolExecutor(
        options.parse_args().workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,),
    ) as pool:
        print(record("reversal", measured(pool), __file__))
