"""Several processes train as one does, stop together, and say so when one of them has ended."""
import os
import signal
import subprocess
import sys
import time

import jobs
import pytest
import torch
from safetensors.torch import load_file

from transformer_course import runs
from transformer_course.processes import Processes, StopSignals, joined, wrapped

PLAIN = {"dropout": 0.0, "steps": 12, "eval_every": 6, "save_every": 6}


def newest(out) -> dict:
    folder = sorted(out.glob("checkpoints/step-*"))[-1]
    return load_file(folder / "model.safetensors") | load_file(folder / "optimizer.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    "A run of one process, as a reference."
    out = tmp_path_factory.mktemp("alone") / "run"
    assert jobs.finish(jobs.start(out, **PLAIN)) == 0
    return out


@pytest.mark.trained
@pytest.mark.parametrize("sharing", ["ddp", "fsdp"])
def test_two_processes_give_what_one_gives(tmp_path, alone, sharing):
    "The same losses, up to the order in which numbers are added."
    out = tmp_path / "run"
    assert [jobs.finish(one) for one in jobs.start_job(out, 2, sharing=sharing, **PLAIN)] == [0, 0]
    ours, reference = runs.read_log(out / "log.csv"), runs.read_log(alone / "log.csv")
    assert len(ours) == len(reference) == 4
    for row, expected in zip(ours, reference):
        assert row.keys() == expected.keys()
        assert all(row[name] == pytest.approx(expected[name], rel=1e-5) for name in row)
    weights, expected = newest(out), newest(alone)
    assert weights.keys() == expected.keys() and "layers.0.attention.norm.weight/exp_avg" in weights
    for name in expected:
        torch.testing.assert_close(weights[name], expected[name], rtol=1e-3, atol=1e-5)


@pytest.mark.trained
def test_a_job_of_two_goes_on_from_the_checkpoint_of_one_and_back(tmp_path, alone):
    out = tmp_path / "run"
    assert jobs.finish(jobs.start(out, **PLAIN | {"steps": 12, "save_every": 4})) == 0
    for path in sorted(out.glob("checkpoints/*"))[1:]:               # as if it had ended after step 8
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    assert [jobs.finish(one) for one in jobs.start_job(out, 2, resume=True, sharing="fsdp", **PLAIN)] == [0, 0]
    ours, reference = runs.read_log(out / "log.csv"), runs.read_log(alone / "log.csv")
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in reference], rel=1e-5)


@pytest.mark.trained
def test_when_one_process_is_killed_the_other_says_so_and_the_run_goes_on(tmp_path):
    out = tmp_path / "run"
    pair = jobs.start_job(out, 2, **PLAIN | {"steps": 100_000, "eval_every": 100_000, "log_every": 2})
    jobs.wait_until(lambda: jobs.last_step(out) > 6)
    pair[1].kill()
    assert jobs.finish(pair[0]) == 5 and jobs.finish(pair[1]) == -signal.SIGKILL
    assert "PeerEnded: process 0 of 2 stops: another one has ended" in (tmp_path / "run-0.txt").read_text()
    found = runs.load_checkpoint(out / "checkpoints")
    assert found.step >= 6 and found.step % 6 == 0
    more = PLAIN | {"steps": found.step + 2, "log_every": 2}
    assert [jobs.finish(one) for one in jobs.start_job(out, 2, resume=True, **more)] == [0, 0]
    assert f"continues after step {found.step}" in (tmp_path / "run-0.txt").read_text()


@pytest.mark.trained
@pytest.mark.parametrize("asked", [0, 1])
def test_a_signal_to_one_process_stops_both_after_the_same_step(tmp_path, asked):
    out = tmp_path / "run"
    pair = jobs.start_job(out, 2, **PLAIN | {"steps": 100_000, "eval_every": 100_000, "save_every": 100_000, "log_every": 1})
    jobs.wait_until(lambda: jobs.last_step(out) > 3)
    os.kill(pair[asked].pid, signal.SIGTERM)
    assert [jobs.finish(one) for one in pair] == [128 + signal.SIGTERM] * 2
    assert runs.load_checkpoint(out / "checkpoints").step == jobs.last_step(out) > 3


@pytest.mark.trained
def test_torchrun_ends_the_job_when_a_process_is_killed(tmp_path):
    "The real thing: torchrun, the command, and a kill."
    out = tmp_path / "run"
    options = {"steps": 100_000, "n-layers": 1, "d-model": 16, "max-len": 16, "batch-size": 4, "save-every": 5, "log-every": 1, "device": "cpu"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "transformer_course.training",
               "--out", str(out), *(part for name, value in options.items() for part in (f"--{name}", str(value)))]
    with open(tmp_path / "said", "w") as said:
        job = subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, "OMP_NUM_THREADS": "1"})
        try:
            jobs.wait_until(lambda: jobs.last_step(out) > 6)
            import psutil

            workers = [one for one in psutil.Process(job.pid).children() if "--out" in one.cmdline()]
            assert len(workers) == 2
            workers[1].kill()
            assert job.wait(60) != 0
            gone = time.monotonic() + 10
            while any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in workers) and time.monotonic() < gone:
                time.sleep(0.05)
            assert not any(one.is_running() for one in workers)
        finally:
            job.kill()
    assert runs.load_checkpoint(out / "checkpoints").step >= 5
    assert "Signal 9 (SIGKILL)" in (tmp_path / "said").read_text()


def test_alone_nothing_is_started():
    with joined() as one:
        assert one == Processes() and not torch.distributed.is_initialized()
        rows = torch.arange(6)
        assert one.share(rows).equal(rows) and one.mean(rows).equal(rows.double())
    model = torch.nn.Linear(2, 2)
    assert wrapped(model, Processes(), "ddp") is model and wrapped(model, Processes(), "fsdp") is model


def test_rows_are_shared_without_a_gap():
    rows = torch.arange(12)
    parts = [Processes(rank, 3).share(rows) for rank in range(3)]
    assert torch.cat(parts).equal(rows) and {len(part) for part in parts} == {4}


@pytest.mark.refusal
@pytest.mark.parametrize("device", ["cuda:99", "quantum", "cpu:x"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(ValueError, match="can't be used here"), joined(device):
        pass


@pytest.mark.refusal
def test_another_way_to_share_is_refused():
    with pytest.raises(ValueError, match="neither 'ddp' nor 'fsdp'"):
        wrapped(torch.nn.Linear(2, 2), Processes(), "both")


@pytest.fixture
def interruptible():
    "Ctrl-C as in a terminal; a job that a shell has put into the background ignores it."
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_first_signal_is_noted_and_the_second_ends(interruptible):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), StopSignals() as stop:
        assert stop.after_step(Processes()) == 0
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.after_step(Processes()) == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    assert signal.getsignal(signal.SIGINT) is before
