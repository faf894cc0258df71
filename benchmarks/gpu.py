"""Run the models of the course on a GPU and on the CPU: the same numbers? And from which size on is the GPU faster?

    make record NAME=gpu            (needs a GPU)
"""
import copy
import time

import torch
from torch import nn

from builder.records import record
from transformer_course.architectures import (
    GPT,
    Classifier,
    Encoder,
    EncoderDecoder,
    VisionTransformer,
    masked_loss,
    shift_right,
)
from transformer_course.attention import AttentionHead, LearnedPositions, Residual
from transformer_course.config import Config
from transformer_course.prediction import LanguageModel, WindowMLP, fit, generate, next_token_loss
from transformer_course.recurrence import LSTM, RNN, RecurrentLayer

PLAIN = Config(vocab_size=100, max_len=64, d_model=64)
SIZES = Config(vocab_size=100, max_len=64, d_model=64, n_layers=2, n_heads=4, positions="rope")
READS = SIZES.replace(kind="encoder", positions="learned")
TEXT = torch.randint(0, 100, (8, 64), generator=torch.Generator().manual_seed(0))
REAL = torch.arange(64) < torch.arange(64, 24, -5)[:, None]          # eight texts of falling length
IMAGES = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
WIDTHS = (64, 256, 512)                                              # of the models that are timed
STEPS = 20


def one_head() -> LanguageModel:
    sizes = PLAIN.replace(positions="learned")
    return LanguageModel(sizes, [Residual(AttentionHead(64, 64))], positions=LearnedPositions(sizes))


def recurrent(layer: nn.Module) -> LanguageModel:
    return LanguageModel(PLAIN, [RecurrentLayer(layer)])


def labelled(*inputs):
    "A batch for a classifier: what it takes, and a label for each of its eight rows."
    return *inputs, torch.arange(8)


MODELS = {  # name: chapter, what builds it, its loss, a batch
    "window network": (0, lambda: LanguageModel(PLAIN, [WindowMLP(64, 64, context_length=8)]), next_token_loss, TEXT),
    "RNN": (1, lambda: recurrent(RNN(64, 64)), next_token_loss, TEXT),
    "LSTM": (1, lambda: recurrent(LSTM(64, 64)), next_token_loss, TEXT),
    "one attention head": (2, one_head, next_token_loss, TEXT),
    "GPT, learned positions": (7, lambda: GPT(SIZES.replace(positions="learned", activation="gelu_tanh", tie_embeddings=True)), next_token_loss, TEXT),
    "GPT, sinusoids": (7, lambda: GPT(SIZES.replace(positions="sinusoidal", activation="relu", norm_first=False)), next_token_loss, TEXT),
    "GPT, ALiBi": (7, lambda: GPT(SIZES.replace(positions="alibi")), next_token_loss, TEXT),
    "GPT, in LLaMA's style": (7, lambda: GPT(SIZES.replace(n_kv_heads=2, activation="swiglu", norm="rms", bias=False)), next_token_loss, TEXT),
    "GPT, two of four experts": (7, lambda: GPT(SIZES.replace(activation="swiglu", n_experts=4, n_active_experts=2, norm="rms", bias=False)), next_token_loss, TEXT),
    "encoder with a classifier": (7, lambda: Classifier(Encoder(READS), 10), masked_loss, labelled(TEXT, REAL)),
    "encoder-decoder": (7, lambda: EncoderDecoder(SIZES.replace(kind="encoder-decoder", positions="sinusoidal")), masked_loss, (TEXT, shift_right(TEXT.flip(1), 0), REAL, TEXT.flip(1))),
    "vision transformer": (7, lambda: VisionTransformer(READS, 8, 2, 10), masked_loss, labelled(IMAGES)),
}


def gradients(model: nn.Module, loss, batch) -> tuple[float, torch.Tensor]:
    value = loss(model, batch)
    model.zero_grad()
    value.backward()
    return value.item(), torch.cat([parameter.grad.flatten().cpu() for parameter in model.parameters()])


def compared(name: str) -> dict:
    "One model on both: loss and gradient of a batch, the loss after some steps, and for language models a greedy text."
    chapter, build, loss, batch = MODELS[name]
    torch.manual_seed(0)
    here = build()
    there = copy.deepcopy(here).to("cuda")
    (loss_here, slope_here), (loss_there, slope_there) = gradients(here, loss, batch), gradients(there, loss, batch)
    found = {
        "model": name, "chapter": chapter, "parameters": sum(p.numel() for p in here.parameters()),
        "loss": abs(loss_here - loss_there), "gradient": ((slope_here - slope_there).norm() / slope_here.norm()).item(),
    }
    if loss is next_token_loss:
        texts = [generate(model, TEXT[:1, :8], 24, temperature=0).cpu() for model in (here, there)]
        found["same text"] = torch.equal(*texts)
    for model in (here, there):
        fit(model, [batch] * STEPS, steps=STEPS, learning_rate=1e-3, loss=loss, progress=False)
    return found | {"after training": abs(loss(here, batch).item() - loss(there, batch).item())}


def timed_sizes(d_model: int) -> Config:
    return SIZES.replace(d_model=d_model, d_ff=None, n_layers=6)


def seconds(d_model: int, device: str, batch_size: int = 32, steps: int = 10) -> float:
    "The time of a training step of a GPT with six blocks on texts of 64 tokens; the best of three measurements."
    torch.manual_seed(0)
    model = GPT(timed_sizes(d_model)).to(device)
    batches = [torch.randint(0, 100, (batch_size, 64))] * steps
    taken = []
    for _ in range(4):                                               # the first is not counted: it warms up
        start = time.perf_counter()
        fit(model, batches, steps=steps, learning_rate=1e-3, progress=False)
        next(model.parameters()).sum().item()                        # waits for the GPU
        taken.append((time.perf_counter() - start) / steps)
    return min(taken[1:])


if __name__ == "__main__":
    rows = [compared(name) for name in MODELS]
    timed = [[width, sum(p.numel() for p in GPT(timed_sizes(width)).parameters()), seconds(width, "cpu"), seconds(width, "cuda")] for width in WIDTHS]
    result = {"gpu": torch.cuda.get_device_name(), "threads": torch.get_num_threads(), "steps": STEPS, "models": rows, "times": timed}
    print(*rows, *timed, sep="\n")
    print(record("gpu", result, __file__))
