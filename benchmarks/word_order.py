"""Which of two letters came first? A task of nothing but order, for attention with and without a causal mask and positions
(about three minutes).

    make record NAME=word_order
"""
import torch
from torch import nn

from builder.records import record
from transformer_course.attention import Residual, causal_mask
from transformer_course.config import Config
from transformer_course.positions import SelfAttention, position_vectors
from transformer_course.prediction import cross_entropy, fit

SEEDS, RATES, STEPS = 3, (1e-3, 3e-3, 1e-2), 400
LETTERS = 8
VARIANTS = {                                                         # name: positions, causal mask, layers
    "no mask, no positions, 2 layers": ("none", False, 2),
    "causal mask, no positions, 1 layer": ("none", True, 1),
    "causal mask, no positions, 2 layers": ("none", True, 2),
    "no mask, learned table, 1 layer": ("learned", False, 1),
    "causal mask, rotary, 1 layer": ("rope", True, 1),
}


def questions(batch_size: int, seed: int):
    "Eight letters in any order and a question mark; the answer is whether letter 0 comes before letter 1."
    generator = torch.Generator().manual_seed(seed)
    while True:
        letters = torch.rand(batch_size, LETTERS, generator=generator).argsort(1)
        where = letters.argsort(1)
        yield torch.cat([letters, torch.full((batch_size, 1), LETTERS)], 1), (where[:, 0] < where[:, 1]).long()


class Reader(nn.Module):
    "Layers of attention with residual connections; the answer is read off the last token."

    def __init__(self, positions: str, causal: bool, n_layers: int):
        super().__init__()
        config = Config(vocab_size=LETTERS + 1, max_len=LETTERS + 1, d_model=32, n_layers=n_layers, n_heads=4, positions=positions)
        self.causal, self.tokens, self.positions = causal, nn.Embedding(LETTERS + 1, 32), position_vectors(config)
        self.layers = nn.ModuleList(Residual(SelfAttention(config)) for _ in range(n_layers))
        self.answer = nn.Linear(32, 2)

    def forward(self, tokens):
        x = self.tokens(tokens)
        if self.positions is not None:
            x = x + self.positions(torch.arange(tokens.shape[1]))
        for layer in self.layers:
            x = layer(x, causal_mask(tokens.shape[1]) if self.causal else None)
        return self.answer(x[:, -1])


def loss(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


def run(variant: tuple, rate: float, seed: int) -> tuple[float, float]:
    "Loss and share of right answers on 4,000 new questions."
    torch.manual_seed(seed)
    model = Reader(*variant)
    fit(model, questions(64, seed), steps=STEPS, learning_rate=rate, loss=loss, progress=False)
    with torch.no_grad():
        batch = next(questions(4000, 1000 + seed))
        return loss(model, batch).item(), (model(batch[0]).argmax(-1) == batch[1]).float().mean().item()


def measure() -> dict:
    out = {}
    for name, variant in VARIANTS.items():
        rate = min(RATES, key=lambda r: run(variant, r, 0)[0])
        out[name] = {"rate": rate, "right": [run(variant, rate, seed)[1] for seed in range(SEEDS)]}
        print(name, out[name], flush=True)
    return out


if __name__ == "__main__":
    print(record("word_order", {"seeds": SEEDS, "steps": STEPS, "variants": measure()}, __file__))
