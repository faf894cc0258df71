"""Train small transformers on facts, ask where a fact is, and change facts at every place (about four minutes on one core).

    make record NAME=facts_edit

A fact is a text of three tokens, such as "Ada Moss lives-in", and its answer. A subject has two names, neither of which is its own.
A relation has two wordings: three quarters of the facts are trained in both, the others in the first one only.
"""
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from builder.records import record
from transformer_course.block import AddNorm, final_norm
from transformer_course.config import Config
from transformer_course.feed_forward import FeedForward
from transformer_course.positions import SelfAttention, position_vectors
from transformer_course.prediction import LanguageModel

NAMES, SUBJECTS, RELATIONS, ANSWERS = 16, 64, 4, 16                  # first names and as many last names; answers of each relation
FIRST, LAST, WORDING = 0, NAMES, 2 * NAMES                           # where their tokens begin
ANSWER = WORDING + 2 * RELATIONS
VOCABULARY = ANSWER + RELATIONS * ANSWERS
WIDTH, HEADS, STEPS, SEEDS = 32, 4, 400, (0, 1, 2)
RATES = {32: (1e-2, 3e-2, 1e-1), 4: (1e-2, 3e-2, 1e-1, 3e-1)}        # by width
EDITS, SURE, STEP = 24, 0.95, 0.05                                   # facts edited, probability wanted, step of the search for a vector
DELETED = (1, 2, 4, 8, 16, 32, 64, 128)                              # hidden units
SUBJECT_END, RELATION = 1, 2                                         # places


class Reads(AddNorm):
    "Attention, with its norm and its residual connection."

    def __init__(self, config: Config):
        super().__init__(config, SelfAttention(config))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(x, mask=mask)


class Thinks(AddNorm):
    "A feed-forward layer, with its norm and its residual connection."

    def __init__(self, config: Config):
        super().__init__(config, FeedForward(config))


MODELS = {"three blocks": (Reads, Thinks) * 3, "attention alone": (Reads,) * 9, "feed-forward alone": (Thinks,) * 3, "one block": (Reads, Thinks)}
COMPARED = [*((name, WIDTH) for name in MODELS), ("three blocks", 4), ("attention alone", 4)]


