"""Train language models whose heads read in orthogonal subspaces, in subspaces that training chooses, and in one common subspace (about
five minutes).

    make record NAME=orthogonal_heads

One layer of four heads, by the rules of the scoreboard; learning rates are chosen as in `heads.py`.
"""
from itertools import combinations

import torch
from heads import CHOICE, EXAMINATION, FIRST, RATES, SEEDS, TRAIN, model
from torch import Tensor, nn
from torch.nn.utils import parametrize

from builder.records import record
from transformer_course.prediction import BATCH_SIZE, MAX_LEN, STEPS, LanguageModel, evaluate, fit, random_batches

N_HEADS = 4


class Bases(nn.Module):
    """For each head orthonormal rows times a free square matrix: a subspace, and any map inside it.

    The subspaces of the heads are orthogonal to each other, or, as a control of this form, free.
    """

    def __init__(self, width: int, *, orthogonal: bool):
        super().__init__()
        self.orthogonal = orthogonal
        self.inside = nn.Parameter(0.58 * torch.eye(width // N_HEADS).repeat(N_HEADS, 1, 1))    # rows of a new nn.Linear are about as long

    def forward(self, weight: Tensor) -> Tensor:
        heads = weight.unflatten(0, (N_HEADS, -1))                             # (h, k, d)
        rows = orthonormal_rows(weight).view_as(heads) if self.orthogonal else orthonormal_rows(heads)
        return (self.inside @ rows).flatten(0, 1)


class Common(nn.Module):
    "The matrix with the rows of all heads in the subspace of the first head's rows."

    def forward(self, weight: Tensor) -> Tensor:
        basis = orthonormal_rows(weight[: len(weight) // N_HEADS])             # (k, d)
        return weight @ basis.T @ basis * N_HEADS**0.5                         # a projection keeps a quarter of a random row's square


def orthonormal_rows(weight: Tensor) -> Tensor:
    return torch.linalg.qr(weight.mT)[0].mT


def built(kind: str) -> LanguageModel:
    one = model(n_heads=N_HEADS)
    heads = one.layers[0].sublayer
    for part in (heads.query, heads.key, heads.value):
        if kind in ("free bases", "orthogonal bases"):
            parametrize.register_parametrization(part, "weight", Bases(len(part.weight), orthogonal=kind == "orthogonal bases"))
        if kind == "one subspace" and part is not heads.value:
            parametrize.register_parametrization(part, "weight", Common())
    return one


def trained(rate: float, seed: int, kind: str) -> LanguageModel:
    torch.manual_seed(seed)
    one = built(kind)
    batches = random_batches(TRAIN, batch_size=BATCH_SIZE, max_len=MAX_LEN, seed=seed)
    fit(one, batches, steps=STEPS, learning_rate=rate, progress=False)
    return one


@torch.no_grad()
def overlap(one: LanguageModel) -> dict[str, float]:
    "By role, the mean squared cosine of the principal angles between the subspaces of all pairs of heads."
    heads = one.layers[0].sublayer
    roles = {"queries": heads.query.weight, "keys": heads.key.weight, "values": heads.value.weight, "writes": heads.output.weight.T}
    out = {}
    for role, weight in roles.items():
        bases = [orthonormal_rows(rows) for rows in weight.unflatten(0, (N_HEADS, -1))]
        out[role] = torch.stack([(a @ b.T).square().sum() / len(a) for a, b in combinations(bases, 2)]).mean().item()
    return out


def best(kind: str) -> dict:
    tried = {rate: trained(rate, SEEDS[0], kind) for rate in FIRST}
    chosen = {rate: evaluate(one, CHOICE) for rate, one in tried.items()}
    while (rate := min(chosen, key=chosen.get)) in (min(chosen), max(chosen)):
        rate = RATES[RATES.index(rate) + (1 if rate == max(chosen) else -1)]
        tried[rate] = trained(rate, SEEDS[0], kind)
        chosen[rate] = evaluate(tried[rate], CHOICE)
    runs = [tried[rate], *(trained(rate, seed, kind) for seed in SEEDS[1:])]
    return {"learning rate": rate, "losses": [evaluate(one, EXAMINATION) for one in runs], "overlap": [overlap(one) for one in runs]}


if __name__ == "__main__":
    kinds = ("free", "free bases", "orthogonal bases", "one subspace")
    print(record("orthogonal_heads", {"heads": N_HEADS, "width": 64, "steps": STEPS, "kinds": {kind: best(kind) for kind in kinds}}, __file__))
