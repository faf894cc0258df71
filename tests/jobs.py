"""Training runs in processes of their own, which tests stop, kill and compare. They are forked from a server that has imported the trainer."""
import multiprocessing
import os
import socket
import sys
import time
from contextlib import closing
from pathlib import Path

import torch

import torch.distributed.checkpoint.state_dict  # what a process would import first, and only once here

from transformer_course import processes, runs, trainer
from transformer_course.settings import Settings

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["jobs"])
torch.optim.AdamW([torch.zeros(1)])  # PyTorch imports much more with the first optimiser
SMALL = {
    "n_layers": 1, "d_model": 16, "n_heads": 2, "max_len": 16, "batch_size": 4, "steps": 60, "log_every": 3, "eval_every": 30,
    "save_every": 7, "eval_tokens": 200, "sample_tokens": 5, "device": "cpu",
}


def body(out: Path, settings: dict, resume: bool, environment: dict) -> None:
    "What a process does: it trains, and ends with the status that the command would have."
    os.environ.update(environment)
    torch.set_num_threads(1)
    with open(out.with_name(f"{out.name}-{environment.get('RANK', 0)}.txt"), "a") as file:
        try:
            result = trainer.train(Settings(**SMALL | settings), out, resume=resume, say=lambda said: print(said, file=file, flush=True))
        except (ValueError, OSError, FloatingPointError, RuntimeError) as error:
            print(f"{type(error).__name__}: {error}", file=file, flush=True)
            status = {ValueError: 2, runs.Unsaved: 3, FloatingPointError: 4, processes.PeerEnded: 5}
            sys.exit(status.get(type(error), 1))
    sys.exit(128 + result.signal if result.signal else 0)


def start(out: Path, resume: bool = False, environment: dict | None = None, **settings):
    process = CONTEXT.Process(target=body, args=(out, settings, resume, environment or {}))
    process.start()
    return process


def finish(process, seconds: float = 40) -> int:
    "The exit status; a process that hangs is killed, and the test fails."
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        raise AssertionError("the process hangs")
    return process.exitcode


def start_job(out: Path, count: int, **options) -> list:
    "As many processes as that, which find one another as they do under torchrun."
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    return [start(out, environment={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, **options) for rank in range(count)]


def wait_until(true, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "what the test waits for does not happen"
        time.sleep(0.002)


def last_step(out: Path) -> int:
    "Of the log."
    rows = runs.read_log(out / "log.csv")
    return int(rows[-1]["step"]) if rows else 0


def bits(out: Path) -> dict[str, bytes]:
    "What two runs must have in common: log, samples, and the newest checkpoint's tensors."
    newest = sorted(out.glob("checkpoints/step-*"))[-1]
    files = [out / "log.csv", *sorted(out.glob("samples/*")), *sorted(newest.glob("*.safetensors"))]
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}
