"""Run the scoreboard race for the models of all chapters and record the rows that later chapters show.

    python benchmarks/scoreboard.py
"""
from functools import partial

from torch import nn

from transformer_course.attention import AttentionLM
from transformer_course.config import Config
from transformer_course.multi_head import MultiHeadLM
from transformer_course.positions import PositionedLM
from transformer_course.prediction import LENGTH, Bigram, compete
from transformer_course.records import record
from transformer_course.recurrence import RecurrentLM


def sizes(vocab_size: int, **rest) -> Config:
    "The model that the chapters on attention race: one layer, four heads, width 64."
    return Config(vocab_size=vocab_size, max_len=LENGTH, d_model=64, n_layers=1, n_heads=4, **rest)


ENTRIES = (
    ("bigram", 0, Bigram, 0.1),
    ("RNN", 1, lambda vocab_size: RecurrentLM(vocab_size, 80, partial(nn.RNN, batch_first=True)), 3e-3),
    ("LSTM", 1, lambda vocab_size: RecurrentLM(vocab_size, 48, partial(nn.LSTM, batch_first=True)), 3e-3),
    ("one attention head", 2, lambda vocab_size: AttentionLM(vocab_size, max_len=LENGTH, d_model=64), 3e-3),
    ("four heads", 3, lambda vocab_size: MultiHeadLM(sizes(vocab_size)), 3e-3),
    ("rotary positions", 4, lambda vocab_size: PositionedLM(sizes(vocab_size, positions="rope")), 3e-3),
)

if __name__ == "__main__":
    rows = [compete(name, build, chapter=chapter, learning_rate=rate) for name, chapter, build, rate in ENTRIES]
    print(record("scoreboard", rows, command="python benchmarks/scoreboard.py"))
