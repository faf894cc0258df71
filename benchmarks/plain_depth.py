"""Train plain and residual networks of several depths on a small task, and look at random slices of their loss surfaces: for a study of
chapter 6 (about three minutes on one core).

    make record NAME=plain_depth

The task: four interleaved spirals, points in the plane and their class. Each network has layers of width 64 without norms, and is trained
with three seeds at four learning rates; losses are those of the rate with the least mean loss on fresh points.
"""
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from builder.records import record

WIDTH, KINDS, STEPS, BATCH = 64, 4, 200, 128
DEPTHS = (4, 24, 48)
RATES = (1e-4, 3e-4, 1e-3, 3e-3)
SEEDS = (0, 1, 2)
DIRECTIONS, POINTS, REACH = 12, 41, 1.0


class Network(nn.Module):
    "Linear layers behind ReLUs, each with a residual connection or without; `start` is PyTorch's or He's."

    def __init__(self, depth: int, start: str, residual: bool):
        super().__init__()
        self.first, self.last, self.residual = nn.Linear(2, WIDTH), nn.Linear(WIDTH, KINDS), residual
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))
        for layer in self.layers if start == "He" else ():
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.layers:
            x = layer(x.relu()) + (x if self.residual else 0)
        return self.last(x)


NETWORKS = {"plain": ("PyTorch", False), "plain, He's start": ("He", False), "residual": ("PyTorch", True)}


def points(number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    "Points in the plane and the spiral that each belongs to."
    x = torch.randn(number, 2, generator=generator)
    turned = torch.atan2(x[:, 1], x[:, 0]) + 2 * x.norm(dim=1)
    return x, (turned / (math.pi / 2)).floor().long() % KINDS


def train(depth: int, kind: str, rate: float, seed: int) -> tuple[float, Network]:
    torch.manual_seed(seed)
    network, generator = Network(depth, *NETWORKS[kind]), torch.Generator().manual_seed(seed)
    steps = torch.optim.Adam(network.parameters(), rate)
    for _ in range(STEPS):
        x, y = points(BATCH, generator)
        loss = F.cross_entropy(network(x), y)
        steps.zero_grad()
        loss.backward()
        steps.step()
    with torch.no_grad():
        x, y = points(2000, generator)
        return F.cross_entropy(network(x), y).item(), network


@torch.no_grad()
def slices(network: Network, seed: int) -> list[list[float]]:
    "The loss along random lines through the trained parameters; each tensor moves by up to its own length."
    generator = torch.Generator().manual_seed(seed)
    x, y = points(1000, generator)
    trained, lines = [p.clone() for p in network.parameters()], []
    for _ in range(DIRECTIONS):
        directions = [torch.randn(p.shape, generator=generator) for p in trained]
        directions = [d * p.norm() / d.norm() for d, p in zip(directions, trained)]
        line = []
        for at in torch.linspace(-REACH, REACH, POINTS):
            for p, begun, d in zip(network.parameters(), trained, directions):
                p.copy_(begun + at * d)
            line.append(F.cross_entropy(network(x), y).item())
        lines.append(line)
    return lines


def curvature(lines: list[list[float]]) -> dict:
    "The share of points of negative curvature, and the turning points of a line besides one."
    line = torch.tensor(lines, dtype=torch.float64)
    rising = line.diff(dim=1) > 0
    turns = (rising[:, 1:] != rising[:, :-1]).sum(1).double().mean().item()
    return {"negative": (line.diff(n=2, dim=1) < 0).double().mean().item(), "turns": turns}


if __name__ == "__main__":
    torch.set_num_threads(1)
    rows, surface = [], {}
    for depth in DEPTHS:
        for kind in NETWORKS:
            tried = {rate: [train(depth, kind, rate, seed) for seed in SEEDS] for rate in RATES}
            rate = min(tried, key=lambda rate: sum(loss for loss, _ in tried[rate]))
            rows.append({"depth": depth, "kind": kind, "rate": rate, "losses": [loss for loss, _ in tried[rate]]})
            print(rows[-1], flush=True)
            if depth == 24 and kind != "plain":
                found = [slices(network, seed) for seed, (_, network) in enumerate(tried[rate])]
                surface[kind] = curvature([line for lines in found for line in lines]) | {"lines": found[0][:6]}
    result = {"setup": {"steps": STEPS, "seeds": len(SEEDS), "chance": math.log(KINDS), "width": WIDTH, "directions": DIRECTIONS * len(SEEDS), "reach": REACH},
              "rows": rows, "surface": surface}
    print(record("plain_depth", result, __file__))
