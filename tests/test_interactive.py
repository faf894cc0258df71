"""Interactive figures, part by part: what Python accepts and says, and the logic of each JavaScript module against Python's."""
import itertools
import json
import math
import re
import subprocess
import sys

import ipykernel
import numpy as np
import pytest
import torch

from builder import ROOT, figure_scripts
from transformer_course import inside, interactive, positions, scaling
from transformer_course.attention import attention, attention_weights, causal_mask
from transformer_course.block import Block, final_norm
from transformer_course.config import PRESETS, Config
from transformer_course.kv_cache import cache_bytes
from transformer_course.multi_head import MultiHeadAttention
from transformer_course.positions import position_vectors
from transformer_course.prediction import LanguageModel

TOKENS = ["the", "cat", "sat", "on"]
WEIGHTS = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.05, 0.05, 0.8, 0.1], [0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 0.3846, 0.6154]])
LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0])
MEASURED = {(): 0.25, ("a",): 0.5, ("b",): 0.375, ("a", "b"): 0.875}
SMALL = Config(vocab_size=50, max_len=16, d_model=24, n_layers=3, n_heads=4, d_ff=56, kind="encoder-decoder", positions="learned")
NAN, INF = float("nan"), float("inf")
ONE, MACHINES = {"gpt2": PRESETS["gpt2"]}, {"h100": scaling.HARDWARE["h100"], "v100": scaling.HARDWARE["v100"]}


def lens_of(text: str) -> torch.Tensor:
    "What the logit lens reads from the model that runs in pages: (stages, T, V)."
    model, tokenizer = inside.course_model()
    return inside.logit_lens(model, torch.tensor([tokenizer.encode(text)]))[:, 0]


LENS = lens_of("The cat")


SEEN = torch.rand(3, 4, 4, generator=torch.manual_seed(2)).tril()
SEEN = SEEN / SEEN.sum(-1, keepdim=True)
FORMED = {"maps": {"late": SEEN, "early": SEEN[:, :2, :2]}, "tokens": TOKENS, "steps": [0, 20, 100], "at": [0, 10, 20, 100], "losses": {"known": [3.0, 2.5, 1.25, 0.125], "new": [3.0, 3.1, 3.2, 3.3]},
          "scores": {"copies": [0.125, 0.25, 0.5, 0.9876]}, "uniform": math.log(32), "caption": "Heads."}


def one_of_each() -> list[interactive.InteractiveFigure]:
    "Every figure once, small."
    vectors = torch.arange(12.0).view(4, 3) / 10 - 0.5
    projections = [torch.eye(3)[:, :2], torch.ones(3, 2), -torch.eye(3)]
    return [interactive.attention_map({"a": WEIGHTS, "b": WEIGHTS.T.contiguous()}, TOKENS, row=1, caption="A map."),
            interactive.attention_steps(vectors, projections, TOKENS, caption="Steps."),
            interactive.mask_growth({"all": torch.ones(4, 4).bool(), "past": causal_mask(4)}, TOKENS, shown=2, caption="Masks."),
            interactive.timeline(8, longest=32, seconds={8: (1e-3, 2e-4)}, caption="Time."),
            interactive.rope_clocks(*torch.randn(2, 6, generator=torch.manual_seed(0)), at=(9, 4), longest=24, trained=8, caption="Rotary positions."),
            interactive.next_token({"th": LOGITS, "ca": LOGITS.flip(0)}, TOKENS, top_k=(2,), caption="Next."),
            interactive.head_switches({"a": WEIGHTS, "b": WEIGHTS.T.contiguous()}, MEASURED, TOKENS, chance=0.25, caption="Heads."),
            interactive.position_map(8, length=6, longest=40, at=(3, 2), caption="Positions."),
            interactive.model_map(SMALL, lengths=(6, 4), caption="A model."),
            interactive.stream_sizes({"pre": torch.arange(1, 10), "post": torch.ones(9)}, depth=4, caption="Sizes."),
            interactive.page_transformer(caption="A model.", text="The cat", learn="the cat sat on the mat. " * 20),
            interactive.cache_growth(SMALL, TOKENS, prompt=2, weights=4e6, memory=1e8, length=64, caption="A cache."),
            interactive.tile_walk(8, 4, tile=(3, 4), causal=True, caption="Tiles."),
            interactive.logit_lens(LENS, "The cat", caption="A lens."),
            interactive.induction_timeline(**FORMED, step=20, row=2),
            interactive.model_calculator({**ONE, "mixtral": PRESETS["mixtral-8x7b"]}, MACHINES, caption="Costs."),
            interactive.scaling_laws(scaling.LAWS, models={"GPT-3": (174.6e9, 300e9)}, caption="Laws."),
            interactive.roofline({**ONE, "mixtral": PRESETS["mixtral-8x7b"]}, MACHINES, caption="Roofs.")]


def test_every_figure_has_a_function_of_its_name():
    assert [figure.name for figure in one_of_each()] == list(interactive.FIGURES)


