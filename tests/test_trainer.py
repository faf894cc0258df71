"""The trainer: nothing is lost, whatever happens to it, and what does not fit is refused."""
import dataclasses
import inspect
import json
import math
import os
import random
import resource
import shutil
import signal

import jobs
import pytest
import torch
from typer.testing import CliRunner

from transformer_course import cli, runs, trainer
from transformer_course.architectures import GPT
from transformer_course.byte_pairs import BytePairTokenizer, load_tokenizer, save_tokenizer
from transformer_course.config import Config
from transformer_course.prediction import (
    ByteTokenizer,
    CharTokenizer,
    evaluate,
    load_corpus,
    next_token_loss,
    sequential_batches,
    train_validation_split,
)
from transformer_course.processes import Processes
from transformer_course.settings import Settings
from transformer_course.trainer import load_run, open_data, prepare_data, train

TEXT = load_corpus()[:6000]
HERE = jobs.SMALL | {"sample_tokens": 3, "eval_tokens": 100}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return str(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, text):
    "A run that nobody interrupted, with dropout."
    out = tmp_path_factory.mktemp("whole") / "run"
    assert jobs.finish(jobs.start(out, data=text)) == 0
    return out


def copy(whole, tmp_path):
    "A run of its own to damage."
    return shutil.copytree(whole, tmp_path / "run")


# --- nothing is lost --------------------------------------------------------------------------------------------------------------------


