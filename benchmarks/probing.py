"""Read properties of words from the layers of a published encoder with linear probes, and with controls (about three minutes on one core).

    pip install -e '.[pretrained]'
    make record NAME=probing

Sentences come from a small grammar, so every label is known. A probe is a linear map to one-hot labels, fitted by least squares with a
penalty. Controls: random labels for each word (Hewitt and Liang 2019), layers whose weights are shuffled, the embedding with the mean
of all embeddings of the sentence, and the most frequent label. "Centred" vectors have lost the mean vector of their word.
"""
import random
from collections import Counter

import minilm
import torch
import torch.nn.functional as F
from torch import Tensor

from builder.records import record
from transformer_course.attention import attention_weights

SENTENCES, SEEDS, TRAINED = 1000, (0, 1, 2), 0.7                       # generated sentences, share that a probe is fitted on
PENALTIES = (1.0, 10.0, 100.0, 1000.0)
USED = 150                                                           # sentences whose vectors are changed
SPLITS = 8                                                           # of the ambiguous words and their contexts
LAYERS = minilm.CONFIG["num_hidden_layers"]

NOUNS = ("doctor teacher farmer lawyer soldier student artist dancer singer writer driver painter neighbor king queen boy girl officer actor nurse "
         "guard pilot sailor hunter judge priest poet scholar prince duke knight monk chef clerk merchant captain professor manager player reporter").split()
ADJECTIVES = "old young tall tired happy angry quiet famous clever rich poor brave".split()
VERBS = ("admired followed helped visited called watched praised ignored warned invited thanked blamed "
         "chased hired trusted pushed accused protected attacked feared").split()    # past and participle alike
OPENINGS = ["", "", "yesterday", "last week", "in the evening", "after the long meeting"]
PREPOSITIONS = ["near", "behind", "with"]

AMBIGUOUS = "bat crane mouse seal bass jaguar beetle mustang kite cobra".split()
ANIMALS = ["a hungry {} was looking for food", "the {} had three young ones", "they fed the {} in the zoo", "the {} died of a disease", "a wild {} bit the child",
           "the {} is afraid of humans", "the {} hid from its enemies", "we heard the {} breathing", "a vet looked at the sick {}", "the female {} protects her eggs",
           "the {} was hunting at night", "the {} grew up in the wild", "scientists study how the {} lives", "the {} has sharp eyes and a good nose",
           "the {} drank from the river", "a tiny {} follows its mother"]
THINGS = ["the {} was made in a factory", "he bought a new {} in a shop", "the {} broke and had to be repaired", "she paid too much for the {}",
          "the {} comes with a cable and a screen", "an engineer designed the {}", "the {} contains steel and plastic", "someone stole the {} from the garage",
          "the price of the {} went up", "he sold his old {} to a friend", "the {} was packed into a box", "the manual of the {} was lost",
          "a company in germany builds the {}", "she painted the {} red", "the {} needs another part", "the {} was delivered by mail"]

TASKS = {                                                            # kind of property, and whether its label can hold for words that no probe was fitted on
    "the word itself": ("surface", False), "the adjective before": ("surface", True), "the place": ("surface", True),
    "subject or not": ("syntax", True), "main or relative clause": ("syntax", True), "number of the verb's subject": ("syntax", True),
    "who does it": ("meaning", True), "animal or thing": ("meaning", True)}


# --- sentences and labels -------------------------------------------------------------------------------------------------------------


