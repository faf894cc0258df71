"""Chapter 1: what does gradient clipping buy? An RNN with large weights learns to recall a symbol after ten steps, with and without
clipping, by plain gradient descent and by AdamW, at several learning rates (about a minute).

    make record NAME=clipping
"""
import torch
from torch import nn

from builder.records import record

SEEDS, STEPS, DELAY, SYMBOLS, WIDTH, BATCH, GAIN, LARGEST = (0, 1, 2), 300, 10, 8, 32, 32, 2.5, 1.0
OPTIMIZERS = {"gradient descent": (torch.optim.SGD, (0.03, 0.1, 0.3, 1.0, 3.0)), "AdamW": (torch.optim.AdamW, (1e-3, 3e-3, 1e-2, 3e-2))}


class Recall(nn.Module):
    "Which symbol came first? A tanh RNN with an orthogonal matrix times 2.5."

    def __init__(self):
        super().__init__()
        self.token_embedding = nn.Embedding(2 * SYMBOLS, WIDTH)
        self.recurrent = nn.RNN(WIDTH, WIDTH, batch_first=True)
        nn.init.orthogonal_(self.recurrent.weight_hh_l0, GAIN)
        self.guess = nn.Linear(WIDTH, SYMBOLS)

    def forward(self, tokens):
        return self.guess(self.recurrent(self.token_embedding(tokens))[0][:, -1])


def sequences(number: int, generator=None) -> torch.Tensor:
    tokens = torch.randint(SYMBOLS, 2 * SYMBOLS, (number, DELAY + 1), generator=generator)
    tokens[:, 0] = torch.randint(0, SYMBOLS, (number,), generator=generator)
    return tokens


def accuracy(optimizer: str, rate: float, clip: bool, seed: int) -> float:
    torch.manual_seed(seed)
    model = Recall()
    steps = OPTIMIZERS[optimizer][0](model.parameters(), lr=rate)
    for _ in range(STEPS):
        tokens = sequences(BATCH)
        steps.zero_grad()
        nn.functional.cross_entropy(model(tokens), tokens[:, 0]).backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), LARGEST)
        steps.step()
    with torch.no_grad():
        tokens = sequences(1000, torch.Generator().manual_seed(2000))
        return (model(tokens).argmax(-1) == tokens[:, 0]).float().mean().item()


if __name__ == "__main__":
    torch.set_num_threads(1)
    result = {"steps": STEPS, "delay": DELAY, "gain": GAIN, "optimizers": {
        name: [{"rate": rate, "plain": [accuracy(name, rate, False, seed) for seed in SEEDS],
                "clipped": [accuracy(name, rate, True, seed) for seed in SEEDS]} for rate in rates]
        for name, (_, rates) in OPTIMIZERS.items()}}
    print(record("clipping", result, __file__))
