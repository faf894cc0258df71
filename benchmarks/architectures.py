"""Train the three kinds of transformer on small real data, each beside its baselines: names to recognise with an encoder, dates to
translate with an encoder-decoder, digits to read with a vision transformer (about six minutes on 16 cores, 25 on one).

    make record NAME=architectures            or: python benchmarks/architectures.py --workers 4

Each model is trained at three learning rates with the first seed, and at further rates as long as the best of them is the smallest or
the largest; at the best rate it is trained with the other seeds. For the last quarter of the steps the rate is a tenth. Rates are
chosen on the first half of the held-out part, accuracies are reported on the second half. `--quick` takes few steps and records nothing.
"""
import argparse
import json
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context

import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from torch import Tensor, nn

from builder.records import record
from transformer_course.architectures import GPT, Classifier, Encoder, EncoderDecoder, VisionTransformer, translate
from transformer_course.attention import attention, attention_weights
from transformer_course.config import Config
from transformer_course.datasets import LANGUAGES, date_pairs, digits, language_names
from transformer_course.prediction import CharTokenizer, cross_entropy, fit, generate

RATES = [1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2, 0.128, 0.256]
SEEDS = [0, 1, 2]
BATCH_SIZE = 64
PAD, BOS, EOS = 0, 1, 2                                              # characters are the tokens from 3 on


@dataclass(frozen=True)
class Contestant:
    "A model to train. `loss` takes the model and numbers of training rows; `accuracy` the model and a part, 0 to choose and 1 to report."
    build: Callable[[], nn.Module]
    loss: Callable[[nn.Module, Tensor], Tensor]
    accuracy: Callable[[nn.Module, int], float]
    rows: int
    steps: int
    first: int = 3                                                   # the first rate of the three that are always tried, as a place in RATES