# --- what Python refuses, and what it says ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "said"), [
    (lambda: interactive.attention_map(WEIGHTS, TOKENS[:3], caption="c"), ["(4, 4)", "3 tokens"]),
    (lambda: interactive.attention_map(WEIGHTS[:, :3], TOKENS, caption="c"), ["(4, 3)", "4 tokens"]),
    (lambda: interactive.attention_map(WEIGHTS, TOKENS, TOKENS[:2], caption="c"), ["(4, 4)", "2 that are read"]),
    (lambda: interactive.attention_map([], [], caption="c"), ["shape (0,)"]),
    (lambda: interactive.attention_map({}, [], caption="c"), ["0 heads"]),
    (lambda: interactive.attention_map([[0.5, NAN], [1, 0]], "ab", caption="c"), ["1 of 4", "nan", "(0, 1)"]),
    (lambda: interactive.attention_map([[0.5, 1], [INF, 0]], "ab", caption="c"), ["1 of 4", "inf", "(1, 0)"]),
    (lambda: interactive.attention_map([[0.5, 1], [0.5]], "ab", caption="c"), ["even rows", "list"]),
    (lambda: interactive.attention_map([["a", "b"], ["c", "d"]], "ab", caption="c"), ["expected numbers"]),
    (lambda: interactive.attention_map(WEIGHTS * 9 - 4, TOKENS, caption="c"), ["from 0 to 1", "-4", "3.2", "scores"]),
    (lambda: interactive.attention_map(WEIGHTS * 3, TOKENS, caption="c"), ["from 0 to 1", "0 to 2.4", "scores"]),
    (lambda: interactive.attention_map(torch.eye(3000), range(3000), caption="c"), ["3,000 tokens", "64"]),
    (lambda: interactive.attention_map(torch.ones(40, 1, 1), ["a"], caption="c"), ["40 heads", "32"]),
    (lambda: interactive.attention_map(WEIGHTS[None, None], TOKENS, caption="c"), ["axes", "(1, 4, 4)"]),
    (lambda: interactive.attention_map(WEIGHTS, TOKENS, row=4, caption="c"), ["row", "0 to 3", "4"]),
    (lambda: interactive.attention_map(WEIGHTS, TOKENS, caption=" "), ["caption=' '"]),
    (lambda: interactive.attention_map(WEIGHTS, caption="c"), ["without rows", "(weights, rows)", "Tensor of length 4"]),
    (lambda: interactive.attention_map({}, caption="c"), ["names of sentences", "length 0"]),
    (lambda: interactive.attention_map({"one": WEIGHTS}, caption="c"), ["'one'", "(weights, rows)", "Tensor"]),
    (lambda: interactive.attention_map({"one": (WEIGHTS, TOKENS), "two": (WEIGHTS, TOKENS[:3])}, caption="c"), ["(4, 4)", "3 tokens"]),
    (lambda: interactive.attention_map({"one": ({"a": WEIGHTS}, TOKENS), "two": ({"b": WEIGHTS}, TOKENS)}, caption="c"), ["'two'", "heads b", "has a"]),
    (lambda: interactive.attention_map({str(n): (WEIGHTS, TOKENS) for n in range(9)}, caption="c"), ["9 sentences", "8"]),
    (lambda: interactive.rope_clocks([1, 2, 3], [1, 2, 3], caption="c"), ["query", "3 components", "paired"]),
    (lambda: interactive.rope_clocks([1, 2], [1, 2, 3, 4], caption="c"), ["query of 2", "key of 4"]),
    (lambda: interactive.rope_clocks([1, NAN], [1, 2], caption="c"), ["query", "1 of 2", "nan"]),
    (lambda: interactive.rope_clocks(torch.ones(64), torch.ones(64), caption="c"), ["64 components", "16"]),
    (lambda: interactive.rope_clocks([1, 2], [1, 2], at=(0, 64), caption="c"), ["position", "0 to 63", "64"]),
    (lambda: interactive.rope_clocks([1, 2], [1, 2], at=(0.5, 1), caption="c"), ["position", "whole number", "0.5"]),
    (lambda: interactive.rope_clocks([1, 2], [1, 2], longest=10**6, caption="c"), ["longest", "4096"]),
    (lambda: interactive.rope_clocks([1, 2], [1, 2], bases=(0,), caption="c"), ["base=0", "more than 0"]),
    (lambda: interactive.rope_clocks([1, 2], [1, 2], bases=(), caption="c"), ["bases is empty"]),
    (lambda: interactive.rope_clocks([1, 2], [1, 2], layout="thirds", caption="c"), ["'thirds'", "half", "interleaved"]),
    (lambda: interactive.rope_clocks([1, 2], [1, 2], trained=64, caption="c"), ["trained", "1 to 63", "64"]),
    (lambda: interactive.rope_clocks([1, 2], [1, 2], trained=8, limits=(2, 1), caption="c"), ["limits", "2", "1"]),
    (lambda: interactive.next_token({"a": LOGITS[:3]}, TOKENS, caption="c"), ["3 logits", "'a'", "4 tokens"]),
    (lambda: interactive.next_token({"a": [1.0, NAN]}, "ab", caption="c"), ["logits", "1 of 2", "nan"]),
    (lambda: interactive.next_token({}, TOKENS, caption="c"), ["no contexts", "4 tokens"]),
    (lambda: interactive.next_token({"a": torch.ones(1000)}, range(1000), caption="c"), ["1,000 tokens", "512"]),
    (lambda: interactive.next_token({str(n): LOGITS for n in range(9)}, TOKENS, caption="c"), ["9 contexts", "8"]),
    (lambda: interactive.next_token({"a": LOGITS}, TOKENS, temperature=-1, caption="c"), ["temperature", "0 to 3", "-1"]),
    (lambda: interactive.next_token({"a": LOGITS}, TOKENS, temperature=NAN, caption="c"), ["temperature", "nan"]),
    (lambda: interactive.next_token({"a": LOGITS}, TOKENS, top_k=(5,), caption="c"), ["top_k", "1 to 4", "5"]),
    (lambda: interactive.head_switches([WEIGHTS] * 2, {(): 0.5}, TOKENS, caption="c"), ["1 of 4 subsets", "accuracy", "1"]),
    (lambda: interactive.head_switches({"a": WEIGHTS}, {(): 0.5, ("b",): 0.5}, TOKENS, caption="c"), ["('b',)", "heads from a"]),
    (lambda: interactive.head_switches({"a": WEIGHTS}, {(): 0.5, "a": 0.5}, TOKENS, caption="c"), ["'a'", "collection"]),
    (lambda: interactive.head_switches([WEIGHTS] * 5, {}, TOKENS, caption="c"), ["5 heads", "4"]),
    (lambda: interactive.head_switches({"a": WEIGHTS}, {(): 0.5, ("a",): NAN}, TOKENS, measure="loss", caption="c"), ["loss", "nan"]),
    (lambda: interactive.head_switches({"a": WEIGHTS}, {(): 0.5, ("a",): 0.9}, TOKENS, chance=-1, caption="c"), ["accuracy", "-1"]),
    (lambda: interactive.head_switches({"a": WEIGHTS}, {(): 0.5, ("a",): 0.9}, TOKENS[:2], caption="c"), ["(4, 4)", "2 tokens"]),
    (lambda: interactive.attention_steps(torch.ones(2, 3), [torch.ones(3, 2)] * 3, "abc", caption="c"), ["2 vectors", "3 tokens"]),
    (lambda: interactive.attention_steps(torch.ones(2, 3), [torch.ones(4, 2)] * 3, "ab", caption="c"), ["width 3", "query", "(4, 2)"]),
    (lambda: interactive.attention_steps(torch.ones(2, 3), [torch.ones(3, 2), torch.ones(3, 4), torch.ones(3, 2)], "ab", caption="c"), ["width 2", "width 4"]),
    (lambda: interactive.attention_steps(torch.ones(2, 3), [torch.ones(3, 2)] * 2, "ab", caption="c"), ["three projections", "got 2"]),
    (lambda: interactive.attention_steps(torch.ones(2, 9), [torch.ones(9, 2)] * 3, "ab", caption="c"), ["9", "8"]),
    (lambda: interactive.attention_steps(torch.full((2, 2), NAN), [torch.ones(2, 2)] * 3, "ab", caption="c"), ["4 of 4", "vectors"]),
    (lambda: interactive.attention_steps([], [[[1]]] * 3, [], caption="c"), ["vectors", "(0,)"]),
    (lambda: interactive.attention_steps(torch.ones(2, 2), [torch.ones(2, 2)] * 3, "ab", row=-1, caption="c"), ["row", "-1"]),
    (lambda: interactive.mask_growth({"past": causal_mask(3)}, TOKENS, caption="c"), ["(3, 3)", "4 tokens"]),
    (lambda: interactive.mask_growth({"past": causal_mask(4) * 2}, TOKENS, caption="c"), ["past", "true and false", "0 to 2"]),
    (lambda: interactive.mask_growth({}, TOKENS, caption="c"), ["no masks", "4 tokens"]),
    (lambda: interactive.mask_growth({"past": []}, [], caption="c"), ["shape (0,)"]),
    (lambda: interactive.mask_growth({"past": causal_mask(5)}, TOKENS, source="ab", caption="c"), ["(5, 5)", "4 tokens"]),
    (lambda: interactive.mask_growth({"past": causal_mask(6)[:, :5]}, TOKENS, source="ab", caption="c"), ["(6, 5)", "6 tokens"]),
    (lambda: interactive.mask_growth({"past": causal_mask(4)}, TOKENS, source=range(30), caption="c"), ["34 tokens", "24"]),
    (lambda: interactive.mask_growth({"past": causal_mask(1000)}, range(1000), caption="c"), ["1,000 tokens", "24"]),
    (lambda: interactive.mask_growth({"past": causal_mask(4)}, TOKENS, shown=0, caption="c"), ["shown", "1 to 4", "0"]),
    (lambda: interactive.timeline(0, caption="c"), ["length", "0"]),
    (lambda: interactive.timeline(100, longest=64, caption="c"), ["length", "64", "100"]),
    (lambda: interactive.timeline(longest=10**6, caption="c"), ["longest", "1024"]),
    (lambda: interactive.timeline(layers=0, caption="c"), ["layers", "0"]),
    (lambda: interactive.timeline(seconds={8: (1.0, NAN)}, caption="c"), ["8 tokens", "nan"]),
    (lambda: interactive.timeline(seconds={8: (1.0, -1.0)}, caption="c"), ["two positive times", "-1"]),
    (lambda: interactive.attention_map(WEIGHTS, TOKENS, row=1.5, caption="c"), ["row", "whole number", "1.5"]),
    (lambda: interactive.timeline(2.5, caption="c"), ["length", "whole number", "2.5"]),
    (lambda: interactive.position_map(7, caption="c"), ["d_model=7", "3 pairs leave 1"]),
    (lambda: interactive.position_map(1024, caption="c"), ["d_model", "2 to 512", "1024"]),
    (lambda: interactive.position_map(length=257, caption="c"), ["length", "2 to 256", "257"]),
    (lambda: interactive.position_map(longest=10**6, caption="c"), ["longest", "1024", "1000000"]),
    (lambda: interactive.position_map(base=INF, caption="c"), ["base=inf", "finite"]),
    (lambda: interactive.position_map(at=(64, 0), caption="c"), ["position", "0 to 63", "64"]),
    (lambda: interactive.position_map(8, at=(0, 8), caption="c"), ["component", "0 to 7", "8"]),
    (lambda: interactive.model_map(SMALL, view="block", caption="c"), ["'block'", "encoder block, decoder block, whole model"]),
    (lambda: interactive.model_map(PRESETS["gpt2"], view="encoder block", caption="c"), ["'encoder block'", "decoder block, whole model"]),
    (lambda: interactive.model_map(SMALL, lengths=(17, 1), caption="c"), ["length", "1 to 16", "17"]),
    (lambda: interactive.model_map(SMALL, lengths=(1, 0), caption="c"), ["length", "1 to 16", "0"]),
    (lambda: interactive.stream_sizes({}, caption="c"), ["0 ways"]),
    (lambda: interactive.stream_sizes({str(n): [1, 2] for n in range(5)}, caption="c"), ["5 ways", "4"]),
    (lambda: interactive.stream_sizes({"a": [1, 2, 3], "b": [1, 2]}, caption="c"), ["b: expected 3", "got 2"]),
    (lambda: interactive.stream_sizes({"a": [1, -2]}, caption="c"), ["a: expected 2 positive", "-2"]),
    (lambda: interactive.stream_sizes({"a": [1]}, caption="c"), ["expected 2", "got 1"]),
    (lambda: interactive.stream_sizes({"a": [1, NAN]}, caption="c"), ["a: 1 of 2", "nan"]),
    (lambda: interactive.stream_sizes({"a": torch.ones(1000)}, caption="c"), ["999 sublayers", "512"]),
    (lambda: interactive.stream_sizes({"a": [1, 2]}, depth=2, caption="c"), ["depth", "1 to 1", "2"]),
    (lambda: interactive.cache_growth(SMALL, [], prompt=1, weights=1, memory=1, caption="c"), ["prompt", "1 to 0"]),
    (lambda: interactive.cache_growth(SMALL, range(30), prompt=1, weights=1, memory=1, caption="c"), ["30 tokens", "24"]),
    (lambda: interactive.cache_growth(SMALL, "ab", prompt=3, weights=1, memory=1, caption="c"), ["prompt", "1 to 2", "3"]),
    (lambda: interactive.cache_growth(SMALL, "ab", prompt=1, weights=NAN, memory=1, caption="c"), ["weights", "nan"]),
    (lambda: interactive.cache_growth(SMALL, "ab", prompt=1, weights=1, memory=1, batch=3, caption="c"), ["batch", "power of 2", "3"]),
    (lambda: interactive.cache_growth(SMALL, "ab", prompt=1, weights=1, memory=1, length=2**21, caption="c"), ["length", "2097152"]),
    (lambda: interactive.tile_walk(33, caption="c"), ["length", "2 to 32", "33"]),
    (lambda: interactive.tile_walk(8, 0, caption="c"), ["width", "0"]),
    (lambda: interactive.tile_walk(8, tile=(4, 9), caption="c"), ["side of a tile", "1 to 8", "9"]),
    (lambda: interactive.scaling_laws({}, caption="c"), ["no laws"]),
    (lambda: interactive.scaling_laws({str(n): scaling.LAWS["hoffmann2022"] for n in range(5)}, caption="c"), ["5 laws", "4"]),
    (lambda: interactive.scaling_laws({"x": (1, 2, 3, 4)}, caption="c"), ["law x", "E, A, B, alpha, beta", "[1.0, 2.0, 3.0, 4.0]"]),
    (lambda: interactive.scaling_laws({"x": (1, 2, 3, 0, 1)}, caption="c"), ["law x", "above 0"]),
    (lambda: interactive.scaling_laws(scaling.LAWS, law="x", caption="c"), ["law='x'", "hoffmann2022"]),
    (lambda: interactive.scaling_laws(scaling.LAWS, flops=1e17, caption="c"), ["flops", "1e+17"]),
    (lambda: interactive.scaling_laws(scaling.LAWS, flops=NAN, caption="c"), ["flops", "nan"]),
    (lambda: interactive.scaling_laws(scaling.LAWS, parameters=1e14, caption="c"), ["1e6 to 1e13", "the first model has 1e+22 and 1e+14"]),
    (lambda: interactive.scaling_laws(scaling.LAWS, models={"x": (1e9, -1)}, caption="c"), ["model x", "parameters, tokens"]),
    (lambda: interactive.scaling_laws(scaling.LAWS, models={"x": (1e9, 1e5)}, caption="c"), ["1e18 to 1e26", "x has 6e+14 and 1e+09"]),
    (lambda: interactive.model_calculator({}, MACHINES, caption="c"), ["no models"]),
    (lambda: interactive.model_calculator({str(n): PRESETS["gpt2"] for n in range(9)}, MACHINES, caption="c"), ["9 models", "8"]),
    (lambda: interactive.model_calculator({"b": PRESETS["bert-base"]}, MACHINES, caption="c"), ["decoders", "kind='encoder'"]),
    (lambda: interactive.model_calculator({"b": PRESETS["gpt2"].replace(positions="alibi")}, MACHINES, caption="c"), ["ALiBi", "b with"]),
    (lambda: interactive.model_calculator({"b": PRESETS["gpt2"].replace(dropout=0.1)}, MACHINES, caption="c"), ["dropout=0.1"]),
    (lambda: interactive.model_calculator(ONE, {}, caption="c"), ["no machines"]),
    (lambda: interactive.model_calculator(ONE, {"x": (1e12, 1e9)}, caption="c"), ["machine x", "operations, bandwidth, memory", "[1000000000000.0, 1000000000.0]"]),
    (lambda: interactive.model_calculator(ONE, {"x": (1e12, 0, 1)}, caption="c"), ["machine x", "above 0"]),
    (lambda: interactive.model_calculator(ONE, {"x": (1e12, INF, 1)}, caption="c"), ["machine x", "not finite"]),
    (lambda: interactive.model_calculator(ONE, MACHINES, model="gpt", caption="c"), ["model='gpt'", "gpt2"]),
    (lambda: interactive.model_calculator(ONE, MACHINES, machine="x", caption="c"), ["machine='x'", "h100"]),
    (lambda: interactive.model_calculator(ONE, MACHINES, n_tokens=0, caption="c"), ["n_tokens", "got 0"]),
    (lambda: interactive.model_calculator(ONE, MACHINES, chips=1000, caption="c"), ["chips", "power of 2", "1000"]),
    (lambda: interactive.model_calculator(ONE, MACHINES, price=-1, caption="c"), ["price", "-1"]),
    (lambda: interactive.model_calculator(ONE, MACHINES, price=NAN, caption="c"), ["price", "nan"]),
    (lambda: interactive.roofline({}, MACHINES, caption="c"), ["no models"]),
    (lambda: interactive.roofline({str(n): PRESETS["gpt2"] for n in range(9)}, MACHINES, caption="c"), ["9 models", "8"]),
    (lambda: interactive.roofline({"b": PRESETS["bert-base"]}, MACHINES, caption="c"), ["decoders", "kind='encoder'"]),
    (lambda: interactive.roofline({"b": PRESETS["gpt2"].replace(positions="alibi")}, MACHINES, caption="c"), ["ALiBi", "b with"]),
    (lambda: interactive.roofline(ONE, {}, caption="c"), ["no machines"]),
    (lambda: interactive.roofline(ONE, {str(n): (1, 1, 1) for n in range(9)}, caption="c"), ["9 machines", "8"]),
    (lambda: interactive.roofline(ONE, {"x": (1e12, 1e9)}, caption="c"), ["machine x", "operations, bandwidth, memory", "[1000000000000.0, 1000000000.0]"]),
    (lambda: interactive.roofline(ONE, {"x": (1e12, -1, 1)}, caption="c"), ["machine x", "above 0"]),
    (lambda: interactive.roofline(ONE, {"x": (1e12, NAN, 1)}, caption="c"), ["machine x", "not finite"]),
    (lambda: interactive.roofline(ONE, MACHINES, model="gpt", caption="c"), ["model='gpt'", "gpt2"]),
    (lambda: interactive.roofline(ONE, MACHINES, machine="x", caption="c"), ["machine='x'", "h100"]),
    (lambda: interactive.roofline(ONE, MACHINES, batch=0, caption="c"), ["batch", "1 to 4096", "0"]),
    (lambda: interactive.roofline(ONE, MACHINES, batch=8192, caption="c"), ["batch", "1 to 4096", "8192"]),
    (lambda: interactive.roofline(ONE, MACHINES, batch=12, caption="c"), ["batch", "power of 2", "12"]),
    (lambda: interactive.roofline(ONE, MACHINES, batch=2.5, caption="c"), ["batch", "2.5"]),
    (lambda: interactive.roofline(ONE, MACHINES, prompt=0, caption="c"), ["prompt", "1 to 1024", "0"]),
    (lambda: interactive.roofline(ONE, MACHINES, prompt=1025, caption="c"), ["prompt", "1 to 1024", "1025"]),
    (lambda: interactive.stream_sizes({"a": [1, 2]}, scale="root", caption="c"), ["'root'", "logarithmic nor linear"]),
    (lambda: interactive.page_transformer(learn="a" * 199, caption="c"), ["199 characters", "200"]),
    (lambda: interactive.logit_lens(LENS, "", caption="c"), ["1 to 128 characters", "got 0"]),
    (lambda: interactive.logit_lens(LENS, "a" * 129, caption="c"), ["1 to 128 characters", "got 129"]),
    (lambda: interactive.logit_lens(LENS, "Thé cat", caption="c"), [f"{LENS.shape[2]} characters", "é"]),
    (lambda: interactive.logit_lens(LENS, "The cats", caption="c"), ["(5, 7,", "5 stages of 8 characters"]),
    (lambda: interactive.logit_lens(LENS[:4], "The cat", caption="c"), ["(4, 7,", "5 stages"]),
    (lambda: interactive.logit_lens(LENS[None], "The cat", caption="c"), ["stages, characters, tokens", "(1, 5, 7,"]),
    (lambda: interactive.logit_lens(LENS[..., 1:], "The cat", caption="c"), [f"{LENS.shape[2]} tokens"]),
    (lambda: interactive.logit_lens(torch.where(LENS == LENS.max(), NAN, LENS), "The cat", caption="c"), ["not finite", "nan"]),
    (lambda: interactive.logit_lens(LENS, "The cat", place=7, caption="c"), ["place", "0 to 6", "7"]),
    (lambda: interactive.logit_lens(LENS, "The cat", stage=5, caption="c"), ["stage", "0 to 4", "5"]),
    *[(lambda parts=parts: interactive.induction_timeline(**FORMED | parts), said) for parts, said in [
        ({"maps": {}}, ["0 heads", "3 steps"]), ({"maps": {str(n): SEEN for n in range(5)}}, ["5 heads", "4"]), ({"maps": {"a": SEEN[:2]}}, ["(2, 4, 4)", "3 steps", "4 tokens"]), ({"maps": {"a": SEEN[:, :3]}}, ["(3, 3, 4)"]),
        ({"maps": {"a": SEEN}, "tokens": TOKENS[:3]}, ["(3, 4, 4)", "3 tokens"]), ({"maps": {"a": SEEN[0]}}, ["steps, readers, read", "(4, 4)"]), ({"maps": {"a": SEEN * 5}}, ["from 0 to 1", "to 5"]), ({"maps": {"a": SEEN.mT}}, ["later tokens", "(0, 0, 1)", "causal"]),
        ({"maps": {"a": SEEN * NAN}}, ["not finite"]), ({"tokens": range(65), "maps": {"a": SEEN}}, ["65 tokens", "64"]), ({"steps": [0, 30, 100]}, ["nothing was measured", "[30]", "[0, 10, 20, 100]"]), ({"steps": [0, 100, 20]}, ["steps", "rise"]),
        ({"steps": [0, 0.5, 100]}, ["steps", "whole numbers"]), ({"at": [-1, 0, 20, 100]}, ["at", "rise from 0"]), ({"steps": range(65), "at": range(65)}, ["65 steps", "64"]), ({"step": 10}, ["step=10", "[0, 20, 100]"]), ({"row": 4}, ["row", "0 to 3", "4"]),
        ({"losses": {"known": [1, 2]}}, ["loss 'known'", "2 values", "4 steps"]), ({"losses": {"known": [1, 2, 3, INF]}}, ["loss 'known'", "not finite"]), ({"losses": {"known": [1, 2, 3, -1]}}, ["loss 'known'", "-1"]), ({"losses": {str(n): [1, 2, 3, 4] for n in range(3)}}, ["3 curves of a loss", "2"]),
        ({"scores": {"a": [0, 0.5, 1, 1.5]}}, ["score 'a'", "from 0 to 1", "1.5"]), ({"uniform": 0}, ["uniform", "0"])]],
    (lambda: interactive.module("pie_chart"), ["pie_chart", "attention_map"]),
])
def test_bad_input_is_refused_and_both_sides_are_named(call, said):
    with pytest.raises(ValueError) as error:
        call()
    assert all(part in str(error.value) for part in said), error.value


