"""Exercises of chapters 8 and 8b: answers that no table foresaw."""
import math
import re
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.adamw import adamw

from transformer_course import exercises
from transformer_course.grading.sandbox import Observed, look_at
from transformer_course.grading.verdicts import judge


def verdict(id, answer):
    one = exercises.exercise(id)
    return judge(one, Observed([look_at(answer, look, seed) for look, seed in one.looks()]))


# --- right answers in an unusual style ----------------------------------------------------------------------------------------------


def in_numpy(tokens, pad):
    text = tokens.numpy()
    return torch.from_numpy(text[:, :-1].copy()), torch.from_numpy(np.where(text[:, 1:] == pad, -100, text[:, 1:]))


def by_unfold(tokens, pad):
    here, following = tokens.unfold(1, 2, 1).unbind(-1)
    following = following.clone()
    following[following.eq(pad)] = -100
    return [here, following]


def by_kl(logits, targets, smoothing):
    v = logits.shape[-1]
    q = torch.full_like(logits, smoothing / v).scatter_add(-1, targets[..., None], torch.full_like(logits[..., :1], 1 - smoothing))
    entropy = -torch.xlogy(q, q).sum(-1).mean()
    return F.kl_div(F.log_softmax(logits, -1).flatten(0, 1), q.flatten(0, 1), reduction="batchmean") + entropy


def by_vmap(logits, targets, smoothing):
    losses = [F.cross_entropy(row.double(), t, label_smoothing=smoothing) for row, t in zip(logits, targets)]
    return sum(losses) / len(losses)


def adamw_in_double(p, g, m, v, step, lr, beta1, beta2, eps, weight_decay):
    p, g, m, v = (one.double().clone() for one in (p, g, m, v))
    p.mul_(1 - lr * weight_decay)
    m.mul_(beta1).add_(g, alpha=1 - beta1)
    v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
    p.addcdiv_(m / (1 - beta1**step), (v / (1 - beta2**step)).sqrt().add_(eps), value=-lr)
    return [p.float(), m.float(), v.float()]


def adamw_functional(p, g, m, v, step, lr, beta1, beta2, eps, weight_decay):
    new = [one.clone() for one in (p, m, v)]
    adamw([new[0]], [g.clone()], [new[1]], [new[2]], [], [torch.tensor(step - 1.0)], amsgrad=False, beta1=beta1, beta2=beta2, lr=lr,
                            weight_decay=weight_decay, eps=eps, maximize=False)
    return tuple(new)


def decayed_by_removal(model):
    left = {name: p for name, p in model.named_parameters() if p.requires_grad and len(p.shape) > 1}
    for part in model.modules():
        if type(part) is nn.Embedding:
            left = {name: p for name, p in left.items() if p is not part.weight}
    return left.keys()


def rate_by_interpolation(step, peak, warmup, steps, floor):
    if warmup and step <= warmup:
        return float(np.interp(step, [0, warmup], [0, peak]))
    turn = np.interp(step, [warmup, steps], [0, np.pi])
    return (peak + floor) / 2 + (peak - floor) / 2 * np.cos(turn)


def clipped_by_foreach(gradients, max_norm):
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    return torch._foreach_mul(gradients, torch.where(norm > max_norm, max_norm / norm, torch.ones(())))


def accumulated_with_hooks(model, batches):
    model.zero_grad(set_to_none=False)
    n, out = 0, []
    for x, y in batches:
        loss = F.nll_loss(F.log_softmax(model(x), -1).transpose(1, 2), y, reduction="sum")
        loss.backward()
        n, out = n + int((y != -100).sum()), [*out, loss.detach()]
    for p in model.parameters():
        p.grad.div_(n)
    return torch.stack(out).sum() / n


def step_in_double(parameters, loss_of, lr, max_norm, scale):
    for p in parameters:
        p.grad = torch.zeros_like(p)
    loss = loss_of()
    torch.autograd.backward(loss * scale)
    true = [p.grad.double() / scale for p in parameters]
    norm = sum(g.pow(2).sum() for g in true).sqrt()
    if bool(norm < math.inf):
        for p, g in zip(parameters, true):
            p.data.add_((g * (1 if norm <= max_norm else max_norm / norm)).float(), alpha=-lr)
    return loss.item()


def counted_with_numpy(words):
    out = {}
    for word, times in words.items():
        for a, b in np.lib.stride_tricks.sliding_window_view(np.array(word), 2).tolist() if len(word) > 1 else []:
            out.setdefault((a, b), []).append(times)
    return {pair: sum(found) for pair, found in out.items()}


