"""Greedy generation by `FastDecoder`, by chapter 9's `generate`, by a loop written by hand over a preallocated cache, by
`transformers` and by nanoGPT (where $NANOGPT names a checkout), all with the same weights.

Tokens per second of CPU time, on one thread, in rounds that take all contenders in turn; medians of the ratios inside a round.
How fast this machine reads memory is measured in the same rounds.
"""
import os

os.environ["OMP_NUM_THREADS"] = "1"

import contextlib
import importlib.util
import io
import sys
import time
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from builder.records import record
from transformer_course.architectures import GPT
from transformer_course.config import PRESETS, Config
from transformer_course.fast_decoding import FastDecoder
from transformer_course.kv_cache import generate

torch.set_num_threads(1)
PROMPT, NEW = 32, 128
SMALL = Config(vocab_size=65, max_len=1024, d_model=384, n_layers=6, n_heads=6, positions="learned", tie_embeddings=True)
RACES = {"6 x 384": (SMALL, 1, 5), "6 x 384, 8 texts": (SMALL, 8, 3), "GPT-2 small": (PRESETS["gpt2"].replace(activation="gelu"), 1, 3)}


def ours(config):
    "Our model, with biases and norms that are not at their first values."
    torch.manual_seed(1)
    model = GPT(config).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.data += torch.randn_like(parameter) * 0.02
    return model


def as_gpt2(model) -> dict:
    "The weights of our model by GPT-2's names, with matrices stored as nn.Linear stores them."
    out = {"wte.weight": model.token_embedding.weight, "wpe.weight": model.position_embedding.table.weight,
           "ln_f.weight": model.norm.weight, "ln_f.bias": model.norm.bias}
    for number, layer in enumerate(model.layers):
        heads, feeds = layer.attention.sublayer.heads, layer.feed_forward.sublayer
        for kind in ("weight", "bias"):
            read = torch.cat([getattr(part, kind) for part in (heads.query, heads.key, heads.value)])
            parts = {"ln_1": getattr(layer.attention.norm, kind), "ln_2": getattr(layer.feed_forward.norm, kind), "attn.c_attn": read,
                     "attn.c_proj": getattr(heads.output, kind), "mlp.c_fc": getattr(feeds.up, kind), "mlp.c_proj": getattr(feeds.down, kind)}
            out |= {f"h.{number}.{name}.{kind}": value for name, value in parts.items()}
    return {name: value.detach().clone() for name, value in out.items()}


def by_transformers(model, use_cache):
    config, weights = model.config, as_gpt2(model)
    sizes = dict(vocab_size=config.vocab_size, n_positions=config.max_len, n_embd=config.d_model, n_layer=config.n_layers, n_head=config.n_heads)
    theirs = GPT2LMHeadModel(GPT2Config(**sizes, activation_function="gelu", bos_token_id=0, eos_token_id=None, pad_token_id=0)).eval()
    turned = {name: value.T if "c_" in name and value.dim() == 2 else value for name, value in weights.items()}
    theirs.transformer.load_state_dict(turned)
    theirs.generation_config.eos_token_id = None
    return lambda tokens, new: theirs.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=new, min_new_tokens=new,
                                               do_sample=False, use_cache=use_cache)


