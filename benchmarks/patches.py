"""Is the first bright patch to the left of the second? Pictures as sets of patches, with and without positions (about eight minutes).

    make record NAME=patches
"""
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from builder.records import record
from transformer_course.attention import Residual
from transformer_course.config import Config
from transformer_course.positions import NoPositions, SelfAttention, apply_rope
from transformer_course.prediction import cross_entropy, fit

SEEDS, RATES, STEPS = 3, (1e-3, 3e-3, 1e-2), 300
SIDE, LARGER, WIDTH = 6, 9, 48
WAYS = ("none", "one number per patch", "learned table", "rows and columns", "axial rotary")


def scenes(batch_size: int, seed: int, side: int = SIDE):
    "Pictures of side x side patches (B, side², 8), two of them bright, each in a colour of its own; the answer is 1 for left."
    generator = torch.Generator().manual_seed(seed)
    every = torch.arange(batch_size)
    while True:
        rows = torch.randint(0, side, (batch_size, 2), generator=generator)
        columns = torch.rand(batch_size, side, generator=generator).argsort(1)[:, :2]
        shown = 0.1 * torch.rand(batch_size, side, side, 2, 4, generator=generator)
        for colour in (0, 1):
            shown[every, rows[:, colour], columns[:, colour], colour] = 1
        yield shown.flatten(3).flatten(1, 2), (columns[:, 0] < columns[:, 1]).long()


@dataclass(frozen=True)
class AxialRoPE:
    "Half of the pairs turn by the row of a patch, half by its column."
    side: int
    base: float = 100.0

    def queries(self, q, positions):
        by_row, by_column = q.chunk(2, dim=-1)
        turned = (apply_rope(by_row, positions // self.side, base=self.base), apply_rope(by_column, positions % self.side, base=self.base))
        return torch.cat(turned, dim=-1)

    keys = queries


@dataclass(frozen=True)
class Rasterised:
    "Rotary positions by the number of the patch, row after row."
    def queries(self, q, positions):
        return apply_rope(q, positions)

    keys = queries


class Viewer(nn.Module):
    "Two layers of attention over patches, and the answer from the mean of their outputs."

    def __init__(self, way: str):
        super().__init__()
        config = Config(vocab_size=1, max_len=SIDE**2, d_model=WIDTH, n_layers=2, n_heads=4)
        self.way, self.patch, self.answer = way, nn.Linear(8, WIDTH), nn.Linear(WIDTH, 2)
        self.layers = nn.ModuleList(Residual(SelfAttention(config)) for _ in range(2))
        self.tables = nn.ParameterList()
        if way == "learned table":
            self.tables.append(torch.randn(SIDE, SIDE, WIDTH))
        if way == "rows and columns":
            self.tables.extend([torch.randn(SIDE, 1, WIDTH), torch.randn(1, SIDE, WIDTH)])

    def forward(self, patches):
        x, side = self.patch(patches), math.isqrt(patches.shape[1])
        for table in self.tables:                                    # in a larger picture between the rows, as vision transformers do
            rows, columns = (side if n == SIDE else n for n in table.shape[:2])
            larger = F.interpolate(table.permute(2, 0, 1)[None], (rows, columns), mode="bilinear")[0].permute(1, 2, 0)
            x = x + larger.expand(side, side, WIDTH).flatten(0, 1)
        encoding = {"axial rotary": AxialRoPE(side), "one number per patch": Rasterised()}.get(self.way, NoPositions())
        for layer in self.layers:
            layer.sublayer.encoding = encoding
            x = layer(x)
        return self.answer(x.mean(1))


def loss(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


def run(way: str, rate: float, seed: int) -> tuple[float, float, float]:
    "The loss, and the share of right answers on 2,000 new pictures of the size in training and of a larger one."
    torch.manual_seed(seed)
    model = Viewer(way)
    fit(model, scenes(64, seed), steps=STEPS, learning_rate=rate, loss=loss, progress=False)
    with torch.no_grad():
        same, larger = (next(scenes(2000, 1000 + seed, side)) for side in (SIDE, LARGER))
        return loss(model, same).item(), *((model(seen).argmax(-1) == answer).float().mean().item() for seen, answer in (same, larger))


def measure() -> dict:
    out = {}
    for way in WAYS:
        rate = min(RATES, key=lambda r: run(way, r, 0)[0])
        runs = [run(way, rate, seed) for seed in range(SEEDS)]
        out[way] = {"rate": rate, "same size": [same for _, same, _ in runs], "larger": [larger for *_, larger in runs]}
        print(way, out[way], flush=True)
    return out


if __name__ == "__main__":
    print(record("patches", {"seeds": SEEDS, "steps": STEPS, "side": SIDE, "larger": LARGER, "ways": measure()}, __file__))
