"""Exercises of chapter 11: solutions that agree with the chapter, and answers that no table foresaw."""
import math
import statistics

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from transformer_course import exercises, scaling
from transformer_course.architectures import GPT
from transformer_course.block import Block
from transformer_course.checkers.scaling import preset, small
from transformer_course.config import PRESETS, Config
from transformer_course.grading.sandbox import Observed, look_at
from transformer_course.grading.verdicts import judge


def right(name):
    return exercises.exercise(f"scaling.{name}").right


def verdict(id, answer):
    one = exercises.exercise(id)
    return judge(one, Observed([look_at(answer, look, seed) for look, seed in one.looks()]))


# --- the solutions agree with the chapter, and with models that are built ------------------------------------------------------------

DECODERS = [name for name, config in PRESETS.items() if config.kind == "decoder"]
PLAIN = [name for name in DECODERS if PRESETS[name].n_experts == 1]


@pytest.mark.parametrize("name", DECODERS)
def test_counts_of_parameters_are_the_chapters(name):
    config = PRESETS[name]
    expert = scaling.feed_forward_parameters(config.replace(n_experts=1, n_active_experts=1))
    with torch.device("meta"):
        block = sum(p.numel() for p in Block(config.replace(window=None)).parameters())
    assert right("layer_parameters")(config.replace(n_experts=1, n_active_experts=1)) == block or config.n_experts > 1
    counted = scaling.count_parameters(config)
    assert tuple(right("total_parameters")(config, block, expert)) == (counted.total, counted.active)


@pytest.mark.parametrize("name", PLAIN)
def test_operations_and_speed_are_the_chapters(name):
    config, machine = PRESETS[name], scaling.Hardware(989e12, 3.35e12, 1e15)
    length = min(1_000, config.max_len)
    for training in (False, True):
        assert right("flops")(config, length, training) == scaling.flops_per_token(config, length, training)
    for batch in (1, 7, 600):
        found = right("find_the_bug")(config, *machine[:2], batch, min(length, config.window or length))
        assert found == pytest.approx(scaling.tokens_per_second(config, machine, batch=batch, length=length), rel=1e-9)


def test_the_law_and_the_best_size_are_the_chapters():
    sizes, losses = torch.tensor([1e4, 1e6, 3e7], dtype=torch.float64), torch.tensor([3.0, 2.2, 1.9], dtype=torch.float64)
    law = scaling.fit_power_law(sizes.tolist(), losses.tolist(), floor=1.5)
    assert [float(one) for one in right("fit")(sizes, losses, 1.5)] == pytest.approx([law.scale, law.exponent])
    for law in scaling.LAWS.values():
        assert right("compute_optimal")(1e22, *law[1:]) == pytest.approx(scaling.compute_optimal(1e22, law))


@pytest.mark.parametrize(("n_tokens", "limit"), [(100, "bytes"), (900, "arithmetic")])
def test_a_step_is_limited_by_what_the_roofline_says(n_tokens, limit):
    machine = scaling.HARDWARE["h100"]
    reached, said = right("intensity")([(8_192, 8_192)], n_tokens, 2, *machine[:2])
    assert (said, scaling.roofline(machine, reached) == machine.operations) == (limit, limit == "arithmetic")


def test_the_memory_is_weights_optimiser_inputs_and_logits():
    weights = {"bfloat16": 2 * 2, "float32": 3 * 4}
    kept = 32 * 1_024 * (24 * 2_048 * 2 + 32_000 * 4)
    assert right("training_memory") == pytest.approx((1.3e9 * sum(weights.values()) + kept) / 1e9)


def test_the_buggy_calculator_is_right_for_one_text_and_finds_batches_useless():
    one = exercises.exercise("scaling.find_the_bug")
    bug, config = one.answer("untouched"), preset("llama-3-8b")
    assert bug(config, 989e12, 3.35e12, 1, 100) == one.right(config, 989e12, 3.35e12, 1, 100)
    assert bug(config, 989e12, 3.35e12, 64, 100) / bug(config, 989e12, 3.35e12, 1, 100) == pytest.approx(1)
    assert 50 < one.right(config, 989e12, 3.35e12, 64, 100) / one.right(config, 989e12, 3.35e12, 1, 100) < 64


@pytest.mark.parametrize("config", [small(), small(9, 3, n_experts=2, bias=False), preset("gpt2"), preset("mixtral-8x7b")])
def test_a_shown_config_can_be_typed_in(config):
    assert eval(repr(config), {"Config": Config}) == Config(**vars(config))