def halves(part) -> list:
    "Two halves of a list or a tensor."
    return [part[: len(part) // 2], part[len(part) // 2 :]]


def padded(rows: list[list[int]]) -> Tensor:
    "Rows of tokens as one tensor, with PAD at their ends."
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=PAD)


def cut(tokens: Tensor) -> Tensor:
    "Without the columns that only hold PAD."
    return tokens[:, : int((tokens != PAD).sum(1).max())]


# --- names ------------------------------------------------------------------------------------------------------------------------------

LONGEST = 24                                                         # characters of a name
NAMES, OTHER_NAMES = ([pair for pair in part if len(pair[0]) <= LONGEST] for part in language_names())
LETTERS = CharTokenizer("".join(name for name, _ in NAMES + OTHER_NAMES))


def spelled(pairs: list[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    "Names as tokens (N, T), each after a BOS, and the numbers of their languages (N,)."
    return padded([[BOS, *(3 + c for c in LETTERS.encode(name))] for name, _ in pairs]), torch.tensor([LANGUAGES.index(code) for _, code in pairs])


NAMES_IN, LANGUAGE_OF = spelled(NAMES)
NAME_PARTS = [spelled(half) for half in halves(OTHER_NAMES)]


def each_alone(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    "Attention of each token to itself alone."
    return v


def classifier(pooling: str = "mean", attention_fn=attention) -> Classifier:
    config = Config(vocab_size=LETTERS.vocab_size + 3, max_len=LONGEST + 1, d_model=64, n_layers=2, n_heads=4, kind="encoder", positions="rope")
    return Classifier(Encoder(config, attention_fn=attention_fn), len(LANGUAGES), pooling)


def name_loss(model: Classifier, rows: Tensor) -> Tensor:
    tokens = cut(NAMES_IN[rows])
    return cross_entropy(model(tokens, tokens != PAD), LANGUAGE_OF[rows])


@torch.no_grad()
def guesses(model: Classifier, part: int) -> Tensor:
    tokens = NAME_PARTS[part][0]
    return model.eval()(tokens, tokens != PAD).argmax(-1)


def name_accuracy(model: Classifier, part: int) -> float:
    return (guesses(model, part) == NAME_PARTS[part][1]).float().mean().item()


def counted(name: str, counts: CountVectorizer, kinds: list) -> list:
    "The row of a classifier of scikit-learn that reads counts, with the strength that is best on the first half."
    train, choice, report = (counts.transform([name for name, _ in part]) for part in (NAMES, *halves(OTHER_NAMES)))
    fitted = [kind.fit(train, LANGUAGE_OF.numpy()) for kind in kinds]
    best = max(fitted, key=lambda one: one.score(choice, NAME_PARTS[0][1].numpy()))
    score = best.score(report, NAME_PARTS[1][1].numpy())
    return [name, train.shape[1] * len(LANGUAGES), score, score, score, None]


def name_baselines() -> list[list]:
    most, _ = Counter(LANGUAGE_OF.tolist()).most_common(1)[0]
    share = (NAME_PARTS[1][1] == most).float().mean().item()
    grams = [CountVectorizer(analyzer="char", ngram_range=(1, n), lowercase=False).fit([name for name, _ in NAMES]) for n in (1, 3)]
    logistic = [LogisticRegression(C=c, max_iter=2000) for c in (0.1, 1, 10, 100)]
    return [
        ["most frequent language", 0, share, share, share, None],
        counted("counts of characters", grams[0], logistic),
        counted("naive Bayes, 1 to 3 characters", grams[1], [MultinomialNB(alpha=a) for a in (0.01, 0.1, 1)]),
        counted("counts of 1 to 3 characters", grams[1], logistic),
    ]


# --- dates ------------------------------------------------------------------------------------------------------------------------------

DATES, LONG = 5000, 40                                               # LONG: tokens of a source or of a target, at most
SHOWN = ("Friday, March 5, 2021", "2021. március 5.")
UNSEEN = ("MMM d, y", "d. MMMM y", "y MMMM d", "MM/dd/y")
PAIRS, OTHER_PAIRS = date_pairs(DATES)
PAIRS = [pair for pair in PAIRS if pair[1] != SHOWN[1]]              # the date that is shown is no date to learn from
PAIR_PARTS = halves(OTHER_PAIRS)
UNSEEN_PAIRS = {pattern: halves(date_pairs(DATES, formats=[pattern])[1])[1] for pattern in UNSEEN}
SIGNS = CharTokenizer("".join(text for pairs in (PAIRS, OTHER_PAIRS, *UNSEEN_PAIRS.values()) for pair in pairs for text in pair))


def written(text: str) -> list[int]:
    "The characters as tokens, and EOS."
    return [*(3 + c for c in SIGNS.encode(text)), EOS]


def read(tokens: list[int]) -> str:
    "The text before the first EOS."
    end = tokens.index(EOS) if EOS in tokens else len(tokens)
    return SIGNS.decode([max(token - 3, 0) for token in tokens[:end]])


SOURCE, TARGET = padded([written(source) for source, _ in PAIRS]), padded([[BOS, *written(target)] for _, target in PAIRS])
JOINED = padded([[*written(source), *written(target)] for source, target in PAIRS])                 # the source's EOS separates the two
IS_TARGET = (JOINED == EOS).cumsum(1).roll(1, dims=1).eq(1)                       # from the first EOS to the second


def translator() -> EncoderDecoder:
    return EncoderDecoder(Config(
        vocab_size=SIGNS.vocab_size + 3, max_len=LONG, d_model=64, n_heads=4, kind="encoder-decoder", positions="sinusoidal", tie_embeddings=True,
    ))


def continuer() -> GPT:
    "A decoder-only model with about as many parameters as the encoder-decoder."
    return GPT(Config(
        vocab_size=SIGNS.vocab_size + 3, max_len=2 * LONG, d_model=64, n_layers=2, n_heads=4, d_ff=320, positions="rope", tie_embeddings=True,
    ))


def date_loss(model: EncoderDecoder, rows: Tensor, *, blind: bool = False) -> Tensor:
    source, target = hidden(cut(SOURCE[rows]), blind), TARGET[rows]
    real = target[:, 1:] != PAD
    return cross_entropy(model(source, target[:, :-1], source != PAD)[real], target[:, 1:][real])


def hidden(source: Tensor, blind: bool) -> Tensor:
    "The source, or only an EOS in its place."
    return torch.full_like(source[:, :1], EOS) if blind else source


def continuation_loss(model: GPT, rows: Tensor) -> Tensor:
    text, counts = JOINED[rows], IS_TARGET[rows][:, 1:]
    return cross_entropy(model(text[:, :-1])[counts], text[:, 1:][counts])


def translations(model: EncoderDecoder, pairs: list[tuple[str, str]], *, blind: bool = False) -> list[str]:
    source = hidden(padded([written(one) for one, _ in pairs]), blind)
    return [read(row) for row in translate(model, source, BOS, EOS, LONG - 1, source_mask=source != PAD).tolist()]


def continuations(model: GPT, pairs: list[tuple[str, str]]) -> list[str]:
    "What the model writes after each source; sources of one length are one batch."
    out, sources = [""] * len(pairs), [written(source) for source, _ in pairs]
    for length in {len(source) for source in sources}:
        rows = [row for row, source in enumerate(sources) if len(source) == length]
        text = generate(model, torch.tensor([sources[row] for row in rows]), TARGET.shape[1] - 1, temperature=0)
        for row, tokens in zip(rows, text[:, length:].tolist()):
            out[row] = read(tokens)
    return out


def exact(answers: Callable, model: nn.Module, pairs: list[tuple[str, str]]) -> float:
    "The share of translations that are right in every character."
    return sum(said == target for said, (_, target) in zip(answers(model, pairs), pairs)) / len(pairs)


def date_accuracy(answers: Callable) -> Callable[[nn.Module, int], float]:
    return lambda model, part: exact(answers, model, PAIR_PARTS[part])


@torch.no_grad()
def looks(model: EncoderDecoder, source: str, target: str) -> Tensor:
    "The weights of the cross-attention (layer, head, T, S) while the model reads a source and the target, which it is given."
    seen = []

    def watched(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        seen.append(attention_weights(q, k, mask)[0])
        return attention(q, k, v, mask)

    for block in model.decoder:
        block.cross_attention.sublayer.attention_fn = watched
    model.eval()(torch.tensor([written(source)]), torch.tensor([[BOS, *written(target)[:-1]]]))
    for block in model.decoder:
        block.cross_attention.sublayer.attention_fn = attention
    return torch.stack(seen)


def alignment(model: EncoderDecoder) -> dict:
    "The map of the shown date; and over 200 dates the weight of each head on the digit of the year that is being written."
    (said,) = translations(model, [SHOWN])
    weights, own, even = looks(model, SHOWN[0], said), [], []
    for source, target in PAIR_PARTS[1][:200]:
        found, start = looks(model, source, target), source.rindex(target[:4])
        own.append(torch.stack([found[:, :, i, start + i] for i in range(4)]).mean(0))
        even.append(1 / found.shape[-1])
    return {
        "source": [*SHOWN[0], "end"], "target": [*said, "end"], "right": said == SHOWN[1],
        "weights": [[[[round(w, 3) for w in row] for row in head] for head in layer] for layer in weights.tolist()],
        "on the digit of the year": torch.stack(own).mean(0).tolist(), "even weights": sum(even) / len(even),
    }


# --- digits -----------------------------------------------------------------------------------------------------------------------------

(IMAGES, DIGITS), OTHER_IMAGES = digits(share=0.7)
IMAGE_PARTS = list(zip(*(halves(column) for column in OTHER_IMAGES)))


def viewer() -> VisionTransformer:
    config = Config(vocab_size=1, max_len=16, d_model=32, n_layers=2, n_heads=4, kind="encoder", positions="learned")
    return VisionTransformer(config, image_size=8, patch_size=2, n_classes=10)


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def two_layers() -> nn.Module:
    "About as many parameters as the vision transformer."
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 353), nn.ReLU(), nn.Linear(353, 10))


def digit_loss(model: nn.Module, rows: Tensor) -> Tensor:
    return cross_entropy(model(IMAGES[rows][:, None]), DIGITS[rows])


@torch.no_grad()
def digit_accuracy(model: nn.Module, part: int) -> float:
    images, labels = IMAGE_PARTS[part]
    return (model.eval()(images[:, None]).argmax(-1) == labels).float().mean().item()


# --- all of them ------------------------------------------------------------------------------------------------------------------------

NAME = {"loss": name_loss, "accuracy": name_accuracy, "rows": len(NAMES), "steps": 1600}
DATE = {"rows": len(PAIRS), "steps": 1000}
DIGIT = {"loss": digit_loss, "accuracy": digit_accuracy, "rows": len(IMAGES), "steps": 2000}
NOTHING = partial(translations, blind=True)
CONTESTANTS = {
    ("language_id", "encoder, mean of all tokens"): Contestant(classifier, **NAME),
    ("language_id", "encoder, first token"): Contestant(partial(classifier, "first"), **NAME),
    ("language_id", "encoder without attention"): Contestant(partial(classifier, attention_fn=each_alone), **NAME),
    ("dates", "encoder-decoder"): Contestant(translator, date_loss, date_accuracy(translations), **DATE),
    ("dates", "decoder-only"): Contestant(continuer, continuation_loss, date_accuracy(continuations), **DATE),
    ("dates", "encoder-decoder without a source"): Contestant(translator, partial(date_loss, blind=True), date_accuracy(NOTHING), **DATE),
    ("digits", "vision transformer"): Contestant(viewer, **DIGIT),
    ("digits", "two linear layers"): Contestant(two_layers, **DIGIT),
    ("digits", "one linear layer"): Contestant(linear, **DIGIT, first=6),
}


def trained(one: Contestant, rate: float, seed: int, steps: int) -> nn.Module:
    torch.manual_seed(seed)
    model, generator = one.build(), torch.Generator().manual_seed(seed)
    batches = (torch.randint(one.rows, (BATCH_SIZE,), generator=generator) for _ in range(steps))
    last = steps // 4
    fit(model, batches, steps=steps - last, learning_rate=rate, loss=one.loss, progress=False)
    fit(model, batches, steps=last, learning_rate=rate / 10, loss=one.loss, progress=False)
    return model


def winner(chosen: dict[float, float]) -> float:
    "The rate of the largest accuracy; of equal ones, rather one that is neither the smallest nor the largest rate."
    return max(chosen, key=lambda rate: (chosen[rate], min(chosen) < rate < max(chosen)))


def best(key: tuple[str, str], quick: bool = False) -> dict:
    "A contestant at its best learning rate: its row for the table, and what its task records of it besides."
    one = CONTESTANTS[key]
    steps = 40 if quick else one.steps
    tried = {rate: trained(one, rate, SEEDS[0], steps) for rate in RATES[one.first : one.first + 3]}
    chosen = {rate: one.accuracy(model, 0) for rate, model in tried.items()}
    while (rate := winner(chosen)) in (min(chosen), max(chosen)) and not quick:
        rate = RATES[RATES.index(rate) + (1 if rate == max(chosen) else -1)]
        tried[rate] = trained(one, rate, SEEDS[0], steps)
        chosen[rate] = one.accuracy(tried[rate], 0)
    models = [tried[rate], *(trained(one, rate, seed, steps) for seed in SEEDS[1:])]
    scores = [one.accuracy(model, 1) for model in models]
    parameters = sum(p.numel() for p in models[0].parameters())
    found = {"row": [key[1], parameters, sum(scores) / len(scores), min(scores), max(scores), rate], "tried": {rate: chosen[rate] for rate in sorted(chosen)}, "scores": scores}
    print(key, found, flush=True)
    if key == ("language_id", "encoder, mean of all tokens"):
        said, right = guesses(models[0], 1).tolist(), NAME_PARTS[1][1].tolist()
        pairs = Counter(zip(right, said))
        found["examples"] = [[name, code, LANGUAGES[guess]] for (name, code), guess in zip(halves(OTHER_NAMES)[1][:24], said)]
        found["confusion"] = [[pairs[i, j] for j in range(len(LANGUAGES))] for i in range(len(LANGUAGES))]
    if key == ("dates", "encoder-decoder"):
        found["alignment"] = alignment(models[0])
        found["unseen"] = unseen(models)
        said = translations(models[0], PAIR_PARTS[1][:12])
        found["examples"] = [[source, target, answer] for (source, target), answer in zip(PAIR_PARTS[1], said)]
    return found


def unseen(models: list[EncoderDecoder]) -> list[list]:
    "For each format that was not in training: pattern, an example, what the first model says, and the mean, least and largest accuracy."
    rows = []
    for pattern, pairs in UNSEEN_PAIRS.items():
        scores = [exact(translations, model, pairs) for model in models]
        rows.append([pattern, *pairs[0], *translations(models[0], pairs[:1]), sum(scores) / len(scores), min(scores), max(scores)])
    return rows


def measured(pool: Executor, quick: bool) -> dict:
    found = dict(zip(CONTESTANTS, pool.map(partial(best, quick=quick), CONTESTANTS)))
    copied = sum(source == target for source, target in PAIR_PARTS[1]) / len(PAIR_PARTS[1])
    baselines = {"language_id": name_baselines(), "dates": [["copy of the source", 0, copied, copied, copied, None]], "digits": []}
    out = {}
    for task, parts, learned in (("language_id", NAME_PARTS, NAMES), ("dates", PAIR_PARTS, PAIRS), ("digits", IMAGE_PARTS, IMAGES)):
        mine = {name: one for (where, name), one in found.items() if where == task}
        sizes = [len(part) if task == "dates" else len(part[0]) for part in parts]
        out[task] = {
            "rows": [*(one["row"] for one in mine.values()), *baselines[task]], "tried": {name: one["tried"] for name, one in mine.items()},
            "scores": {name: one["scores"] for name, one in mine.items()}, "train": len(learned), "choice": sizes[0], "test": sizes[1],
            "steps": next(one.steps for (where, _), one in CONTESTANTS.items() if where == task),
        }
        for one in mine.values():
            out[task] |= {key: value for key, value in one.items() if key not in ("row", "tried", "scores")}
    out["language_id"]["languages"] = list(LANGUAGES)
    return out | {"seeds": len(SEEDS), "batch": BATCH_SIZE, "babel": version("babel")}


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that train at the same time (default: one per core)")
    options.add_argument("--quick", action="store_true", help="see that everything runs: 40 steps for each model, and nothing is recorded")
    chosen = options.parse_args()
    with ProcessPoolExecutor(
        chosen.workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,),
    ) as pool:
        result = measured(pool, chosen.quick)
    print(json.dumps(result, ensure_ascii=False) if chosen.quick else record("architectures", result, __file__))
