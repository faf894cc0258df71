"""Train the language model that runs in a page, keep its matrices as whole numbers, and write both beside the figures.

    make record NAME=page_model

A GPT of chapter 7 on the embedded text, by characters, with warm-up and a cosine. Each row of a matrix is kept as whole
numbers from -127 to 127 and one scale; vectors stay as they are. The file `js/page_model.js` holds the parameters for the page
(`interactive.page_weights` reads it in Python), the record what was measured. `--steps 500` makes a first version in two minutes.
"""
import argparse
import base64
import hashlib
import json
import math
import os

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from builder import PACKAGE, ROOT
from builder.records import record
from transformer_course.architectures import GPT
from transformer_course.attention import attention_weights
from transformer_course.config import Config
from transformer_course.interactive import page_weights
from transformer_course.prediction import (
    CharTokenizer,
    evaluate,
    generate,
    load_corpus,
    next_token_loss,
    random_batches,
    sequential_batches,
    train_validation_split,
)

FILE = ROOT / PACKAGE / "js" / "page_model.js"
STEPS, WARM_UP, LEARNING_RATE = 5000, 100, 5e-3
SIZES = {"batch_size": 8, "max_len": 128}
PROMPT = "The value of the"
LEARNT = 6000  # characters of the text that a small model learns from in the page


def whole_sequence(q, k, v, mask=None):
    return scaled_dot_product_attention(q, k, v, attn_mask=mask)


def train(model, batches, steps: int, seed_loss: list[float]) -> None:
    "Chapter 0's loop with a warm-up and a cosine."
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    factor = lambda step: min((step + 1) / WARM_UP, 0.5 * (1 + math.cos(math.pi * step / steps)))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    model.train()
    for step in range(steps):
        loss = next_token_loss(model, next(batches))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        seed_loss.append(loss.item())
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step}: {sum(seed_loss[-100:]) / len(seed_loss[-100:]):.3f}", flush=True)


@torch.no_grad()
def sharpest_head(model: GPT, tokens: torch.Tensor) -> dict:
    "The head that spreads its weights least, apart from the first token: its number through all layers, and its weights in thousandths."
    seen = []

    def watched(q, k, v, mask=None):
        seen.append(attention_weights(q, k, mask)[0])
        return seen[-1] @ v

    same = GPT(model.config.replace(dropout=0.0), attention_fn=watched)
    same.load_state_dict(model.state_dict())
    same(tokens)
    heads = torch.cat(seen)
    best = int(heads[:, 2:, 1:].amax(-1).mean(-1).argmax())
    return {"head": best, "weights": (1000 * heads[best]).round().int().tolist()}


def quantised(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "Whole numbers from -127 to 127, and the scale of each row."
    scales = np.abs(matrix).max(1) / 127
    return np.rint(matrix / np.where(scales, scales, 1)[:, None]).astype(np.int8), scales.astype(np.float32)


def pack(model: GPT, characters: list[str]) -> dict:
    "The parameters as text: whole numbers of all matrices after one another, then scales and vectors."
    parameters = {name: tensor.numpy() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    shapes, bytes_, floats = {}, [], []
    for name, values in parameters.items():
        shapes[name] = list(values.shape)
        if values.ndim == 2:
            whole, values = quantised(values)
            bytes_.append(whole.tobytes())
        floats.append(values.astype("<f4").tobytes())
    config = {name: getattr(model.config, name) for name in ("d_model", "n_layers", "n_heads", "d_ff", "max_len", "norm_eps")}
    text = {"int8": base64.b64encode(b"".join(bytes_)).decode(), "float32": base64.b64encode(b"".join(floats)).decode()}
    return {"config": config, "characters": characters, "shapes": shapes, **text}


def write(packed: dict) -> str:
    "Write the file in one go; its digest."
    text = json.dumps(packed, separators=(",", ":")).replace("<", "\\u003c")
    text = f"(globalThis.courseData ??= {{}}).page_model = {text};\n"
    new = FILE.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, FILE)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=STEPS)
    steps = parser.parse_args().steps
    torch.manual_seed(0)
    text = load_corpus()
    chars = CharTokenizer(text)
    learnt, kept_back = train_validation_split(torch.tensor(chars.encode(text)))
    config = Config(vocab_size=chars.vocab_size, max_len=128, d_model=112, n_layers=4, n_heads=4, positions="learned", activation="gelu_tanh", tie_embeddings=True, dropout=0.05)
    model, history = GPT(config, attention_fn=whole_sequence), []
    with torch.no_grad():                                # GPT-2's spread of 0.02 is for 768 numbers a token; train.js does the same
        for matrix in (one for one in model.parameters() if one.dim() == 2):
            matrix *= math.sqrt(768 / config.d_model)
    train(model, random_batches(learnt, **SIZES), steps, history)
    validation = sequential_batches(kept_back, **SIZES)
    before = evaluate(model, validation)
    digest = write(pack(model, chars.characters))
    parameters = {name: torch.from_numpy(values) for name, values in page_weights().items()}
    model.load_state_dict({**parameters, "lm_head.weight": parameters["token_embedding.weight"]})
    prompt = torch.tensor([chars.encode(PROMPT)])
    sample = generate(model, prompt, config.max_len - prompt.shape[1], temperature=0.5, generator=torch.Generator().manual_seed(0))
    result = {
        "parameters": sum(p.numel() for p in model.parameters()), "steps": steps, "tokens": steps * SIZES["batch_size"] * SIZES["max_len"],
        "training loss": sum(history[-100:]) / 100, "loss": before, "loss of the page": evaluate(model, validation),
        "bytes": FILE.stat().st_size, "digest": digest, "prompt": PROMPT, "sample": chars.decode(sample[0].tolist()), "preview": sharpest_head(model, prompt), "text": text[:LEARNT],
    }
    print({name: value for name, value in result.items() if name not in ("text", "preview")})
    print(record("page_model", result, __file__))
