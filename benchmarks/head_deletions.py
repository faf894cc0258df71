"""Train a model of eight heads on repeating sequences, with several seeds, and delete its heads one by one and in pairs (about three
minutes).

    make record NAME=head_deletions
"""
from itertools import combinations

import torch
from torch import Tensor

from builder.records import record
from transformer_course.attention import LearnedPositions, Residual, attention_weights, causal_mask
from transformer_course.config import Config
from transformer_course.multi_head import MultiHeadAttention
from transformer_course.prediction import LanguageModel, cross_entropy, fit

SIZES = Config(vocab_size=16, max_len=32, d_model=64, n_layers=2, n_heads=4, positions="learned", bias=False)
PLACES = [(layer, head) for layer in range(SIZES.n_layers) for head in range(SIZES.n_heads)]
STEPS, BATCH_SIZE, RATE, SEEDS = 900, 32, 4e-3, 5


def repetitions(batch_size: int, seed: int):
    "Endless batches of sequences (B, 32) of random tokens that start again after 4 to 16 of them, and their periods (B, 1)."
    generator = torch.Generator().manual_seed(seed)
    while True:
        tokens = torch.randint(0, 16, (batch_size, 32), generator=generator)
        period = torch.randint(4, 17, (batch_size, 1), generator=generator)
        yield tokens.gather(1, torch.arange(32) % period), period


def repetition_loss(model: LanguageModel, batch: tuple[Tensor, Tensor]) -> Tensor:
    tokens, period = batch
    asked = torch.arange(1, 32) > period                             # the next token has a predecessor one period before
    return cross_entropy(model(tokens[:, :-1])[asked], tokens[:, 1:][asked])


TOKENS, PERIOD = next(repetitions(400, seed=9))
INPUTS, TARGETS = TOKENS[:, :-1], TOKENS[:, 1:]
ASKED = torch.arange(1, 32) > PERIOD
SEEN_BEFORE = (INPUTS[:, :, None] == INPUTS[:, None, :]).tril(-1)    # (B, T, S)
AMBIGUOUS = (SEEN_BEFORE & (TARGETS[:, None, :] != TARGETS[:, :, None])).any(-1)    # the same token has had another follower
KINDS = {"all": ASKED, "clear": ASKED & ~AMBIGUOUS, "ambiguous": ASKED & AMBIGUOUS}
ANSWER = (torch.arange(31) - PERIOD + 1).clamp(min=0)                # where the next token stands


@torch.no_grad()
def run(model: LanguageModel, silenced=(), *, by_mean: bool = False) -> tuple[dict, list[Tensor]]:
    """Accuracy on all questions, the clear and the ambiguous ones, and the weights of each layer.

    What the silenced (layer, head) find is replaced by zero, or by its mean over all sequences at the same position.
    """
    x, mask, maps = model.embed(INPUTS), causal_mask(31), []
    for number, layer in enumerate(model.layers):
        heads = layer.sublayer
        q, (k, v) = heads.queries(x), heads.keys_values(x)
        found = heads.attend(q, k, v, mask)
        for _, head in (place for place in silenced if place[0] == number):
            found[:, head] = found[:, head].mean(0) if by_mean else 0
        maps.append(attention_weights(q, k, mask))
        x = x + heads.merge(found)
    right = model.logits(x).argmax(-1) == TARGETS
    return {kind: right[where].float().mean().item() for kind, where in KINDS.items()}, maps


def on_answer(maps: list[Tensor]) -> list[float]:
    "For each head of the second layer the mean weight on the token that comes next."
    at = ANSWER[:, None, :, None].expand(-1, SIZES.n_heads, -1, 1)
    return maps[1].gather(3, at)[..., 0].transpose(0, 1)[:, ASKED].mean(-1).tolist()


def overlap(matrices: Tensor) -> float:
    "The mean squared cosine of the principal angles between the row spaces of all pairs of heads (h, k, d)."
    bases = torch.linalg.qr(matrices.mT)[0]
    return torch.stack([(a.T @ b).square().sum() / a.shape[1] for a, b in combinations(bases, 2)]).mean().item()


def overlaps(model: LanguageModel) -> dict:
    parts = {"queries": "query", "keys": "key", "values": "value", "writes": "output"}
    weights = {role: [getattr(layer.sublayer, part).weight.detach() for layer in model.layers] for role, part in parts.items()}
    return {role: [overlap((w.T if role == "writes" else w).unflatten(0, (SIZES.n_heads, -1))) for w in both] for role, both in weights.items()}


def survey(seed: int) -> dict:
    torch.manual_seed(seed)
    layers = [Residual(MultiHeadAttention(SIZES)) for _ in range(SIZES.n_layers)]
    model = LanguageModel(SIZES, layers, positions=LearnedPositions(SIZES))
    before = overlaps(model)
    fit(model, repetitions(BATCH_SIZE, seed=100 + seed), steps=STEPS, learning_rate=RATE, loss=repetition_loss, progress=False)
    whole, maps = run(model)
    second = [place for place in PLACES if place[0] == 1]
    back = torch.stack([maps[0].diagonal(-steps, 2, 3).mean((0, 2)) for steps in range(5)], dim=-1)
    return {
        "whole": whole, "without": [run(model, [place])[0] for place in PLACES], "by mean": [run(model, [place], by_mean=True)[0]["all"] for place in PLACES],
        "pairs": [[a, b, run(model, [PLACES[a], PLACES[b]])[0]["all"]] for a, b in combinations(range(len(PLACES)), 2)],
        "second layer": {n: [run(model, some)[0]["all"] for some in combinations(second, n)] for n in range(1, 5)},
        "back": back.tolist(), "on answer": on_answer(maps), "on answer without": [on_answer(run(model, [place])[1]) for place in PLACES[:4]],
        "overlap": {"before": before, "after": overlaps(model)},
    }


if __name__ == "__main__":
    runs = [survey(seed) for seed in range(SEEDS)]
    even = (1 / torch.arange(1.0, 32)).expand_as(ASKED)[ASKED].mean().item()
    sizes = {"vocabulary": 16, "width": 64, "heads per layer": 4, "steps": STEPS}
    print(record("head_deletions", sizes | {"even": even, "questions": {kind: int(where.sum()) for kind, where in KINDS.items()}, "runs": runs}, __file__))
