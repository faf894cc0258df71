"""Train one and two layers on random tokens that start again, and watch heads that copy what came before (about four minutes on one core).

    make record NAME=induction

A text has 32 tokens: random ones, 4 to 16 of them, again and again from the start. What comes next can't be known in the first
round, and is known afterwards. The number differs from text to text, so that no place says where the copy is.
"""
import torch
from torch import Tensor, nn

from builder.records import record
from transformer_course.block import AddNorm, Block, final_norm
from transformer_course.config import Config
from transformer_course.inside import head_findings, head_patterns, induction_score, previous_token_score, without_heads
from transformer_course.positions import SelfAttention, position_vectors
from transformer_course.prediction import LanguageModel, cross_entropy, next_token_loss

VOCABULARY, LENGTH, PERIODS = 32, 32, (4, 16)
STEPS, BATCH_SIZE, SEEDS = 1000, 32, 3
CHECKED = [*range(0, 300, 20), *range(300, STEPS + 1, 100)]
MAPS_AT = (0, 20, 40, 60, 80, 100, 120, 140, 200, 300, 600, 1000)
RATES = (4e-3, 8e-3, 1.6e-2, 3.2e-2)
SHOWN = 8                                                            # tokens in a round of the text whose maps are kept


def texts(number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    "Texts (number, 32) and how many tokens each repeats (number, 1)."
    tokens = torch.randint(VOCABULARY, (number, LENGTH), generator=generator)
    period = torch.randint(PERIODS[0], PERIODS[1] + 1, (number, 1), generator=generator)
    return tokens.gather(1, torch.arange(LENGTH) % period), period


TOKENS, PERIOD = texts(400, torch.Generator().manual_seed(99))
INPUTS, TARGETS, PLACE = TOKENS[:, :-1], TOKENS[:, 1:], torch.arange(1, LENGTH)
NEW, KNOWN = PLACE < PERIOD, PLACE > PERIOD                           # the next token is new; it and the one before it have been read before
MAPPED = torch.randperm(VOCABULARY, generator=torch.Generator().manual_seed(5))[:SHOWN].repeat(3)[None]


class Reads(AddNorm):
    "A layer that is attention alone, with its norm and its residual connection."

    def __init__(self, config: Config):
        super().__init__(config, SelfAttention(config))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(x, mask=mask)


def built(n_layers: int, layer: type, seed: int) -> LanguageModel:
    torch.manual_seed(seed)
    config = Config(vocab_size=VOCABULARY, max_len=LENGTH, d_model=64, n_layers=n_layers, n_heads=4, positions="learned")
    return LanguageModel(config, [layer(config) for _ in range(n_layers)], positions=position_vectors(config), norm=final_norm(config))


MODELS = {"one layer of attention": (1, Reads), "one block": (1, Block), "two layers of attention": (2, Reads)}


@torch.no_grad()
def losses(model: nn.Module) -> dict[str, float]:
    "In nats: where the next token is new, and where it can be copied; and the share of the second that is right."
    logits = model(INPUTS)
    right = (logits.argmax(-1) == TARGETS)[KNOWN].float().mean().item()
    found = {"new": cross_entropy(logits[NEW], TARGETS[NEW]).item(), "known": cross_entropy(logits[KNOWN], TARGETS[KNOWN]).item(), "right": right}
    return {name: round(value, 4) for name, value in found.items()}


def copy_rule() -> float:
    "How often it is right to say what followed the last earlier copy of the same token."
    earlier = (INPUTS[:, :, None] == INPUTS[:, None]).tril(-1)       # (B, T, S)
    last = (earlier * torch.arange(1, LENGTH)).amax(-1)              # the place after that copy; 0 where there is none
    return (TOKENS.gather(1, last) == TARGETS)[KNOWN].float().mean().item()


def looked_at(model: nn.Module, step: int) -> dict:
    patterns = head_patterns(model, TOKENS)
    scores = {"previous": previous_token_score(patterns), "induction": induction_score(patterns, TOKENS)}
    return {"step": step, **losses(model), **{name: rounded(score) for name, score in scores.items()}}


def rounded(values: Tensor) -> list:
    return [[round(value, 4) for value in row] for row in values.tolist()]


def trained(name: str, rate: float, seed: int) -> tuple[nn.Module, list[dict], list[Tensor]]:
    "The model, what was measured at the steps of `CHECKED`, and the weights of all its heads on one text at these steps."
    model, generator, history, maps = built(*MODELS[name], seed), torch.Generator().manual_seed(1000 + seed), [], []
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0, fused=True)
    for step in range(STEPS + 1):
        if step in CHECKED:
            history.append(looked_at(model, step))
            maps.append(head_patterns(model, MAPPED)[:, 0])
        loss = next_token_loss(model, texts(BATCH_SIZE, generator)[0])
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 50)
        optimizer.step()
    return model, history, maps


def place(scores: list) -> list[int]:
    "Layer and head of the largest score."
    layer, head = divmod(torch.tensor(scores).argmax().item(), len(scores[0]))
    return [layer, head]


def ablations(model: nn.Module) -> dict[str, list[dict]]:
    "The losses without a head, without the others of its layer, and without its layer; they find zeros, or their means."
    means = head_findings(model, TOKENS).mean((1, 3))
    groups = []
    for layer in range(len(means)):
        heads = [(layer, head) for head in range(means.shape[1])]
        groups += [[one] for one in heads] + [[other for other in heads if other != one] for one in heads] + [heads]
    out: dict[str, list[dict]] = {"zero": [], "mean": []}
    for heads in groups:
        for kind, given in (("zero", None), ("mean", means)):
            with without_heads(model, heads, means=given):
                out[kind].append({"heads": heads, **losses(model)})
    return out


def measure() -> dict:
    result = {"models": {}}
    for name in MODELS:
        tuned = {rate: trained(name, rate, 0) for rate in RATES}
        by_rate = {rate: history[-1]["known"] for rate, (_, history, _) in tuned.items()}
        best = min(by_rate, key=by_rate.get)
        models, histories, maps = zip(tuned[best], *(trained(name, best, seed) for seed in range(1, SEEDS)))
        result["models"][name] = {
            "parameters": sum(p.numel() for p in models[0].parameters()), "by rate": by_rate, "rate": best, "runs": histories,
            "ablations": [ablations(model) for model in models],
        }
        last = histories[0][-1]
        heads = {kind: place(last[kind]) for kind in ("previous", "induction")}
        if name == "two layers of attention":
            kept = [i for i, step in enumerate(CHECKED) if step in MAPS_AT]
            result["maps"] = {"tokens": MAPPED[0].tolist(), "heads": heads, "steps": list(MAPS_AT), **{
                kind: [(1000 * maps[0][i][layer, head]).round().int().tolist() for i in kept] for kind, (layer, head) in heads.items()}}
        print(name, best, by_rate, [(round(h[-1]["known"], 3), round(h[-1]["right"], 3), max(map(max, h[-1]["previous"])), max(map(max, h[-1]["induction"]))) for h in histories], flush=True)
    return result


if __name__ == "__main__":
    settings = {"vocabulary": VOCABULARY, "length": LENGTH, "periods": PERIODS, "steps": STEPS, "batch": BATCH_SIZE, "copy rule": copy_rule(), "uniform": torch.tensor(float(VOCABULARY)).log().item()}
    print(record("induction", settings | measure(), __file__))
