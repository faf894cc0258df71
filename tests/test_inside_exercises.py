"""Exercises of chapter 12: answers that no table foresaw."""
import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from transformer_course import exercises
from transformer_course.checkers.inside import a_model, gpt_weights, in_pytorch
from transformer_course.grading.sandbox import Observed, look_at
from transformer_course.grading.verdicts import edited, judge
from transformer_course.inside import residual_stream


def verdict(id, answer):
    one = exercises.exercise(id)
    return judge(one, Observed([look_at(answer, look, seed) for look, seed in one.looks()]))


# --- right answers in an unusual style ----------------------------------------------------------------------------------------------


def what_hooks_saw(model, tokens):
    out, parts = [model.embed(tokens).detach()], [part for layer in model.layers for part in (layer.attention, layer.feed_forward)]
    hooks = [part.register_forward_hook(lambda _, given, result: out.append((result - given[0]).detach())) for part in parts]
    model(tokens)
    for hook in hooks:
        hook.remove()
    return torch.stack(out)


def sums_of_the_parts(model, tokens):
    T, parts = tokens.shape[1], model.embed(tokens)[None]
    for layer in model.layers:
        for part, more in ((layer.attention, {"mask": torch.ones(len(tokens), 1, T, T).tril() > 0}), (layer.feed_forward, {})):
            parts = torch.cat([parts, part.sublayer(part.norm(parts.sum(0)), **more)[None]])
    return parts


def in_double(answer):
    return lambda model, *given: answer(copy.deepcopy(model).double(), *given)


def trace_in_numpy(patterns):
    scores = np.trace(patterns.numpy()[..., 1:, :-1], axis1=-2, axis2=-1).mean(1) / (patterns.shape[-1] - 1)
    return scores, *np.unravel_index(scores.argmax(), scores.shape)


