"""Run the scoreboard race for the models of all chapters and record the rows that later chapters show.

    python benchmarks/scoreboard.py
"""
from transformer_course.attention import AttentionLM
from transformer_course.prediction import LENGTH, Bigram, compete
from transformer_course.records import record

ENTRIES = (
    ("bigram", 0, Bigram, 0.1),
    ("one attention head", 2, lambda vocab_size: AttentionLM(vocab_size, max_len=LENGTH, d_model=64), 3e-3),
)

if __name__ == "__main__":
    rows = [compete(name, build, chapter=chapter, learning_rate=rate) for name, chapter, build, rate in ENTRIES]
    print(record("scoreboard", rows, command="python benchmarks/scoreboard.py"))