def merged_with_a_stack(tokens, pair, new):
    left, out = list(reversed(tokens)), []
    while left:
        out.append(left.pop())
        if left and out[-1] == pair[0] and left[-1] == pair[1]:
            left.pop()
            out[-1] = new
    return out


def merged_by_letters(tokens, pair, new):
    return [ord(c) for c in "".join(map(chr, tokens)).replace("".join(map(chr, pair)), chr(new))]


def encoded_with_its_own_merge(word, merges, merge):
    out = [*word.encode()]
    for n in range(len(merges)):
        out = merged_with_a_stack(out, merges[n], 256 + n)
    return out


def encoded_with_ranks(word, merges, merge):
    ranks, parts = {pair: n for n, pair in enumerate(merges)}, list(word.encode("utf8"))
    while True:
        best, at = math.inf, None
        for i in range(len(parts) - 1):
            if ranks.get((parts[i], parts[i + 1]), math.inf) < best:
                best, at = ranks[parts[i], parts[i + 1]], i
        if at is None:
            return tuple(parts)
        parts[at:at + 2] = [256 + best]


RIGHT = {
    "training.shifted_targets": [in_numpy, by_unfold],
    "training.smoothed_loss": [by_kl, by_vmap],
    "training.adamw_step": [adamw_in_double, adamw_functional],
    "training.decay_groups": [decayed_by_removal],
    "training.learning_rate": [rate_by_interpolation],
    "training.clip": [clipped_by_foreach],
    "training.accumulate": [accumulated_with_hooks],
    "training.memory": [112, 112.0],
    "training.find_the_bug": [step_in_double],
    "byte_pairs.count_pairs": [counted_with_numpy],
    "byte_pairs.merge": [merged_with_a_stack, merged_by_letters],
    "byte_pairs.encode": [encoded_with_its_own_merge, encoded_with_ranks],
    "byte_pairs.find_the_bug": [lambda tokens, spellings: bytes(b for t in tokens for b in spellings[t]).decode(errors="replace")],
    "byte_pairs.bits_per_byte": [1.15, 0.8 / math.log(2)],
}


@pytest.mark.parametrize("id", RIGHT)
def test_an_unusual_right_answer_is_accepted(id):
    for answer in RIGHT[id]:
        found = verdict(id, answer)
        assert found.status == "right", str(found)


# --- wrong answers that are in no table ---------------------------------------------------------------------------------------------


def labels_are_floats(tokens, pad):
    inputs, targets = in_numpy(tokens, pad)
    return inputs, targets.float()


def pads_of_the_first_text(tokens, pad):
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    return inputs, targets.masked_fill((targets == pad)[:1].expand_as(targets), -100)


def smoothing_over_the_batch(logits, targets, smoothing):
    log_p = logits.log_softmax(-1)
    hard = log_p.gather(-1, targets[..., None]).mean()
    return -(1 - smoothing) * hard - smoothing * log_p.mean(1).amax(-1).mean()


def clamped_logits(logits, targets, smoothing):
    return by_kl(logits.clamp(-30, 30), targets, smoothing)


def amsgrad(p, g, m, v, step, lr, beta1, beta2, eps, weight_decay):
    p, m, new = adamw_in_double(p, g, m, v, step, lr, beta1, beta2, eps, weight_decay)
    return p, m, torch.maximum(new, v)


def nadam(p, g, m, v, step, lr, beta1, beta2, eps, weight_decay):
    p2, m2, v2 = adamw_in_double(p, g, m, v, step, lr, beta1, beta2, eps, weight_decay)
    v_hat = (v2 / (1 - beta2**step)).sqrt() + eps
    return p * (1 - lr * weight_decay) - lr * (beta1 * m2 + (1 - beta1) * g) / (1 - beta1**step) / v_hat, m2, v2


def by_size(model):
    return [name for name, p in model.named_parameters() if p.numel() > 8 and p.dim() > 1]


def warmup_of_the_whole(step, peak, warmup, steps, floor):
    return peak * min(step / max(warmup, 1), 1) * max(0.1, (1 + math.cos(math.pi * min(step / steps, 1))) / 2)


def clipped_with_room(gradients, max_norm):
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    return [g * min(1, max_norm / (norm + 0.01)) for g in gradients]


def first_counts(model, batches):
    model.zero_grad()
    n = (batches[0][1] != -100).sum() * len(batches)
    losses = [F.cross_entropy(model(x).mT, y, reduction="sum") / n for x, y in batches]
    sum(losses).backward()
    return sum(losses).item()


def clips_the_loss(parameters, loss_of, lr, max_norm, scale):
    return step_in_double(parameters, lambda: loss_of().clamp(max=max_norm), lr, math.inf, scale)