@pytest.mark.trained
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_steps_it_ends_with_the_same_bits(tmp_path, whole, text, seed):
    out, draw = tmp_path / "run", random.Random(seed)
    for kill_at in sorted(draw.sample(range(3, 57), 3)):
        process = jobs.start(out, resume=True, data=text)
        jobs.kill_after(process, out, kill_at // 3 * 3)
    assert jobs.finish(jobs.start(out, resume=True, data=text)) == 0
    assert jobs.bits(out) == jobs.bits(whole)


@pytest.mark.trained
def test_killed_while_it_saves_it_ends_with_the_same_bits(tmp_path, whole, text):
    out = tmp_path / "run"
    process = jobs.start(out, data=text)
    jobs.wait_until(lambda: (out / "checkpoints" / ".new").exists() or process.exitcode is not None)
    process.kill()
    process.join()
    assert jobs.finish(jobs.start(out, resume=True, data=text)) == 0
    assert jobs.bits(out) == jobs.bits(whole)


@pytest.mark.trained
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_with_its_status(tmp_path, whole, text, number):
    out = tmp_path / "run"
    process = jobs.start(out, data=text, save_every=1000)
    jobs.wait_until(lambda: jobs.last_step(out) >= 9)
    os.kill(process.pid, number)
    assert jobs.finish(process) == 128 + number
    assert runs.load_checkpoint(out / "checkpoints").step >= 9
    assert jobs.finish(jobs.start(out, resume=True, data=text, save_every=1000)) == 0
    assert jobs.bits(out) == jobs.bits(whole)


def test_ctrl_c_ends_at_once_while_the_text_is_read(tmp_path, text, monkeypatch):
    monkeypatch.setattr(trainer, "prepare_data", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)     # as in a terminal; what runs in the background may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            train(Settings(**HERE | {"data": text}), tmp_path / "run")
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.trained
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_checkpoint_costs_a_few_steps_and_no_bit(tmp_path, whole, text, damage):
    out, said = copy(whole, tmp_path), []
    shutil.rmtree(sorted(out.glob("checkpoints/step-*"))[-1])                                    # as if it had been killed after step 56
    before = sorted(out.glob("checkpoints/step-*"))[-1]
    assert before.name.endswith("56")
    shutil.copytree(before, before.with_name("step-000000057"))
    file = before.with_name("step-000000057") / "optimizer.safetensors"
    if damage == "flip":
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 4
        file.write_bytes(content)
    elif damage == "truncate":
        os.truncate(file, 100)
    else:
        file.unlink()
    train(Settings(**jobs.SMALL | {"data": text}), out, resume=True, say=said.append)
    assert any("passed over: step-000000057 is damaged: optimizer.safetensors" in line for line in said) and "continues after step 56" in said
    assert jobs.bits(out) == jobs.bits(whole)


@pytest.mark.trained
def test_a_full_disk_is_reported_and_the_run_goes_on_from_what_was_saved(tmp_path, text):
    out = tmp_path / "run"
    train(Settings(**HERE | {"data": text, "steps": 7, "eval_every": 7}), out)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(runs.Unsaved, match="step 14 could not be saved"):
            train(Settings(**HERE | {"data": text, "steps": 20}), out, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert runs.load_checkpoint(out / "checkpoints").step == 7
    assert train(Settings(**HERE | {"data": text, "steps": 20}), out, resume=True).step == 20


@pytest.mark.trained
@pytest.mark.parametrize("options", [
    {"accumulate": 2}, {"dtype": "bfloat16"}, {"dtype": "float16"}, {"checkpoint_activations": True, "dropout": 0.2}, {"tokenizer": "bytes"},
    {"tokenizer": "byte-pairs", "vocab_size": 300}, {"preset": "tiny"},
], ids=lambda options: " ".join(map(str, options.items())))
def test_every_way_to_train_resumes_exactly(tmp_path, text, options):
    settings = Settings(**HERE | {"steps": 9, "save_every": 4, "eval_every": 9, "data": text} | options)
    train(settings, tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    shutil.rmtree(tmp_path / "two/checkpoints/step-000000009")
    train(settings, tmp_path / "two", resume=True)
    assert jobs.bits(tmp_path / "one") == jobs.bits(tmp_path / "two")


def test_the_factor_of_float16_losses_is_kept(tmp_path):
    settings = Settings(**HERE | {"dtype": "float16"})
    folder, alone = runs.RunFolder(tmp_path), Processes()
    one, other = (trainer.new_training(settings.config(31), settings, alone) for _ in range(2))
    one.scaler.load_state_dict(one.scaler.state_dict() | {"scale": 128.0, "_growth_tracker": 5})
    one.step = 3
    trainer.save_training(one, folder)
    trainer.restore_training(other, runs.load_checkpoint(folder.checkpoints))
    assert other.scaler.state_dict() == one.scaler.state_dict() and other.step == 3


@pytest.mark.trained
def test_every_step_draws_its_own_batch(tmp_path, text, monkeypatch):
    drawn = []
    own = trainer.batch_at
    monkeypatch.setattr(trainer, "batch_at", lambda tokens, **how: drawn.append(how) or own(tokens, **how))
    train(Settings(**HERE | {"data": text, "steps": 5, "save_every": 3, "seed": 7}), tmp_path / "run")
    assert drawn == [{"step": step, "batch_size": 4, "max_len": 16, "seed": 7} for step in range(1, 6)]


@pytest.mark.trained
def test_a_run_that_is_done_stays_as_it_is(tmp_path, whole, text):
    out = copy(whole, tmp_path)
    assert train(Settings(**jobs.SMALL | {"data": text}), out, resume=True).step == 60
    assert jobs.bits(out) == jobs.bits(whole)


# --- it trains what it should -----------------------------------------------------------------------------------------------------------


@pytest.mark.trained
def test_the_log_and_the_samples_are_complete(whole):
    rows = runs.read_log(whole / "log.csv")
    assert [row["step"] for row in rows] == list(range(3, 61, 3))
    assert [row["step"] for row in rows if row["validation"]] == [30, 60]
    assert rows[0]["loss"] == pytest.approx(math.log(len(set(TEXT))), rel=0.03) and rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["tokens"] == 60 * 4 * 16 and max(row["learning_rate"] for row in rows) == 3e-3
    assert [path.stem for path in sorted((whole / "samples").iterdir())] == ["step-000000030", "step-000000060"]
    assert (whole / "losses.png").stat().st_size > 1000
    said = json.loads((whole / "run.json").read_text())
    assert said["settings"]["steps"] == 60 and Config(**said["config"]).d_model == 16


@pytest.mark.trained
def test_a_run_can_be_loaded_and_scores_as_it_said(whole):
    model, tokenizer = load_run(whole)
    assert not model.training and isinstance(tokenizer, CharTokenizer)
    _, validation = train_validation_split(torch.tensor(tokenizer.encode(TEXT)))
    pieces = torch.cat(sequential_batches(validation, batch_size=1, max_len=16))[:12]            # eval_tokens=200
    said = runs.read_log(whole / "log.csv")[-1]["validation"]
    assert evaluate(model, [pieces]) == pytest.approx(said, abs=1e-5)
    assert trainer.write(model, tokenizer, "The ", tokens=9, max_len=16).startswith("The ")


@pytest.mark.trained
def test_accumulated_parts_give_the_step_of_the_whole_batch(tmp_path, text):
    logs = []
    for accumulate in (1, 4):
        out = tmp_path / str(accumulate)
        train(Settings(**HERE | {"data": text, "steps": 9, "dropout": 0.0, "accumulate": accumulate}), out)
        logs.append([row["loss"] for row in runs.read_log(out / "log.csv")])
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)


@pytest.mark.parametrize("tokenizer", [CharTokenizer("The cat\n"), ByteTokenizer(), BytePairTokenizer([(84, 104), (256, 101)])], ids=lambda one: type(one).__name__)
def test_a_tokenizer_is_kept(tmp_path, tokenizer):
    save_tokenizer(tokenizer, tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path / "tokenizer.json")
    assert type(again) is type(tokenizer) and again.vocab_size == tokenizer.vocab_size
    assert again.encode("The cat") == tokenizer.encode("The cat") and again.decode(again.encode("The cat")) == "The cat"


def test_the_default_data_is_the_split_of_chapter_0(tmp_path):
    prepare_data(Settings(), tmp_path)
    data, corpus = open_data(tmp_path), load_corpus()
    expected = train_validation_split(torch.tensor(CharTokenizer(corpus).encode(corpus)))
    for file, tokens in zip((data.train, data.validation), expected):
        assert torch.from_numpy(file.tokens.copy()).equal(tokens.byte())
    assert data.validation.header["characters"] == len(expected[1])


SHAPES = {
    "GPT-2": {"positions": "learned", "tie_embeddings": True, "activation": "gelu_tanh"},
    "LLaMA": {"positions": "rope", "norm": "rms", "activation": "swiglu", "bias": False, "n_kv_heads": 2},
    "post-norm": {"positions": "sinusoidal", "norm_first": False},
    "ALiBi": {"positions": "alibi"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_fused_model_computes_what_gpt_computes_with_the_same_parameters(shape):
    config = Config(vocab_size=31, max_len=12, d_model=24, n_layers=2, n_heads=4, **SHAPES[shape])
    torch.manual_seed(0)
    plain = GPT(config)
    fast = trainer.lean(trainer.fused(GPT(config, attention_fn=trainer.causal_attention)))
    own = dict(fast.named_parameters())
    assert own.keys() == dict(plain.named_parameters()).keys() and fast.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            parameter.copy_(torch.randn(parameter.shape) / 3)
            own[name].copy_(parameter)
    batch = torch.randint(31, (3, 11))
    losses = next_token_loss(plain, batch), trainer.fused_loss(fast, batch)
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(*losses)
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(own[name].grad, parameter.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", ["GPT-2", "LLaMA", "post-norm"])
def test_under_autocast_norms_convert_for_products_and_change_nothing(shape):
    config = Config(vocab_size=31, max_len=12, d_model=24, n_layers=2, n_heads=4, **SHAPES[shape])
    torch.manual_seed(0)
    model, batch, losses, kinds = trainer.fused(GPT(config, attention_fn=trainer.causal_attention)), torch.randint(31, (3, 11)), [], []
    norms = [part for part in model.modules() if isinstance(part, trainer.FastNorm)]
    for norm in norms:
        norm.register_forward_hook(lambda *parts: kinds.append(parts[-1].dtype))
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            losses.append(trainer.fused_loss(model, batch))
        for norm in norms:
            norm.for_products = False
    assert kinds[:len(norms)] == [torch.bfloat16 if config.norm_first else torch.float32] * len(norms)
    assert kinds[len(norms):] == [torch.float32] * len(norms) and torch.equal(*losses)


def test_fused_keeps_the_parameters_themselves():
    plain = GPT(Config(vocab_size=31, max_len=12, d_model=24, n_layers=1, n_heads=4))
    before = dict(plain.named_parameters())
    after = dict(trainer.lean(trainer.fused(plain)).named_parameters())
    assert before.keys() == after.keys() and all(after[name] is before[name] for name in before)


def test_the_options_of_the_command_are_the_settings():
    options = inspect.signature(cli.train).parameters
    own = {field.name: field.default for field in dataclasses.fields(Settings)}
    assert {name: one.default for name, one in options.items() if name not in ("context", "out", "resume")} == own


# --- refusals ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.refusal
@pytest.mark.parametrize(("options", "said"), [
    ({"steps": 0}, "steps=0 must be at least 1"),
    ({"learning_rate": 0.0}, "learning_rate=0.0"),
    ({"learning_rate": math.nan}, "learning_rate=nan must be a number above 0"),
    ({"weight_decay": math.nan}, "weight_decay=nan must be a number of at least 0"),
    ({"seed": -1}, "seed=-1"),
    ({"sample_tokens": -1}, "sample_tokens=-1"),
    ({"data": ""}, "data='' names no text"),
    ({"preset": "bert-base"}, "preset='bert-base' is not one of laptop, tiny, small, gpt2"),
    ({"tokenizer": "words"}, "tokenizer='words' is not one of"),
    ({"dtype": "float8"}, "dtype='float8' is not one of"),
])
def test_settings_that_can_not_be_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Settings(**options)


@pytest.mark.refusal
@pytest.mark.parametrize(("options", "said"), [
    ({"max_len": 600}, "600 tokens is too short for a context of 600, which takes 601"),
    ({"batch_size": 3, "accumulate": 2}, "batch_size=3 can't be cut for 1 processes in 2 parts"),
    ({"d_model": 15}, "d_model=15 is not divisible by n_heads=2"),
    ({"device": "cuda:99"}, "device='cuda:99' can't be used here"),
    ({"warmup": 60}, "warmup=60 must be at least 0, below steps=60"),
    ({"preset": "mistral-7b", "n_heads": 8}, "window=4096 would be ignored"),
])
def test_what_does_not_fit_is_refused_before_training(tmp_path, text, options, said):
    with pytest.raises(ValueError, match=said):
        train(Settings(**HERE | {"data": text} | options), tmp_path / "run")
    assert not (tmp_path / "run" / "log.csv").exists()


@pytest.mark.trained
@pytest.mark.refusal
@pytest.mark.parametrize(("options", "said"), [
    ({"d_model": 32}, "the checkpoint has d_model=16, not 32; d_ff=64, not 128"),
    ({"n_layers": 2, "dropout": 0.0}, "n_layers=1, not 2; dropout=0.1, not 0.0"),
    ({"tokenizer": "bytes"}, "the tokenizer is bytes, not characters"),
])
def test_another_model_does_not_fit_a_checkpoint(tmp_path, whole, text, options, said):
    out = copy(whole, tmp_path)
    with pytest.raises(ValueError, match=said):
        train(Settings(**jobs.SMALL | {"data": text} | options), out, resume=True)
    assert jobs.bits(out) == jobs.bits(whole)


@pytest.mark.trained
@pytest.mark.refusal
def test_another_text_does_not_fit_a_run(tmp_path, whole):
    out = copy(whole, tmp_path)
    (tmp_path / "other").write_text(TEXT[:-1] + "x")
    kept = (out / "data/tokenizer.json").read_text()
    for _ in range(2):
        with pytest.raises(ValueError, match="the text is [0-9a-f]{20}, not [0-9a-f]{20}"):
            train(Settings(**jobs.SMALL | {"data": str(tmp_path / "other")}), out, resume=True)
        (out / "data/train.bin").write_bytes(b"no tokens")                # the run knows its text without them
    assert jobs.bits(out) == jobs.bits(whole) and (out / "data/tokenizer.json").read_text() == kept


@pytest.mark.trained
def test_other_settings_are_reported(tmp_path, whole, text):
    said = []
    train(Settings(**jobs.SMALL | {"data": text, "steps": 61, "learning_rate": 5e-4}), copy(whole, tmp_path), resume=True, say=said.append)
    assert "steps was 60 and is 61 from here on" in said and "learning_rate was 0.003 and is 0.0005 from here on" in said


@pytest.mark.trained
def test_a_loss_that_is_no_number_ends_the_run_and_is_never_saved(tmp_path, text, monkeypatch):
    out = tmp_path / "run"
    own = trainer.fused_loss
    monkeypatch.setattr(trainer, "fused_loss", lambda model, batch: own(model, batch) * (math.nan if model.training and broken else 1))
    broken = False
    train(Settings(**HERE | {"data": text, "steps": 7}), out)
    broken = True
    with pytest.raises(FloatingPointError, match="is no number by step .*; try a learning rate below 0.003"):
        train(Settings(**HERE | {"data": text, "steps": 20, "log_every": 100}), out, resume=True)
    assert runs.load_checkpoint(out / "checkpoints").step == 7


@pytest.mark.trained
def test_a_validation_that_is_no_number_ends_the_run_before_it_writes(tmp_path, text):
    with pytest.raises(FloatingPointError, match="is no number by step 5; try a learning rate below 1000000.0"):
        train(Settings(**HERE | {"data": text, "learning_rate": 1e6, "eval_every": 5, "log_every": 10, "warmup": 0}), tmp_path / "run")
    assert not (tmp_path / "run/samples").exists()


@pytest.mark.refusal
@pytest.mark.parametrize("below", ["run", "a/run"])
def test_a_run_is_no_part_of_its_text(tmp_path, below):
    (tmp_path / "text.txt").write_text(TEXT)
    with pytest.raises(ValueError, match="would be a part of its text"):
        train(Settings(**HERE | {"data": str(tmp_path)}), tmp_path / below)
    assert not list(tmp_path.rglob("*.bin"))


def test_byte_pairs_are_learned_from_the_training_text_alone(tmp_path):
    text = "the cat " * 90 + "zq" * 40                                # its last tenth holds all pairs of z and q
    (tmp_path / "text.txt").write_text(text)
    prepare_data(Settings(data=str(tmp_path / "text.txt"), tokenizer="byte-pairs", vocab_size=260), tmp_path / "run")
    assert all("z" not in open_data(tmp_path / "run").tokenizer.decode([token]) for token in range(256, 260))


@pytest.mark.refusal
def test_one_command_at_a_time_trains_in_a_folder(tmp_path, text):
    out = tmp_path / "run"
    with runs.RunFolder(out).alone(), pytest.raises(ValueError, match="another command trains in .*run now"):
        train(Settings(**HERE | {"data": text}), out)
    assert train(Settings(**HERE | {"data": text, "steps": 1}), out).step == 1


# --- the commands -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def command():
    def run(*arguments):
        return CliRunner().invoke(cli.app, [str(one) for one in arguments])
    return run


@pytest.mark.trained
def test_the_commands_train_resume_and_generate(tmp_path, text, command):
    out = tmp_path / "run"
    options = [part for name, value in HERE.items() for part in (f"--{name.replace('_', '-')}", value)]
    done = command("train", "--out", out, "--data", text, *options, "--steps", 10)
    assert done.exit_code == 0 and "parameters" in done.output and "nats per character" in done.output
    refused = command("train", "--out", out, "--data", text)
    assert refused.exit_code == 2 and "holds a run: --resume continues it" in refused.output
    mistyped = command("train", "--out", f"{out}x", "--resume")
    assert mistyped.exit_code == 2 and "holds no run to go on with" in mistyped.output.replace("\n", "") and not out.with_name("runx").exists()
    more = command("train", "--out", out, "--resume", "--steps", 12)                              # all other options are the run's own
    assert more.exit_code == 0 and "continues after step 10" in more.output
    said = json.loads((out / "run.json").read_text())["settings"]
    assert said == dataclasses.asdict(Settings(**HERE | {"data": text, "steps": 12}))
    written = [command("generate", out, "--prompt", "The ", "--tokens", 8, "--seed", seed).output for seed in (0, 0, 1)]
    assert written[0].startswith("The ") and len(written[0]) == 13 and written[0] == written[1] != written[2]
    assert command("generate", out, "--tokens", 0).output == open_data(out / "data").tokenizer.decode(open_data(out / "data").validation.tokens[:8].tolist()) + "\n"


@pytest.mark.refusal
@pytest.mark.parametrize("error", [MemoryError("no"), torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")])
def test_too_little_memory_is_said_in_a_line(tmp_path, text, command, monkeypatch, error):
    def full(*_):
        raise error
    monkeypatch.setattr(trainer, "advance", full)
    done = command("train", "--out", tmp_path / "run", "--data", text, "--batch-size", 7)
    assert done.exit_code == 2 and "not enough memory for batch_size=7" in done.output.replace("\n", " ") and "Traceback" not in done.output


@pytest.mark.trained
def test_the_command_writes_past_the_context_and_as_the_model_does(tmp_path, text, command):
    out = tmp_path / "run"
    settings = Settings(**HERE | {"data": text, "tokenizer": "bytes"})
    train(settings, out)
    model, tokenizer = load_run(out)
    most = model.config.max_len
    prompt = "x" * (most + 3)
    written = command("generate", out, "--prompt", prompt, "--tokens", 2 * most, "--temperature", 0).output
    tokens = tokenizer.encode(prompt)
    context = tokens[-most:]
    for _ in range(2 * most):                                         # the context as the command keeps it, all of it read every time
        tokens.append(model(torch.tensor([context]))[0, -1].argmax().item())
        context = [*context, tokens[-1]] if len(context) < most else tokens[-(most // 2):]
    assert written == tokenizer.decode(tokens) + "\n"
    assert command("generate", out, "--prompt", "ab", "--tokens", 0).output == "ab\n"


def test_a_run_without_a_parameter_is_refused(tmp_path, text):
    out = tmp_path / "run"
    train(Settings(**HERE | {"data": text, "steps": 1}), out)
    found = runs.load_checkpoint(out / "checkpoints")
    lost = sorted(found.tensors["model"])[-1]
    del found.tensors["model"][lost]
    runs.save_checkpoint(out / "checkpoints", 9, found.tensors, found.state)
    with pytest.raises(ValueError, match=f"does not hold the parameters of its model: {lost}"):
        load_run(out)


@pytest.mark.trained
def test_what_a_finished_run_refuses_and_warns_of(tmp_path, whole, text, command):
    out = copy(whole, tmp_path)
    taken, before = runs.load_checkpoint(out / "checkpoints").step, jobs.bits(out)
    fewer = command("train", "--out", out, "--resume", "--steps", taken - 1)
    assert fewer.exit_code == 2 and f"taken {taken} steps, more than steps={taken - 1}" in fewer.output.replace("\n", " ") and jobs.bits(out) == before
    empty = command("generate", out, "--prompt", "")
    assert empty.exit_code == 2 and "--prompt is empty" in empty.output
    newest = sorted((out / "checkpoints").glob("step-*"))[-1]
    (newest / "model.safetensors").write_bytes(b"no tensors")
    with pytest.warns(UserWarning, match=rf"{newest.name} is damaged: .*; step \d+ is used"):
        load_run(out)
    (out / "run.json").write_text("{")
    broken = command("train", "--out", out, "--resume")
    assert broken.exit_code == 2 and "run.json is damaged" in broken.output.replace("\n", "")


@pytest.mark.refusal
@pytest.mark.parametrize(("arguments", "status", "said"), [
    (["train", "--out", "{}/run", "--data", "{}/nothing"], 2, "does not exist"),
    (["train", "--out", "{}/run", "--data", "{}/empty"], 2, "is empty"),
    (["train", "--out", "{}/run", "--data", "{}/binary"], 2, "not UTF-8"),
    (["train", "--out", "{}/run", "--preset", "huge"], 2, "is not one of"),
    (["train", "--out", "{}/empty/run", "--steps", "1"], 3, "Not a directory"),
    (["train", "--out", "{}/empty", "--steps", "1"], 2, "is a file; a run needs a folder"),
    (["generate", "{}/nothing"], 2, "holds no checkpoint"),
    (["generate", "{}/nothing", "--temperature", "-1"], 2, "temperature"),
])
def test_commands_say_what_is_wrong(tmp_path, command, arguments, status, said):
    (tmp_path / "empty").write_text("")
    (tmp_path / "binary").write_bytes(b"\x80\x81")
    done = command(*(one.format(tmp_path) for one in arguments))
    assert done.exit_code == status and said in done.output.replace("\n", "") and "Traceback" not in done.output
