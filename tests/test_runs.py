"""A run's folder: a checkpoint is whole or absent, damage is found, and the log can be cut back."""
import json
import os
import random
import resource
import shutil

import pytest
import torch

from transformer_course import runs
from transformer_course.runs import (
    Unsaved,
    append_log,
    cut_log,
    draw_losses,
    load_checkpoint,
    read_log,
    save_checkpoint,
    write_atomically,
)


def tensors(step: int) -> dict:
    drawn = torch.Generator().manual_seed(step)
    weights = {"a.weight": torch.randn(3, 5, generator=drawn), "b": torch.randn(2, generator=drawn).bfloat16(), "count": torch.tensor(step)}
    return {"model": weights, "optimizer": {"a.weight/exp_avg": torch.randn(3, 5, generator=drawn)}}


@pytest.fixture
def saved(tmp_path):
    "A folder with the checkpoints of steps 20 and 30; that of step 10 is gone."
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, step, tensors(step), {"loss": 1 / step})
    return tmp_path


def same(found, step: int) -> None:
    assert found.step == step and found.state == {"loss": 1 / step}
    for group, expected in tensors(step).items():
        assert found.tensors[group].keys() == expected.keys()
        for name, tensor in expected.items():
            assert found.tensors[group][name].equal(tensor) and found.tensors[group][name].dtype == tensor.dtype