def counts_words_with_a_pair(words):
    return {pair: sum(n for w, n in words.items() if str(pair)[1:-1] in str(w)) for w in words for pair in zip(w, w[1:])}


def merges_pairs_of_pairs(tokens, pair, new):
    out = merged_with_a_stack(tokens, pair, new)
    return merged_with_a_stack(out, (new, new), new) if len(out) > 3 else out


def encodes_lower_case(word, merges, merge):
    return encoded_with_ranks(word.lower() if word.isascii() else word.casefold(), merges, merge)


def encodes_twice(word, merges, merge):
    return encoded_with_ranks(word.encode().decode("latin-1"), merges, merge)


def decodes_words(tokens, spellings):
    text = b"".join(spellings[t] for t in tokens)
    return " ".join(part.decode(errors="replace") for part in text.split())


WRONG = {
    "training.shifted_targets": [(labels_are_floats, None, "tokens are whole numbers"), (pads_of_the_first_text, None, "numbers are off"),
                                 (lambda tokens, pad: in_numpy(tokens, pad)[0], None, "")],
    "training.smoothed_loss": [(smoothing_over_the_batch, None, ""), (clamped_logits, None, "is right")],
    "training.adamw_step": [(amsgrad, None, "In part 3 of 3"), (nadam, None, "In part 1 of 3"), (lambda p, *rest: adamw_in_double(p, *rest)[0], None, "")],
    "training.decay_groups": [(by_size, None, ""), (lambda model: [p for p in model.parameters() if p.dim() > 1], None, "")],
    "training.learning_rate": [(warmup_of_the_whole, None, ""), (lambda step, *rest: rate_by_interpolation(step - 1, *rest), None, "")],
    "training.clip": [(clipped_with_room, None, "numbers are off"), (lambda gradients, max_norm: torch.cat([g.flatten() for g in gradients]), None, "")],
    "training.accumulate": [(first_counts, None, "")],
    "training.memory": [(100, None, "too small"), (120.0, None, "too large"), ("112 GB", None, "not a number")],
    "training.find_the_bug": [(clips_the_loss, None, "")],
    "byte_pairs.count_pairs": [(counts_words_with_a_pair, "E1h", "at several places"), (lambda words: sorted(counted_with_numpy(words).items()), None, "It returned ["),
                               (lambda words: {token: n for word, n in words.items() for token in word}, None, "A key of yours is 1.")],
    "byte_pairs.merge": [(merges_pairs_of_pairs, None, ""), (lambda tokens, pair, new: tokens.remove(pair[0]), None, ""), (lambda *given: None, None, "Is the `return` missing")],
    "byte_pairs.encode": [(encodes_lower_case, None, ""), (encodes_twice, None, ""), (lambda word, merges, merge: word, None, "It returned")],
    "byte_pairs.find_the_bug": [(decodes_words, None, "right is"),
                                (lambda tokens, spellings: re.sub("�+", "�", b"".join(spellings[t] for t in tokens).decode(errors="replace")), None, "right is")],
    "byte_pairs.bits_per_byte": [(2.0, None, "too large"), (0.9 / math.log(2), None, "too large")],
}


@pytest.mark.parametrize("id", WRONG)
def test_a_wrong_answer_that_no_table_foresaw_is_rejected(id):
    for answer, name, said in WRONG[id]:
        found = verdict(id, answer)
        assert (found.status, found.name) == ("not yet", name) and said in found.message, str(found)


# --- what was found is true ---------------------------------------------------------------------------------------------------------


def test_the_bug_of_chapter_8_makes_steps_as_small_as_the_scale():
    one = exercises.exercise("training.find_the_bug")
    moved = {}
    for name, step in {"right": one.right, "bug": one.answer("untouched")}.items():
        for scale in (1.0, 1024.0):
            p = nn.Parameter(torch.tensor([3.0, -4.0]))
            step([p], partial((lambda own: (own**2).sum()), p), 0.1, 1.0, scale)
            moved[name, scale] = (p.detach() - torch.tensor([3.0, -4.0])).norm().item()
    assert moved["right", 1.0] == pytest.approx(0.1) == moved["right", 1024.0] == moved["bug", 1.0]
    assert moved["bug", 1024.0] == pytest.approx(0.1 / 1024, rel=1e-3)


def test_the_decoder_with_the_bug_works_in_english_alone():
    one, spellings = exercises.exercise("byte_pairs.find_the_bug"), [bytes([byte]) for byte in range(256)]
    for text, whole in (("The cat sat.", True), ("né 😀", False)):
        assert one.right(list(text.encode()), spellings) == text
        assert (one.answer("untouched")(list(text.encode()), spellings) == text) is whole