@pytest.mark.parametrize("id", ["layer_parameters", "total_parameters", "flops"])
def test_a_model_that_is_built_is_no_count(id, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFORMER_COURSE_PROGRESS", str(tmp_path / "progress.sqlite"))
    one = exercises.exercise(f"scaling.{id}")
    said = exercises.check(one.id, lambda config, *rest: sum(p.numel() for p in GPT(config).parameters()))
    assert said.status == "not yet" and "write your own" in said.message


def test_numbers_in_the_tasks_are_those_of_gpt_2():
    config = PRESETS["gpt2"]
    block, expert = right("layer_parameters")(config), scaling.feed_forward_parameters(config)
    assert f"has {block:,}." in exercises.exercise("scaling.layer_parameters").task
    said = f"has {right('total_parameters')(config, block, expert)[0]:,}. One of its blocks has {block:,}, and one expert in each, of {expert:,}."
    assert said in exercises.exercise("scaling.total_parameters").task


# --- right answers in an unusual style ----------------------------------------------------------------------------------------------


def in_numpy(config):
    d, narrow, gated = np.int64(config.d_model), config.d_model // config.group_size, config.activation == "swiglu"
    maps = np.array([[d, d]] * 2 + [[d, narrow]] * 2 + [[d, config.d_ff]] * (1 + gated) + [[config.d_ff, d]])
    return maps.prod(1).sum() + maps[:, 1].sum() * config.bias + 2 * d * (1 + (config.norm == "layer" and config.bias))


def as_a_tensor(config, one_block, one_expert):
    rows = config.vocab_size * [2, 1][config.tie_embeddings] + {"learned": config.max_len}.get(config.positions, 0) + 1
    rows += config.bias and config.norm == "layer"
    total = rows * config.d_model + config.n_layers * one_block
    return torch.tensor([total, total - one_expert * config.n_layers * (config.n_experts - config.n_active_experts)])


def counted_by_torch(config, length, training=False):
    d, k, T = config.d_model, config.d_head, min(length, config.window or length)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        x = torch.empty(1, d)
        for _ in range(config.n_layers):
            for width in (d, d, config.n_kv_heads * k, config.n_kv_heads * k, *[config.d_ff] * (3 if config.activation == "swiglu" else 2)):
                x @ torch.empty(d, width)
            for _ in range(config.n_heads):
                x[:, :k] @ torch.empty(k, T) @ torch.empty(T, k)
        x @ torch.empty(d, config.vocab_size)
    return counter.get_total_flops() * (3 if training else 1)


def on_meta(shapes, n_tokens, n_bytes, operations, bandwidth):
    work = moved = 0
    for n, m in shapes:
        x, weights = torch.empty(n_tokens, n, device="meta"), torch.empty(n, m, device="meta")
        work += 2 * n * (x @ weights).numel()
        moved += n_bytes * sum(one.numel() for one in (x, weights, x @ weights))
    seconds = {"Bytes": moved / bandwidth, "Arithmetic ": work / operations}
    return np.float64(work / moved), max(seconds, key=seconds.get)


def from_the_library(sizes, losses, floor):
    line = statistics.linear_regression([math.log(one) for one in sizes], [math.log(one - floor) for one in losses])
    return math.exp(line.intercept), -line.slope


def in_float32(sizes, losses, floor):
    table = torch.stack([torch.ones(len(sizes)), -sizes.float().log()], 1)
    start, exponent = torch.linalg.lstsq(table, (losses - floor).float().log()[:, None]).solution.flatten()
    return torch.stack([start.exp(), exponent])


def by_newton(flops, A, B, alpha, beta):
    whole = math.log(flops / 6)
    x = whole / 2
    for _ in range(200):
        one, other = A * math.exp(-alpha * x), B * math.exp(beta * (x - whole))
        x -= max(-2, min(2, (beta * other - alpha * one) / (alpha**2 * one + beta**2 * other)))
    return np.exp([x, whole - x])


def added_up(config, operations, bandwidth, batch, length):
    weights = scaling.multiplied(config)
    texts = batch * config.n_layers * 4 * length
    flops, moved = 2 * batch * weights + texts * config.d_model, 2 * weights + texts * config.n_kv_heads * config.d_head
    return torch.tensor(min(batch * operations / flops, batch * bandwidth / moved), dtype=torch.float64)


RIGHT = {
    "scaling.layer_parameters": [in_numpy, lambda config: float(in_numpy(config))],
    "scaling.total_parameters": [as_a_tensor, lambda *given: list(map(float, as_a_tensor(*given)))],
    "scaling.flops": [counted_by_torch],
    "scaling.training_memory": [28.2, 28.22, 28, torch.tensor(28.2155)],
    "scaling.intensity": [on_meta],
    "scaling.fit": [from_the_library, in_float32],
    "scaling.compute_optimal": [by_newton],
    "scaling.find_the_bug": [added_up],
}


@pytest.mark.parametrize("id", RIGHT)
def test_an_unusual_right_answer_is_accepted(id):
    for answer in RIGHT[id]:
        found = verdict(id, answer)
        assert found.status == "right", str(found)


# --- wrong answers that are in no table ---------------------------------------------------------------------------------------------


def experts_and_nothing_else(config, one_block, one_expert):
    return as_a_tensor(config, one_block, one_expert)[0], config.n_layers * config.n_active_experts * one_expert


def before_the_window(config, length, training=False):
    outside = length - config.window if config.window and config.window < length else length
    return counted_by_torch(config, outside, training)


def attention_is_not_trained(config, length, training=False):
    return counted_by_torch(config, length) * (3 if training else 1) - 8 * training * config.n_layers * length * config.d_model


def over_bytes_of_two(shapes, n_tokens, n_bytes, operations, bandwidth):
    return right("intensity")(shapes, n_tokens, 2, operations, bandwidth)


def other_words(*given):
    return on_meta(*given)[0], "memory" if on_meta(*given)[1] == "Bytes" else "compute"


def weighted(sizes, losses, floor):
    line = np.polyfit(np.log(sizes.numpy()), np.log(losses.numpy() - floor), 1, w=np.sqrt(sizes.numpy()))
    return math.exp(line[1]), -line[0]


def variance_of_a_sample(sizes, losses, floor):
    x, y = sizes.log(), (losses - floor).log()
    slope = ((x - x.mean()) * (y - y.mean())).mean() / x.var()
    return (y.mean() - slope * x.mean()).exp(), -slope


def coarse(flops, A, B, alpha, beta):
    n = torch.logspace(0, math.log10(flops), 200, dtype=torch.float64)
    best = n[(A / n**alpha + B / (flops / 6 / n) ** beta).argmin()]
    return best, flops / 6 / best


def times_the_batch(config, operations, bandwidth, batch, length):
    return batch * right("find_the_bug")(config, operations, bandwidth, 1, length)


WRONG = {
    "scaling.layer_parameters": [(lambda config: in_numpy(config) + 2 * config.d_head, None, "right is"), (lambda config: int(in_numpy(config)) / 1e6, None, "right is"),
                                 (lambda config: in_numpy(config) - config.bias * config.d_model, "C2e", "the end of attention"), (lambda config: None, None, "`return` missing")],
    "scaling.total_parameters": [(experts_and_nothing_else, "C6m", "all the rest"), (lambda *given: as_a_tensor(*given)[0], None, "return them as a pair"),
                                 (lambda config, *given: as_a_tensor(config, *given) + config.vocab_size, "C1f", "our head has no bias")],
    "scaling.flops": [(before_the_window, None, "right is"), (attention_is_not_trained, None, "right is"), (lambda config, length: counted_by_torch(config, length), None, "training"),
                      (lambda config, length, training=False: counted_by_torch(config, config.max_len, training), "C10m", "The text has")],
    "scaling.training_memory": [(26.28, "C11r", "GiB"), (2.6, "C11", "enough to answer"), (29, None, "too large"), (225.7, "C11t", "eight bits"), ("28.2 GB", None, "not a number")],
    "scaling.intensity": [(over_bytes_of_two, "C15v", "that is given"), (other_words, None, '"arithmetic" or "bytes"'), (lambda *given: on_meta(*given)[::-1], "C15s", "First FLOPs per byte"),
                          (lambda *given: (on_meta(*given)[0] / 2, on_meta(*given)[1]), None, "right is")],
    "scaling.fit": [(weighted, None, "right is"), (variance_of_a_sample, "C16v", "divides by n - 1"), (lambda *given: from_the_library(*given)[1], None, "return them as a pair"),
                    (lambda sizes, losses, floor: from_the_library(sizes, losses, 0.0), "C16", "subtract the floor")],
    "scaling.compute_optimal": [(coarse, None, "right is"), (lambda *given: by_newton(*given)[::-1], "C13", "First parameters"), (lambda *given: by_newton(*given) * 1.01, None, "right is"),
                                (lambda flops, *law: by_newton(6 * flops, *law), "C13c", "6 N D")],
    "scaling.find_the_bug": [(times_the_batch, "C18d", "multiplied the speed"), (lambda config, *given: added_up(config, *given) / 2, None, "right is"),
                             (lambda *given: 64 * exercises.exercise("scaling.find_the_bug").answer("untouched")(*given), None, "right is")],
}


@pytest.mark.parametrize("id", WRONG)
def test_a_wrong_answer_that_no_table_foresaw_is_rejected(id):
    for answer, name, said in WRONG[id]:
        found = verdict(id, answer)
        assert (found.status, found.name) == ("not yet", name) and said in found.message, str(found)