def test_the_newest_is_read_and_the_last_two_are_kept(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["step-000000020", "step-000000030"]
    same(load_checkpoint(saved), 30)
    assert set(load_checkpoint(saved, ["model"]).tensors) == {"model"}


def test_no_checkpoint_is_none(tmp_path):
    assert load_checkpoint(tmp_path) is None and load_checkpoint(tmp_path / "nothing") is None


def test_a_step_can_be_saved_again(saved):
    save_checkpoint(saved, 30, tensors(30), {"loss": 1 / 30})
    same(load_checkpoint(saved), 30)


def test_no_file_is_a_pickle(saved):
    assert {path.suffix for path in saved.rglob("*.*")} == {".safetensors", ".json"}


def damages():
    "Ways to damage a checkpoint, each with a name."
    for file in ("model.safetensors", "optimizer.safetensors", "checkpoint.json"):
        yield f"{file} missing", lambda folder, file=file: (folder / file).unlink()
        yield f"{file} empty", lambda folder, file=file: (folder / file).write_bytes(b"")
        yield f"{file} torn", lambda folder, file=file: os.truncate(folder / file, (folder / file).stat().st_size // 2)
        yield f"{file} one byte short", lambda folder, file=file: os.truncate(folder / file, (folder / file).stat().st_size - 1)
        for bit in range(5):
            yield f"{file} bit {bit}", lambda folder, file=file, bit=bit: flip(folder / file, bit)
    yield "folder empty", lambda folder: [path.unlink() for path in folder.iterdir()]


def flip(file, seed: int) -> None:
    "Changes one bit, anywhere in the file."
    content, draw = bytearray(file.read_bytes()), random.Random(seed)
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [pytest.param(damage, id=name) for name, damage in damages()])
def test_a_damaged_checkpoint_is_passed_over(saved, damage):
    damage(saved / "step-000000030")
    found = load_checkpoint(saved)
    same(found, 20)
    assert len(found.skipped) == 1 and "step-000000030 is damaged" in found.skipped[0]


def test_every_bit_of_checkpoint_json_counts(tmp_path):
    "The file is small: each of its bytes is changed once. Only spaces between its parts may change."
    file = save_checkpoint(tmp_path, 1, {}, {"x": 0.1}) / "checkpoint.json"
    whole = file.read_bytes()
    for i in range(len(whole)):
        file.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        try:
            found = load_checkpoint(tmp_path)
            assert whole[i : i + 1].isspace() and found.state == {"x": 0.1}
        except ValueError as error:
            assert "no checkpoint" in str(error)


def test_if_all_are_damaged_that_is_said(saved):
    for folder in saved.iterdir():
        flip(folder / "model.safetensors", 0)
    with pytest.raises(ValueError, match="no checkpoint in .* is whole: step-000000030 is damaged: .*; step-000000020"):
        load_checkpoint(saved)


def test_a_checkpoint_that_was_being_written_is_no_checkpoint(saved):
    "What a kill leaves: a folder under its other name."
    shutil.copytree(saved / "step-000000030", saved / ".new")
    (saved / ".new" / "checkpoint.json").unlink()
    same(load_checkpoint(saved), 30)
    save_checkpoint(saved, 40, tensors(40), {"loss": 1 / 40})
    assert not list(saved.glob(".new")) and len(list(saved.iterdir())) == 2


@pytest.mark.parametrize("size", [10, 300, 600])
def test_a_full_disk_is_reported_and_leaves_what_was_there(saved, size):
    "Writing fails after so many bytes, as on a full disk: in a tensor file, or in the JSON."
    before = {path: path.read_bytes() for path in saved.rglob("*.*")}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(Unsaved, match="step 40 could not be saved .* What was saved before is as it was"):
            save_checkpoint(saved, 40, tensors(40), {"loss": 1 / 40, "long": "x" * 1000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()} == before
    same(load_checkpoint(saved), 30)


@pytest.mark.parametrize("failing", ["fsync", "replace", "mkdir"])
def test_any_failure_of_the_system_is_reported(saved, monkeypatch, failing):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs.os if failing != "mkdir" else runs.Path, failing, fail)
    with pytest.raises(Unsaved, match="No space left on device"):
        save_checkpoint(saved, 40, tensors(40), {})
    monkeypatch.undo()
    same(load_checkpoint(saved), 30)
    assert len(list(saved.iterdir())) == 2


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    write_atomically(path, "old")
    monkeypatch.setattr(runs.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


ROWS = [{"step": step, "tokens": 8 * step, "loss": 1 / 3 / step, "validation": None if step % 20 else 0.1 * step} for step in range(10, 60, 10)]


def test_the_log_reads_back_to_the_last_bit(tmp_path):
    for row in ROWS:
        append_log(tmp_path / "log.csv", row)
    assert read_log(tmp_path / "log.csv") == ROWS and read_log(tmp_path / "nothing.csv") == []


@pytest.mark.parametrize("torn", ["", "6", "60", "60,480,0.0", "60,480,0.005555555555555555,"])
@pytest.mark.parametrize("step", [0, 10, 25, 50, 99])
def test_a_log_is_cut_back_as_if_it_had_ended_there(tmp_path, torn, step):
    for row in ROWS:
        append_log(tmp_path / "log.csv", row)
        if row["step"] <= step:
            append_log(tmp_path / "expected.csv", row)
    with open(tmp_path / "log.csv", "a") as file:
        file.write(torn)
    assert read_log(tmp_path / "log.csv") == ROWS
    cut_log(tmp_path / "log.csv", step)
    head = (tmp_path / "log.csv").read_bytes().splitlines(keepends=True)[0]
    assert (tmp_path / "log.csv").read_bytes() == ((tmp_path / "expected.csv").read_bytes() if step >= 10 else head)


@pytest.mark.parametrize("torn", ["", "ste", "step,tokens,loss,validation"])
def test_a_log_whose_first_line_is_torn_begins_again(tmp_path, torn):
    (tmp_path / "log.csv").write_text(torn)
    cut_log(tmp_path / "log.csv", 100)
    append_log(tmp_path / "log.csv", ROWS[0])
    assert read_log(tmp_path / "log.csv") == ROWS[:1]


def test_the_plot_is_a_picture(tmp_path):
    path = draw_losses(ROWS, tmp_path / "losses.png")
    assert path.read_bytes().startswith(b"\x89PNG") and list(tmp_path.iterdir()) == [path]
    assert json.dumps(ROWS)
