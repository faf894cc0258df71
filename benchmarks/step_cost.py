"""What reading n tokens at once costs on one core, and what a step costs after T tokens: seconds of CPU time, beside the core's own speeds."""
import statistics
import time
from functools import partial

import torch

from builder.records import record
from transformer_course.architectures import GPT
from transformer_course.config import Config
from transformer_course.kv_cache import CachedModel, PreallocatedCache

CONFIG = Config(vocab_size=256, max_len=8256, d_model=768, n_layers=4, n_heads=12, positions="rope")
AT_ONCE = [1, 2, 4, 8, 16, 32, 64, 128, 256]
BEFORE = [16, 256, 1024, 4096, 8192]


def seconds(run, rounds: int = 7) -> float:
    "The median CPU time of a call."
    run()
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def full(model: GPT, length: int) -> CachedModel:
    "A reader whose caches hold random keys and values of so many tokens."
    reader = CachedModel(model, partial(PreallocatedCache, length + 32))
    for cache in reader.caches:
        shape = (1, CONFIG.n_kv_heads, length, CONFIG.d_head)
        cache.append(torch.randn(shape), torch.randn(shape))
    return reader


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = GPT(CONFIG).eval()
    square, long = torch.randn(1024, 1024), torch.randn(64 * 2**20)
    product = seconds(lambda: square @ square)
    reading = seconds(lambda: long.sum())
    at_once = [seconds(lambda n=n: CachedModel(model).read(torch.zeros(1, n, dtype=torch.long)), 5) for n in AT_ONCE]
    steps = []
    for length in BEFORE:
        reader = full(model, length)
        steps.append(seconds(lambda reader=reader: reader(torch.zeros(1, 1, dtype=torch.long)), 9))
    weights = sum(p.nbytes for name, p in model.named_parameters() if "embedding" not in name)
    result = {
        "operations per second": 2 * 1024**3 / product,
        "bytes per second": long.nbytes / reading,
        "weights": weights,
        "parameters": sum(p.numel() for p in model.layers.parameters()),
        "at once": dict(zip(map(str, AT_ONCE), at_once)),
        "after": dict(zip(map(str, BEFORE), steps)),
    }
    record("step_cost", result, __file__)


if __name__ == "__main__":
    main()