def test_a_row_may_be_a_number_of_numpy_or_pytorch():
    for row in (np.int64(2), torch.tensor(2)):
        assert bundle(interactive.attention_map(WEIGHTS, TOKENS, row=row, caption="c")) is not None


@pytest.mark.parametrize("weights", [
    WEIGHTS, WEIGHTS.double().requires_grad_(), WEIGHTS.to(torch.bfloat16), WEIGHTS.numpy(), WEIGHTS.tolist(), list(WEIGHTS), [WEIGHTS], WEIGHTS[None], {"head": WEIGHTS},
], ids=["float", "grad", "bfloat16", "array", "lists", "rows", "list of heads", "heads", "mapping"])
def test_weights_come_in_every_form(weights):
    shown = interactive.attention_map(weights, TOKENS, caption="c")
    [sentence] = shown.data["sentences"]
    assert len(sentence["weights"]) == 1 and sentence["columns"] is None
    assert np.abs(np.array(sentence["weights"][0]) - 1000 * WEIGHTS.numpy()).max() <= (3 if getattr(weights, "dtype", None) == torch.bfloat16 else 0.5001)


def test_tokens_may_be_anything():
    odd = ["<b>", "", "\n", "\ud800", "𝄞", '"', "a\x00b", 7, None]
    shown = interactive.attention_map(np.eye(9), odd, caption="c")
    json.dumps(dict(shown.data)).encode("utf-8")
    [sentence] = shown.data["sentences"]
    assert sentence["rows"][3] == "?" and sentence["rows"][7:] == ["7", "None"]
    shown.to_html(alone=True).encode("utf-8")


@pytest.mark.parametrize("alone", [True, False])
def test_nothing_in_a_token_is_markup(alone):
    evil = "</script><img src=x onerror=alert(1)><!--"
    shown = interactive.mask_growth({evil: np.eye(2)}, [evil, "&amp;"], caption=evil)
    text = shown.to_html(alone=alone)
    assert "<img" not in text and "<!--" not in text and text.count("</script>") == 1 + alone


def test_words_say_the_numbers():
    said = [figure.words for figure in one_of_each()]
    assert "Head a: the: the 0.70, cat 0.10, sat 0.10, on 0.10" in said[0] and "on: the 0.00, cat 0.00, sat 0.38, on 0.62" in said[0]
    assert "past: the 1, cat 2, sat 3, on 4." in said[2] and "all: the 4, cat 4, sat 4, on 4." in said[2]
    assert "To read 8 tokens: 8 and 1; to write them: 8 and 8." in said[3]
    assert "To read 8 tokens: 10 and 3; to write them: 24 and 24." in interactive.timeline(8, layers=3, caption="c").words
    assert "a query and a key of 6 numbers in 3 pairs, which turn by 57.3, 2.66, 0.123 degrees a token" in said[4] and "as at every distance of 5" in said[4]
    p, q = torch.softmax(LOGITS, 0), torch.softmax(LOGITS.flip(0), 0)
    entropy = torch.distributions.Categorical(p).entropy().exp()
    assert f"After “th”: the {p[0]:.2f}, cat {p[1]:.2f}, sat {p[2]:.2f}, on {p[3]:.2f}; perplexity {entropy:.1f}." in said[5] and f"After “ca”: on {q[3]:.2f}" in said[5]
    assert "The accuracy by the heads that are on. None: 0.25. a: 0.5. b: 0.375. a, b: 0.875. Guessing: 0.25." in said[6] and "Head a: the largest is 0.80, cat reads sat." in said[6]


