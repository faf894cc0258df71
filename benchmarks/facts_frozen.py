"""Train only some parts of the small models of `facts_edit` on its facts; the other parts stay random (about three minutes on one core).

    make record NAME=facts_frozen
"""
import torch
import torch.nn.functional as F
from facts_edit import RATES, SEEDS, STEPS, WIDTH, built, facts, feeds, known

from builder.records import record
from transformer_course.prediction import LanguageModel

TRAINED = {  # model, and what is trained in it
    "embeddings": (
        "attention alone",
        lambda model: [
            *model.token_embedding.parameters(),
            *model.position_embedding.parameters(),
            *model.lm_head.parameters(),
        ],
    ),
    "attention": ("attention alone", lambda model: [p for layer in model.layers for p in layer.sublayer.parameters()]),
    "feed-forward": (
        "three blocks",
        lambda model: [p for i in feeds(model) for p in model.layers[i].sublayer.parameters()],
    ),
}


def trained(part: str, rate: float, seed: int) -> tuple[LanguageModel, int]:
    "The model after training of that part alone, and how many parameters were trained."
    name, chosen = TRAINED[part]
    model, (texts, answers, both) = built(name, WIDTH, seed), facts(seed)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    inputs, targets = torch.cat([texts[0], texts[1, both]]), torch.cat([answers, answers[both]])
    parameters = chosen(model.requires_grad_(False))
    for parameter in parameters:
        parameter.requires_grad_()
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0, fused=True)
    for step in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs)[:, -1], targets).backward()
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 40) * min(1, 1.05 - step / STEPS)
        optimizer.step()
    moved = sum(not value.equal(before[key]) for key, value in model.state_dict().items())
    assert moved <= len(parameters) < len(before), "parts changed that should stay random"
    return model.eval().requires_grad_(False), sum(p.numel() for p in parameters)


def compared(part: str) -> dict:
    "The rate with the smallest loss on the first seed, and what the models of all seeds know."
    first = {rate: trained(part, rate, SEEDS[0]) for rate in RATES[WIDTH]}
    losses = {rate: known(model, SEEDS[0])["loss"] for rate, (model, _) in first.items()}
    best = min(losses, key=losses.get)
    models = [first[best][0], *(trained(part, best, seed)[0] for seed in SEEDS[1:])]
    return {
        "part": part,
        "model": TRAINED[part][0],
        "trained": first[best][1],
        "parameters": sum(p.numel() for p in models[0].parameters()),
        "rate": best,
        "by rate": losses,
        "runs": [known(model, seed) for model, seed in zip(models, SEEDS, strict=True)],
    }


def measure() -> list[dict]:
    return [compared(part) for part in TRAINED]


if __name__ == "__main__":
    print(record("facts_frozen", measure(), __file__))
