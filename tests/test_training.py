"""Training's tricks equal PyTorch's, obey their laws, work for all three objectives, and refuse bad input."""
import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from transformer_course.architectures import (
    GPT,
    NO_LABEL,
    Encoder,
    EncoderDecoder,
    MaskedLM,
    mask_tokens,
    masked_loss,
    shift_right,
)
from transformer_course.config import Config
from transformer_course.prediction import next_token_loss
from transformer_course.training import (
    AdamW,
    accumulate,
    checkpointed,
    clip_gradients,
    count_targets,
    decay_groups,
    set_learning_rate,
    smoothed_cross_entropy,
    train_step,
    warmup_cosine,
    warmup_inverse_sqrt,
)

SIZES = Config(vocab_size=11, max_len=9, d_model=12, n_layers=2, n_heads=3, positions="learned")


def gpt(seed: int = 0, **changes) -> GPT:
    torch.manual_seed(seed)
    return GPT(SIZES.replace(**changes))


def some(*shape) -> torch.Tensor:
    return torch.randint(11, shape)


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def close(found: dict, wanted: dict, **tolerance) -> None:
    assert found.keys() == wanted.keys() and found
    for name in found:
        torch.testing.assert_close(found[name], wanted[name], msg=f"{name}: {found[name]} is not {wanted[name]}", **tolerance)


# losses

@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7, 1.0])
def test_smoothed_cross_entropy_equals_pytorch(smoothing):
    torch.manual_seed(0)
    logits, targets = (5 * torch.randn(3, 5, 11, dtype=torch.float64)).requires_grad_(), some(3, 5)
    ours = smoothed_cross_entropy(logits, targets, smoothing)
    theirs = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)), rtol=1e-12, atol=1e-12)


def test_the_smallest_smoothed_loss_is_the_entropy_of_the_smoothed_target():
    v, e = 11, 0.1
    target = torch.full((v,), e / v)
    target[3] += 1 - e
    entropy = -(target * target.log()).sum()
    torch.testing.assert_close(smoothed_cross_entropy(target.log()[None], torch.tensor([3]), e), entropy)
    assert smoothed_cross_entropy(8 * target.log()[None], torch.tensor([3]), e) > entropy
    assert smoothed_cross_entropy(torch.full((1, v), 300.0, dtype=torch.bfloat16), torch.tensor([3])).item() == pytest.approx(math.log(v), abs=1e-5)


# AdamW

@pytest.mark.parametrize("settings", [{}, {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.4}, {"betas": (0.0, 0.5), "weight_decay": 0.0}])
def test_adamw_equals_pytorch_step_by_step(settings):
    ours, theirs = gpt().double(), gpt().double()
    mine, its = AdamW(ours.parameters(), **settings), torch.optim.AdamW(theirs.parameters(), **{"weight_decay": 0.01} | settings)
    for step in range(20):
        batch = some(3, 8)
        for model, optimizer in ((ours, mine), (theirs, its)):
            set_learning_rate(optimizer, 0.01 * (1 + step % 3))
            optimizer.zero_grad()
            next_token_loss(model, batch).backward()
            optimizer.step()
        close(ours.state_dict(), theirs.state_dict(), rtol=1e-9, atol=1e-9)


def test_the_states_of_adamw_and_pytorch_can_be_exchanged():
    torch.manual_seed(0)
    start = torch.randn(3, 5)

    def run(first, second):
        p = nn.Parameter(start.clone())
        optimizer = first([p], lr=0.1)
        for step in range(6):
            if step == 3:
                state = optimizer.state_dict()
                optimizer = second([p], lr=0.1)
                optimizer.load_state_dict(state)
            p.grad = torch.cos(p.detach() * step)
            optimizer.step()
        return p.detach()

    expected = run(torch.optim.AdamW, torch.optim.AdamW)
    for pair in ((AdamW, AdamW), (AdamW, torch.optim.AdamW), (torch.optim.AdamW, AdamW)):
        torch.testing.assert_close(run(*pair), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1e-5, 1.0, -1e4])
def test_the_first_step_of_adamw_is_the_learning_rate(size):
    p = nn.Parameter(torch.zeros(()))
    p.grad = torch.tensor(size)
    AdamW([p], lr=0.01).step()
    assert p.item() == pytest.approx(-math.copysign(0.01, size), rel=2e-3)