def sentence(dice: random.Random, half: int) -> tuple[list[str], list[dict]]:
    "Words, and for each word with labels its place and its labels; all its nouns and verbs are of one half of the lists."
    words, labelled = ["[CLS]", *dice.choice(OPENINGS).split()], []

    def noun(**labels) -> bool:
        plural, adjective = dice.random() < 0.5, dice.choice(ADJECTIVES)
        word = dice.choice(NOUNS[half::2])
        words.extend(["the", adjective, word + "s" * plural])
        labelled.append({"at": len(words) - 1, "type": words[-1], "the word itself": word, "the adjective before": adjective, **labels})
        return plural

    def clause_of(plural: bool, agent_first: bool, clause: str, main_verb: bool = False) -> bool:
        "The verb and what follows, of a subject that has been said; is the noun at the end plural?"
        if agent_first:
            words.append(dice.choice(VERBS[half::2]))
            if main_verb:
                labelled.append({"at": len(words) - 1, "type": words[-1], "number of the verb's subject": plural})
        else:
            words.extend(["were" if plural else "was", dice.choice(VERBS[half::2]), "by"])
        return noun(**{"main or relative clause": clause, "subject or not": "not", "who does it": "undergoes" if agent_first else "does"})

    def relative(plural: bool) -> None:
        words.append("that")
        if dice.random() < 0.5:                                       # that the N admired
            noun(**{"main or relative clause": "relative", "subject or not": "subject", "who does it": "does"})
            words.append(dice.choice(VERBS[half::2]))
        else:                                                        # that admired the N, that was admired by the N
            clause_of(plural, dice.random() < 0.5, "relative")

    agent_first = dice.random() < 0.6
    plural = noun(**{"main or relative clause": "main", "subject or not": "subject", "who does it": "does" if agent_first else "undergoes"})
    between = dice.random()
    if between < 0.4:
        words.append(dice.choice(PREPOSITIONS))
        noun(**{"main or relative clause": "main", "subject or not": "not"})
    elif between < 0.6:
        relative(plural)
    of_end = clause_of(plural, agent_first, "main", main_verb=True)
    if dice.random() < 0.4:
        relative(of_end)
    words += [".", "[SEP]"]
    for one in labelled:
        if "number of the verb's subject" not in one:
            one["the place"] = one["at"]
    return words, labelled


def senses() -> tuple[list[list[str]], list[dict]]:
    "The ambiguous words in all contexts, and their labels; `context` numbers the contexts of a sense."
    texts, labelled = [], []
    for sense, contexts in (("animal", ANIMALS), ("thing", THINGS)):
        for number, context in enumerate(contexts):
            for word in AMBIGUOUS:
                texts.append(["[CLS]", *context.format(word).split(), ".", "[SEP]"])
                labelled.append({"at": texts[-1].index(word), "type": word, "context": number, "animal or thing": sense})
    return texts, labelled


# --- vectors --------------------------------------------------------------------------------------------------------------------------


def states(words: list[str]) -> Tensor:
    "The vectors after each layer, (layers + 1, T, d); every word is one piece."
    text = " ".join(words[1:-1])
    pieces, states, _ = minilm.read(text)
    assert pieces == words, (pieces, words)
    return torch.stack(states)


def vectors(texts: list[list[str]], at: list[list[int]]) -> Tensor:
    "For each labelled word its vectors after each layer, and then the embedding with the mean of the sentence's embeddings: two tensors."
    layers, bags = [], []
    for words, places in zip(texts, at, strict=True):
        x = states(words)
        layers.append(x[:, places])
        bags.append(torch.cat([x[0, places], x[0].mean(0).expand(len(places), -1)], -1))
    return torch.cat(layers, 1), torch.cat(bags)


class shuffled:
    "For a while, every matrix of the layers has its own numbers in another order; the embeddings stay."

    def __init__(self, seed: int):
        self.seed = seed

    def __enter__(self) -> None:
        generator, self.own = torch.Generator().manual_seed(self.seed), dict(minilm.WEIGHTS)
        for name, w in self.own.items():
            if name.startswith("encoder.layer") and w.dim() == 2:
                minilm.WEIGHTS[name] = w.flatten()[torch.randperm(w.numel(), generator=generator)].view_as(w)

    def __exit__(self, *_) -> None:
        minilm.WEIGHTS.update(self.own)


# --- probes ---------------------------------------------------------------------------------------------------------------------------


def one_hot(labels: list, classes: list) -> Tensor:
    return F.one_hot(torch.tensor([classes.index(label) for label in labels]), len(classes)).float()


