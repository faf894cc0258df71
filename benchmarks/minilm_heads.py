"""Survey the heads of a published encoder and record what chapter 3 shows: where they look, which relations they read, how much
they overlap, and what happens without them.

    pip install -e '.[bench]'
    python benchmarks/minilm_heads.py
"""
import random
import re
from collections import Counter
from itertools import combinations

import torch
import torch.nn.functional as F
from minilm import CONFIG, WEIGHTS, linear, norm, read, word_pieces

from transformer_course.attention import attention_weights
from transformer_course.prediction import load_corpus
from transformer_course.records import record

LAYERS, HEADS = CONFIG["num_hidden_layers"], CONFIG["num_attention_heads"]
WIDTH = CONFIG["hidden_size"] // HEADS
SENTENCES = 48
GRAMMAR = 400                                                        # half to choose a head by, half to examine it on

GIVERS = ["mary", "john", "the teacher", "the old gardener", "my sister", "our neighbour", "the doctor", "a tall man"]
VERBS = ["gave", "sent", "showed", "sold", "brought", "offered"]
GIFTS = ["roses", "a letter", "three red apples", "the book", "an old map", "some money", "a small box", "the keys"]
RECEIVERS = ["susan", "peter", "the children", "her brother", "a friend", "the new student", "his aunt", "the king"]
OPENINGS = ["", "yesterday ", "in the morning ", "with a smile ", "after lunch "]
ADVERBS = ["", "quickly ", "happily ", "very slowly ", "never "]
ENDINGS = [".", " last week.", " in the garden.", " again."]
RELATIONS = [("verb", "giver"), ("verb", "gift"), ("verb", "receiver"), ("giver", "verb"), ("gift", "verb"), ("receiver", "verb")]


def sentences() -> list[str]:
    "Plain sentences of 10 to 30 words, spread over the Python documentation, no two alike."
    text = re.sub(r"\n(?!\n)", " ", load_corpus())
    candidates = dict.fromkeys(re.sub(r"\s+", " ", s).strip() for s in re.split(r"(?<=[.])\s+", text))
    plain = [s for s in candidates if re.fullmatch(r"[A-Z][a-z]+(?: [A-Za-z'-]+,?)+ [a-z]+\.", s) and 10 <= len(s.split()) <= 30]
    return plain[::len(plain) // SENTENCES][:SENTENCES]


def weights_of(sentence: str) -> torch.Tensor:
    "The weights of all heads, (layers, heads, T, T)."
    return torch.stack([attention_weights(q, k) for q, k, _ in read(sentence)[2]])


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


def a_gift(generator: random.Random) -> tuple[str, dict[str, int]]:
    "A sentence about a gift, and where its verb and its three nouns stand among the pieces."
    giver, verb, gift, receiver = (generator.choice(words) for words in (GIVERS, VERBS, GIFTS, RECEIVERS))
    opening, adverb, ending = (generator.choice(words) for words in (OPENINGS, ADVERBS, ENDINGS))
    before = f"{opening}{giver} {adverb}".split()
    at = {"giver": len(opening.split()) + len(giver.split()), "verb": len(before) + 1}      # the first piece is [CLS]
    at["gift"] = at["verb"] + len(gift.split())
    at["receiver"] = at["gift"] + 1 + len(receiver.split())
    sentence = " ".join([*before, verb, gift, "to", receiver]) + ending
    nouns = {name: words.split()[-1] for name, words in (("giver", giver), ("gift", gift), ("receiver", receiver))}
    pieces = word_pieces(sentence)
    assert all(pieces[at[name]] == word for name, word in {"verb": verb, **nouns}.items()), sentence
    return sentence, at


def grammar() -> list[dict]:
    "For each relation the head that reads it best, chosen on one half of the sentences and examined on the other."
    generator = random.Random(0)
    found = {relation: torch.zeros(2, LAYERS, HEADS) for relation in RELATIONS}
    distances = {relation: (Counter(), Counter()) for relation in RELATIONS}
    for number in range(GRAMMAR):
        half = number % 2
        sentence, at = a_gift(generator)
        w = weights_of(sentence)
        w[..., [0, -1]] = 0
        w.diagonal(0, -2, -1).zero_()
        strongest = w.argmax(-1)
        for reader, read_ in RELATIONS:
            found[reader, read_][half] += strongest[:, :, at[reader]] == at[read_]
            distances[reader, read_][half][at[read_] - at[reader]] += 1
    out = []
    for relation in RELATIONS:
        chosen, examined = found[relation] / (GRAMMAR // 2)
        layer, head = divmod(chosen.argmax().item(), HEADS)
        distance = distances[relation][0].most_common(1)[0][0]
        out.append({"from": relation[0], "to": relation[1], "head": [layer, head], "found": examined[layer, head].item(),
                    "tokens away": distance, "distance": distances[relation][1][distance] / (GRAMMAR // 2)})
    return out


def overlap() -> dict[str, dict[str, float]]:
    "Cosines of the principal angles between the subspaces of all pairs of heads of a layer, by role."
    out = {}
    for label, part in (("queries", "self.query"), ("keys", "self.key"), ("values", "self.value"), ("what heads write", "output.dense")):
        largest, square = [], []
        for layer in range(LAYERS):
            weight = WEIGHTS[f"encoder.layer.{layer}.attention.{part}.weight"]
            rows = (weight.T if part == "output.dense" else weight).unflatten(0, (HEADS, WIDTH))
            for a, b in combinations(torch.linalg.qr(rows.mT)[0], 2):
                cosines = torch.linalg.svdvals(a.T @ b)
                largest.append(cosines[0])
                square.append((cosines**2).mean())
        out[f"published, {label}"] = {"largest": torch.stack(largest).mean().item(), "mean square": torch.stack(square).mean().item()}
    return out


def sentence_vector(text: str, silenced: set[tuple[int, int]] = frozenset()) -> torch.Tensor:
    "What the model is for: the normalised mean of its last vectors. The silenced (layer, head) write nothing."
    pieces = word_pieces(text)
    x = read(text)[1][0]                                             # the input embedding
    assert len(x) == len(pieces)
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
        "model": "all-MiniLM-L6-v2", "layers": LAYERS, "heads": HEADS, "sentences": texts,
        "even": sum(1 / len(word_pieces(text)) for text in texts) / len(texts),
        "mass": {name: mass.tolist() for name, mass in masses(texts).items()},
        "relation sentences": GRAMMAR, "relations": grammar(), "overlap": overlap(),
        "cosine without head": [[cosine_without({(layer, head)}) for head in range(HEADS)] for layer in range(LAYERS)],
        "cosine without layer": [cosine_without({(layer, head) for head in range(HEADS)}) for layer in range(LAYERS)],
        "cosine of two": cosines[~torch.eye(len(texts), dtype=torch.bool)].mean().item(),
    }


if __name__ == "__main__":
    with torch.inference_mode():
        print(record("minilm_heads", measure(), command="python benchmarks/minilm_heads.py"))
