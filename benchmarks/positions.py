"""Compare ways of telling a model where its tokens stand, by the rules of the scoreboard: one layer of four heads, each scheme at the
best of three learning rates, three seeds. Also keeps a learned table of positions after training (about five minutes).

    make record NAME=positions
"""
import math

import torch
from torch import nn

from builder.records import record
from transformer_course.attention import Residual
from transformer_course.config import Config
from transformer_course.positions import SelfAttention, position_vectors
from transformer_course.prediction import (
    BATCH_SIZE,
    MAX_LEN,
    STEPS,
    CharTokenizer,
    LanguageModel,
    evaluate,
    fit,
    load_corpus,
    random_batches,
    sequential_batches,
    train_validation_split,
)

SEEDS = 3
RATES = (3e-3, 1e-2, 3e-2)
SCHEMES = ("none", "sinusoidal", "learned", "T5", "rope", "alibi")
FUSED = nn.functional.scaled_dot_product_attention


def bucket(distance: torch.Tensor, exact: int = 16, buckets: int = 32, furthest: int = 128) -> torch.Tensor:
    "The bucket of each distance in the decoder of T5 (Raffel et al. 2020, section 2.1, and the code published with it)."
    far = exact + (distance.clamp(min=1) / exact).log() / math.log(furthest / exact) * (buckets - exact)
    return torch.where(distance < exact, distance, far.long().clamp(max=buckets - 1))


class T5Bias(nn.Module):
    "Attention with a learned number for each head and bucket of distance, added to the score; one table for each layer, at first zero."

    def __init__(self, n_heads: int):
        super().__init__()
        self.table = nn.Embedding(32, n_heads)
        nn.init.zeros_(self.table.weight)

    def bias(self, distance: torch.Tensor) -> torch.Tensor:
        return self.table(bucket(distance.clamp(min=0))).movedim(-1, 0)                    # (h, T, S)

    def forward(self, q, k, v, mask=None):
        distance = torch.arange(q.shape[-2])[:, None] - torch.arange(k.shape[-2])
        bias = self.bias(distance)
        return FUSED(q, k, v, attn_mask=bias if mask is None else bias.masked_fill(~mask, -math.inf))


def data():
    text = load_corpus()
    chars = CharTokenizer(text)
    return chars.vocab_size, *train_validation_split(torch.tensor(chars.encode(text)))


def model(scheme: str, vocab_size: int, n_layers: int, max_len: int) -> LanguageModel:
    positions = "none" if scheme == "T5" else scheme
    config = Config(vocab_size=vocab_size, max_len=max_len, d_model=64, n_layers=n_layers, n_heads=4, positions=positions)
    kernels = [T5Bias(4) if scheme == "T5" else FUSED for _ in range(n_layers)]
    layers = [Residual(SelfAttention(config, attention_fn=kernel)) for kernel in kernels]
    return LanguageModel(config, layers, positions=position_vectors(config))


def parameters(lm: nn.Module) -> int:
    return sum(p.numel() for p in lm.parameters())


def race(scheme: str, rate: float, seed: int) -> tuple[float, LanguageModel]:
    vocab_size, train, held_out = data()
    torch.manual_seed(seed)
    lm = model(scheme, vocab_size, 1, MAX_LEN)
    fit(lm, random_batches(train, batch_size=BATCH_SIZE, max_len=MAX_LEN, seed=seed), steps=STEPS, learning_rate=rate, progress=False)
    return evaluate(lm, sequential_batches(held_out, batch_size=BATCH_SIZE, max_len=MAX_LEN)), lm


def tuned(scheme: str) -> dict:
    "The best of three learning rates, found with seed 0, and the losses of all seeds at that rate."
    tried = {rate: race(scheme, rate, 0) for rate in RATES}
    rate = min(tried, key=lambda r: tried[r][0])
    losses = [tried[rate][0], *(race(scheme, rate, seed)[0] for seed in range(1, SEEDS))]
    print(scheme, rate, losses, flush=True)
    return {"rates": {str(r): loss for r, (loss, _) in tried.items()}, "rate": rate, "losses": losses, "parameters": parameters(tried[rate][1])}


def learned_table(rate: float, trained: int = 32) -> list:
    "The table of a model that was trained on pieces of `trained` characters only: the rows after them stay as they began."
    vocab_size, train, _ = data()
    torch.manual_seed(0)
    lm = model("learned", vocab_size, 1, MAX_LEN)
    nn.init.normal_(lm.position_embedding.table.weight, std=0.02)                          # as GPT-2 begins
    fit(lm, random_batches(train, batch_size=BATCH_SIZE, max_len=trained), steps=STEPS, learning_rate=rate, progress=False)
    return [[round(value, 3) for value in row] for row in lm.position_embedding.table.weight.tolist()]


if __name__ == "__main__":
    schemes = {scheme: tuned(scheme) for scheme in SCHEMES}
    result = {"seeds": SEEDS, "schemes": schemes, "table": {"trained": 32, "rows": learned_table(schemes["learned"]["rate"])}}
    print(record("positions", result, __file__))
