"""Train toy models that keep many features in few components (about two minutes on one core).

    make record NAME=superposition

A feature is 0, or with probability `density` a random number between 0 and 1. A model maps the features to fewer components with one matrix and
back with the same one, with a bias and with or without a ReLU. All densities are trained side by side, as one batch of models. Every kind of model
and density has the best of the rates, chosen by the mean error of the seeds.
Source: Elhage et al. 2022, section 2.
"""
import math

import torch
from torch import Tensor, nn

from builder.records import record

DENSITIES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
RATES, SEEDS, STEPS, BATCH = (3e-3, 1e-2, 3e-2), (0, 1, 2), 2000, 512
SIZES = {"plane": (5, 2), "small": (20, 5)}  # features, components
MORE = (10, 40, 80)  # features in 5 components, one rate
EXAM = 40_000
ACTIVE = 8  # errors by the number of active features, up to this one


def features(count: int, size: int, generator: torch.Generator) -> Tensor:
    "Random features for all densities: (densities, count, size)."
    shape = (len(DENSITIES), count, size)
    on = torch.rand(shape, generator=generator) < torch.tensor(DENSITIES)[:, None, None]
    return torch.rand(shape, generator=generator) * on


def recovered(matrix: Tensor, bias: Tensor, x: Tensor, relu: bool) -> Tensor:
    "The features as they come back: (densities, count, features)."
    y = x @ matrix @ matrix.mT + bias
    return y.relu() if relu else y


def train(size: int, width: int, relu: bool, rate: float, seed: int) -> tuple[Tensor, Tensor]:
    "Matrices (densities, features, components) and biases after training, at a rate that falls along a cosine."
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    matrix = nn.Parameter(torch.stack([nn.init.xavier_normal_(torch.empty(size, width)) for _ in DENSITIES]))
    bias = nn.Parameter(torch.zeros(len(DENSITIES), 1, size))
    optimizer = torch.optim.Adam([matrix, bias], lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / STEPS)) / 2)
    for _ in range(STEPS):
        x = features(BATCH, size, generator)
        loss = ((recovered(matrix, bias, x, relu) - x) ** 2).mean((1, 2)) / torch.tensor(DENSITIES)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        schedule.step()
    return matrix.detach(), bias.detach()


@torch.no_grad()
def measured(matrix: Tensor, bias: Tensor, relu: bool) -> list[dict]:
    "For each density: the share of the variance that is lost, for each feature the share that comes back, and errors by how many are active."
    x = features(EXAM, matrix.shape[1], torch.Generator().manual_seed(1000))
    wrong = (recovered(matrix, bias, x, relu) - x) ** 2
    variance = ((x - x.mean(1, keepdim=True)) ** 2).mean(1)
    out = []
    for number in range(len(DENSITIES)):
        active = (x[number] > 0).sum(-1)
        by_active = [
            (wrong[number][active == k].sum() / x[number][active == k].square().sum()).item() if (active == k).sum() > 100 else None
            for k in range(1, ACTIVE + 1)
        ]
        kept = 1 - wrong[number].mean(0) / variance[number]
        out.append({"lost": (wrong[number].mean(0).sum() / variance[number].sum()).item(), "kept": rounded(kept), "by active": by_active})
    return out


def rounded(values: Tensor) -> list:
    return [round(value, 4) for value in values.flatten().tolist()]


def best_rates(size: int, width: int, relu: bool) -> list[dict]:
    "For each density the runs of all seeds at the rate whose mean error is least."
    runs = {}
    for rate in RATES:
        for seed in SEEDS:
            matrix, bias = train(size, width, relu, rate, seed)
            print(size, width, relu, rate, seed, flush=True)
            runs[rate, seed] = matrix, bias, measured(matrix, bias, relu)
    out = []
    for number, density in enumerate(DENSITIES):
        mean = {rate: sum(runs[rate, seed][2][number]["lost"] for seed in SEEDS) / len(SEEDS) for rate in RATES}
        rate = min(mean, key=mean.get)
        kept = [
            runs[rate, seed][2][number] | {"matrix": rounded(runs[rate, seed][0][number]), "bias": rounded(runs[rate, seed][1][number])}
            for seed in SEEDS
        ]
        out.append({"density": density, "rate": rate, "by rate": {f"{r:g}": error for r, error in mean.items()}, "runs": kept})
    return out


def principal(size: int, width: int) -> list[float]:
    "The share of the variance that the best linear map of that width loses, for each density."
    x = features(EXAM, size, torch.Generator().manual_seed(1000))
    spread = torch.linalg.eigvalsh((x - x.mean(1, keepdim=True)).mT @ (x - x.mean(1, keepdim=True)))
    return (1 - spread[:, -width:].sum(-1) / spread.sum(-1)).tolist()


if __name__ == "__main__":
    result = {"densities": DENSITIES, "steps": STEPS, "batch": BATCH, "rates": RATES, "seeds": len(SEEDS), "exam": EXAM, "sizes": SIZES, "models": {}}
    for name, (size, width) in SIZES.items():
        result["models"][name] = {kind: best_rates(size, width, kind == "ReLU") for kind in ("ReLU", "linear")}
        result["models"][name]["principal components"] = principal(size, width)
    width = SIZES["small"][1]
    result["more"] = {}
    for size in MORE:
        runs = [measured(*train(size, width, True, 1e-2, seed), True) for seed in SEEDS]
        print(size, flush=True)
        result["more"][str(size)] = [
            {"lost": [run[number]["lost"] for run in runs], "kept": [run[number]["kept"] for run in runs]} for number in range(len(DENSITIES))
        ]
    record("superposition", result, __file__)
