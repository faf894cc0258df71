"""Train the default model of the command `train` on the embedded corpus, as the page on the trainer shows it
(about five minutes on two cores).

    make record NAME=training_run          or: python benchmarks/training_run.py --threads 2
"""
import argparse
import tempfile
import time
from pathlib import Path

import torch

from builder.records import record
from transformer_course.records import recorded
from transformer_course.runs import read_log
from transformer_course.settings import Settings
from transformer_course.trainer import load_run, open_data, train, write

PROMPTS = ("The ", "If the ", "class ")


def measured(threads: int, **fewer: int) -> dict:
    torch.set_num_threads(threads)
    settings = Settings(device="cpu", **fewer)
    with tempfile.TemporaryDirectory() as folder:
        out, begun, used = Path(folder) / "run", time.perf_counter(), time.process_time()
        result = train(settings, out, say=lambda said: print(said, flush=True))
        seconds, used = time.perf_counter() - begun, time.process_time() - used
        model, tokenizer = load_run(out)
        max_len = model.config.max_len
        rows = read_log(out / "log.csv")
        return {
            "parameters": sum(p.numel() for p in model.parameters()),
            "config": {"n_layers": model.config.n_layers, "d_model": model.config.d_model, "n_heads": model.config.n_heads, "max_len": max_len},
            "steps": result.step, "batch_size": settings.batch_size, "tokens": rows[-1]["tokens"], "training text": len(open_data(out / "data").train.tokens), "learning_rate": settings.learning_rate,
            "loss": result.per_character, "best of the scoreboard": min(recorded("scoreboard").result, key=lambda row: row["loss"]),
            "threads": threads, "seconds": seconds, "CPU seconds": used,
            "log": rows, "first sample": (out / "samples" / sorted(p.name for p in (out / "samples").iterdir())[0]).read_text(),
            "samples": [write(model, tokenizer, prompt, tokens=400, max_len=max_len) for prompt in PROMPTS],
            "files": {path.relative_to(out).as_posix(): path.stat().st_size for path in sorted(out.rglob("*")) if path.is_file()},
        }


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--threads", type=int, default=2, help="threads of PyTorch (default: 2)")
    options.add_argument("--steps", type=int, help="fewer steps, for a try")
    given = options.parse_args()
    fewer = {"steps": given.steps} if given.steps else {}
    print(record("training_run", measured(given.threads, **fewer), __file__))