def test_adamw_decays_apart_from_the_gradient_and_leaves_out_what_has_none():
    p, still = nn.Parameter(torch.tensor([2.0, -4.0])), nn.Parameter(torch.ones(2))
    p.grad = torch.zeros(2)
    AdamW([p, still], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(p.detach(), torch.tensor([1.9, -3.8]))
    assert torch.equal(still.detach(), torch.ones(2))


@pytest.mark.parametrize("tied", [True, False])
def test_decay_groups_decay_matrices_alone_and_hold_each_parameter_once(tied):
    model = gpt(tie_embeddings=tied)
    decayed, rest = decay_groups(model, 0.3)
    names = {p: name for name, p in model.named_parameters()}
    assert decayed["weight_decay"] == 0.3 and rest["weight_decay"] == 0
    held = [*decayed["params"], *rest["params"]]
    assert len(held) == len(set(held)) == len(names) and set(held) == set(names)
    kept = {names[p] for p in decayed["params"]}
    parts = ("attention.sublayer.heads.query", "attention.sublayer.heads.key", "attention.sublayer.heads.value", "attention.sublayer.heads.output",
             "feed_forward.sublayer.up", "feed_forward.sublayer.down")
    assert kept == {f"layers.{i}.{part}.weight" for i in range(2) for part in parts} | (set() if tied else {"lm_head.weight"})


def test_decay_groups_leave_out_what_is_frozen():
    model = gpt()
    model.layers[0].requires_grad_(False)
    held = {p for group in decay_groups(model) for p in group["params"]}
    assert held == {p for p in model.parameters() if p.requires_grad} and not held & set(model.layers[0].parameters())


# schedules

def test_warmup_inverse_sqrt_is_the_formula_of_2017():
    rate = warmup_inverse_sqrt(512, 4000)
    for step in (1, 37, 3999, 4000, 4001, 100_000):
        assert rate(step) == pytest.approx(512**-0.5 * min(step**-0.5, step * 4000**-1.5))
    assert max(range(1, 20_000), key=rate) == 4000 and rate(4000) == pytest.approx(6.99e-4, abs=1e-6)
    assert rate(16_000) == pytest.approx(rate(4000) / 2) and rate(2000) == pytest.approx(rate(4000) / 2)


def test_warmup_cosine_rises_peaks_and_falls_as_pytorchs_schedulers_do():
    factor = warmup_cosine(20, 120, floor=0.1)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    falls = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100, eta_min=0.1)
    for step in range(20, 121):
        assert factor(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6)
        optimizer.step()
        falls.step()
    assert [factor(step) for step in (1, 10, 20)] == [0.05, 0.5, 1.0]
    assert factor(120) == factor(1000) == pytest.approx(0.1) and factor(70) == pytest.approx(0.55)
    assert warmup_cosine(0, 10)(1) < 1 and warmup_cosine(0, 10, floor=0)(10) == pytest.approx(0)


# clipping

@pytest.mark.parametrize("max_norm", [0.01, 1.0, 1e4])
def test_clip_gradients_equals_pytorch(max_norm):
    ours, theirs, batch = gpt(), gpt(), some(4, 9)
    for model in (ours, theirs):
        (30 * next_token_loss(model, batch)).backward()
    before, norm = gradients(ours), clip_gradients(ours.parameters(), max_norm)
    torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(theirs.parameters(), max_norm))
    close(gradients(ours), gradients(theirs))
    after = clip_gradients(ours.parameters(), 1e9)
    assert after.item() == pytest.approx(min(norm.item(), max_norm), rel=1e-4)
    if norm < max_norm:
        close(gradients(ours), before, rtol=0, atol=0)


# accumulation and the step

def masked_batch(rows: int):
    "A padded batch for a MaskedLM, with labels at some places; unequal numbers of them."
    tokens = some(rows, 9)
    inputs, labels = mask_tokens(tokens, 10, 11, share=0.5)
    labels[:, 0] = tokens[:, 0]
    return inputs, None, labels


