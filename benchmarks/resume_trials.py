"""Kill a training run without warning at random moments, resume it until it ends, and compare it with one that nobody killed
(about two minutes on one core).

    make record NAME=resume_trials         or: python benchmarks/resume_trials.py --trials 20
"""
import argparse
import multiprocessing
import random
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed.checkpoint.state_dict  # what a process would import first, and only once here

from builder.records import record
from transformer_course.runs import load_checkpoint, read_log
from transformer_course.settings import Settings
from transformer_course.trainer import train

SETTINGS = {
    "n_layers": 2, "d_model": 32, "n_heads": 2, "max_len": 32, "batch_size": 8, "steps": 120, "log_every": 3, "eval_every": 40, "save_every": 7,
    "eval_tokens": 500, "sample_tokens": 5, "device": "cpu",
}


def run(out: Path) -> None:
    torch.set_num_threads(1)
    train(Settings(**SETTINGS), out, resume=True)


def bits(out: Path) -> dict[str, bytes]:
    newest = sorted(out.glob("checkpoints/step-*"))[-1]
    files = [out / "log.csv", *sorted(out.glob("samples/*")), *sorted(newest.glob("*.safetensors"))]
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}


def logged(out: Path) -> int:
    rows = read_log(out / "log.csv")
    return int(rows[-1]["step"]) if rows else 0


def killed(out: Path, context, at_step: int, while_saving: bool) -> dict:
    "Start or resume the run, kill it when it has logged that step, if asked for in the middle of the next checkpoint, and say where that was."
    process = context.Process(target=run, args=(out,))
    process.start()
    while process.is_alive() and logged(out) < at_step:
        time.sleep(0.001)
    while process.is_alive() and while_saving and not (out / "checkpoints" / ".new").exists():
        time.sleep(0.0002)
    process.kill()
    process.join()
    found = load_checkpoint(out / "checkpoints")
    return {"logged": logged(out), "saved": found.step if found else 0, "torn checkpoint": (out / "checkpoints" / ".new").exists()}


def measured(trials: int) -> dict:
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "reference"
        process = context.Process(target=run, args=(reference,))
        process.start()
        process.join()
        expected, rows = bits(reference), []
        for number in range(trials):
            draw, out = random.Random(number), Path(folder) / f"trial-{number}"
            steps = sorted(draw.sample(range(3, SETTINGS["steps"] - 3), draw.randint(1, 4)))
            kills = [killed(out, context, step, while_saving=draw.random() < 0.4) for step in steps]
            process = context.Process(target=run, args=(out,))
            process.start()
            process.join()
            rows.append({"kills": kills, "identical": process.exitcode == 0 and bits(out) == expected})
            print(number, rows[-1], flush=True)
    return {"steps": SETTINGS["steps"], "save_every": SETTINGS["save_every"], "compared": sorted(expected), "trials": rows}


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--trials", type=int, default=20, help="runs that are killed, each one to four times (default: 20)")
    print(record("resume_trials", measured(options.parse_args().trials), __file__))