def test_the_words_of_positions_say_their_first_numbers():
    said = interactive.position_map(8, length=12, caption="c").words
    for t in (0, 1, 2, 10):
        begins = ", ".join(f"{number:.2f}" for number in positions.sinusoidal(torch.tensor([t]).double(), 8)[0, :6])
        assert f"Position {t} begins with {begins}." in said
    assert "12 positions with 8 components" in said and "A wave is 6.28 positions long in the first pair and 6,283 in the last." in said and "Position 100" not in said


def numel(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


KINDS = {
    "gpt2": {"positions": "learned", "activation": "gelu_tanh", "tie_embeddings": True}, "llama": {"positions": "rope", "activation": "swiglu", "norm": "rms", "bias": False, "n_kv_heads": 2},
    "2017": {"positions": "sinusoidal", "activation": "relu", "norm_first": False}, "experts": {"n_experts": 3, "n_active_experts": 2}, "no bias": {"bias": False, "activation": "swiglu", "positions": "alibi"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_counts_the_parameters_of_the_model(kind):
    "By chapters 0, 3, 4, 5 and 6: the whole, a block, and each part of it."
    config = Config(vocab_size=50, max_len=16, d_model=24, n_layers=3, n_heads=4, d_ff=56, **KINDS[kind])
    torch.manual_seed(0)
    model = LanguageModel(config, [Block(config) for _ in range(3)], positions=position_vectors(config), norm=final_norm(config))
    block, data = model.layers[0], interactive.model_map(config, lengths=(7, 5), caption="c").data
    counts, shown = {view["name"]: view["parameters"] for view in data["views"]}, {part: row["parameters"] for part, row in data["parts"].items()}
    assert counts == {"decoder block": numel(block), "whole model": numel(model)}
    assert shown["decoder attention"] == numel(block.attention.sublayer) and shown["decoder feed"] == numel(block.feed_forward.sublayer)
    assert shown["decoder norm 1"] == shown["decoder norm 2"] == numel(block.attention.norm) and shown["decoder embedding"] == 50 * 24
    assert shown["decoder lm_head"] == (0 if config.tie_embeddings else 50 * 24) and shown.get("decoder final norm", 0) == numel(model.norm)
    assert shown.get("decoder positions", 0) == (numel(model.position_embedding) if model.position_embedding else 0) and "decoder cross" not in shown
    assert data["parts"]["decoder attention"]["times"] == 3 and data["parts"]["decoder lm_head"]["times"] == 1
    assert tuple(model(torch.zeros(2, 5).long()).shape[1:]) == (5, 50) and data["parts"]["decoder lm_head"]["gives"] == "(B, 5, 50)"


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_counts_an_encoder_decoder(kind):
    "One table, two stacks; a decoder block has one more attention and one more norm than an encoder block."
    config = Config(vocab_size=50, max_len=16, d_model=24, n_layers=3, n_heads=4, d_ff=56, kind="encoder-decoder", **KINDS[kind])
    block, data = Block(config), interactive.model_map(config, caption="c").data
    more = numel(block) + numel(MultiHeadAttention(config)) + numel(block.attention.norm)
    rest = 50 * 24 * (1 if config.tie_embeddings else 2) + (numel(position_vectors(config)) if config.positions == "learned" else 0) + (2 * numel(final_norm(config)) if config.norm_first else 0)
    assert {view["name"]: view["parameters"] for view in data["views"]} == {"encoder block": numel(block), "decoder block": more, "whole model": 3 * (numel(block) + more) + rest}


@pytest.mark.parametrize("preset", ["transformer-base", "bert-base", "gpt2", "llama-3-8b", "mixtral-8x7b", "tiny"])
def test_every_part_of_a_map_is_drawn_inside_and_none_on_another(preset):
    shown = interactive.model_map(PRESETS[preset], caption="c")
    drawn = set()
    for view in shown.data["views"]:
        (x0, y0, wide, high), boxes = view["view_box"], view["boxes"]
        assert wide < 350 and len(boxes) >= 6
        drawn |= {box["part"] for box in boxes}
        corners = [(box["x"], box["y"], box["x"] + box["w"], box["y"] + box["h"]) for box in boxes]
        assert all(x0 <= left and y0 <= top and right <= x0 + wide and bottom <= y0 + high for left, top, right, bottom in corners)
        for (a, b, c, d), (e, f, g, h) in itertools.combinations(corners, 2):
            assert c <= e or g <= a or d <= f or h <= b, view["name"]
        assert all(x0 <= x <= x0 + wide and y0 <= y <= y0 + high for line in view["lines"] for x, y in line["points"])
    assert drawn == set(shown.data["parts"]) and all(row["says"].endswith(".") for row in shown.data["parts"].values())
    assert all(f"{row['parameters']:,}" in shown.words and row["gives"] in shown.words for row in shown.data["parts"].values())
    bridges = sum(line["kind"] == "bridge" for view in shown.data["views"] for line in view["lines"])
    assert bridges == (2 if PRESETS[preset].kind == "encoder-decoder" else 0)


def test_several_sentences_are_told_apart_in_words_and_keep_their_own_tokens():
    one, two = {"a": WEIGHTS, "b": WEIGHTS.T.contiguous()}, {"a": WEIGHTS[:3, :2] / 9, "b": WEIGHTS[:3, 2:] / 9}
    shown = interactive.attention_map({"large": (one, TOKENS), "small": (two, "xyz", "pq")}, row=2, caption="c")
    first, second = shown.data["sentences"]
    assert (first["rows"], first["columns"]) == (TOKENS, None) and (second["rows"], second["columns"]) == (["x", "y", "z"], ["p", "q"])
    assert shown.data["heads"] == ["a", "b"] and np.shape(second["weights"]) == (2, 3, 2) and shown.chosen["sentence"] == 0
    assert "“large”. Head a: the: the 0.70" in shown.words and "“small”. Head a: x: p 0.08, q 0.01" in shown.words
    same = interactive.attention_map({"one": (WEIGHTS, TOKENS, TOKENS)}, caption="c")
    assert same.data == {**interactive.attention_map({"one": (WEIGHTS, TOKENS)}, caption="c").data}


def test_measurements_find_their_subset_in_any_order():
    for measured in (MEASURED, {frozenset(on): value for on, value in MEASURED.items()}, {tuple(reversed(on)): value for on, value in reversed(MEASURED.items())}):
        assert interactive.head_switches({"a": WEIGHTS, "b": WEIGHTS}, measured, TOKENS, caption="c").data["measured"] == [0.25, 0.5, 0.375, 0.875]
    numbered = {(): 0.25, (1,): 0.5, (2,): 0.375, (1, 2): 0.875}
    assert interactive.head_switches([WEIGHTS, WEIGHTS], numbered, TOKENS, caption="c").data["measured"] == [0.25, 0.5, 0.375, 0.875]


def test_draws_are_the_same_each_time_and_follow_the_seed():
    draws = lambda **seed: interactive.next_token({"a": LOGITS}, TOKENS, caption="c", **seed).data["random"]
    assert draws() == draws() != draws(seed=1) and len(set(draws())) > 30 and all(0 <= number < 1 for number in draws())


def test_a_figure_in_twelve_heads_says_little_of_each():
    shown = interactive.attention_map(WEIGHTS.expand(12, 4, 4), TOKENS, caption="c")
    assert shown.words.count("cat reads sat") == 12 and "0.80" in shown.words and len(shown.words) < 1000


# --- which stage gets what -------------------------------------------------------------------------------------------------------


def bundle(figure):
    made = figure._repr_mimebundle_()
    return made if isinstance(made, dict) else made[0]


WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.mark.parametrize("figure", one_of_each(), ids=lambda figure: figure.name)
def test_the_page_gets_data_alone_and_others_get_everything(figure, monkeypatch):
    monkeypatch.setenv("COURSE_FIGURES", "page")
    page = bundle(figure)
    assert set(page) == {"text/plain", "text/html"} and figure.words in page["text/plain"]
    assert "export default" not in page["text/html"] and f'data-figure="{figure.name}"' in page["text/html"]
    monkeypatch.setenv("COURSE_FIGURES", "html")
    alone = bundle(figure)
    assert "export default" in alone["text/html"] and set(alone) == set(page)
    assert not re.search(r"""(src|href)\s*=|https?://(?!www\.w3\.org)""", alone["text/html"]), "it asks for something outside"
    monkeypatch.setenv("COURSE_FIGURES", "widget")
    both = bundle(figure)
    assert WIDGET in both and both["text/html"] == alone["text/html"]
    assert bundle(figure)["text/html"] == bundle(one_of_each()[interactive.FIGURES.index(figure.name)])["text/html"], "the same figure twice, two outputs"


def test_the_stage_is_found_without_being_told(monkeypatch):
    monkeypatch.delenv("COURSE_FIGURES", raising=False)
    figure = one_of_each()[0]
    monkeypatch.setitem(sys.modules, "ipykernel", ipykernel)
    assert WIDGET in bundle(figure)                                             # a kernel and anywidget
    monkeypatch.setattr(interactive, "find_spec", lambda name: None)
    assert WIDGET not in bundle(figure) and "export default" in bundle(figure)["text/html"]      # no anywidget
    monkeypatch.undo()
    monkeypatch.delenv("COURSE_FIGURES", raising=False)
    monkeypatch.setitem(sys.modules, "ipykernel", ipykernel)
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    assert WIDGET not in bundle(figure) and "export default" in bundle(figure)["text/html"]      # Colab
    monkeypatch.setenv("COURSE_FIGURES", "paper")
    with pytest.raises(ValueError, match="page, html or widget, got 'paper'"):
        bundle(figure)


def test_the_package_imports_no_widgets():
    code = "import sys; from transformer_course import interactive; interactive.timeline(caption='c'); print(sorted({'anywidget', 'ipywidgets', 'traitlets', 'IPython', 'matplotlib', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_widget_holds_the_state_and_takes_new_data():
    figure, other = one_of_each()[0], interactive.attention_map(WEIGHTS.flip(0), TOKENS, caption="Another.")
    assert figure.widget is figure.widget and figure.widget.row == 1 and figure.widget.caption == "A map."
    heard = []
    figure.widget.observe(lambda change: heard.append(change.new), "row")
    figure.widget.row = 3
    figure.update(other)
    assert heard == [3] and figure.widget.sentences == other.data["sentences"] and figure.widget.heads == ["1"] and figure.widget.caption == "Another."
    assert figure.widget.row == 3, "what the reader chose stays"
    with pytest.raises(ValueError, match="attention_map can't show the data of timeline"):
        figure.update(one_of_each()[3])


def test_pages_get_the_scripts_of_their_figures_and_no_others(tmp_path):
    figure_scripts.write_scripts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"figures.css", "host.js", "page_model.js", *(f"{name}.js" for name in interactive.FIGURES)}
    body = "".join(figure.to_html(alone=False) for figure in one_of_each()[:2] * 2)
    assert figure_scripts.shown(body) == ["attention_map", "attention_steps"]
    assert figure_scripts.shown("a page about <code>data-figure</code>") == []


# --- the modules' own logic, in a browser, one module at a time --------------------------------------------------------------------


@pytest.fixture(scope="module")
def js(browser):
    "`js('timeline', 'm.steps(…)')`: the value of an expression in which `m` is the module, imported from a blob."
    context = browser.new_context()
    page = context.new_page()

    def run(name, expression, **given):
        source = interactive.module(name) if name in interactive.FIGURES else interactive._whole(f"{name}.js")
        return page.evaluate("""async ([source, expression, given]) => {
            const m = await import(URL.createObjectURL(new Blob([source], {type: "text/javascript"})));
            try { return new Function("m", "given", `return (${expression})`)(m, given); } catch (error) { return `${error.name}: ${error.message}`; }
        }""", [source, expression, given])

    yield run
    context.close()


@pytest.mark.parametrize("name", interactive.FIGURES)
def test_a_module_keeps_anywidgets_contract(js, name):
    assert js(name, "typeof m.default.render") == "function"
    assert not re.search(r"^import\b", interactive.module(name), re.M) and "innerHTML" not in interactive.module(name) and "http://" not in interactive.module(name).replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize(("expression", "value"), [
    ("m.fixed(-0.004, 2)", "0.00"), ("m.fixed(-1.25, 1)", "−1.3"), ("m.fixed(-0.5, 0)", "−1"), ("m.fixed(2, 3)", "2.000"), ("m.fixed(-10, 0)", "−10"),
    ("m.visible('')", "(empty)"), ("m.visible(' the')", "·the"), ("m.visible('a b  ')", "a b··"), ("m.visible('\\n')", "\\n"), ("m.visible('<b>')", "<b>"),
    ("m.total([1, 2.5])", 3.5), ("m.largest([1, -3, 2])", 3), ("m.largest([0, 0])", 1), ("m.largest([])", 1),
    ("m.plural(1, 'step')", "1 step"), ("m.plural(1200, 'step')", "1,200 steps"), ("m.clamp(7, 0, 3)", 3), ("m.clamp(-1, 0, 3)", 0),
    ("m.move([1, 1], {key: 'ArrowUp'}, 3, 4)", [0, 1]), ("m.move([0, 1], {key: 'ArrowUp'}, 3, 4)", [0, 1]), ("m.move([1, 3], {key: 'ArrowRight'}, 3, 4)", [1, 3]),
    ("m.move([1, 1], {key: 'ArrowLeft'}, 3, 4)", [1, 0]), ("m.move([1, 1], {key: 'ArrowDown'}, 3, 4)", [2, 1]), ("m.move([1, 1], {key: 'Home'}, 3, 4)", [1, 0]),
    ("m.move([1, 1], {key: 'End'}, 3, 4)", [1, 3]), ("m.move([1, 1], {key: 'End', ctrlKey: true}, 3, 4)", [2, 3]), ("m.move([1, 1], {key: 'Home', metaKey: true}, 3, 4)", [0, 0]),
    ("m.move([1, 1], {key: 'Tab'}, 3, 4)", None), ("m.expect('w', [[1, 2]], 1, 2) ?? 'fits'", "fits"),
    ("m.expect('w', [[1, 2]], 2, 2)", "RangeError: w must be 2 × 2, got 1 rows"), ("m.expect('w', [[1, 2], [1]], 2, 2)", "RangeError: w must be 2 × 2, got 2 rows, one of 1 numbers"),
    ("m.expect('w', [[1, NaN]], 1, 2)", "RangeError: w must be numbers, got NaN"), ("m.expect('w', null, 1, 2)", "RangeError: w must be 1 × 2, got no rows"),
])
def test_library(js, expression, value):
    assert js("lib", expression) == value


def test_host_keeps_the_models_contract(js):
    said = js("host", """(() => { const one = new m.Model({a: 1}), heard = [], f = () => heard.push(one.get("a"));
        one.on("change:a", f); one.set("a", 2); one.set("a", 2); one.set("b", 1); one.off("change:a", f); one.set("a", 3); one.save_changes();
        return [heard, one.get("a"), one.get("b")]; })()""")
    assert said == [[2], 3, 1]


def test_attention_map_finds_the_strongest(js):
    row = [100, 300, 300, 0, 299]
    assert js("attention_grid", "m.strongest(given.row, 3)", row=row) == [1, 2, 4] and js("attention_grid", "m.weight(385)") == "0.385"


@pytest.mark.parametrize(("row", "to", "there"), [(1, "abc", 1), (1, "xab", 2), (1, "xyz", 1), (2, "x", 0), (0, "bbba", 3), (1, "bxx", 0), (2, "xyczc", 2)])
def test_attention_map_follows_a_token_into_another_sentence(js, row, to, there):
    assert js("attention_map", "m.follow(given.row, [...'abc'], [...given.to])", row=row, to=to) == there


@pytest.mark.parametrize("size", [1, 2, 7, 24])
def test_a_triangle_becomes_the_map_that_python_had(js, size):
    whole = (1000 * torch.rand(size, size, generator=torch.manual_seed(size))).round().int().tril()
    assert js("induction_timeline", "m.square(given.flat)", flat=whole[tuple(torch.tril_indices(size, size))].tolist()) == whole.tolist()
    assert js("induction_timeline", "[m.side(given.n), Number.isInteger(m.side(given.n + 1))]", n=size * (size + 1) // 2) == [size, size * (size + 1) // 2 + 1 == 3]


@pytest.mark.parametrize(("places", "room", "kept"), [([0, 0.1, 0.2, 0.5, 1], 0.15, [0, 0.2, 0.5, 1]), ([0, 0.5, 0.95, 1], 0.1, [0, 0.5, 1]), ([0], 0.1, [0]), ([0, 1], 0.1, [0, 1]), ([0, 0.02, 0.05], 0.1, [0, 0.05])])
def test_labels_of_an_axis_have_room(js, places, room, kept):
    assert js("induction_timeline", "m.labelled(given.places, given.room)", places=places, room=room) == kept


def test_the_record_of_chapter_12_reaches_the_page_unchanged(js):
    "Every weight of both heads, in thousandths, and every loss and score."
    kept = interactive.recorded("induction").result
    points, maps = kept["models"]["two layers of attention"]["runs"][0], kept["maps"]
    through = lambda kind: [point[kind][maps["heads"][kind][0]][maps["heads"][kind][1]] for point in points]
    one = interactive.induction_timeline({kind: torch.tensor(maps[kind]) / 1000 for kind in ("induction", "previous")}, maps["tokens"], maps["steps"], at=[point["step"] for point in points],
                                         losses={"known": [point["known"] for point in points]}, scores={kind: through(kind) for kind in ("induction", "previous")}, caption="c")
    data = json.loads(json.dumps(one.data))
    assert js("induction_timeline", "given.maps.map((head) => head.map(m.square))", maps=data["maps"]) == [maps["induction"], maps["previous"]]
    assert data["losses"] == [["known", [point["known"] for point in points]]] and data["scores"] == [[kind, through(kind)] for kind in ("induction", "previous")] and data["steps"] == maps["steps"]
    first, middle, last = (next(point for point in points if point["step"] == step) for step in (0, 120, 1000))
    for point in (first, middle, last):
        assert f"Step {point['step']}: loss, known, {point['known']:.2f};" in one.words


def random_attention(seed):
    generator = torch.Generator().manual_seed(seed)
    t, d, k, v = (torch.randint(1, 8, (4,), generator=generator) + 1).tolist()
    return [torch.randn(size, generator=generator, dtype=torch.float64) for size in ((t, d), (d, k), (d, k), (d, v))]


@pytest.mark.parametrize("seed", range(12))
def test_attention_steps_computes_what_the_package_computes(js, seed):
    x, *projections = random_attention(seed)
    all_ = js("attention_steps", "m.trace(given.x, given.projections)", x=x.tolist(), projections=[p.tolist() for p in projections])
    q, k, v = (x @ matrix for matrix in projections)
    scores = q @ k.mT
    matrices = {f"{role} matrix": matrix for role, matrix in zip(("query", "key", "value"), projections)}
    expected = {"vectors": x, **matrices, "queries": q, "keys": k, "values": v, "scores": scores, "scaled": scores / math.sqrt(q.shape[1]),
                "weights": attention_weights(q, k), "outputs": attention(q, k, v)}
    assert all_.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(torch.tensor(all_[name], dtype=torch.float64), value, rtol=1e-12, atol=1e-12)


def test_attention_steps_does_not_overflow(js):
    assert js("attention_steps", "m.softmax([1e4, 0, 1e4])") == [0.5, 0.0, 0.5]


@pytest.mark.parametrize("seed", range(4))
def test_every_explanation_ends_in_the_number_of_its_cell(js, seed):
    x, *projections = random_attention(seed)
    tokens = [f"t{n}" for n in range(len(x))]
    explained = js("attention_steps", """(() => { const all = m.trace(given.x, given.projections);
        return Object.entries(all).flatMap(([panel, rows]) => rows.flatMap((row, i) => row.map((value, j) =>
            [panel, i, j, m.short(value), m.explain(panel, i, j, all, given.tokens)]))); })()""",
        x=x.tolist(), projections=[p.tolist() for p in projections], tokens=tokens)
    assert {panel for panel, *_ in explained} == {"vectors", "query matrix", "key matrix", "value matrix", "queries", "keys", "values", "scores", "scaled", "weights", "outputs"}
    for panel, i, j, value, made in explained:
        assert made["sum"].endswith(value) and made["says"].endswith("."), (panel, made)
        sources = {name for name, *_ in made["uses"]}
        assert sources == {"queries": {"vectors", "query matrix"}, "keys": {"vectors", "key matrix"}, "values": {"vectors", "value matrix"}, "scores": {"queries", "keys"},
                           "scaled": {"scores"}, "weights": {"scaled"}, "outputs": {"weights", "values"}}.get(panel, set()), (panel, i, j)


@pytest.mark.parametrize("seed", range(2))
def test_the_cells_that_an_explanation_marks_make_the_number(js, seed):
    "A product is the sum over its pairs of marked cells: the first half from the left factor, the second from the right one."
    x, *projections = random_attention(seed)
    marked = js("attention_steps", """(() => { const all = m.trace(given.x, given.projections);
        return ["queries", "keys", "values", "scores", "outputs"].flatMap((panel) => all[panel].flatMap((row, i) => row.map((value, j) =>
            [value, m.explain(panel, i, j, all, given.tokens).uses.map(([name, a, b]) => all[name][a][b])]))); })()""",
        x=x.tolist(), projections=[p.tolist() for p in projections], tokens=[f"t{n}" for n in range(len(x))])
    assert len(marked) > 20
    for value, cells in marked:
        left, right = np.split(np.array(cells), 2)
        assert left @ right == pytest.approx(value, abs=1e-12)


def test_a_step_shows_what_it_reads_and_what_it_makes(js):
    shown = js("attention_steps", "m.STEPS.map((_, step) => [0, 1, 2].map((role) => m.parts(step, role)))")
    assert len(shown) == 6 and shown[0][0] == ["vectors"]
    assert shown[1] == [["vectors", "query matrix", "queries"], ["vectors", "key matrix", "keys"], ["vectors", "value matrix", "values"]]
    assert [step[0][-1] for step in shown] == ["vectors", "queries", "scores", "scaled", "weights", "outputs"]


def test_written_arithmetic_is_right_as_far_as_it_shows(js):
    assert js("attention_steps", "m.written([0.5, -2], [1, -1.25])") == "0.50 × 1.00 + (−2.00) × (−1.25) = 3.00"
    assert js("attention_steps", "m.short(-12.34)") == "−12.3" and js("attention_steps", "m.short(9.996)") == "10.0"


@pytest.mark.parametrize("seed", range(6))
def test_mask_growth_counts(js, seed):
    t = 7
    mask = torch.rand(t, t, generator=torch.Generator().manual_seed(seed)) < 0.5
    bits = ["".join(str(int(bit)) for bit in row) for row in mask]
    for n in range(1, t + 1):
        one = js("mask_growth", "m.growth(given.bits, given.n)", bits=bits, n=n)
        assert one == {"pairs": int(mask[:n, :n].sum()), "added": int(mask[:n, :n].sum() - mask[:n - 1, :n - 1].sum()), "changed": int(mask[:n - 1, n - 1].sum())}


def test_a_mask_may_cover_a_source_too():
    joint = torch.ones(6, 6).bool()
    joint[:2, 2:], joint[2:, 2:] = False, causal_mask(4)
    shown = interactive.mask_growth({"decoder": causal_mask(4), "both": joint}, TOKENS, source=["die", "Katze"], caption="c")
    assert shown.data["source"] == ["die", "Katze"] and [len(mask) for mask in shown.data["masks"]] == [4, 6]
    assert "source of 2 tokens" in shown.words and "decoder: the 1, cat 2, sat 3, on 4. both: die 2, Katze 2, the 3, cat 4, sat 5, on 6." in shown.words


@pytest.mark.parametrize(("mask", "n", "said"), [
    (np.ones((4, 4)), 3, "“sat” brings 5 new pairs. Every earlier row changes too."), (np.tri(4), 3, "“sat” brings 3 new pairs. No earlier row changes."),
    (np.tri(4), 1, "“the” brings 1 new pair."), (np.eye(4) + np.eye(4, k=1), 3, "“sat” brings 2 new pairs. 1 of the 2 earlier rows changes too."),
])
def test_mask_growth_tells_the_news(js, mask, n, said):
    assert js("mask_growth", "m.news(given.mask, given.tokens, given.n)", mask=["".join(str(int(bit)) for bit in row) for row in mask], tokens=TOKENS, n=n) == said


def waits(kind: str, writing: bool, layers: int, length: int) -> dict:
    "The step of each (layer, token) from the things that it waits for, one after the other: the definition."
    step = {}
    for token, layer in itertools.product(range(length), range(layers)):
        before = [step[layer - 1, token]] if layer else []
        if kind == "RNN" and token:
            before.append(step[layer, token - 1])
        if writing and token and not layer:
            before.append(step[layers - 1, token - 1])             # the token itself is written by the last layer
        if kind == "transformer" and layer:
            seen = range(token + 1) if writing else range(length)
            before += [step.get((layer - 1, other), 0) for other in seen]
        step[layer, token] = 1 + max(before, default=0)
    return step


@pytest.mark.parametrize(("kind", "writing", "layers", "length"), [*itertools.product(["RNN", "transformer"], [False, True], [1, 3], [1, 5])])
def test_timeline_counts_the_longest_chain(js, kind, writing, layers, length):
    if kind == "transformer" and not writing:                        # all tokens at once: by layer, not by token
        expected = {(layer, token): layer + 1 for layer in range(layers) for token in range(length)}
    else:
        expected = waits(kind, writing, layers, length)
    for (layer, token), step in expected.items():
        assert js("timeline", "m.done(given.kind, given.writing, given.layer, given.token, given.layers)", kind=kind, writing=writing, layer=layer, token=token, layers=layers) == step
    assert js("timeline", "m.steps(given.kind, given.writing, given.length, given.layers)", kind=kind, writing=writing, length=length, layers=layers) == max(expected.values())


@pytest.mark.parametrize(("expression", "value"), [
    ("m.pairs(false, 9)", 81), ("m.pairs(true, 9)", 45), ("m.time(0.0003)", "300 µs"), ("m.time(0.0451)", "45 ms"), ("m.time(2)", "2 s"), ("m.time(1234)", "1,200 s"),
    ("m.nearest([[8, 1, 2], [64, 3, 4]], 40)", [64, 3, 4]), ("m.nearest([], 40)", None),
    ("m.pace(512, true)", {"wait": 1200, "stride": 64}), ("m.pace(8, false)", {"wait": 700, "stride": 1}), ("m.pace(1024, false)", {"wait": 40, "stride": 7}),
])
def test_timeline_helpers(js, expression, value):
    assert js("timeline", expression) == value


ROPE_ANGLES = getattr(positions, "rope_angles", None) or positions.angles


def turned(vector, position, base, layout):
    "The pairs of a vector at a position, as complex numbers, by the angles of chapter 4."
    pairs = vector.view(2, -1).T if layout == "half" else vector.view(-1, 2)
    angles = ROPE_ANGLES(torch.tensor([position], dtype=torch.float64), vector.numel(), base)[0]
    return torch.view_as_complex(pairs.contiguous()) * torch.polar(torch.ones_like(angles), angles)


@pytest.mark.parametrize(("seed", "layout", "base"), [*itertools.product(range(3), ["half", "interleaved"], [10_000.0, 500_000.0])])
def test_rope_clocks_turns_and_adds_as_the_package_does(js, seed, layout, base):
    generator = torch.Generator().manual_seed(seed)
    width = 2 * int(torch.randint(1, 9, (1,), generator=generator))
    query, key = (torch.randn(2, width, generator=generator, dtype=torch.float64) * 10).round() / 10
    data = interactive.rope_clocks(query, key, bases=(base, 7.0), longest=1000, layout=layout, caption="c").data
    for m, n in ((0, 0), (12, 7), (3, 999), (640, 600)):
        q, k = (turned(vector, at, base, layout) for vector, at in ((query, m), (key, n)))
        hands = js("rope_clocks", "given.data.query.map((pair, i) => m.turn(pair, given.at * given.data.speeds[0][0][i]))", data=data, at=m)
        torch.testing.assert_close(torch.tensor(hands, dtype=torch.float64), torch.view_as_real(q), rtol=0, atol=2e-5)
        added = js("rope_clocks", "m.contributions(given.data.query, given.data.key, given.data.speeds[0][0], given.m, given.n)", data=data, m=m, n=n)
        torch.testing.assert_close(torch.tensor(added, dtype=torch.float64), (q * k.conj()).real, rtol=0, atol=2e-5)


@pytest.mark.parametrize("shift", [1, 10, 500])
def test_rope_clocks_keeps_the_score_when_both_move(js, shift):
    data = one_of_each()[4].data
    score = lambda m, n: js("rope_clocks", "m.contributions(given.d.query, given.d.key, given.d.speeds[0][0], given.m, given.n)", d=data, m=m, n=n)
    assert score(9 + shift, 4 + shift) == pytest.approx(score(9, 4), abs=1e-9) and score(9 + shift, 4) != pytest.approx(score(9, 4), abs=1e-3)


def test_four_ways_of_stretching():
    "By their definitions: all pairs slower; the slowest pair slower and the fastest as it was; those with few turns slower."
    vector, width, trained, factor = torch.ones(8), 8, 32, 8
    data = interactive.rope_clocks(vector, vector, longest=factor * trained, trained=trained, bases=(10_000,), caption="c").data
    assert data["ways"] == ["none", "interpolation", "NTK-aware base", "by parts"]
    none, interpolation, ntk, parts = (torch.tensor(way[0], dtype=torch.float64) for way in data["speeds"])
    torch.testing.assert_close(none, ROPE_ANGLES(torch.ones(1, dtype=torch.float64), width)[0], rtol=1e-8, atol=0)
    torch.testing.assert_close(interpolation * factor, none, rtol=1e-8, atol=0)
    assert ntk[0] == none[0] and ntk[-1] * factor == pytest.approx(none[-1].item(), rel=1e-8)
    torch.testing.assert_close(ntk, ROPE_ANGLES(torch.ones(1, dtype=torch.float64), width, 10_000 * factor ** (width / (width - 2)))[0], rtol=1e-8, atol=0)
    turns = trained * none / (2 * math.pi)
    assert turns[0] > 2 and 0.5 < turns[1] < 2 and turns[2] < 0.5
    kept = (turns[1] - 0.5) / 1.5
    torch.testing.assert_close(parts, none * torch.stack([torch.ones(()), kept + (1 - kept) / factor, *[torch.tensor(1 / factor)] * 2]), rtol=1e-6, atol=0)
    assert interactive.rope_clocks(vector, vector, caption="c").data["ways"] == ["none"]


@pytest.mark.parametrize(("distance", "speeds", "fresh"), [(8, [1, 0.1], [False, False]), (9, [1, 0.1], [False, True]), (-9, [1, 0.1], [False, True]), (64, [1 / 8, 0.1 / 8], [False, False])])
def test_rope_clocks_knows_angles_that_training_has_not_shown(js, distance, speeds, fresh):
    assert js("rope_clocks", "m.unseen(given.speeds, [1, 0.1], 8, given.distance)", speeds=speeds, distance=distance) == fresh
    assert js("rope_clocks", "m.unseen(given.speeds, [1, 0.1], null, given.distance)", speeds=speeds, distance=distance) == [False, False]


@pytest.mark.parametrize(("expression", "value"), [
    ("m.degrees(1)", "57.3°"), ("m.degrees(0.001)", "0.0573°"), ("m.degrees(0)", "0°"),
    ("m.arc(0.5, Math.PI / 2, 1)", "M 0.878 -0.479 A 1 1 0 0 0 -0.479 -0.878"), ("m.arc(0.5, -4, 1)", "M 0.878 -0.479 A 1 1 0 1 1 -0.936 -0.351"),
    ("m.arc(1, 7, 1).match(/A/g).length", 2),
])
def test_rope_clocks_helpers(js, expression, value):
    assert js("rope_clocks", expression) == value


@pytest.mark.parametrize(("width", "base"), [(2, 10_000.0), (8, 10_000.0), (128, 10_000.0), (24, 500.0)])
def test_position_map_computes_the_sinusoids_of_the_package(js, width, base):
    data = interactive.position_map(width, base=base, longest=300, caption="c").data
    shown = js("position_map", "Array.from({length: 300}, (_, t) => Array.from({length: given.width}, (_, j) => m.value(given.speeds, t, j)))", speeds=data["speeds"], width=width)
    torch.testing.assert_close(torch.tensor(shown, dtype=torch.float64), positions.sinusoidal(torch.arange(300.0).double(), width, base), rtol=0, atol=2e-7)


@pytest.mark.parametrize(("at", "said"), [((0, 0), "sin(0 θ₀) = sin(0.00000) = 0.0000"), ((3, 0), "sin(3 θ₀) = sin(3.00000) = 0.1411"), ((3, 1), "cos(3 θ₀) = cos(3.00000) = −0.9900"), ((40, 26), "sin(40 θ₁₃) = sin(0.02249) = 0.0225")])
def test_position_map_writes_how_a_number_is_computed(js, at, said):
    speeds = interactive.position_map(32, caption="c").data["speeds"]
    assert js("position_map", "m.formula(given.speeds, ...given.at)", speeds=speeds, at=at) == said
    angle, value = (float(part.replace("−", "-")) for part in re.findall(r"\((-?[\d.]+)\)|= (−?[\d.]+)$", said) for part in part if part)
    assert (math.sin, math.cos)[at[1] % 2](angle) == pytest.approx(value, abs=1e-4)


def test_position_map_says_what_a_component_means(js):
    speeds = interactive.position_map(128, caption="c").data["speeds"]
    said = js("position_map", "m.meaning(given.speeds, 10000, 17)", speeds=speeds)
    assert said == "Components 16 and 17 are the sine and the cosine of pair 8, which turns by θ₈ = 10,000^(−16/128) = 0.316228 radians a position: a wave is 19.9 positions long."
    assert "62,800 positions long" in js("position_map", "m.meaning([1, 1e-4], 10000, 2)")


@pytest.mark.parametrize(("sizes", "linear", "marks"), [([1, 200_000], False, [1, 100, 10_000]), ([1, 4.9], False, [1, 10]), ([0.02, 30], False, [0.01, 0.1, 1, 10]), ([1, 1], False, [1, 10]), ([1, 8], True, [0, 4, 8])])
def test_stream_sizes_puts_sizes_on_its_axis(js, sizes, linear, marks):
    made = js("stream_sizes", "m.axis(given.sizes, given.linear)", sizes=sizes, linear=linear)
    assert made["marks"] == pytest.approx(marks)
    low, high = made["ends"]
    assert low <= min(*sizes, *marks) and high >= max(*sizes, *marks)
    for x in [*sizes, *marks]:
        share = js("stream_sizes", "m.height(given.x, given.ends, given.linear)", x=x, ends=made["ends"], linear=linear)
        assert share == pytest.approx(x / high if linear else math.log(x / low) / math.log(high / low), abs=1e-9) and -1e-9 <= share <= 1 + 1e-9


def test_stream_sizes_says_what_it_shows():
    shown = interactive.stream_sizes({"pre": torch.arange(1, 7), "post": np.ones(6)}, depth=3, scale="linear", caption="c")
    assert shown.chosen == {"depth": 3, "scale": 1, "on": [True, True]} and "each of 5 sublayers. pre: 0: 1, 1: 2, 2: 3, 4: 5, 5: 6. post: 0: 1," in shown.words


def test_model_map_finds_the_box_in_the_direction_of_a_key(js):
    boxes = [{"x": x, "y": y, "w": 10, "h": 10} for x, y in ((0, 100), (0, 50), (0, 0), (60, 95), (60, 55), (60, 10))]
    lead = lambda n, key: js("model_map", "m.towards(given.boxes, given.n, given.key)", boxes=boxes, n=n, key=key)
    assert [lead(0, key) for key in ("ArrowUp", "ArrowDown", "ArrowRight", "ArrowLeft", "Home", "End", "a")] == [1, 0, 3, 0, 0, 5, None]
    assert [lead(4, key) for key in ("ArrowUp", "ArrowDown", "ArrowRight", "ArrowLeft")] == [5, 3, 4, 1]


@pytest.mark.parametrize(("n", "kept", "now", "all_"), [(4, True, 4, 4), (5, True, 1, 5), (9, True, 1, 9), (4, False, 4, 4), (5, False, 5, 9), (6, False, 6, 15)])
def test_cache_growth_counts_columns(js, n, kept, now, all_):
    assert js("cache_growth", "[m.computed(given.n, 4, given.kept), m.soFar(given.n, 4, given.kept)]", n=n, kept=kept) == [now, all_]


@pytest.mark.parametrize("name", ["gpt2", "llama-2-70b", "mistral-7b"])
def test_cache_growth_weighs_a_token_as_its_words_say(js, name):
    shown = interactive.cache_growth(PRESETS[name], TOKENS, prompt=1, weights=1e9, memory=1e10, caption="c")
    heads = shown.data["shares"][shown.chosen["share"]][1]
    assert heads == PRESETS[name].n_kv_heads and shown.data["shares"][0][1] == PRESETS[name].n_heads and shown.data["shares"][-1][1] == 1
    assert f"{js('cache_growth', 'm.bytesOfToken(given.data, given.heads, 2)', data=shown.data, heads=heads):,} bytes for each token" in shown.words


@pytest.mark.parametrize(("function", "number", "said"), [
    ("memoryText", 327_680, "328 kB"), ("memoryText", 1.5, "1.5 bytes"), ("memoryText", 1e9, "1 GB"), ("memoryText", 160e9, "160 GB"), ("memoryText", 2.684e12, "2.68 TB"), ("memoryText", 0, "0 bytes"),
    ("amount", 8_030_261_248, "8.03 billion"), ("amount", 3e11, "300 billion"), ("amount", 15e12, "15 trillion"), ("amount", 1234, "1,230"), ("amount", 0.5, "0.5"), ("amount", 2.5e16, "2.5 × 10¹⁶"),
    ("power", 3.147e23, "3.15 × 10²³"), ("power", 1e20, "10²⁰"), ("power", 0.002, "2 × 10⁻³"), ("duration", 34 * 86400, "34 days"), ("duration", 5400, "1.5 hours"), ("duration", 90, "1.5 minutes"), ("duration", 2, "2 seconds"), ("digits", 12345, "12,300"),
])
def test_large_amounts_have_three_digits_and_a_unit(js, function, number, said):
    assert js("amounts", f"m.{function}(given.number)", number=number) == said


def test_the_nearest_of_some_numbers(js):
    assert js("amounts", "[6.9, 0, 1e9, NaN, undefined, 'x'].map((x) => m.nearest([1, 2, 5, 8], x))") == [8, 1, 8, 1, 1, 1]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("length", "rows", "columns"), [(16, 4, 4), (16, 5, 3), (7, 7, 2), (8, 1, 8), (9, 2, 1)])
def test_tile_walk_covers_each_pair_once_and_counts_what_it_moves(js, length, rows, columns, causal):
    walk = js("tile_walk", "m.tiles(given.length, given.rows, given.columns, given.causal)", length=length, rows=rows, columns=columns, causal=causal)
    seen, read, before = torch.zeros(length, length), 0, None
    for i, end, j, stop in walk:
        seen[i:end, j:stop] += 1
        read += 2 * (stop - j) * 6 + (0 if before == i else (end - i) * 6)
        before = i
    allowed = torch.ones(length, length).tril() if causal else torch.ones(length, length)
    assert (seen[allowed.bool()] == 1).all() and seen.max() == 1 and all(allowed[i:end, j:stop].any() for i, end, j, stop in walk)
    moved = js("tile_walk", "m.moved(given.walk, given.walk.length, 6)", walk=walk)
    assert moved == {"read": read, "written": length * 6}
    words = interactive.tile_walk(length, 6, tile=(rows, columns), causal=causal, caption="c").words
    assert f"{len(walk)} tiles" in words and f"{read + length * 6:,} numbers are moved, {js('tile_walk', 'm.plain(given.length, 6)', length=length):,} by" in words


@pytest.mark.parametrize("name", scaling.LAWS)
@pytest.mark.parametrize("flops", [10.0 ** (18 + n / 2) for n in range(17)])
def test_scaling_laws_finds_the_best_size_that_python_finds(js, name, flops):
    law = scaling.LAWS[name]
    n, d = scaling.compute_optimal(flops, law)
    assert js("scaling_laws", "m.best(given.law, given.flops)", law=[name, *law], flops=flops) == pytest.approx([n, d], rel=1e-12)
    for parameters in (n, n / 7, 1e6, 1e13):
        tokens = flops / (6 * parameters)
        expected = js("scaling_laws", "m.loss(given.law, given.n, given.d)", law=[name, *law], n=parameters, d=tokens)
        assert expected == pytest.approx(law(parameters, tokens), rel=1e-13) and expected > law(n, d) - 1e-12
    shown = interactive.scaling_laws({name: law}, flops=flops, caption="c")
    assert 10 ** shown.chosen["size"] == pytest.approx(n) and 10 ** shown.chosen["budget"] == pytest.approx(flops)
    if flops == 1e22:
        assert f"10^22, {n:.3g} parameters, {d:.3g} tokens, {law(n, d):.3f};" in shown.words


def test_scaling_laws_splits_a_loss_into_its_three_parts(js):
    assert js("scaling_laws", "m.parts(['x', 1.5, 8, 27, 0.5, 1 / 3], 4, 27)") == pytest.approx([1.5, 4, 9])


DECODERS = {name: config for name, config in PRESETS.items() if config.kind == "decoder"}


def random_decoder(seed: int) -> Config:
    "A decoder of sizes of which no two are alike, with any of the parts that the figure counts."
    rng = np.random.default_rng(seed)
    one_of = lambda *options: options[rng.integers(len(options))]
    key_heads, group, half, experts = (int(rng.integers(1, most)) for most in (9, 9, 65, 9))
    return Config(vocab_size=int(rng.integers(100, 300_000)), max_len=int(rng.integers(1, 100_000)), d_model=key_heads * group * 2 * half, n_layers=int(rng.integers(1, 130)), n_heads=key_heads * group,
                  n_kv_heads=key_heads, d_ff=int(rng.integers(1, 60_000)), positions=one_of("none", "sinusoidal", "learned", "rope"), window=one_of(None, 64, 4096), activation=one_of("relu", "gelu", "gelu_tanh", "swiglu"),
                  n_experts=experts, n_active_experts=int(rng.integers(1, experts + 1)), norm=one_of("layer", "rms"), norm_first=one_of(True, False), bias=one_of(True, False), tie_embeddings=one_of(True, False))


@pytest.mark.parametrize("config", [*DECODERS.values(), *map(random_decoder, range(60))], ids=[*DECODERS, *map(str, range(60))])
def test_model_calculator_counts_what_python_counts(js, config):
    shown = interactive.model_calculator({"one": config}, MACHINES, caption="c")
    machine, found = scaling.HARDWARE["h100"]._replace(memory=1e30), scaling.count_parameters(config)
    batch, size, tokens, chips, utilisation = 3, 2, 7e11, 48, 0.35
    counted = js("counts", """(() => { const { c, batch, size, machine } = given; return [m.parameters(c), m.allParameters(c), m.activeParameters(c), m.multiplied(c), m.flopsPerToken(c), m.flopsPerToken(c, true), m.cacheBytes(c, batch, size),
        m.trainingMemory(c, batch, false), m.trainingMemory(c, batch, true), m.generating(c, machine, batch, size).speed, m.trainingSeconds(c, given.tokens, machine, given.chips, given.utilisation)]; })()""",
                 c=shown.data["models"][0], batch=batch, size=size, machine=list(machine), tokens=tokens, chips=chips, utilisation=utilisation)
    length, near = config.max_len, lambda x: pytest.approx(x, rel=1e-13)
    assert list(counted[0].values()) == list(found)[:6] and counted[1:3] == [found.total, found.active] and f" one {found.total:,};" in shown.words
    assert counted[3:7] == [scaling.multiplied(config), scaling.flops_per_token(config, length), scaling.flops_per_token(config, length, training=True), cache_bytes(config, length, batch, torch.float16)]
    for memory, checkpointed in zip(counted[7:9], (False, True)):
        assert memory == near(scaling.training_memory(config, batch, length, checkpointed=checkpointed)._asdict())
    assert counted[9] == near(scaling.tokens_per_second(config, machine, batch=batch, length=length, bytes_per_number=size))
    assert counted[10] == near(scaling.training_seconds(config, tokens, machine, chips=chips, utilisation=utilisation))


@pytest.mark.parametrize("machine", scaling.HARDWARE)
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("batch", [1, 8, 512])
def test_model_calculator_knows_what_fits_and_how_fast_it_writes(js, machine, size, batch):
    hardware = scaling.HARDWARE[machine]
    for name in ("gpt2", "llama-3-8b", "mistral-7b", "mixtral-8x7b"):
        config = PRESETS[name]
        speed = js("counts", "m.generating(given.c, given.machine, given.batch, given.size).speed", c=interactive._decoder("x", config), machine=list(hardware), batch=batch, size=size)
        if speed:
            assert speed == pytest.approx(scaling.tokens_per_second(config, hardware, batch=batch, length=config.max_len, bytes_per_number=size), rel=1e-13)
        else:
            with pytest.raises(ValueError, match="do not fit"):
                scaling.tokens_per_second(config, hardware, batch=batch, length=config.max_len, bytes_per_number=size)


def test_model_calculator_offers_heads_that_divide_the_width(js):
    assert js("decoder", "[m.divisors(12), m.divisors(12, true), m.divisors(1)]") == [[1, 2, 3, 4, 6, 12], [1, 2, 3, 6], [1]]
    asked = {"width": 1000, "layers": "x", "heads": 9, "key_heads": 4, "hidden": 1e9, "vocabulary": None, "context": 900}
    shown = interactive.model_calculator({"a": PRESETS["llama-7b"]}, MACHINES, caption="c").data["models"][0]
    stops = {"width": [64, 960, 1024], "layers": [1, 2], "hidden": [64, 128], "vocabulary": [256, 1000], "context": [512, 1024]}
    made = js("decoder", "m.config(given.model, given.stops, (key) => given.asked[key])", model=shown, stops=stops, asked=asked)
    assert {key: made[key] for key in asked} == {"width": 1024, "layers": 1, "heads": 8, "key_heads": 4, "hidden": 128, "vocabulary": 256, "context": 1024} and made["activation"] == "swiglu"


def expected_works(config: Config, machine: scaling.Hardware, batch: int, prompt: int) -> list[list[float]]:
    "Intensity, operations per second, share of the peak and tokens per second of the three works, by the module of chapter 11 alone."
    endless, length = scaling.Hardware(1e300, 1.0, 1e300), config.max_len
    read = lambda batch: batch / scaling.tokens_per_second(config, endless, batch=batch, length=length)         # bytes: at 1 byte per second
    caches = lambda batch, length: cache_bytes(config, length, batch, torch.float16)
    flops, pairs = (scaling.flops_per_token(config, n) for n in (length, prompt))
    work = [(batch, batch * flops, read(batch), (batch, length)),
            (prompt, prompt * pairs, read(prompt) - caches(prompt, length) + caches(1, prompt), (1, prompt)),
            (batch, batch * (flops - 2 * scaling.multiplied(config)), caches(batch, length), (batch, length))]
    parameters, found = scaling.count_parameters(config).total, []
    for tokens, operations, moved, holds in work:
        rate = scaling.roofline(machine, operations / moved)
        found.append([operations / moved, rate, rate / machine.operations, tokens * rate / operations if 2 * parameters + caches(*holds) <= machine.memory else 0])
    return found


@pytest.mark.parametrize("config", [*DECODERS.values(), *map(random_decoder, range(40))], ids=[*DECODERS, *map(str, range(40))])
def test_roofline_puts_works_where_python_puts_them(js, config):
    shown = interactive.roofline({"one": config}, MACHINES, caption="c")
    c, near = shown.data["models"][0], lambda x: pytest.approx(x, rel=1e-9)
    assert shown.chosen["prompt"] == min(1024, config.max_len) and f" one {config.group_size:.3g}." in shown.words
    for seed, (name, machine) in enumerate(scaling.HARDWARE.items()):
        rng = np.random.default_rng(seed)
        batch, prompt = 2 ** int(rng.integers(0, 13)), int(rng.integers(1, config.max_len + 1))
        found = js("roofline", "m.works(given.c, given.batch, given.prompt).map((one) => m.reaches(one, given.machine))", c=c, batch=batch, prompt=prompt, machine=list(machine))
        expected = expected_works(config, machine, batch, prompt)
        assert [list(one.values()) for one in found] == [near(one) for one in expected], (name, batch, prompt)
        write, _, look = found
        assert look["intensity"] == near(config.group_size)
        if write["speed"]:
            assert write["speed"] == near(scaling.tokens_per_second(config, machine, batch=batch, length=config.max_len))
        else:
            with pytest.raises(ValueError, match="do not fit"):
                scaling.tokens_per_second(config, machine, batch=batch, length=config.max_len)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("length", [64, 1024, 8192])
def test_roofline_knows_what_no_batch_exceeds_and_how_many_texts_reach_the_corner(js, name, length):
    config = PRESETS[name].replace(max_len=length)
    c, machine = interactive._decoder("x", config), list(scaling.HARDWARE["a100-80gb"])
    corner = scaling.HARDWARE["a100-80gb"].corner
    most, enough, far = js("roofline", "[m.most(given.c), String(m.enough(given.c, given.machine)), m.reaches(m.works(given.c, 2 ** 40, 1)[0], given.machine).intensity]", c=c, machine=machine)
    assert most == pytest.approx(scaling.flops_per_token(config, length) / cache_bytes(config, length, dtype=torch.float16)) and far == pytest.approx(most, rel=1e-5) and far < most
    intensity = lambda batch: js("roofline", "m.reaches(m.works(given.c, given.batch, 1)[0], given.machine).intensity", c=c, batch=batch, machine=machine)
    if enough == "Infinity":
        assert most <= corner
    else:
        assert most > corner and intensity(int(enough)) >= corner * (1 - 1e-9) and intensity(int(enough) - 1) < corner * (1 + 1e-9)


def test_modules_reach_pages_whole(js):
    "Comments and indents are left out, and nothing that a string holds."
    assert js("lib", "m.e('svg').namespaceURI") == "http://www.w3.org/2000/svg"


@pytest.mark.parametrize(("parameters", "times", "said"), [(0, 6, "none of its own"), (1200, 1, "1,200"), (1000, 6, "1,000 in each of 6 blocks, 6,000 in all")])
def test_model_map_says_what_a_part_costs(js, parameters, times, said):
    assert js("model_map", "m.cost(given.part)", part={"parameters": parameters, "times": times}) == said


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1, 3])
@pytest.mark.parametrize("keep", [1, 3, 9])
def test_next_token_computes_what_pytorch_computes(js, temperature, keep):
    logits = torch.randn(9, generator=torch.manual_seed(0), dtype=torch.float64) * 3
    shown = js("next_token", """(() => { const places = m.order(given.logits), shares = m.probabilities(places.map((i) => given.logits[i]), given.t, given.k);
        return [places, shares, m.perplexity(shares)]; })()""", logits=logits.tolist(), t=temperature, k=keep)
    best = logits.topk(keep)
    expected = torch.zeros(9, dtype=torch.float64).scatter(0, best.indices, torch.softmax(best.values / temperature, 0))
    assert shown[0] == logits.argsort(descending=True).tolist()
    torch.testing.assert_close(torch.tensor(shown[1], dtype=torch.float64), expected[shown[0]], rtol=0, atol=1e-12)
    assert shown[2] == pytest.approx(torch.distributions.Categorical(expected).entropy().exp().item(), rel=1e-6)


