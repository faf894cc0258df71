"""Find a note that is farther away than any in training, with six schemes of positions: one layer of attention, each scheme at the best of
three learning rates, three seeds (about four minutes).

    make record NAME=distant_notes
"""
import torch
from positions import SEEDS, model

from builder.records import record
from transformer_course.prediction import cross_entropy, fit

SCHEMES = ("none", "sinusoidal", "learned", "T5", "rope", "alibi")
RATES = (3e-3, 1e-2, 3e-2)
SHORT, KINDS = 32, 16
DISTANCES = (8, 31, 64, 128, 256, 512, 1024, 2048)
PLAIN = {"progress": False}


def notes(batch_size: int, length: int, seed: int, distance: int | None = None):
    "Noise with one note in it, and a question at the end; the answer is the note."
    generator = torch.Generator().manual_seed(seed)
    while True:
        tokens = torch.randint(0, KINDS, (batch_size, length), generator=generator)
        note = torch.randint(KINDS, 2 * KINDS, (batch_size,), generator=generator)
        at = torch.randint(0, length - 1, (batch_size,), generator=generator)
        if distance is not None:
            at = torch.full_like(at, length - 1 - distance)
        tokens[torch.arange(batch_size), at], tokens[:, -1] = note, 2 * KINDS
        yield tokens, note


def answer_loss(lm, batch):
    return cross_entropy(lm(batch[0])[:, -1], batch[1])


@torch.no_grad()
def found(lm, distance: int, seed: int) -> float:
    tokens, note = next(notes(100, max(distance + 1, SHORT), seed, distance))
    return sum((lm(some)[:, -1].argmax(-1) == right).sum().item() for some, right in zip(tokens.split(20), note.split(20))) / len(note)


def recall(scheme: str) -> dict:
    "The share of notes that are found, by distance, at the rate with the lowest loss of seed 0 within the training length."
    def trained(rate: float, seed: int):
        torch.manual_seed(seed)
        lm = model(scheme, 2 * KINDS + 1, 1, max(DISTANCES) + 1)
        fit(lm, notes(64, SHORT, seed), steps=300, learning_rate=rate, loss=answer_loss, **PLAIN)
        return lm

    def inside(rate: float) -> float:
        lm = trained(rate, 0)
        with torch.no_grad():
            return answer_loss(lm, next(notes(2000, SHORT, 999))).item()

    rate = min(RATES, key=inside)
    shares = [[found(lm, distance, 1000 + seed) for distance in DISTANCES] for seed in range(SEEDS) for lm in [trained(rate, seed)]]
    print(scheme, rate, shares, flush=True)
    return {"rate": rate, "found": shares}


if __name__ == "__main__":
    print(record("distant_notes", {"seeds": SEEDS, "distances": DISTANCES, "schemes": {scheme: recall(scheme) for scheme in SCHEMES}}, __file__))