def facts(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    "Texts (wording, fact, 3), answers (fact), and which facts are trained in both wordings (fact)."
    generator = torch.Generator().manual_seed(seed)
    first = torch.arange(NAMES).repeat_interleave(SUBJECTS // NAMES)
    shift = torch.randperm(NAMES, generator=generator)[:SUBJECTS // NAMES].repeat(NAMES)
    last = (first + shift) % NAMES                                   # every name belongs to four subjects
    subject = torch.stack([first + FIRST, last + LAST], -1).repeat_interleave(RELATIONS, 0)
    relation = torch.arange(RELATIONS).repeat(SUBJECTS)
    texts = torch.stack([torch.cat([subject, (WORDING + 2 * relation + wording)[:, None]], -1) for wording in (0, 1)])
    answers = ANSWER + relation * ANSWERS + torch.randint(ANSWERS, relation.shape, generator=generator)
    return texts, answers, torch.rand(len(relation), generator=generator) < 0.75


def built(name: str, width: int, seed: int) -> LanguageModel:
    torch.manual_seed(seed)
    parts = MODELS[name]
    heads = HEADS if Reads in parts else 1
    config = Config(vocab_size=VOCABULARY, max_len=3, d_model=width, n_layers=len(parts), n_heads=heads, positions="learned")
    return LanguageModel(config, [part(config) for part in parts], positions=position_vectors(config), norm=final_norm(config))


def trained(name: str, width: int, rate: float, seed: int) -> LanguageModel:
    model, (texts, answers, both) = built(name, width, seed), facts(seed)
    inputs, targets = torch.cat([texts[0], texts[1, both]]), torch.cat([answers, answers[both]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0, fused=True)
    for step in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs)[:, -1], targets).backward()
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 40) * min(1, 1.05 - step / STEPS)
        optimizer.step()
    return model.eval().requires_grad_(False)


@torch.no_grad()
def known(model: LanguageModel, seed: int) -> dict[str, float]:
    "Shares of right answers: in the first wording, in the second where it was trained, and in the second where it was not; and the loss."
    texts, answers, both = facts(seed)
    logits = torch.stack([model(one)[:, -1] for one in texts])
    right = (logits.argmax(-1) == answers).float()
    return {"first": right[0].mean().item(), "second, trained": right[1, both].mean().item(), "second, new": right[1, ~both].mean().item(),
            "loss": F.cross_entropy(logits[0], answers).item()}


# --- looking into a model: a sublayer is a number, and writes through its last linear map ---------------------------------------------


def writes(model: LanguageModel, sublayer: int) -> nn.Linear:
    part = model.layers[sublayer].sublayer
    return part.down if isinstance(part, FeedForward) else part.heads.output


@contextmanager
def changed(model: LanguageModel, sublayer: int, change):
    "For a while, `change(key, output)` is what the last map of that sublayer writes."
    handle = writes(model, sublayer).register_forward_hook(lambda _, given, out: change(given[0], out))
    try:
        yield
    finally:
        handle.remove()


def seen(model: LanguageModel, texts: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    "What goes into the last map of every sublayer, its keys, and what comes out: (B, 3, width) each."
    found = []

    def keep(_, given, out):
        found.append((given[0], out))

    handles = [writes(model, sublayer).register_forward_hook(keep) for sublayer in range(len(model.layers))]
    model(texts)
    for handle in handles:
        handle.remove()
    return tuple(map(list, zip(*found)))


def sites(model: LanguageModel) -> list[tuple[int, int]]:
    "Sublayers and places: the relation, and the end of the subject where attention still comes after."
    reads = [i for i, layer in enumerate(model.layers) if isinstance(layer, Reads)]
    return [(i, place) for place in (SUBJECT_END, RELATION) for i in range(len(model.layers)) if place == RELATION or i < reads[-1]]


@torch.no_grad()
def traced(model: LanguageModel, seed: int) -> dict[str, list]:
    """For every sublayer and place: the share of facts known with the mean of all facts there, and, while the subject is another one,
    the probability of the answer with what was written there for the right subject."""
    texts, answers, _ = facts(seed)
    texts = texts[0]
    other = texts.roll(5 * RELATIONS * SUBJECTS // NAMES, 0)         # the same relation, two other names
    assert (other[:, 2] == texts[:, 2]).all() and (other[:, :2] != texts[:, :2]).all()
    _, outputs = seen(model, texts)
    probability = lambda inputs: model(inputs)[:, -1].softmax(-1).gather(1, answers[:, None]).mean().item()
    found = {"deleted": [], "restored": [], "nothing restored": probability(other), "whole": probability(texts)}
    for sublayer in range(len(model.layers)):
        deleted, restored = [], []
        for place in range(3):
            def with_mean(_, out, place=place):
                out = out.clone()
                out[:, place] = out[:, place].mean(0)
                return out

            def with_right(_, out, place=place, right=outputs[sublayer]):
                out = out.clone()
                out[:, place] = right[:, place]
                return out

            with changed(model, sublayer, with_mean):
                deleted.append((model(texts)[:, -1].argmax(-1) == answers).float().mean().item())
            with changed(model, sublayer, with_right):
                restored.append(probability(other))
        found["deleted"].append(deleted)
        found["restored"].append(restored)
    for kind, name in ((Reads, "attention"), (Thinks, "feed-forward")):
        all_of = [i for i, layer in enumerate(model.layers) if isinstance(layer, kind)]
        with ExitStack() as stack:
            for sublayer in all_of:
                stack.enter_context(changed(model, sublayer, lambda _, out: out.mean(0, keepdim=True).expand_as(out)))
            found[f"without all {name}"] = (model(texts)[:, -1].argmax(-1) == answers).float().mean().item()
        with ExitStack() as stack:
            for sublayer in all_of:
                stack.enter_context(changed(model, sublayer, lambda _, out, right=outputs[sublayer]: torch.cat([out[:, :RELATION], right[:, RELATION:]], 1)))
            found[f"all {name} restored"] = probability(other)
    return found


# --- hidden units ---------------------------------------------------------------------------------------------------------------------


def feeds(model: LanguageModel) -> list[int]:
    return [i for i, layer in enumerate(model.layers) if isinstance(layer, Thinks)]


@contextmanager
def units_changed(model: LanguageModel, change):
    "For a while, `change(number, key)` are the hidden units of feed-forward layer `number`."
    handles = [writes(model, sublayer).register_forward_pre_hook(lambda _, given, number=number: (change(number, given[0]),))
               for number, sublayer in enumerate(feeds(model))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def attributions(model: LanguageModel, texts: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """For each fact and hidden unit (fact, layer * unit): how much its difference from the mean adds to the margin of the answer, to
    first order; and the means (layer, place, unit)."""
    keys, nudges = [], []

    def nudge(number: int, key: Tensor) -> Tensor:
        keys.append(key.detach())
        nudges.append(torch.zeros_like(key, requires_grad=True))
        return key + nudges[-1]

    with units_changed(model, nudge):
        logits = model(texts)[:, -1]
    own = logits.gather(1, answers[:, None])[:, 0]
    others = logits.scatter(1, answers[:, None], -torch.inf).logsumexp(-1)
    slopes = torch.autograd.grad((own - others).sum(), nudges)
    added = [(slope * (key - key.mean(0))).sum(1) for slope, key in zip(slopes, keys, strict=True)]
    return torch.cat(added, 1), torch.stack([key.mean(0) for key in keys])


@torch.no_grad()
def right_without(model: LanguageModel, texts: Tensor, answers: Tensor, units: Tensor, means: Tensor) -> Tensor:
    "Which facts are known while these hidden units (numbers over all layers) are what they are on average."
    gone = torch.zeros(means.shape[0] * means.shape[2], dtype=torch.bool)
    gone[units] = True
    gone = gone.view(len(means), -1)
    with units_changed(model, lambda number, key: torch.where(gone[number], means[number], key)):
        return model(texts)[:, -1].argmax(-1) == answers


def deletions(model: LanguageModel, seed: int) -> dict:
    "Facts lost with every single unit, and with the units that a fact uses most or as many random ones."
    texts, answers, _ = facts(seed)
    texts = texts[0]
    added, means = attributions(model, texts, answers)
    whole = (model(texts)[:, -1].argmax(-1) == answers)
    lost = [int((whole & ~right_without(model, texts, answers, torch.tensor([unit]), means)).sum()) for unit in range(added.shape[1])]
    generator, found = torch.Generator().manual_seed(seed), {"most used": {}, "random": {}}
    for number in DELETED:
        for way in found:
            gone, others = 0, 0
            for fact in range(EDITS):
                order = added[fact].argsort(descending=True) if way == "most used" else torch.randperm(added.shape[1], generator=generator)
                missing = whole & ~right_without(model, texts, answers, order[:number], means)
                gone += int(missing[fact])
                others += int(missing.sum()) - int(missing[fact])
            found[way][number] = {"fact lost": gone / EDITS, "others lost": others / EDITS / (len(texts) - 1)}
    return {"units": added.shape[1], "lost": lost, "groups": found}


# --- editing --------------------------------------------------------------------------------------------------------------------------


def new_answers(answers: Tensor, seed: int) -> Tensor:
    "Another answer of the same relation for each fact that is edited."
    generator = torch.Generator().manual_seed(100 + seed)
    own = answers[:EDITS] - ANSWER
    shift = torch.randint(1, ANSWERS, own.shape, generator=generator)
    return ANSWER + own // ANSWERS * ANSWERS + (own % ANSWERS + shift) % ANSWERS


def wanted(model: LanguageModel, sublayer: int, place: int, texts: Tensor, targets: Tensor) -> Tensor:
    "What has to be added to the output there, for each fact alone, until the new answer is sure enough (EDITS, width)."
    added = torch.zeros(len(texts), writes(model, sublayer).out_features, requires_grad=True)
    here = torch.zeros(3)
    here[place] = 1
    with changed(model, sublayer, lambda _, out: out + here[:, None] * added[:, None]):
        for _ in range(200):
            chances = model(texts)[:, -1].log_softmax(-1).gather(1, targets[:, None])[:, 0]
            unsure = chances < torch.tensor(SURE).log()
            if not unsure.any():
                break
            (slope,) = torch.autograd.grad(-chances.sum(), added)
            size = slope.norm(dim=-1, keepdim=True).clamp(min=1e-12)
            added = (added - STEP * (added.norm(dim=-1, keepdim=True) + 1) * unsure[:, None] * slope / size).detach().requires_grad_()
    return added.detach()


def directions(keys: Tensor, place: int, fact: int, sample: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    "Directions along which the last map can be changed for one key: from the whole key, or one unit of it."
    key, others = keys[fact, place], keys[sample].flatten(0, 1)
    covariance = others.T @ others / len(others)
    ridge = 1e-4 * covariance.diagonal().mean() * torch.eye(len(key))
    on = (key > 0).nonzero()[:, 0]
    unit = lambda number: torch.eye(len(key))[number]
    return {"whitened key": torch.linalg.solve(covariance + ridge, key), "key": key, "best unit": unit((key**2 / covariance.diagonal()).argmax()),
            "random unit": unit(on[torch.randint(len(on), (1,), generator=generator)[0]])}


@torch.no_grad()
def judged(model: LanguageModel, texts: Tensor, answers: Tensor, fact: int, target: Tensor, sample: Tensor, whole: Tensor) -> list[float]:
    """After an edit: is the new answer given, in either wording; and the shares of other facts that were known and no longer are: of the
    same subject, of those that the covariance was estimated from, and of the rest."""
    now = model(texts.flatten(0, 1))[:, -1].argmax(-1).view(2, -1)
    broken, places = (whole & (now[0] != answers)).float(), torch.arange(len(answers))
    same = (places // RELATIONS == fact // RELATIONS) & (places != fact)
    used = torch.zeros(len(answers), dtype=torch.bool)
    used[sample] = True
    elsewhere = places // RELATIONS != fact // RELATIONS
    return [float(now[0, fact] == target), float(now[1, fact] == target), broken[same].mean().item(), broken[elsewhere & used].mean().item(),
            broken[elsewhere & ~used].mean().item()]


def half(answers: Tensor, seed: int) -> Tensor:
    "The facts from which the covariance of keys is estimated."
    return torch.randperm(len(answers), generator=torch.Generator().manual_seed(300 + seed))[:len(answers) // 2]


JUDGED = ("success", "other wording", "same subject", "seen", "unseen")


def edits(model: LanguageModel, seed: int, kinds: tuple[str, ...]) -> dict:
    "For every site and kind of direction, the means of what `judged` says."
    texts, answers, _ = facts(seed)
    targets, whole = new_answers(answers, seed), model(texts[0])[:, -1].argmax(-1) == answers
    generator, sample = torch.Generator().manual_seed(200 + seed), half(answers, seed)
    keys, _ = seen(model, texts[0])
    found = []
    for sublayer, place in sites(model):
        added = wanted(model, sublayer, place, texts[0, :EDITS], targets)
        part, verdicts = writes(model, sublayer), {kind: [] for kind in kinds}
        own = part.weight.clone()
        for fact in range(EDITS):
            ways = directions(keys[sublayer], place, fact, sample[sample != fact], generator)
            for kind in kinds:
                along = ways[kind]
                key = keys[sublayer][fact, place]
                part.weight.copy_(own + torch.outer(added[fact], along) / (along @ key))
                assert torch.allclose((part.weight - own) @ key, added[fact], rtol=1e-3, atol=1e-3), "the edit does not write what was searched for"
                verdicts[kind].append(judged(model, texts, answers, fact, targets[fact], sample, whole))
        part.weight.copy_(own)
        assert whole.equal(model(texts[0])[:, -1].argmax(-1) == answers), "an edit was not taken back"
        means = {kind: dict(zip(JUDGED, torch.tensor(rows).mean(0).tolist(), strict=True)) for kind, rows in verdicts.items()}
        found.append({"sublayer": sublayer, "place": place, "by direction": means})
    return found


def fine_tuned(model: LanguageModel, seed: int, name: str) -> dict[str, float]:
    "The same for gradient descent on all parameters, on the new fact alone."
    texts, answers, _ = facts(seed)
    targets, whole = new_answers(answers, seed), model(texts[0])[:, -1].argmax(-1) == answers
    rows = []
    for fact in range(EDITS):
        edited = built(name, WIDTH, seed)
        edited.load_state_dict(model.state_dict())
        optimizer = torch.optim.SGD(edited.parameters(), lr=0.02)
        for _ in range(200):
            loss = F.cross_entropy(edited(texts[0, fact][None])[:, -1], targets[fact][None])
            if loss < -torch.tensor(SURE).log():
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        rows.append(judged(edited, texts, answers, fact, targets[fact], half(answers, seed), whole))
    return dict(zip(JUDGED, torch.tensor(rows).mean(0).tolist(), strict=True))


def measure() -> dict:
    compared, models = [], {}
    for name, width in COMPARED:
        first = {rate: trained(name, width, rate, SEEDS[0]) for rate in RATES[width]}
        losses = {rate: known(model, SEEDS[0])["loss"] for rate, model in first.items()}
        best = min(losses, key=losses.get)
        models[name, width] = [first[best], *(trained(name, width, best, seed) for seed in SEEDS[1:])]
        compared.append({
            "name": name, "width": width, "parameters": sum(p.numel() for p in first[best].parameters()), "rate": best, "by rate": losses,
            "runs": [known(model, seed) for model, seed in zip(models[name, width], SEEDS, strict=True)]})
        print(compared[-1], flush=True)
    each = lambda name, look, *rest: [look(model, seed, *rest) for model, seed in zip(models[name, WIDTH], SEEDS, strict=True)]
    kinds = ("whitened key", "key", "best unit", "random unit")
    return {
        "subjects": SUBJECTS, "relations": RELATIONS, "answers": ANSWERS, "names": NAMES, "steps": STEPS, "edits": EDITS, "sure": SURE,
        "models": compared,
        "traces": {name: each(name, traced) for name in ("three blocks", "one block", "attention alone")},
        "deletions": {name: each(name, deletions) for name in ("three blocks", "one block")},
        "editing": {"three blocks": each("three blocks", edits, kinds), "one block": each("one block", edits, kinds),
                    "attention alone": each("attention alone", edits, kinds[:1])},
        "fine-tuned": {name: each(name, fine_tuned, name) for name in ("three blocks", "one block", "attention alone")},
    }


if __name__ == "__main__":
    print(record("facts_edit", measure(), __file__))