def translation_batch(rows: int):
    target = some(rows, 6)
    labels = target.masked_fill(torch.arange(6) >= torch.randint(1, 7, (rows, 1)), NO_LABEL)
    return some(rows, 7), shift_right(target, 0), None, labels


OBJECTIVES = {
    "next token": (lambda: gpt(), lambda rows: some(rows, 9), next_token_loss),
    "masked": (lambda: MaskedLM(Encoder(SIZES.replace(kind="encoder"))), masked_batch, masked_loss),
    "translation": (lambda: EncoderDecoder(SIZES.replace(kind="encoder-decoder")), translation_batch, masked_loss),
}


def joined(batches):
    if isinstance(batches[0], torch.Tensor):
        return torch.cat(batches)
    return tuple(None if parts[0] is None else torch.cat(parts) for parts in zip(*batches))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_accumulated_gradients_are_those_of_the_big_batch_with_unequal_counts(name):
    build, make, loss = OBJECTIVES[name]
    torch.manual_seed(0)
    model, batches = build(), [make(rows) for rows in (1, 4, 2)]
    big = joined(batches)
    counts = [count_targets(batch) for batch in batches]
    assert len(set(counts)) == 3 and count_targets(big) == sum(counts)
    expected = loss(model, big)
    expected.backward()
    wanted = gradients(model)
    model.zero_grad()
    value = accumulate(model, batches, loss=loss)
    torch.testing.assert_close(value, expected.detach())
    assert not value.requires_grad
    close(gradients(model), wanted, rtol=1e-4, atol=1e-7)
    accumulate(model, batches, loss=loss)  # adds
    close(gradients(model), {name: 2 * grad for name, grad in wanted.items()}, rtol=1e-4, atol=1e-7)


def test_a_mean_of_means_is_another_gradient():
    "The probe of the test above tells them apart."
    torch.manual_seed(0)
    model, batches = MaskedLM(Encoder(SIZES.replace(kind="encoder"))), [masked_batch(rows) for rows in (1, 4, 2)]
    accumulate(model, batches, loss=masked_loss)
    right = gradients(model)
    model.zero_grad()
    for batch in batches:
        (masked_loss(model, batch) / 3).backward()
    assert any((right[name] - grad).norm() > 0.05 * grad.norm() for name, grad in gradients(model).items())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_train_step_is_the_plain_loop(name):
    build, make, loss = OBJECTIVES[name]
    torch.manual_seed(0)
    batches = [make(3) for _ in range(5)]
    results = []
    for ours in (True, False):
        torch.manual_seed(1)
        model = build()
        optimizer, history = torch.optim.AdamW(model.parameters(), lr=1e-2), []
        for batch in batches:
            if ours:
                value, norm = train_step(model, optimizer, [batch], loss=loss, max_norm=0.1)
            else:
                optimizer.zero_grad()
                value = loss(model, batch)
                value.backward()
                norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
                optimizer.step()
            history.append((value.item(), norm.item()))
        results.append(history)
    assert results[0] == [pytest.approx(pair, rel=1e-5) for pair in results[1]]


def test_a_parallel_model_synchronises_at_the_last_micro_batch_alone():
    from contextlib import contextmanager

    class Parallel(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.alone, self.seen = inner, False, []

        @contextmanager
        def no_sync(self):
            self.alone = True
            yield
            self.alone = False

        def forward(self, tokens):
            self.seen.append(self.alone)
            return self.inner(tokens)

    model = Parallel(gpt())
    accumulate(model, [some(1, 5), some(2, 5), some(3, 5)])
    assert model.seen == [True, True, False]


# number formats

def test_bfloat16_computes_in_16_bits_and_keeps_float32_parameters_and_gradients():
    model, batch = gpt(), some(4, 9)
    seen = []
    model.lm_head.register_forward_hook(lambda part, inputs, output: seen.append(output.dtype))
    optimizer = AdamW(model.parameters())
    value, norm = train_step(model, optimizer, [batch[:1], batch[1:]], dtype=torch.bfloat16)
    assert seen == [torch.bfloat16] * 2 and value.dtype == norm.dtype == torch.float32
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())
    assert value.item() == pytest.approx(next_token_loss(gpt(), batch).item(), rel=0.01)


