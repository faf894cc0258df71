"""Chapter 1: how much of its past does a trained RNN hold? An RNN learns to give back the numbers it has read (about two minutes).

Two starts, each at the best of three learning rates, chosen by the first seed, then three seeds; the state is examined as that of
an untrained RNN is, by a linear readout.

    make record NAME=hidden_state
"""
import torch
from torch import nn

from builder.records import record

SEEDS, RATES, STEPS = (0, 1, 2), (1e-3, 3e-3, 1e-2), 1000
UNITS, BATCH, LENGTH, LAGS, FURTHEST = 64, 16, 128, 64, 90


def created() -> nn.RNN:
    return nn.RNN(1, UNITS, batch_first=True)


def orthogonal() -> nn.RNN:
    rnn = created()
    nn.init.orthogonal_(rnn.weight_hh_l0)
    return rnn


STARTS = {"as created": created, "orthogonal": orthogonal}


def trained(start: str, rate: float, seed: int) -> nn.RNN:
    "An RNN trained with a linear readout to give back each of the last 64 numbers."
    torch.manual_seed(seed)
    rnn, readout = STARTS[start](), nn.Linear(UNITS, LAGS)
    optimizer = torch.optim.AdamW([*rnn.parameters(), *readout.parameters()], lr=rate)
    for _ in range(STEPS):
        stream = torch.randn(BATCH, LENGTH + LAGS)
        wanted = stream.unfold(1, LAGS, 1).flip(-1)[:, -LENGTH:]     # entry k: the number k steps back
        states, _ = rnn(stream[..., None])
        optimizer.zero_grad()
        (readout(states[:, -LENGTH:]) - wanted).square().mean().backward()
        optimizer.step()
    return rnn


@torch.no_grad()
def recall_by_lag(rnn: nn.RNN, seed: int) -> list[float]:
    "The R² of a linear readout of the number k steps back: learned on two thirds of a stream, judged on the last third."
    stream = torch.randn(7500, generator=torch.Generator().manual_seed(seed))
    states = rnn(stream[None, :, None])[0][0].double()
    states, stream = states - states.mean(0), stream.double()
    states = states / states.std()
    wanted = torch.stack([stream.roll(k) for k in range(FURTHEST)], dim=1)
    learn, judge = slice(FURTHEST, 5000), slice(5000, None)
    A, ridge = states[learn], 1e-9 * len(stream) * torch.eye(UNITS, dtype=torch.float64)
    readout = torch.linalg.solve(A.T @ A + ridge, A.T @ wanted[learn])
    error = (states[judge] @ readout - wanted[judge]).square().mean(0)
    return (1 - error / wanted[judge].var(0)).clamp(min=0).tolist()


def measured(start: str) -> dict:
    first = {rate: trained(start, rate, SEEDS[0]) for rate in RATES}
    rate = max(RATES, key=lambda rate: sum(recall_by_lag(first[rate], seed=1000)))
    models = [first[rate], *(trained(start, rate, seed) for seed in SEEDS[1:])]
    return {"learning_rate": rate, "recalled": [recall_by_lag(model, seed=2000) for model in models]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(record("hidden_state", {"units": UNITS, "steps": STEPS, "rates": RATES, "starts": {name: measured(name) for name in STARTS}}, __file__))
