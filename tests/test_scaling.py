"""Counts of parameters, operations and memory equal those of the models that they predict; laws are found again in data made from them."""
import itertools
import json
import math

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from transformer_course import cli
from transformer_course.architectures import GPT, Encoder, EncoderDecoder
from transformer_course.config import PRESETS, Config
from transformer_course.scaling import (
    HARDWARE,
    LAWS,
    Hardware,
    LossLaw,
    PowerLaw,
    activation_numbers,
    compute_optimal,
    config_from_file,
    count_parameters,
    fit_power_law,
    flops_per_token,
    kaplan_optimal,
    multiplied,
    roofline,
    tokens_per_second,
    training_memory,
    training_seconds,
)
from transformer_course.trainer import causal_attention, fused, fused_loss
from transformer_course.training import checkpointed

BUILDS = {"decoder": GPT, "encoder": Encoder, "encoder-decoder": EncoderDecoder}
PUBLISHED = {  # total, and what one token uses
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "gpt3": 174_604_259_328,
    "llama-7b": 6_738_415_616,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
}


def config(**changes) -> Config:
    sizes = dict(vocab_size=50, max_len=32, d_model=24, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=44)
    return Config(**(sizes | changes))


KINDS = [
    config(kind=kind, positions=positions, activation=activation, norm=norm, norm_first=first, bias=bias, tie_embeddings=not bias, n_experts=experts, n_active_experts=min(2, experts), n_segments=2 if kind == "encoder" else 0)
    for kind, positions, activation, (norm, first, bias), experts in itertools.product(
        BUILDS, ["learned", "rope", "alibi", "sinusoidal"], ["gelu", "swiglu"], [("layer", True, True), ("rms", False, False)], [1, 4]
    )
    if positions != "alibi" or kind == "decoder"
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones(name):
    assert count_parameters(PRESETS[name]).total == PUBLISHED[name]


def test_a_mixture_uses_a_part_and_bert_has_a_pooler_besides():
    assert count_parameters(PRESETS["mixtral-8x7b"]).active == 12_879_925_248
    assert count_parameters(PRESETS["bert-base"]).total + 768 * 768 + 768 == 109_482_240
    assert count_parameters(PRESETS["gpt2"]).active == PUBLISHED["gpt2"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_counted_as_it_is_built(name):
    one = PRESETS[name].replace(window=None)
    with torch.device("meta"):
        model = BUILDS[one.kind](one)
    assert sum(p.numel() for p in model.parameters()) == count_parameters(one).total


def test_parameters_and_operations_of_every_kind_are_those_of_the_built_model():
    assert len(KINDS) == 80
    for one in KINDS:
        model, tokens = BUILDS[one.kind](one), torch.randint(50, (2, 7))
        assert sum(p.numel() for p in model.parameters()) == count_parameters(one).total, one
        inputs = (tokens, tokens) if one.kind == "encoder-decoder" else (tokens,)
        with FlopCounterMode(display=False) as forward:
            out = model(*inputs)
        assert forward.get_total_flops() == 14 * flops_per_token(one, 7), one
        with FlopCounterMode(display=False) as backward:
            out.sum().backward()
        both = forward.get_total_flops() + backward.get_total_flops()
        assert both == 14 * flops_per_token(one, 7, training=True), one


def test_a_window_limits_the_keys():
    wide, narrow = config(), config(window=5)
    assert flops_per_token(wide, 4) == flops_per_token(narrow, 4)
    assert flops_per_token(wide, 20) - flops_per_token(narrow, 20) == 2 * 4 * 24 * 15


def saved(model, batch) -> int:
    "Bytes of all floating-point tensors that autograd keeps, parameters left out."
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if tensor.is_floating_point() and storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor keeps its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        fused_loss(model, batch)
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("tiled", [True, False])
def test_activations_are_those_that_autograd_keeps(tiled):
    for positions, activation, norm, first, kv in itertools.product(["learned", "rope"], ["gelu", "relu", "swiglu"], ["layer", "rms"], [True, False], [2, 4]):
        one = config(positions=positions, activation=activation, norm=norm, norm_first=first, n_kv_heads=kv)
        model = fused(GPT(one, attention_fn=causal_attention) if tiled else GPT(one))
        tables = 4 * 2 * 2 * 7 * one.d_head if positions == "rope" else 0  # cosines and sines of both layers
        scalar = 4  # the number of targets
        want = training_memory(one, 3, 7, tiled=tiled).activations
        assert saved(model, torch.randint(50, (3, 8))) == want + tables + scalar, one


def peak(model, batch) -> int:
    "The most memory that a forward and a backward pass hold at once, in bytes, without gradients."
    fused_loss(model, batch).backward()  # gradients have their place
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        fused_loss(model, batch).backward()
    held = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def test_checkpointing_lowers_the_measured_peak_as_predicted():
    one = config(n_layers=6, d_model=64, d_ff=256, max_len=64, positions="learned")
    batch = torch.randint(50, (8, 65))
    whole, kept = training_memory(one, 8, 64), training_memory(one, 8, 64, checkpointed=True)
    model = fused(GPT(one, attention_fn=causal_attention))
    usual, less = peak(model, batch), peak(checkpointed(model), batch)
    assert whole.activations < usual < 1.25 * whole.activations
    assert kept.activations < less < 1.7 * kept.activations
    assert whole[:3] == kept[:3] and kept.activations < whole.activations / 2.5


def test_memory_of_parameters_is_sixteen_bytes_each():
    memory = training_memory(PRESETS["gpt2"], 8, 1024)
    assert sum(memory[:3]) == 16 * count_parameters(PRESETS["gpt2"]).total
    assert memory.total == sum(memory)


def test_the_roofline_has_a_corner():
    machine = Hardware(operations=312e12, bandwidth=1.5e12, memory=40e9)
    assert machine.corner == 208
    assert roofline(machine, 104) == 156e12 and roofline(machine, 208) == roofline(machine, 1e6) == 312e12


def test_generation_is_limited_by_reading_and_then_by_arithmetic():
    one, machine = PRESETS["llama-7b"], Hardware(312e12, 1.555e12, 1e15)
    alone = tokens_per_second(one, machine)
    weights = 2 * multiplied(one) + 2 * 2 * 32 * 4096  # and the cache of one token
    assert alone == pytest.approx(1.555e12 / weights)
    many = tokens_per_second(one, machine, batch=10_000)
    assert many == pytest.approx(312e12 / flops_per_token(one, 1))
    assert tokens_per_second(one, machine, batch=8, length=2048) < tokens_per_second(one, machine, batch=8)
    assert tokens_per_second(one, machine, bytes_per_number=1) == pytest.approx(2 * alone)


def test_a_mixture_reads_the_experts_that_its_texts_use():
    one, machine = PRESETS["mixtral-8x7b"], Hardware(1e30, 1e12, 1e15)
    steps = [tokens_per_second(one, machine, batch=b) / b for b in (1, 8, 10_000)]
    read = [1e12 / step / 2 for step in steps]  # numbers, with the cache of one token
    cache = 2 * 32 * 1024
    assert read[0] == pytest.approx(multiplied(one) + cache)
    assert read[2] - 10_000 * cache == pytest.approx(multiplied(one.replace(n_active_experts=8)))
    assert read[0] < read[1] < read[2]


def test_training_takes_three_passes_at_the_share_of_the_peak_that_is_reached():
    one, machine = config(), Hardware(1e12, 1e9, 1e9)
    seconds = training_seconds(one, 1000, machine, length=8, chips=2, utilisation=0.5)
    assert seconds == pytest.approx(1000 * flops_per_token(one, 8, training=True) / 1e12)


def test_power_laws_are_found_again():
    sizes = [10.0**i for i in range(2, 9)]
    law = PowerLaw(3.0, 0.076, 1.69)
    losses = [law(n) for n in sizes]
    assert fit_power_law(sizes, [y - 1.69 for y in losses]) == pytest.approx((3.0, 0.076, 0))
    found = fit_power_law(sizes, losses, floor=None)
    assert found.exponent == pytest.approx(0.076, rel=0.02) and found.floor == pytest.approx(1.69, rel=0.02)
    assert fit_power_law(sizes, losses).exponent < 0.05  # the floor left out
    assert fit_power_law(sizes, losses, floor=1.69)(1e10) == pytest.approx(law(1e10))


def test_a_floor_is_found_under_noise():
    "Floors are compared by the losses: the errors of their logarithms have another unit for every floor, and are least without one."
    sizes, noise = [1_000 * 3**i for i in range(6)], [0.008, -0.012, 0.004, -0.008, 0.012, -0.004]
    law = PowerLaw(25.0, 0.5, 1.4)
    found = fit_power_law(sizes, [law(n) + off for n, off in zip(sizes, noise)], floor=None)
    assert abs(found.floor - 1.4) < 0.05 and max(abs(found(n) - law(n)) for n in sizes) < 0.03


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_no_other_size_has_a_lower_loss_for_the_same_budget(law):
    for flops in (1e18, 5.76e23):
        n, d = compute_optimal(flops, law)
        assert 6 * n * d == pytest.approx(flops)
        others = [law(n * factor, d / factor) for factor in (0.5, 0.99, 1.01, 2)]
        assert law(n, d) < min(others)


def test_the_two_fits_differ_as_published():
    per_parameter = {name: d / n for name, law in LAWS.items() for n, d in [compute_optimal(5.76e23, law)]}
    assert round(per_parameter["hoffmann2022"]) == 93 and round(per_parameter["besiroglu2024"]) == 18
    n, d = kaplan_optimal(1e15 * 86_400)
    assert n == pytest.approx(1.3e9) and 6 * n * d == pytest.approx(1e15 * 86_400)
    assert kaplan_optimal(1e24)[0] / kaplan_optimal(1e23)[0] == pytest.approx(10**0.73)


def published(name: str) -> dict:
    "A config.json as transformers writes it."
    import transformers

    base = dict(num_attention_heads=32, num_key_value_heads=8, intermediate_size=14_336, vocab_size=32_000, max_position_embeddings=32_768)
    made = {
        "gpt2": transformers.GPT2Config(),
        "bert-base": transformers.BertConfig(),
        "llama-7b": transformers.LlamaConfig(),
        "mistral-7b": transformers.MistralConfig(**base, sliding_window=4096),
        "mixtral-8x7b": transformers.MixtralConfig(**base),
    }
    return made[name].to_diff_dict()


@pytest.mark.parametrize("name", ["gpt2", "bert-base", "llama-7b", "mistral-7b", "mixtral-8x7b"])
def test_config_files_are_counted_as_the_presets(name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(published(name)))
    one = config_from_file(tmp_path)
    assert count_parameters(one) == count_parameters(PRESETS[name])
    assert one.window == PRESETS[name].window
    assert config_from_file(tmp_path / "config.json") == one


def test_config_files_that_cannot_be_counted_are_refused(tmp_path):
    path = tmp_path / "config.json"
    with pytest.raises(ValueError, match="holds no config.json"):
        config_from_file(tmp_path)
    path.write_text("[")
    with pytest.raises(ValueError, match="not a JSON object"):
        config_from_file(path)
    path.write_text('{"model_type": "mamba"}')
    with pytest.raises(ValueError, match="'mamba' is not one of gpt2"):
        config_from_file(path)
    path.write_text(json.dumps(published("gpt2") | {"n_new_knobs": 3}))
    with pytest.raises(ValueError, match="n_new_knobs"):
        config_from_file(path)


def test_refusals_name_both_sides():
    one = config()
    with pytest.raises(ValueError, match="length=33 must lie between 1 and max_len=32"):
        flops_per_token(one, 33)
    with pytest.raises(ValueError, match="kind='encoder'"):
        training_memory(config(kind="encoder"), 1, 8)
    with pytest.raises(ValueError, match="dropout=0.1"):
        activation_numbers(config(dropout=0.1), 8)
    with pytest.raises(ValueError, match="batch=0"):
        training_memory(one, 0, 8)
    with pytest.raises(ValueError, match=r"do not fit into 40.0 GB"):
        tokens_per_second(PRESETS["llama-2-70b"], HARDWARE["a100-40gb"])
    with pytest.raises(ValueError, match="flops=-1"):
        compute_optimal(-1, LossLaw(1, 1, 1, 1, 1))
    with pytest.raises(ValueError, match="2 sizes and 3 losses"):
        fit_power_law([1, 2], [3, 2, 1])
    with pytest.raises(ValueError, match="too few for an unknown floor"):
        fit_power_law([1, 2, 3], [3, 2, 1], floor=None)
    with pytest.raises(ValueError, match="least loss 1 is not above the floor 1"):
        fit_power_law([1, 2], [2, 1], floor=1)
    with pytest.raises(ValueError, match="intensity=0"):
        roofline(HARDWARE["h100"], 0)
    assert all(math.isfinite(machine.corner) for machine in HARDWARE.values())


def command(*arguments: str):
    return CliRunner().invoke(cli.app, ["count", *arguments])


def test_the_command_counts_presets_and_files(tmp_path):
    said = command("mixtral-8x7b")
    assert said.exit_code == 0
    for part in ("46,702,792,704", "12,879,925,248", "feed-forward", "93.4 GB in 16 bits", "cache of 1 x 32,768 tokens: 4.29 GB"):
        assert part in said.output
    (tmp_path / "config.json").write_text(json.dumps(published("gpt2")))
    assert command(str(tmp_path), "--length", "128").output == command("gpt2", "--length", "128").output
    assert "training on 2 x 64 tokens" in command("tiny", "--batch", "2").output
    assert "cache" not in command("bert-base").output


def test_the_command_refuses_what_it_cannot_count():
    unknown = command("gpt5")
    assert unknown.exit_code == 2 and "gpt5 is no file, and no preset: those are tiny, small" in unknown.output
    long = command("gpt2", "--length", "2000")
    assert long.exit_code == 2 and "length=2000 must lie between 1 and max_len=1024" in long.output