def test_the_scaler_leaves_the_step_as_it_is_and_leaves_out_infinite_gradients():
    batch, steps = some(4, 9), []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**10)):
        model = gpt()
        train_step(model, torch.optim.SGD(model.parameters(), lr=1.0), [batch], scaler=scaler)
        steps.append(model.state_dict())
    close(*steps, rtol=1e-5, atol=1e-7)
    scaler, model = torch.amp.GradScaler("cpu", init_scale=2.0**127), gpt()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    big = train_step(model, optimizer, [batch], loss=lambda m, b: 100 * next_token_loss(m, b), scaler=scaler)
    assert not torch.isfinite(big[1]) and scaler.get_scale() == 2.0**126
    close(model.state_dict(), before, rtol=0, atol=0)


# checkpointing

@pytest.mark.parametrize("name", OBJECTIVES)
def test_checkpointed_gradients_are_equal_with_dropout_and_computed_twice(name):
    build, make, loss = OBJECTIVES[name]
    torch.manual_seed(0)
    batch, found, calls = make(3), [], Counter()

    def count(part, inputs):
        calls[part] += 1

    for wrap in (lambda model: model, checkpointed):
        torch.manual_seed(1)
        model = wrap(build())
        for part in model.modules():
            if hasattr(part, "p"):
                part.p = 0.3
        blocks = [part for part in model.modules() if type(part).__name__ in ("Block", "DecoderBlock")]
        for block in blocks:
            block.attention.register_forward_pre_hook(count)
        torch.manual_seed(2)
        loss(model, batch).backward()
        found.append((gradients(model), sum(calls.values()) / len(blocks)))
        calls.clear()
    (plain, once), (again, twice) = found
    close(again, plain, rtol=0, atol=0)
    assert (once, twice) == (1, 2)


def test_checkpointed_saves_memory_and_changes_neither_names_nor_what_is_evaluated():
    def saved(model) -> int:
        sizes = {}
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}

        def keep(x):
            if x.untyped_storage().data_ptr() not in own:
                sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            loss = next_token_loss(model, batch)
        del loss
        return sum(sizes.values())

    batch = some(4, 9)
    plain, model = gpt(n_layers=8), checkpointed(gpt(n_layers=8))
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert saved(model) < saved(plain) / 3
    with torch.no_grad():
        assert torch.equal(model.eval()(batch), plain.eval()(batch))


# refusals

@pytest.mark.refusal
@pytest.mark.parametrize(("said", "call"), [
    ("smoothing=1.5", lambda: smoothed_cross_entropy(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), 1.5)),
    (r"\(2, 3\) do not fit targets of \(3,\)", lambda: smoothed_cross_entropy(torch.zeros(2, 3), torch.zeros(3, dtype=torch.long))),
    ("lr=-1", lambda: AdamW([nn.Parameter(torch.zeros(1))], lr=-1)),
    ("weight_decay=-0.1", lambda: AdamW([nn.Parameter(torch.zeros(1))], weight_decay=-0.1)),
    (r"betas=\(0.9, 1.0\)", lambda: AdamW([nn.Parameter(torch.zeros(1))], betas=(0.9, 1.0))),
    ("warmup=0", lambda: warmup_inverse_sqrt(512, 0)),
    ("d_model=0", lambda: warmup_inverse_sqrt(0)),
    ("warmup=10 .* steps=10", lambda: warmup_cosine(10, 10)),
    ("warmup=-1", lambda: warmup_cosine(-1, 10)),
    ("floor=2", lambda: warmup_cosine(1, 10, floor=2)),
    ("max_norm=0", lambda: clip_gradients(gpt().parameters(), 0)),
    ("backward", lambda: clip_gradients(gpt().parameters(), 1)),
    ("0 batches", lambda: accumulate(gpt(), [])),
    ("2 batches hold no target", lambda: accumulate(gpt(), [some(1, 1), some(2, 1)])),
    (r"\(B, T\)", lambda: count_targets(some(4))),
    ("Linear has no block", lambda: checkpointed(nn.Linear(2, 2))),
])
def test_bad_input_is_refused_with_both_sides_named(said, call):
    with pytest.raises(ValueError, match=said):
        call()
