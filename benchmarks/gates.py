"""Chapter 1: does an LSTM beat an RNN as a language model? Four recurrent layers and one without a state, on the text and with the
steps of the scoreboard (about three minutes of one core).

Every model at the best of five learning rates, chosen by the first seed on the validation text, then three seeds.

    make record NAME=gates
"""
import torch
from torch import nn

from builder.records import record
from transformer_course.config import Config
from transformer_course.prediction import (
    CharTokenizer,
    LanguageModel,
    cross_entropy,
    evaluate,
    load_corpus,
    next_token_loss,
    random_batches,
    sequential_batches,
    train_validation_split,
)
from transformer_course.recurrence import RecurrentLayer

SEEDS, RATES, STEPS, BATCH, LENGTH = (0, 1, 2), (3e-3, 1e-2, 2e-2, 3e-2, 5e-2), 500, 32, 64
SHOWN = (1, 2, 4, 8, 16, 32, 64)


class NoState(nn.Module):
    "The ablation: the RNN's step from a zero state at every token."

    def __init__(self, d_in: int, d_state: int, batch_first: bool = True):
        super().__init__()
        self.input = nn.Linear(d_in, d_state)

    def forward(self, x, state=None):
        return torch.tanh(self.input(x)), state


MODELS = {                                                          # name: layer, width
    "no hidden state": (NoState, 80),
    "RNN": (nn.RNN, 80),
    "GRU": (nn.GRU, 54),
    "LSTM": (nn.LSTM, 48),
    "LSTM, as wide as the RNN": (nn.LSTM, 80),
}


def data():
    text = load_corpus()
    chars = CharTokenizer(text)
    return chars.vocab_size, *train_validation_split(torch.tensor(chars.encode(text)))


def trained(name: str, rate: float, seed: int) -> LanguageModel:
    vocab_size, train, _ = data()
    kind, width = MODELS[name]
    torch.manual_seed(seed)
    config = Config(vocab_size=vocab_size, max_len=1024, d_model=width)
    model = LanguageModel(config, [RecurrentLayer(kind(width, width, batch_first=True))])
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    batches = random_batches(train, batch_size=BATCH, max_len=LENGTH, seed=seed)
    for _ in range(STEPS):
        optimizer.zero_grad()
        next_token_loss(model, next(batches)).backward()
        optimizer.step()
    return model


def loss_of(model: LanguageModel) -> float:
    return evaluate(model, sequential_batches(data()[2], batch_size=BATCH, max_len=LENGTH))


@torch.no_grad()
def by_context(model: LanguageModel) -> list[float]:
    "The loss at one character when the model is shown only the n characters before it."
    pieces = data()[2].unfold(0, LENGTH + 1, 25)
    return [cross_entropy(model(pieces[:, LENGTH - n:LENGTH])[:, -1], pieces[:, LENGTH]).item() for n in SHOWN]


def measured(name: str) -> dict:
    first = {rate: trained(name, rate, SEEDS[0]) for rate in RATES}
    losses = {rate: loss_of(model) for rate, model in first.items()}
    rate = min(RATES, key=losses.get)
    models = [first[rate], *(trained(name, rate, seed) for seed in SEEDS[1:])]
    return {"width": MODELS[name][1], "parameters": sum(p.numel() for p in models[0].parameters()), "learning_rate": rate,
            "by_rate": {str(r): loss for r, loss in losses.items()}, "loss": [losses[rate], *map(loss_of, models[1:])],
            "by_context": [by_context(model) for model in models]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    result = {"rates": RATES, "steps": STEPS, "shown": SHOWN, "models": {name: measured(name) for name in MODELS}}
    print(record("gates", result, __file__))
