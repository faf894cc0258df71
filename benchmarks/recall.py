"""Chapter 1: recall the first symbol of a sequence after a delay, by five recurrent layers, with the reach of each before training
(about five minutes).

Every layer and delay at the best of three learning rates, chosen by the first seed on sequences of their own, then three seeds.

    make record NAME=recall
"""
import torch
from torch import nn

from builder.records import record
from transformer_course.recurrence import gradient_reach

SEEDS, RATES, STEPS = (0, 1, 2), (1e-3, 3e-3, 1e-2), 300
SYMBOLS, WIDTH, BATCH = 8, 32, 32
DELAYS = (5, 7, 10, 14, 20, 40)


def layer(kind, **options):
    return kind(WIDTH, WIDTH, batch_first=True, **options)


def orthogonal() -> nn.RNN:
    rnn = layer(nn.RNN)
    nn.init.orthogonal_(rnn.weight_hh_l0)
    return rnn


def forget_bias(bias: float) -> nn.LSTM:
    lstm = layer(nn.LSTM)
    with torch.no_grad():
        lstm.bias_ih_l0[WIDTH:2 * WIDTH] = bias
        lstm.bias_hh_l0[WIDTH:2 * WIDTH] = 0
    return lstm


LAYERS = {
    "RNN": lambda: layer(nn.RNN),
    "RNN, orthogonal": orthogonal,
    "GRU": lambda: layer(nn.GRU),
    "LSTM": lambda: layer(nn.LSTM),
    "LSTM, forget bias 5": lambda: forget_bias(5),
}


class Recall(nn.Module):
    "Tokens in, and at each position a guess which symbol came first."

    def __init__(self, recurrent: nn.Module):
        super().__init__()
        self.token_embedding = nn.Embedding(2 * SYMBOLS, WIDTH)
        self.recurrent = recurrent
        self.guess = nn.Linear(WIDTH, SYMBOLS)

    def from_vectors(self, x):
        return self.guess(self.recurrent(x)[0])

    def forward(self, tokens):
        return self.from_vectors(self.token_embedding(tokens))


def sequences(delay: int, number: int, generator=None) -> torch.Tensor:
    "A symbol, then as many other symbols as the delay."
    tokens = torch.randint(SYMBOLS, 2 * SYMBOLS, (number, delay + 1), generator=generator)
    tokens[:, 0] = torch.randint(0, SYMBOLS, (number,), generator=generator)
    return tokens


def trained(name: str, delay: int, rate: float, seed: int) -> tuple[Recall, float]:
    "The model, and how much its answer changed with the first vector before the training."
    torch.manual_seed(seed)
    model = Recall(LAYERS[name]())
    reach = gradient_reach(model.from_vectors, model.token_embedding(sequences(delay, BATCH)).detach())[-1].item()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for _ in range(STEPS):
        tokens = sequences(delay, BATCH)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(tokens)[:, -1], tokens[:, 0]).backward()
        optimizer.step()
    return model, reach


@torch.no_grad()
def accuracy(model: Recall, delay: int, seed: int) -> float:
    tokens = sequences(delay, 1000, torch.Generator().manual_seed(seed))
    return (model(tokens)[:, -1].argmax(-1) == tokens[:, 0]).float().mean().item()


def measured(name: str, delay: int) -> dict:
    first = {rate: trained(name, delay, rate, SEEDS[0]) for rate in RATES}
    rate = max(RATES, key=lambda rate: accuracy(first[rate][0], delay, seed=1000))
    runs = [first[rate], *(trained(name, delay, rate, seed) for seed in SEEDS[1:])]
    return {"delay": delay, "learning_rate": rate, "reach": [reach for _, reach in runs],
            "accuracy": [accuracy(model, delay, seed=2000) for model, _ in runs]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    result = {"delays": DELAYS, "rates": RATES, "steps": STEPS, "symbols": SYMBOLS, "width": WIDTH,
              "layers": {name: [measured(name, delay) for delay in DELAYS] for name in LAYERS}}
    print(record("recall", result, __file__))