def test_next_token_at_temperature_0_is_greedy_and_does_not_overflow(js):
    assert js("next_token", "m.probabilities([5, 5, 1], 0)") == [1, 0, 0] and js("next_token", "m.order([1, 5, 5])") == [1, 2, 0]
    assert js("next_token", "m.probabilities([1e4, 0], 0.1)") == [1, 0] and js("next_token", "m.perplexity([0.25, 0.25, 0.25, 0.25, 0])") == pytest.approx(4)


@pytest.mark.parametrize(("number", "place"), [(0, 0), (0.499, 0), (0.5, 1), (0.749, 1), (0.75, 3), (0.9999999, 3)])
def test_next_token_draws_where_the_number_falls(js, number, place):
    assert js("next_token", "m.pick([0.5, 0.25, 0, 0.25, 0], given.number)", number=number) == place
    assert js("next_token", "m.pick([0.3, 0.3, 0.3999999, 0], 0.99999999)") == 2, "rounding never draws what has no probability"


def test_next_token_draws_as_often_as_the_probabilities_say(js):
    logits = LOGITS.double()
    drawn = js("next_token", "Array.from({length: 1000}, (_, i) => m.pick(m.probabilities(given.logits, 1), (i + 0.5) / 1000))", logits=logits.tolist())
    assert np.bincount(drawn, minlength=4) == pytest.approx(1000 * torch.softmax(logits, 0).numpy(), abs=1)


@pytest.mark.parametrize(("expression", "value"), [
    ("m.subset([true, false, true])", 5), ("m.subset([false])", 0), ("m.listed([])", "none"), ("m.listed(['a'])", "a"), ("m.listed(['a', 'b', 'c'])", "a, b and c"),
])
def test_head_switches_helpers(js, expression, value):
    assert js("head_switches", expression) == value


def test_the_page_finds_each_measurement_that_python_gave(js):
    heads = ["w", "x", "y", "z"]
    measured = {on: i / 20 for i, on in enumerate(on for size in range(5) for on in itertools.combinations(heads, size))}
    given = interactive.head_switches(dict.fromkeys(heads, WEIGHTS), measured, TOKENS, caption="c").data["measured"]
    assert len(measured) == len(given) == 16
    for on, value in measured.items():
        assert given[js("head_switches", "m.subset(given.on)", on=[head in on for head in heads])] == value
