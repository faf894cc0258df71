"""Train small models on a task that asks two questions at once, and record how many heads it takes (about five minutes).

    make record NAME=two_questions
"""
import torch
from torch import Tensor, nn

from builder.records import record
from transformer_course.attention import attention_weights
from transformer_course.config import Config
from transformer_course.multi_head import MultiHeadAttention
from transformer_course.prediction import cross_entropy, fit

PLACES, KINDS, WIDTH, HIDDEN = 8, 6, 32, 128
STEPS, BATCH_SIZE = 800, 128
RATES = (1e-3, 3e-3, 1e-2)
SEEDS = 3
EXAMINED = 4000


class Asker(nn.Module):
    "One token asks for a colour at one place and a shape at another; attention reads, `reader` answers."

    def __init__(self, n_heads: int, *, hidden: bool = False, even: bool = False):
        super().__init__()
        self.colour, self.shape = nn.Embedding(KINDS, WIDTH), nn.Embedding(KINDS, WIDTH)
        self.place, self.first, self.second = (nn.Embedding(PLACES, WIDTH) for _ in range(3))
        config = Config(vocab_size=KINDS, max_len=PLACES, d_model=WIDTH, n_heads=n_heads)
        self.heads = MultiHeadAttention(config, attention_fn=even_average) if even else MultiHeadAttention(config)
        deep = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * KINDS))
        self.reader = deep if hidden else nn.Linear(WIDTH, 2 * KINDS)

    def read(self, things: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        "The token that asks, (B, 1, d), and the things, (B, 8, d)."
        question = self.first(places[:, 0]) + self.second(places[:, 1])
        return question[:, None], self.colour(things[..., 0]) + self.shape(things[..., 1]) + self.place.weight

    def forward(self, things: Tensor, places: Tensor) -> Tensor:
        "Logits of the colour and the shape, (B, 2, 6)."
        return self.reader(self.heads(*self.read(things, places))[:, 0]).unflatten(-1, (2, KINDS))


def even_average(q: Tensor, k: Tensor, v: Tensor, mask=None) -> Tensor:
    "Attention without queries and keys: every place has the same weight."
    return v.mean(-2, keepdim=True).expand(-1, -1, q.shape[-2], -1)


def questions(batch_size: int, seed: int):
    "Endless batches of things (B, 8, 2), a colour and a shape each, and two different places (B, 2)."
    generator = torch.Generator().manual_seed(seed)
    while True:
        things = torch.randint(0, KINDS, (batch_size, PLACES, 2), generator=generator)
        first = torch.randint(0, PLACES, (batch_size,), generator=generator)
        further = torch.randint(1, PLACES, (batch_size,), generator=generator)
        yield things, torch.stack([first, (first + further) % PLACES], dim=1)


def answers(things: Tensor, places: Tensor) -> Tensor:
    "The colour at the first place and the shape at the second, (B, 2)."
    rows = torch.arange(len(things))
    return torch.stack([things[rows, places[:, 0], 0], things[rows, places[:, 1], 1]], dim=-1)


def answer_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return cross_entropy(model(*batch), answers(*batch))


@torch.no_grad()
def examine(model: Asker) -> dict:
    "Shares of questions with both answers right and with each, and what each head reads of the two places."
    things, places = next(questions(EXAMINED, seed=1))
    right = model(things, places).argmax(-1) == answers(things, places)
    question, memory = model.read(things, places)
    weights = attention_weights(model.heads.queries(question), model.heads.keys_values(memory)[0])[:, :, 0]
    at = places[:, None].expand(-1, weights.shape[1], -1)
    colour, shape = right.float().mean(0).tolist()
    return {"both": right.all(-1).float().mean().item(), "colour": colour, "shape": shape, "reads": weights.gather(2, at).mean(0).tolist()}


def train(rate: float, seed: int, **kind) -> dict:
    torch.manual_seed(seed)
    model = Asker(**kind)
    fit(model, questions(BATCH_SIZE, seed=100 + seed), steps=STEPS, learning_rate=rate, loss=answer_loss, progress=False)
    return examine(model) | {"parameters": sum(p.numel() for p in model.parameters())}


def best(**kind) -> dict:
    "The model at its best learning rate: the rate, and one result for each seed."
    runs = {rate: [train(rate, seed, **kind) for seed in range(SEEDS)] for rate in RATES}
    rate = max(RATES, key=lambda rate: sum(run["both"] for run in runs[rate]))
    return {"learning rate": rate, "runs": runs[rate]}


if __name__ == "__main__":
    result = {
        "places": PLACES, "kinds": KINDS, "width": WIDTH, "steps": STEPS, "batch size": BATCH_SIZE, "rates": RATES, "seeds": SEEDS,
        "by heads": {n: best(n_heads=n) for n in (1, 2, 4, 8)},
        "even weights": best(n_heads=1, even=True),
        "one head, hidden layer": best(n_heads=1, hidden=True),
        "two heads, hidden layer": best(n_heads=2, hidden=True),
    }
    print(record("two_questions", result, __file__))