def nanogpt(model):
    spec = importlib.util.spec_from_file_location("nanogpt", Path(os.environ["NANOGPT"], "model.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["nanogpt"] = module
    spec.loader.exec_module(module)
    config = model.config
    sizes = dict(vocab_size=config.vocab_size, block_size=config.max_len, n_embd=config.d_model, n_layer=config.n_layers, n_head=config.n_heads)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = module.GPT(module.GPTConfig(**sizes)).eval()
    theirs.transformer.load_state_dict(as_gpt2(model))
    return lambda tokens, new: theirs.generate(tokens, new, top_k=1)


class ByHand:
    "The loop that one writes for speed: packed queries, keys and values, plain tensors, a preallocated cache, PyTorch's functions."

    def __init__(self, model, dtype=torch.float32):
        config, weights = model.config, {name: value.to(dtype) for name, value in as_gpt2(model).items()}
        self.width, self.heads, self.max_len, self.dtype = config.d_model, config.n_heads, config.max_len, dtype
        parts = [f"{name}.{kind}" for name in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj") for kind in ("weight", "bias")]
        self.layers = [[weights[f"h.{number}.{part}"] for part in parts] for number in range(config.n_layers)]
        self.tokens, self.places, self.norm = weights["wte.weight"], weights["wpe.weight"], (weights["ln_f.weight"], weights["ln_f.bias"])

    def step(self, tokens, start):
        (batch, length), width = tokens.shape, self.width
        x, end = self.tokens[tokens] + self.places[start:start + length], start + length
        for kept, (g1, b1, read, bread, mix, bmix, g2, b2, up, bup, down, bdown) in zip(self.cache, self.layers):
            parts = F.linear(F.layer_norm(x, (width,), g1, b1), read, bread).view(batch, length, 3, self.heads, -1)
            q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
            kept[0, :, :, start:end], kept[1, :, :, start:end] = k, v
            found = F.scaled_dot_product_attention(q, kept[0, :, :, :end], kept[1, :, :, :end], is_causal=length > 1)
            x = x + F.linear(found.transpose(1, 2).reshape(batch, length, width), mix, bmix)
            x = x + F.linear(F.gelu(F.linear(F.layer_norm(x, (width,), g2, b2), up, bup)), down, bdown)
        return F.linear(F.layer_norm(x[:, -1], (width,), *self.norm), self.tokens).argmax(-1, keepdim=True)

    @torch.inference_mode()
    def __call__(self, tokens, new):
        shape = len(self.layers), 2, len(tokens), self.heads, tokens.shape[1] + new, self.width // self.heads
        self.cache, out, step = torch.zeros(shape, dtype=self.dtype), [tokens], tokens
        for number in range(new):
            step = self.step(step, 0 if number == 0 else tokens.shape[1] + number - 1)
            out.append(step)
        return torch.cat(out, 1)


def input_major(hand):
    "The same loop, with weights stored input by input."
    for layer in hand.layers:
        layer[:] = [part.T.contiguous().T if part.dim() == 2 else part for part in layer]
    return hand


@torch.inference_mode()
def products_alone(decoder, batch, steps=16):
    "Seconds of all matrix products of a step, and of nothing else."
    config = decoder.config
    x, hidden = torch.randn(batch, config.d_model).to(decoder.dtype), torch.randn(batch, config.d_ff).to(decoder.dtype)
    start = time.process_time()
    for _ in range(steps):
        for block in decoder.blocks:
            block.read(x), block.mix(x, x), block.up(x), block.down(hidden, x)
        decoder.head(x)
    return (time.process_time() - start) / steps


def race(name):
    config, batch, rounds = RACES[name]
    model = ours(config)
    fast, fast16 = FastDecoder(model), FastDecoder(model, torch.bfloat16)
    contenders = {
        "ours": fast.generate,
        "ours, bfloat16": fast16.generate,
        "ours, chapter 9": lambda tokens, new: generate(model, tokens, new, temperature=0),
        "by hand": ByHand(model),
        "by hand, input-major": input_major(ByHand(model)),
        "by hand, bfloat16": ByHand(model, torch.bfloat16),
        "transformers": by_transformers(model, True),
    }
    slow = {"transformers, no cache": by_transformers(model, False)}
    if "NANOGPT" in os.environ:
        slow["nanoGPT"] = nanogpt(model)
    prompts = torch.randint(config.vocab_size, (batch, PROMPT), generator=torch.Generator().manual_seed(0))
    expected = fast.generate(prompts, 12)
    same = {who: (run(prompts, 12) == expected).float().mean().item() for who, run in {**contenders, **slow}.items()}
    weights = sum(p.nbytes for p in model.parameters()) - model.position_embedding.table.weight.nbytes
    kept = 2 * config.n_layers * config.d_model * 4 * batch * (PROMPT + NEW / 2)
    big = torch.ones(max(weights, 1 << 26) // 4)
    seconds, read, products = {who: [] for who in [*contenders, *slow]}, [], []
    middle = torch.randint(config.vocab_size, (batch, PROMPT + NEW // 2))
    for number in range(rounds):
        order = list(contenders)
        for who in order[number % len(order):] + order[:number % len(order)]:
            start = time.process_time()
            contenders[who](prompts, NEW)
            seconds[who].append((time.process_time() - start) / NEW)
        for who, run in slow.items():  # a step at the middle of the text stands for all: its cost grows by the same amount each step
            start = time.process_time()
            run(middle, 2)
            seconds[who].append((time.process_time() - start) / 2)
        products.append(products_alone(fast, batch))
        start = time.process_time()
        for _ in range(4):
            big.sum()
        read.append(4 * big.nbytes / (time.process_time() - start))
    rows = {}
    for who, taken in seconds.items():
        size = 2 if "bfloat16" in who else 1
        rows[who] = {
            "tokens_per_second": batch / median(taken),
            "to_transformers": median(t / s for t, s in zip(seconds["transformers"], taken)),
            "to_by_hand": median(t / s for t, s in zip(seconds["by hand"], taken)),
            "share_of_bound": median((weights + kept) / size / rate / s for rate, s in zip(read, taken)),
            "same_tokens": same[who],
        }
        print(name, who, {key: round(value, 3) for key, value in rows[who].items()}, flush=True)
    shares = median(p / s for p, s in zip(products, seconds["ours"]))
    print(name, "share of the products:", round(shares, 3), flush=True)
    sizes = {"batch": batch, "weight_bytes": weights, "cache_bytes": kept, "read_bytes_per_second": median(read)}
    return {**sizes, "share_of_products": shares, "rows": rows}


if __name__ == "__main__":
    chosen = sys.argv[1:] or list(RACES)
    result = {name: race(name) for name in chosen}
    if not sys.argv[1:]:
        made = {"prompt": PROMPT, "new": NEW, "threads": 1, "processor": torch.backends.cpu.get_cpu_capability(), "races": result}
        print(record("generation_speed", made, __file__))
