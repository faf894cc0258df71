"""Train models of attention layers alone on exclusive or, which no linear map can compute (about two minutes on one core).

    make record NAME=attention_only

A text has three tokens: two bits, and one that asks whether exactly one of them is 1. The model answers from the last token's vector. There are
four texts, and all of them are trained on: the question is what the layers can express and find, not whether they generalise.
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from builder.records import record
from transformer_course.attention import Residual
from transformer_course.config import Config
from transformer_course.feed_forward import FeedForward
from transformer_course.multi_head import MultiHeadAttention

WIDTH, STEPS, SEEDS = 16, 500, (0, 1, 2, 3, 4)
RATES = (3e-3, 1e-2, 3e-2)
TEXTS = torch.tensor([[0, 0, 2], [0, 1, 2], [1, 0, 2], [1, 1, 2]])
ANSWERS = torch.tensor([0.0, 1, 1, 0])


def even_average(q: Tensor, k: Tensor, v: Tensor, mask=None) -> Tensor:
    "Attention without queries and keys: every token has the same weight."
    return v.mean(-2, keepdim=True).expand(-1, -1, q.shape[-2], -1)


class Asked(nn.Module):
    "Embedded bits and places, layers with residual connections, and one number read from the last token."

    def __init__(self, layers: list[nn.Module]):
        super().__init__()
        self.embedding, self.places = nn.Embedding(3, WIDTH), nn.Parameter(torch.randn(3, WIDTH))
        self.layers, self.answer = nn.ModuleList(map(Residual, layers)), nn.Linear(WIDTH, 1)

    def forward(self, texts: Tensor) -> Tensor:
        x = self.embedding(texts) + self.places
        for layer in self.layers:
            x = layer(x)
        return self.answer(x[:, -1])[:, 0]


def attention(n_heads: int = 1, **rest) -> MultiHeadAttention:
    return MultiHeadAttention(Config(vocab_size=3, max_len=3, d_model=WIDTH, n_heads=n_heads), **rest)


def network() -> FeedForward:
    return FeedForward(Config(vocab_size=3, max_len=3, d_model=WIDTH))


VARIANTS = {
    "two layers, even weights": lambda: [attention(attention_fn=even_average) for _ in range(2)],
    "one layer, one head": lambda: [attention()],
    "one layer, four heads": lambda: [attention(4)],
    "two layers, one head each": lambda: [attention() for _ in range(2)],
    "even weights, then feed-forward": lambda: [attention(attention_fn=even_average), network()],
}


def train(name: str, rate: float, seed: int) -> dict:
    torch.manual_seed(seed)
    model = Asked(VARIANTS[name]())
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(STEPS):
        loss = F.binary_cross_entropy_with_logits(model(TEXTS), ANSWERS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        logits = model(TEXTS)
    return {"loss": F.binary_cross_entropy_with_logits(logits, ANSWERS).item(), "right": int(((logits > 0) == (ANSWERS > 0)).sum())}


def measured(*_) -> dict:
    found = {}
    for name in VARIANTS:
        runs = {rate: [train(name, rate, seed) for seed in SEEDS] for rate in RATES}
        rate = min(RATES, key=lambda rate: sum(run["loss"] for run in runs[rate]))
        found[name] = {"learning rate": rate, "runs": runs[rate]}
    return {"width": WIDTH, "steps": STEPS, "seeds": len(SEEDS), "rates": RATES, "variants": found}


if __name__ == "__main__":
    print(record("attention_only", measured(), __file__))