def probe(x: Tensor, labels: list[list], fitted: Tensor, tested: Tensor) -> list[float]:
    "Accuracy on the tested rows for each list of labels; the penalty is chosen on a fifth of the fitted rows."
    x = (x - x[fitted].mean(0)) / x[fitted].std(0).clamp(min=1e-6)
    x = torch.cat([x, torch.ones(len(x), 1)], 1)
    classes = [sorted(set(one), key=str) for one in labels]
    y = [one_hot(one, names) for one, names in zip(labels, classes, strict=True)]
    inner, checked = fitted[: len(fitted) * 4 // 5], fitted[len(fitted) * 4 // 5:]

    def maps(rows: Tensor, penalty: float) -> list[Tensor]:
        square = x[rows].T @ x[rows] + penalty * torch.eye(x.shape[1])
        return [torch.linalg.solve(square, x[rows].T @ one[rows]) for one in y]

    def right(weights: list[Tensor], rows: Tensor) -> list[float]:
        return [((x[rows] @ w).argmax(-1) == one[rows].argmax(-1)).float().mean().item() for w, one in zip(weights, y, strict=True)]

    tried = torch.tensor([right(maps(inner, penalty), checked) for penalty in PENALTIES]).argmax(0).tolist()
    final = {number: right(maps(fitted, PENALTIES[number]), tested) for number in set(tried)}
    return [final[number][i] for i, number in enumerate(tried)]


def centred(x: Tensor, rows: list[dict]) -> Tensor:
    "The vectors minus the mean vector of their word: what the sentence has added to it."
    types = sorted({row["type"] for row in rows})
    number = torch.tensor([types.index(row["type"]) for row in rows])
    means = torch.zeros(len(types), x.shape[1]).index_add(0, number, x) / number.bincount()[:, None]
    return x - means[number]


def controls(rows: list[dict], task: str, dice: random.Random) -> list:
    "For each word a random label, always the same one, drawn as often as the labels of the task."
    labels = [row[task] for row in rows]
    of_type = {kind: dice.choice(labels) for kind in sorted({row["type"] for row in rows})}
    return [of_type[row["type"]] for row in rows]


def splits(rows: list[dict], task: str, dice: random.Random) -> dict[str, tuple[Tensor, Tensor]]:
    "Rows to fit and to test on: other sentences with the same words, and other words."
    if task == "animal or thing":                                    # no context of the test is fitted on
        tested = set(dice.sample(range(len(ANIMALS)), len(ANIMALS) // 3))
        words = set(dice.sample(AMBIGUOUS, len(AMBIGUOUS) // 2))
        is_test = [row["context"] in tested for row in rows]
        is_new = [row["type"] in words for row in rows]
        same = ([i for i, t in enumerate(is_test) if not t], [i for i, t in enumerate(is_test) if t])
        new = ([i for i, t in enumerate(is_test) if not t and not is_new[i]], [i for i, t in enumerate(is_test) if t and is_new[i]])
    else:
        border = int(SENTENCES * TRAINED)
        same = ([i for i, row in enumerate(rows) if row["sentence"] < border], [i for i, row in enumerate(rows) if row["sentence"] >= border])
        new = ([i for i, row in enumerate(rows) if row["half"] == 0], [i for i, row in enumerate(rows) if row["half"] == 1])
    out = {}
    for name, (fitted, tested) in (("same words", same), ("new words", new)):
        dice.shuffle(fitted)
        out[name] = torch.tensor(fitted), torch.tensor(tested)
    return out


def most_frequent(rows: list[dict], task: str, fitted: Tensor, tested: Tensor) -> float:
    usual = Counter(rows[i][task] for i in fitted.tolist()).most_common(1)[0][0]
    return sum(rows[i][task] == usual for i in tested.tolist()) / len(tested)


def material(seed: int) -> list[tuple[list, list[dict]]]:
    "Two lots of sentences with their labelled words: of the grammar, and with ambiguous words."
    dice = random.Random(seed)
    made = [sentence(dice, number % 2) for number in range(SENTENCES)]
    rows = [{**one, "sentence": number, "half": number % 2} for number, (_, labelled) in enumerate(made) for one in labelled]
    texts, ambiguous = senses()
    return [([words for words, _ in made], rows), (texts, [{**one, "sentence": number} for number, one in enumerate(ambiguous)])]


def scores(task: str, layers: list[Tensor], mixed: list[Tensor], bags: Tensor, rows: list[dict], dice: random.Random) -> dict:
    "The accuracies by layer, for one random split: plain and centred vectors with their control labels, and centred vectors of new words."
    true, fake, split = [row[task] for row in rows], controls(rows, task, dice), splits(rows, task, dice)
    context = [centred(x, rows) for x in layers]
    out = {"labels": len(set(true)), "fitted": len(split["same words"][0]), "tested": len(split["same words"][1])}
    for kind, vectors_of_kind in {"plain": layers, "centred": context}.items():
        if kind == "centred" and not TASKS[task][1]:
            continue
        right = [probe(x, [true, fake], *split["same words"]) for x in vectors_of_kind]
        out[kind] = {"true": [one for one, _ in right], "control": [one for _, one in right]}
    if TASKS[task][1]:
        fitted, tested = new = split["new words"]
        seen, asked = ({rows[i]["type"] for i in part.tolist()} for part in new)
        assert not seen & asked, f"{task}: words are fitted and tested"
        out["new words"] = {
            "trained": [probe(x, [true], *new)[0] for x in context], "plain": [probe(x, [true], *new)[0] for x in layers],
            "shuffled": [probe(centred(x, rows), [true], *new)[0] for x in mixed], "bag": probe(centred(bags, rows), [true], *new)[0],
            "majority": most_frequent(rows, task, fitted, tested), "fitted": len(fitted), "tested": len(tested)}
    return out


def average(found: list):
    "The same numbers, lists and dictionaries, averaged."
    if isinstance(found[0], dict):
        return {key: average([one[key] for one in found]) for key in found[0]}
    if isinstance(found[0], list):
        return [average(list(values)) for values in zip(*found)]
    return sum(found) / len(found)


def probed(seed: int) -> dict:
    "For each task what `scores` says; for the few ambiguous words the mean of several splits."
    out = {}
    for texts, rows in material(seed):
        places = [[] for _ in texts]
        for row in rows:
            places[row["sentence"]].append(row["at"])
        layers, bags = vectors(texts, places)
        with shuffled(seed):
            mixed, _ = vectors(texts, places)
        for task in TASKS:
            if not (kept := [i for i, row in enumerate(rows) if task in row]):
                continue
            dice = random.Random(seed)
            if task == "the place":                                  # the places that occur at least thirty times
                usual = {place for place, count in Counter(rows[i][task] for i in kept).items() if count >= 30}
                kept = [i for i in kept if rows[i][task] in usual]
            mine = [rows[i] for i in kept]
            repeats = SPLITS if task == "animal or thing" else 1
            out[task] = average([scores(task, [x[kept] for x in layers], [x[kept] for x in mixed], bags[kept], mine, dice) for _ in range(repeats)])
    return out


def reach() -> dict[str, list[float]]:
    "For each layer the mean attention weight on tokens at most one, two to four, and more places away; and with even weights."
    dice, total, even, count = random.Random(7), torch.zeros(LAYERS, 3), torch.zeros(3), 60
    for number in range(count):
        words, _ = sentence(dice, number % 2)
        places = torch.arange(len(words))
        away = (places - places[:, None]).abs()
        bands = torch.stack([away <= 1, (away > 1) & (away <= 4), away > 4]).float()
        _, _, heads = minilm.read(" ".join(words[1:-1]))
        for layer, (q, k, _) in enumerate(heads):
            total[layer] += torch.einsum("hts,bts->b", attention_weights(q, k), bands) / q.shape[0] / len(words) / count
        even += bands.mean((1, 2)) * 1 / count
    return {"layers": total.tolist(), "even": even.tolist()}


def later(x: Tensor, layer: int) -> Tensor:
    "The normalised sentence vector, from the vectors (T, d) after that layer."
    for number in range(layer, LAYERS):
        at = f"encoder.layer.{number}."
        q, k, v = (minilm.linear(x, f"{at}attention.self.{role}").unflatten(-1, (minilm.CONFIG["num_attention_heads"], -1)).transpose(0, 1)
                   for role in ("query", "key", "value"))
        found = F.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1)
        x = minilm.norm(x + minilm.linear(found, f"{at}attention.output.dense"), f"{at}attention.output.LayerNorm")
        feed = minilm.linear(F.gelu(minilm.linear(x, f"{at}intermediate.dense")), f"{at}output.dense")
        x = minilm.norm(x + feed, f"{at}output.LayerNorm")
    return F.normalize(x.mean(0), dim=0)


def used() -> dict:
    """How far the sentence vector turns when the directions in which the labels of a property differ are set to their mean, after the
    layer in the middle, and when as many random directions are; the share of the variance that is in those directions;
    and how far the vectors of two sentences are apart."""
    (texts, rows), _ = material(SEEDS[0])
    texts, rows = texts[:USED], [row for row in rows if row["sentence"] < USED]
    middle = LAYERS // 2
    x = [states(words)[middle] for words in texts]
    whole = torch.stack([later(one, middle) for one in x])
    assert torch.allclose(whole[0], F.normalize(states(texts[0])[-1].mean(0), dim=0), atol=1e-5)
    every = torch.cat(x)
    mean, generator, out = every.mean(0), torch.Generator().manual_seed(0), []

    def effect(basis: Tensor) -> dict[str, float]:
        turned = torch.stack([later(one - (one - mean) @ basis @ basis.T, middle) for one in x])
        return {"turned": (1 - (whole * turned).sum(-1)).mean().item(), "variance": (((every - mean) @ basis)**2).sum().item() / ((every - mean)**2).sum().item()}

    for task in ("the adjective before", "the place", "subject or not", "main or relative clause", "who does it"):
        mine = [row for row in rows if task in row]
        vectors_here = centred(torch.stack([x[row["sentence"]][row["at"]] for row in mine]), mine)
        labels = [row[task] for row in mine]
        kept = [label for label, count in Counter(labels).items() if count >= 10]
        means = torch.stack([vectors_here[torch.tensor([one == label for one in labels])].mean(0) for label in sorted(kept, key=str)])
        basis = torch.linalg.svd(means - means.mean(0))[2][:len(kept) - 1].T
        random_ones = [effect(torch.linalg.qr(torch.randn(basis.shape, generator=generator))[0]) for _ in range(3)]
        out.append({"task": task, "directions": basis.shape[1], "property": effect(basis),
                    "random": {key: sum(one[key] for one in random_ones) / 3 for key in random_ones[0]}})
    cosines = whole @ whole.T
    return {"layer": middle, "sentences": USED, "properties": out, "apart": (1 - cosines[~torch.eye(USED, dtype=torch.bool)]).mean().item()}


def measure() -> dict:
    dice = random.Random(0)
    return {
        "model": "all-MiniLM-L6-v2", "layers": LAYERS, "width": minilm.CONFIG["hidden_size"], "sentences": SENTENCES, "senses": len(ANIMALS) + len(THINGS),
        "ambiguous": AMBIGUOUS, "nouns": len(NOUNS), "splits": SPLITS, "kinds": {task: kind for task, (kind, _) in TASKS.items()},
        "examples": [" ".join(sentence(dice, number % 2)[0][1:-1]) for number in range(6)], "reach": reach(), "used": used(),
        "contexts": [ANIMALS[0], THINGS[0]], "runs": [probed(seed) for seed in SEEDS]}


if __name__ == "__main__":
    with torch.inference_mode():
        print(record("probing", measure(), __file__))
