"""Tools that look into a model: they change nothing, agree with loops, and refuse what does not fit."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from transformer_course.architectures import GPT, Encoder
from transformer_course.attention import attention_weights, causal_mask
from transformer_course.config import Config
from transformer_course.inside import (
    AttentionOnly,
    course_model,
    ffn_as_attention,
    head_findings,
    head_patterns,
    induction_score,
    logit_lens,
    numpy_generate,
    numpy_gpt,
    previous_token_score,
    repeated_tokens,
    residual_stream,
    without_heads,
)
from transformer_course.prediction import generate

STYLES = {
    "GPT": {},
    "post-norm": {"norm_first": False},
    "LLaMA": {"norm": "rms", "activation": "swiglu", "bias": False, "n_kv_heads": 2, "positions": "rope"},
    "ALiBi": {"positions": "alibi", "n_kv_heads": 1},
}


def config(**rest) -> Config:
    return Config(**{"vocab_size": 11, "max_len": 13, "d_model": 24, "n_layers": 3, "n_heads": 6, "positions": "learned"} | rest)


def model(build: type = GPT, **rest) -> nn.Module:
    torch.manual_seed(0)
    built = build(config(**rest))
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.3)
    return built.eval()


def some(*shape) -> torch.Tensor:
    return torch.randint(11, shape, generator=torch.Generator().manual_seed(1))


def close(a, b, atol=1e-5):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("style", STYLES)
def test_the_stream_is_what_the_layers_pass_on(style):
    gpt, tokens = model(**STYLES[style]), some(2, 7)
    x = gpt.embed(tokens)
    expected = [x]
    for layer in gpt.layers:
        x = layer(x, causal_mask(7))
        expected.append(x)
    stream = residual_stream(gpt, tokens)
    close(stream, torch.stack(expected), 0)
    assert not stream.requires_grad and stream.shape == (4, 2, 7, 24)


def test_a_pre_norm_stream_is_the_sum_of_what_is_written():
    gpt, tokens = model(), some(2, 7)
    written = []
    for layer in gpt.layers:
        for part in (layer.attention, layer.feed_forward):
            part.sublayer.register_forward_hook(lambda _, given, out: written.append(out))
    stream = residual_stream(gpt, tokens)
    assert len(written) == 6
    close(stream[0] + sum(written), stream[-1], 1e-4)


def test_an_encoder_takes_its_mask():
    encoder, tokens = model(Encoder, kind="encoder", norm_first=False), some(2, 7)
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    close(residual_stream(encoder, tokens, mask)[-1], encoder(tokens, mask))
    assert (head_patterns(encoder, tokens, mask)[:, 1, :, :, 4:] == 0).all()


@pytest.mark.parametrize("style", STYLES)
def test_patterns_times_values_is_what_heads_find(style):
    gpt, tokens = model(**STYLES[style]), some(2, 7)
    patterns, found = head_patterns(gpt, tokens), head_findings(gpt, tokens)
    assert patterns.shape == (3, 2, 6, 7, 7) and found.shape == (3, 2, 6, 7, 4)
    close(patterns.sum(-1), torch.ones(3, 2, 6, 7))
    assert (patterns.triu(1) == 0).all()
    part, x = gpt.layers[1].attention, residual_stream(gpt, tokens)[1]
    reads = part.sublayer
    q = reads.queries(part.norm(x) if part.norm_first else x, torch.arange(7))
    k, v = reads.keys_values(part.norm(x) if part.norm_first else x, torch.arange(7))
    k, v = (y.repeat_interleave(6 // y.shape[1], 1) for y in (k, v))
    close(patterns[1], attention_weights(q, k, causal_mask(7)))
    close(found[1], patterns[1] @ v)


def test_looking_leaves_the_model_as_it_was():
    gpt, tokens = model(dropout=0.5).train(), some(2, 7)
    functions = [layer.attention.sublayer.heads.attention_fn for layer in gpt.layers]
    close(residual_stream(gpt, tokens), residual_stream(gpt, tokens), 0)  # in evaluation mode
    head_patterns(gpt, tokens), logit_lens(gpt, tokens)
    with pytest.raises(ValueError), without_heads(gpt, [(0, 0)]):
        raise ValueError("an error inside")
    with pytest.raises(ValueError):
        residual_stream(gpt, some(2, 14))  # too long: the model's own error
    assert all(part.training for part in gpt.modules())
    assert functions == [layer.attention.sublayer.heads.attention_fn for layer in gpt.layers]
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in gpt.modules())


@pytest.mark.parametrize("style", STYLES)
def test_the_lens_ends_with_the_model(style):
    gpt, tokens = model(**STYLES[style]), some(2, 7)
    lens = logit_lens(gpt, tokens)
    close(lens[-1], gpt(tokens))
    close(lens[0], gpt.lm_head(gpt.norm(gpt.embed(tokens))))
    assert lens.shape == (4, 2, 7, 11)


def test_a_silenced_head_is_one_whose_output_columns_are_zero():
    gpt, other, tokens = model(), model(), some(2, 7)
    with torch.no_grad():
        other.layers[1].attention.sublayer.heads.output.weight[:, 8:12] = 0  # head 2 of width 4
    with without_heads(gpt, [(1, 2)]):
        close(gpt(tokens), other(tokens))
    assert (gpt(tokens) - other(tokens)).abs().max() > 1e-2


def test_mean_ablation_gives_every_place_the_mean():
    gpt, tokens = model(), some(2, 7)
    means = head_findings(gpt, tokens).mean((1, 3))
    with without_heads(gpt, [(0, 1), (2, 5)], means=means):
        found = head_findings(gpt, tokens)
        with without_heads(gpt, [(0, 0)]):
            assert (head_findings(gpt, tokens)[0, :, 0] == 0).all()
    close(found[0, :, 1], means[0, 1].expand(2, 7, 4))
    close(found[2, :, 5], means[2, 5].expand(2, 7, 4))
    close(found[0, :, 0], head_findings(gpt, tokens)[0, :, 0])
    with without_heads(gpt, []):
        close(head_findings(gpt, tokens)[0], head_findings(gpt, tokens)[0])


def test_scores_of_heads_made_by_hand():
    tokens = torch.tensor([[3, 5, 3, 5, 3]])
    patterns = torch.zeros(1, 1, 3, 5, 5)
    patterns[0, 0, 0, range(1, 5), range(4)] = 1  # the token before
    patterns[0, 0, 0, 0, 0] = 1
    patterns[0, 0, 1, range(5), [0, 0, 1, 2, 3]] = 1  # what followed the last copy
    patterns[0, 0, 2] = torch.ones(5, 5).tril() / torch.arange(1, 6)[:, None]
    close(previous_token_score(patterns)[0, 0], torch.tensor(1.0))
    expected = (1 / 3 + 1 / 4 + 2 / 5) / 3  # the last 3 has two earlier copies
    close(induction_score(patterns, tokens)[0], torch.tensor([1.0, 1.0, expected]))


def test_the_induction_score_equals_a_loop():
    gpt, tokens = model(), some(3, 9)
    patterns, total, asked = head_patterns(gpt, tokens), torch.zeros(3, 6), 0
    for b, text in enumerate(tokens.tolist()):
        for t, token in enumerate(text):
            after = [s + 1 for s in range(t) if text[s] == token]
            asked += bool(after)
            for s in after:
                total += patterns[:, b, :, t, s]
    close(induction_score(patterns, tokens), total / asked)


def test_repeated_tokens_repeat():
    tokens = repeated_tokens(50, 6, batch_size=4, repeats=3, generator=torch.Generator().manual_seed(0))
    assert tokens.shape == (4, 18) and torch.equal(tokens[:, :6], tokens[:, 12:]) and len(set(tokens[0, :6].tolist())) > 3


@pytest.mark.parametrize("tied", [True, False])
def test_numpy_computes_the_same(tied):
    gpt = model(activation="gelu_tanh", tie_embeddings=tied).double()
    weights, tokens = {name: p.numpy() for name, p in gpt.state_dict().items()}, some(1, 9)
    if tied:
        del weights["lm_head.weight"]
    found = numpy_gpt(weights, tokens[0].tolist(), 6)
    assert np.abs(found - gpt(tokens)[0].detach().numpy()).max() < 1e-11
    expected = generate(gpt, tokens[:, :3], 10, temperature=0)[0].tolist()
    assert numpy_generate(weights, tokens[0, :3].tolist(), 10, 6) == expected
    sampled = [numpy_generate(weights, [1], 8, 6, temperature=1.0, seed=seed) for seed in (0, 0, 1)]
    assert sampled[0] == sampled[1] != sampled[2]


def test_the_shipped_model_is_a_model():
    gpt, characters = course_model()
    tokens = torch.tensor([characters.encode("The value of the attribute")])
    assert not gpt.training and gpt.lm_head.weight is gpt.token_embedding.weight
    loss = F.cross_entropy(gpt(tokens[:, :-1])[0], tokens[0, 1:])
    assert loss < 3


@pytest.mark.parametrize("bias", [True, False])
def test_a_feed_forward_layer_is_attention(bias):
    torch.manual_seed(0)
    up, down = nn.Linear(5, 12, bias=bias).double(), nn.Linear(12, 5, bias=bias).double()
    x = torch.randn(7, 5).double()
    expected = (x + down(F.silu(up(x)))).detach()
    rewritten = ffn_as_attention(up, down, 7)
    assert isinstance(rewritten, AttentionOnly) and rewritten.width == 5 + 12 + 8 and rewritten.n_heads == 12 + 3
    close(rewritten(x), expected, 1e-14)
    close(rewritten(x[:4]), expected[:4], 1e-14)
    leaky, broken = (ffn_as_attention(up, down, 7, strength=s)(x) for s in (8.0, 1e16))
    assert (leaky - expected).abs().max() > 1e-5 and (broken - expected).abs().max() > 1e-3


@pytest.mark.refusal
@pytest.mark.parametrize("call, said", [
    (lambda: residual_stream(nn.Linear(2, 2), some(1, 2)), "no `layers`"),
    (lambda: head_patterns(nn.Linear(2, 2), some(1, 2)), "no `layers`"),
    (lambda: without_heads(model(), [(3, 0)]).__enter__(), r"\(3, 0\).*\[6, 6, 6\]"),
    (lambda: without_heads(model(), [(0, -1)]).__enter__(), r"\(0, -1\)"),
    (lambda: induction_score(torch.ones(1, 2, 1, 4, 4), some(2, 5)), r"4, 4\).*\(2, 5\)"),
    (lambda: induction_score(torch.ones(1, 1, 1, 3, 3), torch.tensor([[1, 2, 3]])), "no token repeats"),
    (lambda: repeated_tokens(5, 0), "period=0"),
    (lambda: repeated_tokens(5, 2, repeats=1), "repeats=1"),
    (lambda: ffn_as_attention(nn.Linear(3, 4), nn.Linear(4, 2), 5), r"\(4, 3\) and \(2, 4\)"),
    (lambda: ffn_as_attention(nn.Linear(3, 4), nn.Linear(4, 3), 2)(torch.ones(3, 3)), "3 tokens.*2 places"),
])
def test_refusals_say_what_does_not_fit(call, said):
    with pytest.raises(ValueError, match=said):
        call()