def place_in_a_pair(patterns):
    t = torch.arange(1, patterns.shape[-1])
    scores = patterns[..., t, t - 1].mean(dim=(1, -1))
    best = scores.flatten().topk(1).indices[0]
    return [scores, (best // scores.shape[1], best % scores.shape[1])]


def takes_its_write_away(model, tokens, layer, head, mean=False):
    output = model.layers[layer].attention.sublayer.heads.output
    k = output.in_features // model.config.n_heads
    mine = slice(head * k, (head + 1) * k)

    def subtract(module, given, out):
        write = given[0][..., mine] @ module.weight[:, mine].T
        return out - write + (write.mean((0, 1)) if mean else 0)

    with torch.no_grad():
        hook = output.register_forward_hook(subtract)
        try:
            return model(tokens)
        finally:
            hook.remove()


class Cut(nn.Module):
    def __init__(self, output, n_heads, head, mean):
        super().__init__()
        self.output, self.n_heads, self.head, self.mean = output, n_heads, head, mean

    def forward(self, x):
        heads = [*x.chunk(self.n_heads, -1)]
        heads[self.head] = heads[self.head].mean(0).mean(0).expand_as(heads[0]) if self.mean else heads[0] * 0
        return self.output(torch.cat(heads, -1))


def another_module(model, tokens, layer, head, mean=False):
    damaged = copy.deepcopy(model)
    heads = damaged.layers[layer].attention.sublayer.heads
    heads.output = Cut(heads.output, model.config.n_heads, head, mean)
    return damaged(tokens)


def one_pass_by_recursion(model, tokens):
    mask = torch.ones(2 * tokens.shape[1:]).tril() > 0

    def read(x, layers):
        rest = read(layers[0](x, mask), layers[1:]) if len(layers) else []
        return [F.linear(model.norm(x), model.lm_head.weight), *rest]

    return torch.stack(read(model.embed(tokens), list(model.layers)))


def text_by_text(model, tokens):
    return torch.cat([one_pass_by_recursion(model, one[None]) for one in tokens], 1).detach().numpy()


def one_hot_products(patterns, tokens):
    one = F.one_hot(tokens).float()
    copies = (one @ F.pad(one, (0, 0, 1, 0))[:, :-1].mT).tril()
    return torch.einsum("lbhts,bts->lh", patterns, copies) / (copies.sum(-1) > 0).sum()


def lists_of_places(patterns, tokens):
    total, count = 0, 0
    for b, text in enumerate(tokens.tolist()):
        for t in range(len(text)):
            if places := [s + 1 for s in range(t) if text[s] == text[t]]:
                total, count = total + patterns[:, b, :, t, places].sum(-1), count + 1
    return total / count


def repaired(new, *more):
    "The program with another repair, and other changes."
    one, scope = exercises.exercise("inside.find_the_bug"), {}
    exec(edited(one.solution, [("found = found.transpose(1, 0, 2).reshape(T, -1)", f"found = {new}"), *more]), scope)
    return scope["small_gpt"]


SIDE_BY_SIDE = "np.concatenate(found, axis=-1)"
RETURNS = 'return norm(x, "norm") @ weights["tokens"].T'
RIGHT = {
    "inside.residual_sum": [what_hooks_saw, sums_of_the_parts, in_double(what_hooks_saw), lambda *given: what_hooks_saw(*given).numpy()],
    "inside.previous_token_head": [trace_in_numpy, place_in_a_pair],
    "inside.ablate": [takes_its_write_away, another_module, in_double(another_module)],
    "inside.logit_lens": [one_pass_by_recursion, text_by_text, in_double(one_pass_by_recursion)],
    "inside.induction_score": [one_hot_products, lists_of_places, lambda patterns, tokens: lists_of_places(patterns.double(), tokens)],
    "inside.even_score": [0.151, 0.15, torch.tensor(0.15085)],
    "inside.find_the_bug": [
        repaired(SIDE_BY_SIDE), repaired("np.moveaxis(found, 0, 1).reshape(T, -1)"),
        repaired("[sum((list(found[h][t]) for h in range(n_heads)), []) for t in range(T)]"),
        repaired(SIDE_BY_SIDE, (RETURNS, f"import torch; {RETURNS.replace('return ', 'return torch.from_numpy(')})")),
    ],
}


@pytest.mark.parametrize("id", RIGHT)
def test_an_unusual_right_answer_is_accepted(id):
    for answer in RIGHT[id]:
        found = verdict(id, answer)
        assert found.status == "right", str(found)


# --- wrong answers that are in no table ---------------------------------------------------------------------------------------------


def without_biases(model, tokens):
    parts = what_hooks_saw(model, tokens).clone()
    for number, layer in enumerate(model.layers):
        if (bias := layer.attention.sublayer.heads.output.bias) is not None:
            parts[1 + 2 * number] -= bias.detach()
    return parts


def adds_in_place(model, tokens):
    mask, x = torch.ones(2 * tokens.shape[1:]).tril() > 0, model.embed(tokens).detach()
    parts = [x]
    with torch.no_grad():
        for layer in model.layers:
            for part, more in ((layer.attention, {"mask": mask}), (layer.feed_forward, {})):
                parts.append(part(x, **more) - x)
                x += parts[-1]
    return torch.stack(parts)


def counts_one_too_far(model, tokens):
    stages = what_hooks_saw(model, tokens).cumsum(0)
    return torch.stack([stages[0], *(list(stages)[n + 1] - stages[n] for n in range(len(stages)))])


def applies_a_layer_too_many(model, tokens):
    x, mask = model.embed(tokens), torch.ones(2 * tokens.shape[1:], dtype=torch.bool).tril()
    for n in range(len(model.layers) + 1):
        x = list(model.layers)[n](x, mask)
    return x


def stays_in_training(answer):
    return lambda model, *given: answer(model.train(), *given)


def fails_with_a_hook(model, tokens):
    model.layers[0].register_forward_hook(lambda *seen: None)
    raise RuntimeError("too early")


def of_the_smallest_weights(patterns):
    scores = patterns.diagonal(-1, -2, -1).amin((1, 3))
    return scores, *divmod(scores.argmax().item(), scores.shape[1])


def mean_of_the_past(model, tokens, layer, head, mean=False):
    output, k = model.layers[layer].attention.sublayer.heads.output, model.config.d_head

    def silence(module, given):
        x = given[0].clone()
        mine = x[..., head * k:(head + 1) * k]
        count = torch.arange(1, x.shape[1] + 1)[:, None]
        x[..., head * k:(head + 1) * k] = mine.cumsum(1) / count if mean else 0
        return x

    hook = output.register_forward_pre_hook(silence)
    logits = model(tokens)
    hook.remove()
    return logits


def keeps_its_function(model, tokens, layer, head, mean=False):
    heads = model.layers[layer].attention.sublayer.heads
    own = heads.attention_fn
    heads.attention_fn = lambda *given: own(*given) * (torch.arange(heads.n_heads) != head)[:, None, None]
    return model(tokens)


def noise(model, tokens, layer, head, mean=False):
    return takes_its_write_away(model, tokens, layer, head, mean) + torch.rand(())


def with_root_mean_squares(model, tokens):
    return model.lm_head(F.rms_norm(residual_stream(model, tokens), [model.config.d_model]))


def without_the_query_itself(patterns, tokens):
    same = (tokens[:, :, None] == tokens[:, None]).tril(-1)
    return (patterns * same.roll(1, 2).tril(-1)[:, None]).sum((1, 3, 4)) / same.any(-1).sum()


def position_by_position(patterns, tokens):
    same = (tokens[:, :, None] == tokens[:, None]).tril(-1)
    weights, count = (patterns * same.roll(1, 2)[:, None]).sum((1, 4)), same.any(-1).sum(0)
    return (weights / count.clamp(min=1)).sum(-1) / (count > 0).sum()


def counts_where_weight_lies(patterns, tokens):
    weights = (patterns * (tokens[:, :, None] == tokens[:, None]).tril(-1).roll(1, 2)[:, None]).sum(-1)
    return weights.sum((1, 3)) / (weights > 0).sum((1, 3))


def scaled(answer, by):
    return lambda *given: answer(*given) * by


WRONG = {
    "inside.residual_sum": [
        (without_biases, None, "do not add up"), (adds_in_place, "X16", "in your list already"), (stays_in_training(what_hooks_saw), None, "training mode"),
        (fails_with_a_hook, None, "too early"), (lambda model, tokens: what_hooks_saw(model, tokens[:1]).expand(-1, len(tokens), -1, -1).clone(), None, "numbers are off"),
        (lambda *given: what_hooks_saw(*given).norm(dim=-1), None, "has the shape"), (lambda *given: list(what_hooks_saw(*given)), None, "not a tensor"),
        (counts_one_too_far, None, "list index out of range"),
    ],
    "inside.previous_token_head": [
        (of_the_smallest_weights, None, "In part 1 of 3"), (lambda patterns: trace_in_numpy(patterns)[0], None, "Three things are asked for"),
        (lambda patterns: trace_in_numpy(patterns.mT), "Y1b", "Rows are queries"), (lambda patterns: (trace_in_numpy(patterns)[0].T, *trace_in_numpy(patterns)[1:]), None, "has the shape"),
    ],
    "inside.ablate": [
        (mean_of_the_past, None, "numbers are off"), (keeps_its_function, "Z1b", "Put back"), (noise, None, "draw"),
        (lambda *given: takes_its_write_away(*given[:4]), "Z6", "mean"), (lambda *given: another_module(*given).argmax(-1), None, "has the shape"),
        (stays_in_training(another_module), None, "training mode"),
    ],
    "inside.logit_lens": [
        (applies_a_layer_too_many, None, "list index out of range"),
        (with_root_mean_squares, None, "logits of the model"), (scaled(one_pass_by_recursion, 1 / math.sqrt(6)), None, "logits of the model"),
        (lambda *given: one_pass_by_recursion(*given).transpose(0, 1), None, "has the shape"), (lambda model, tokens: one_pass_by_recursion(model, tokens.flip(1)).flip(2), None, "logits of the model"),
    ],
    "inside.induction_score": [
        (without_the_query_itself, "I4e", "second a itself"), (counts_where_weight_lies, "I10", "counts with 0"), (position_by_position, None, "numbers are off"), (scaled(lists_of_places, math.nan), None, "holds NaN"),
        (lambda *given: lists_of_places(*given).max(), None, "has the shape"), (scaled(lists_of_places, 1.01), None, "where"),
    ],
    "inside.even_score": [(1 / 13, None, "too small"), (0.5, None, "too large"), (0.0876, "J2", "earlier copies")],
    "inside.find_the_bug": [
        (repaired('found.reshape(T, -1, order="F")'), None, "comes before"), (repaired("np.tile(found.mean(0), (1, n_heads))"), None, "numbers are off"),
        (repaired(SIDE_BY_SIDE, (RETURNS, RETURNS.replace('"norm")', '"norm")[-1]'))), None, "has the shape"),
        (repaired(SIDE_BY_SIDE, ("T = len(tokens)", 'T = len(tokens); weights["norm"] *= 1.001')), None, "changed the weights"),
        (repaired(SIDE_BY_SIDE, ("np.tri(T) == 1", "np.tri(T, k=1) == 1")), None, "comes before"),
    ],
}


@pytest.mark.parametrize("id", WRONG)
def test_a_wrong_answer_that_no_table_foresaw_is_rejected(id):
    for answer, name, said in WRONG[id]:
        found = verdict(id, answer)
        assert (found.status, found.name) == ("not yet", name) and said in found.message, str(found)


def test_a_model_that_an_answer_has_damaged_is_not_used_again():
    for answer in (keeps_its_function, fails_with_a_hook):
        for id in ("inside.ablate", "inside.residual_sum"):
            verdict(id, answer)
    assert verdict("inside.ablate", another_module).status == verdict("inside.residual_sum", what_hooks_saw).status == "right"


def test_the_buggy_program_is_exact_with_one_head_and_reads_the_future_with_two():
    one = exercises.exercise("inside.find_the_bug")
    bug = one.answer("untouched")
    weights, text = gpt_weights(2, 6, 8, 9, 0), [3, 1, 4, 1, 5]
    for n_heads in (1, 2, 3):
        np.testing.assert_allclose(one.right(weights, text, n_heads), in_pytorch(weights, text, n_heads).numpy(), rtol=1e-9)
    np.testing.assert_allclose(bug(weights, text, 1), one.right(weights, text, 1))
    moved = np.abs(bug(weights, text, 2) - bug(weights, [*text[:-1], 6], 2)).max(1)
    assert (moved[:-1] > 1e-3).any() and np.abs(one.right(weights, text, 2) - one.right(weights, [*text[:-1], 6], 2))[:-1].max() == 0


def test_the_models_of_the_probes_have_no_part_that_does_nothing():
    model = a_model(3, n_layers=2)
    assert all(p.std() > 0.1 for p in model.parameters() if p.numel() > 3)
