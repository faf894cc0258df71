"""Recurrent layers equal PyTorch's, attention and encoder-decoder equal their formulas written another way, padding is not text."""
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from transformer_course.config import Config
from transformer_course.prediction import LanguageModel, next_token_loss
from transformer_course.recurrence import (
    LSTM,
    RNN,
    AdditiveAttention,
    DecoderStep,
    RecurrentEncoder,
    RecurrentEncoderDecoder,
    RecurrentLayer,
    final_states,
    fixed_context,
    gradient_reach,
    reverse_padded,
    scan,
)

size = st.integers(1, 7)
KINDS = {"RNN": (RNN, nn.RNN), "LSTM": (LSTM, nn.LSTM)}
double = {"dtype": torch.float64}


def copy_into(theirs, ours, suffix="l0"):
    "Give PyTorch's layer the weights of ours; its second bias is ours minus its first."
    with torch.no_grad():
        getattr(theirs, f"weight_ih_{suffix}").copy_(ours.input.weight)
        getattr(theirs, f"weight_hh_{suffix}").copy_(ours.recurrent.weight)
        first = getattr(theirs, f"bias_ih_{suffix}")
        getattr(theirs, f"bias_hh_{suffix}").copy_(ours.input.bias - first)


def flat(state):
    return list(state) if isinstance(state, tuple) else [state]


@st.composite
def problems(draw, dtype=torch.float64):
    "A layer of ours, PyTorch's with the same weights, inputs and a state (or None); no reason for two sizes to be equal."
    torch.manual_seed(draw(st.integers(0, 2**31)))
    ours_kind, theirs_kind = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    batch, length, d_in, d_state = draw(size), draw(st.integers(1, 12)), draw(size), draw(size)
    ours, theirs = ours_kind(d_in, d_state).to(dtype), theirs_kind(d_in, d_state, batch_first=True).to(dtype)
    copy_into(theirs, ours)
    x = draw(st.sampled_from([0.1, 1.0, 5.0])) * torch.randn(batch, length, d_in, dtype=dtype)
    if not draw(st.booleans()):
        return ours, theirs, x, None
    parts = tuple(torch.randn(batch, d_state, dtype=dtype) for _ in range(1 + (ours_kind is LSTM)))
    return ours, theirs, x, parts if ours_kind is LSTM else parts[0]


def theirs_of(state):
    "PyTorch's states have an axis for layers in front."
    if state is None:
        return None
    return tuple(part[None] for part in state) if isinstance(state, tuple) else state[None]


@given(problems())
def test_layers_equal_pytorch_values_states_and_gradients(problem):
    ours, theirs, x, state = problem
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    states = [None if state is None else [p.clone().requires_grad_() for p in flat(state)] for _ in range(2)]
    given_state = [None if s is None else tuple(s) if len(s) == 2 else s[0] for s in states]
    out, last = ours(inputs[0], given_state[0])
    expected, expected_last = theirs(inputs[1], theirs_of(given_state[1]))
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    for a, b in zip(flat(last), flat(expected_last), strict=True):
        torch.testing.assert_close(a, b[0], rtol=1e-12, atol=1e-12)
    into, into_last = torch.randn_like(out), torch.randn_like(out[:, 0])
    scalar = lambda out, last: (out * into).sum() + sum((part * into_last).sum() for part in flat(last))
    for_ours = [inputs[0], ours.input.weight, ours.recurrent.weight, ours.input.bias, *(states[0] or [])]
    for_theirs = [inputs[1], theirs.weight_ih_l0, theirs.weight_hh_l0, theirs.bias_ih_l0, *(states[1] or [])]
    gradients = torch.autograd.grad(scalar(out, last), for_ours), torch.autograd.grad(scalar(expected, expected_last), for_theirs)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@given(problems(torch.float32))
def test_layers_equal_pytorch_in_float32(problem):
    ours, theirs, x, state = problem
    torch.testing.assert_close(ours(x, state)[0], theirs(x, theirs_of(state))[0], rtol=1e-5, atol=1e-5)


@given(problems(), st.data())
def test_a_carried_state_over_chunks_equals_one_run(problem, data):
    ours, _, x, state = problem
    whole, last = ours(x, state)
    chunks = []
    left = x
    while left.shape[1]:
        cut = data.draw(st.integers(1, left.shape[1]))
        outputs, state = ours(left[:, :cut], state)
        chunks.append(outputs)
        left = left[:, cut:]
    torch.testing.assert_close(torch.cat(chunks, 1), whole, rtol=1e-12, atol=1e-12)
    for a, b in zip(flat(state), flat(last), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@given(problems())
def test_sequences_of_a_batch_do_not_meet(problem):
    ours, _, x, _ = problem
    whole = ours(x)[0]
    for n in range(len(x)):
        torch.testing.assert_close(ours(x[n:n + 1])[0], whole[n:n + 1], rtol=1e-12, atol=1e-12)


def test_a_step_is_one_time_of_the_loop_and_leaves_its_arguments_alone():
    for kind in (RNN, LSTM):
        torch.manual_seed(0)
        layer, x = kind(3, 5).double(), torch.randn(2, 1, 3, **double)
        state = torch.randn(2, 5, **double) if kind is RNN else (torch.randn(2, 5, **double), torch.randn(2, 5, **double))
        kept = [part.clone() for part in flat(state)]
        output, after = layer.step(x[:, 0], state)
        outputs, last = layer(x, state)
        assert torch.equal(outputs[:, 0], output)
        assert all(torch.equal(a, b) for a, b in zip(flat(after), flat(last), strict=True))
        assert all(torch.equal(a, b) for a, b in zip(kept, flat(state), strict=True))


def test_scan_hands_each_step_its_input_and_the_state_before_it():
    x = torch.arange(6.0).reshape(1, 3, 2)
    outputs, state = scan(lambda x_t, state: (x_t + state, state + 1), x, torch.tensor([[10.0]]))
    assert outputs.tolist() == [[[10, 11], [13, 14], [16, 17]]] and state.item() == 13


def test_gates_at_their_ends_keep_or_erase_the_cell():
    layer = LSTM(2, 3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    cell = torch.randn(4, 3)
    start = (torch.zeros(4, 3), cell)
    for bias, expected in (([-50.0, 50, 0, 0], cell), ([-50.0, -50, 0, 0], torch.zeros(4, 3)), ([50.0, -50, 50, 0], torch.ones(4, 3))):
        with torch.no_grad():
            layer.input.bias.copy_(torch.tensor(bias).repeat_interleave(3))
        _, (_, after) = layer(torch.randn(4, 9, 2), start)
        torch.testing.assert_close(after, expected, rtol=0, atol=1e-12)
    with torch.no_grad():
        layer.input.bias.copy_(torch.tensor([-50.0, 50, 0, -50]).repeat_interleave(3))
    hidden, _ = layer(torch.randn(4, 9, 2), start)
    assert hidden.abs().max() < 1e-12                                   # a closed output gate shows nothing


# how far back a model listens

def linear_network(A):
    return lambda x: scan(lambda x_t, state: ((x_t + state @ A.T),) * 2, x, torch.zeros(len(x), len(A), dtype=x.dtype))


@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**31))
def test_reach_of_a_linear_network_is_the_power_of_its_matrix(width, length, batch, seed):
    torch.manual_seed(seed)
    A, x = torch.randn(width, width, **double), torch.randn(batch, length, width, **double)
    reach = gradient_reach(linear_network(A), x, generator=torch.Generator().manual_seed(seed))
    u = torch.randn(batch, width, generator=torch.Generator().manual_seed(seed), **double)
    u = u / u.norm(dim=-1, keepdim=True)
    expected = [(u @ torch.linalg.matrix_power(A, n)).norm(dim=-1).log().mean().exp() for n in range(length)]
    torch.testing.assert_close(reach, torch.stack(expected), rtol=1e-9, atol=1e-12)


def test_reach_of_a_random_rnn_is_what_finite_differences_find():
    torch.manual_seed(0)
    layer, x = RNN(3, 4).double(), torch.randn(1, 6, 3, **double)
    reach = gradient_reach(layer, x, generator=torch.Generator().manual_seed(1))
    u = F.normalize(torch.randn(1, 4, generator=torch.Generator().manual_seed(1), **double), dim=-1)
    last = lambda x: (layer(x)[0][:, -1] * u).sum().item()
    for n in range(6):
        slopes = []
        for i in range(3):
            up, down = x.clone(), x.clone()
            up[0, 5 - n, i] += 1e-6
            down[0, 5 - n, i] -= 1e-6
            slopes.append((last(up) - last(down)) / 2e-6)
        assert abs(math.hypot(*slopes) - reach[n].item()) < 1e-8


def test_reach_takes_a_function_of_tensors_or_of_pairs_and_changes_nothing():
    x = torch.randn(3, 5, 4)
    kept = x.clone()
    alone, pair = gradient_reach(lambda x: 2 * x, x), gradient_reach(lambda x: (2 * x, None), x)
    for reach in (alone, pair):
        torch.testing.assert_close(reach, torch.tensor([2.0, 0, 0, 0, 0]))
    assert torch.equal(x, kept) and not x.requires_grad and x.grad is None


def test_reach_is_a_geometric_mean_over_the_batch():
    sizes = torch.tensor([1e-6, 1.0])[:, None, None]
    assert abs(gradient_reach(lambda x: sizes * x, torch.randn(2, 3, 4))[0].item() - 1e-3) < 1e-6


# encoder

@given(st.integers(1, 5), st.integers(1, 8), st.data())
def test_reversing_twice_is_the_identity_and_padding_stays(batch, length, data):
    lengths = torch.tensor([data.draw(st.integers(1, length)) for _ in range(batch)])
    x = torch.randn(batch, length, 3)
    backwards = reverse_padded(x, lengths)
    assert torch.equal(reverse_padded(backwards, lengths), x)
    for n, real in enumerate(lengths.tolist()):
        assert torch.equal(backwards[n, :real], x[n, :real].flip(0)) and torch.equal(backwards[n, real:], x[n, real:])
    assert torch.equal(reverse_padded(x), x.flip(1)) and torch.equal(reverse_padded(x[..., 0]), x[..., 0].flip(1))


@given(st.sampled_from(sorted(KINDS)), st.integers(1, 5), st.integers(1, 8), st.integers(1, 4), st.data())
def test_encoder_equals_pytorchs_two_directions_on_packed_sequences(kind, batch, length, half, data):
    torch.manual_seed(data.draw(st.integers(0, 2**31)))
    ours_kind, theirs_kind = KINDS[kind]
    lengths = torch.tensor([data.draw(st.integers(1, length)) for _ in range(batch)])
    ours = RecurrentEncoder(11, 2 * half, ours_kind).double()
    theirs = theirs_kind(2 * half, half, batch_first=True, bidirectional=True).double()
    copy_into(theirs, ours.left_to_right)
    copy_into(theirs, ours.right_to_left, "l0_reverse")
    tokens = torch.randint(0, 11, (batch, length))
    packed = pack_padded_sequence(ours.token_embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
    expected = pad_packed_sequence(theirs(packed)[0], batch_first=True, total_length=length)[0]
    memory = ours(tokens, lengths)
    real = torch.arange(length) < lengths[:, None]
    torch.testing.assert_close(memory[real], expected[real], rtol=1e-12, atol=1e-12)
    last = lengths - 1
    rows = torch.arange(batch)
    expected_ends = torch.cat([expected[rows, last, :half], expected[:, 0, half:]], -1)
    torch.testing.assert_close(final_states(memory, lengths), expected_ends, rtol=1e-12, atol=1e-12)
    if (lengths == length).all():
        torch.testing.assert_close(ours(tokens), memory, rtol=0, atol=0)
        torch.testing.assert_close(final_states(memory), expected_ends, rtol=1e-12, atol=1e-12)


# what the decoder reads

@given(size, size, size, size, size, st.data())
def test_additive_attention_is_its_formula(batch, d_state, tokens, d_memory, d_hidden, data):
    torch.manual_seed(data.draw(st.integers(0, 2**31)))
    lengths = torch.tensor([data.draw(st.integers(1, tokens)) for _ in range(batch)])
    attend = AdditiveAttention(d_state, d_memory, d_hidden).double()
    state, memory = torch.randn(batch, d_state, **double), torch.randn(batch, tokens, d_memory, **double)
    context, weights = attend(state, memory, lengths)
    for n, real in enumerate(lengths.tolist()):
        e = [attend.score.weight[0] @ torch.tanh(attend.query.weight @ state[n] + attend.key.weight @ h) for h in memory[n, :real]]
        raised = torch.stack(e).exp()
        expected = raised / raised.sum()
        torch.testing.assert_close(weights[n, :real], expected, rtol=1e-10, atol=1e-12)
        assert (weights[n, real:] == 0).all()
        torch.testing.assert_close(context[n], expected @ memory[n, :real], rtol=1e-10, atol=1e-12)
    if (lengths == tokens).all():
        for a, b in zip(attend(state, memory), (context, weights), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert sum(p.numel() for p in attend.parameters()) == d_hidden * (d_state + d_memory + 1)


def test_fixed_context_is_the_same_for_every_state_and_says_where_it_was_read():
    memory, lengths = torch.randn(2, 5, 6), torch.tensor([3, 1])
    context, weights = fixed_context(torch.randn(2, 4), memory, lengths)
    assert torch.equal(context, fixed_context(torch.randn(2, 4), memory, lengths)[0])
    assert torch.equal(context, final_states(memory, lengths))
    assert weights.tolist() == [[0.5, 0, 0.5, 0, 0], [1, 0, 0, 0, 0]]
    assert fixed_context(torch.randn(2, 4), memory)[1].tolist() == [[0.5, 0, 0, 0, 0.5]] * 2


# decoding

def test_decoder_step_is_an_lstm_cell_on_token_and_context():
    torch.manual_seed(0)
    decoder, cell = DecoderStep(9, 4).double(), nn.LSTMCell(8, 4).double()
    with torch.no_grad():
        cell.weight_ih.copy_(decoder.layer.input.weight)
        cell.weight_hh.copy_(decoder.layer.recurrent.weight)
        cell.bias_hh.copy_(decoder.layer.input.bias - cell.bias_ih)
    token, context = torch.tensor([2, 8, 0]), torch.randn(3, 4, **double)
    state = (torch.randn(3, 4, **double), torch.randn(3, 4, **double))
    logits, (hidden, inner) = decoder(token, context, state)
    x = decoder.token_embedding.weight[token]
    expected, expected_inner = cell(torch.cat([x, context], -1), state)
    torch.testing.assert_close(hidden, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(inner, expected_inner, rtol=1e-12, atol=1e-12)
    expected_logits = F.linear(torch.cat([expected, x, context], -1), decoder.lm_head.weight, decoder.lm_head.bias)
    torch.testing.assert_close(logits, expected_logits, rtol=1e-12, atol=1e-12)


def decoder_attention(name, d=6):
    return {"fixed": fixed_context, "attention": AdditiveAttention(d, d, d + 1)}[name]


@pytest.mark.parametrize("name", ["fixed", "attention"])
def test_encoder_decoder_is_its_parts_in_order(name):
    torch.manual_seed(0)
    model = RecurrentEncoderDecoder(9, 7, 6, decoder_attention(name)).double()
    source, target, lengths = torch.randint(0, 9, (3, 5)), torch.randint(0, 7, (3, 4)), torch.tensor([5, 2, 4])
    logits, weights = model.decode(source, target, lengths)
    assert torch.equal(model(source, target, lengths), logits)
    memory = model.encoder(source, lengths)
    hidden = torch.tanh(F.linear(final_states(memory, lengths), model.initial_state.weight, model.initial_state.bias))
    state = (hidden, torch.zeros_like(hidden))
    for t in range(4):
        context, read = model.attention(state[0], memory, lengths)           # before the token at t is taken in
        one, state = model.decoder(target[:, t], context, state)
        torch.testing.assert_close(logits[:, t], one, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(weights[:, t], read, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["fixed", "attention"])
def test_encoder_decoder_ignores_padding_and_the_future(name):
    torch.manual_seed(0)
    model = RecurrentEncoderDecoder(9, 7, 6, decoder_attention(name)).double()
    source, target = torch.randint(0, 9, (3, 5)), torch.randint(0, 7, (3, 4))
    plain = model(source, target)
    padded = torch.cat([source, torch.randint(0, 9, (3, 4))], 1)
    torch.testing.assert_close(model(padded, target, torch.tensor([5, 5, 5])), plain, rtol=1e-10, atol=1e-12)
    for t in range(3):
        changed = target.clone()
        changed[:, t + 1:] = (changed[:, t + 1:] + 1) % 7
        assert torch.equal(model(source, changed)[:, :t + 1], plain[:, :t + 1])
        assert not torch.equal(model(source, changed)[:, t + 1], plain[:, t + 1])
    gradients = torch.autograd.grad(plain.square().sum(), list(model.parameters()))
    assert all(g.abs().sum() > 0 for g in gradients)


def test_only_attention_reads_a_word_in_the_middle_directly():
    torch.manual_seed(0)
    state, memory = torch.randn(1, 6), torch.randn(1, 5, 6)
    other = memory.clone()
    other[0, 2] = torch.randn(6)
    for name, moves in (("fixed", False), ("attention", True)):
        attention = decoder_attention(name)
        assert torch.equal(attention(state, memory)[0], attention(state, other)[0]) != moves


# a language model

def language_model(*layers, **fields) -> LanguageModel:
    sizes = {"vocab_size": 11, "max_len": 9, "d_model": 8, "n_layers": len(layers)} | fields
    return LanguageModel(Config(**sizes), [RecurrentLayer(layer) for layer in layers])


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_language_model_is_embedding_layers_projection(kind):
    torch.manual_seed(0)
    ours_kind, theirs_kind = KINDS[kind]
    model = language_model(ours_kind(8, 8), ours_kind(8, 8)).double()
    theirs = [theirs_kind(8, 8, batch_first=True).double() for _ in range(2)]
    for ours, one in zip(model.layers, theirs, strict=True):
        copy_into(one, ours.layer)
    tokens = torch.randint(0, 11, (3, 9))
    expected = theirs[1](theirs[0](model.token_embedding.weight[tokens])[0])[0] @ model.lm_head.weight.T
    torch.testing.assert_close(model(tokens), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layer", [RNN(8, 8), LSTM(8, 8), nn.LSTM(8, 8, batch_first=True), nn.GRU(8, 8, 2, batch_first=True)], ids=repr)
def test_language_model_goes_on_from_its_state_does_not_see_the_future_and_starts_near_ignorance(layer):
    torch.manual_seed(0)
    model, tokens = language_model(layer), torch.randint(0, 11, (2, 9))
    logits, state = [], None
    for chunk in tokens.split([2, 1, 6], 1):
        x, state = model.layers[0].forward_with_state(model.embed(chunk), state)
        logits.append(model.logits(x))
    torch.testing.assert_close(torch.cat(logits, 1), model(tokens))
    for t in range(8):
        changed = tokens.clone()
        changed[:, t + 1:] = torch.randint(0, 11, (2, 8 - t))
        torch.testing.assert_close(model(changed)[:, :t + 1], model(tokens)[:, :t + 1], rtol=0, atol=0)
    assert abs(next_token_loss(model, tokens).item() - math.log(11)) < 1


def test_an_encoder_is_made_of_lstms_unless_another_layer_is_named():
    assert isinstance(RecurrentEncoder(11, 8).left_to_right, LSTM) and isinstance(RecurrentEncoder(11, 8, RNN).right_to_left, RNN)


def x(*shape, dtype=torch.float32):
    return torch.zeros(*shape, dtype=dtype)


tokens = torch.zeros(2, 5, dtype=torch.long)


@pytest.mark.refusal
@pytest.mark.parametrize(("call", "names"), [
    (lambda: RNN(5, 7)(x(3, 4, 6)), ["(3, 4, 6)", "d_in=5"]),
    (lambda: LSTM(5, 7)(x(3, 4, 6)), ["(3, 4, 6)", "d_in=5"]),
    (lambda: RNN(5, 7)(x(4, 5)), ["(4, 5)", "d_in=5"]),
    (lambda: RNN(5, 7)(x(3, 0, 5)), ["(3, 0, 5)", "0 steps"]),
    (lambda: RNN(5, 7)(x(3, 4, 5), x(1, 7)), ["(1, 7)", "3 sequences"]),
    (lambda: RNN(5, 7)(x(3, 4, 5), x(3, 6)), ["(3, 6)", "d_state=7"]),
    (lambda: RNN(5, 7)(x(3, 4, 5), x(7)), ["(7,)", "d_state=7"]),
    (lambda: LSTM(5, 7)(x(3, 4, 5), (x(3, 7), x(1, 7))), ["(1, 7)", "3 sequences"]),
    (lambda: LSTM(5, 7)(x(3, 4, 5), (x(3, 6), x(3, 7))), ["(3, 6)", "d_state=7"]),
    (lambda: gradient_reach(lambda x: x, x(4, 5)), ["(4, 5)"]),
    (lambda: gradient_reach(lambda x: x, tokens[..., None]), ["int64", "(2, 5, 1)"]),
    (lambda: gradient_reach(lambda x: x[:, :3], x(2, 4, 5)), ["(2, 3, 5)", "(2, 4, 5)"]),
    (lambda: gradient_reach(lambda x: x[:, 0], x(2, 4, 5)), ["(2, 5)", "(2, 4, 5)"]),
    (lambda: reverse_padded(tokens, torch.tensor([5, 6])), ["[5, 6]", "5 tokens"]),
    (lambda: reverse_padded(tokens, torch.tensor([0, 5])), ["[0, 5]", "5 tokens"]),
    (lambda: reverse_padded(tokens, torch.tensor([5])), ["[5]", "2 sequences"]),
    (lambda: reverse_padded(tokens, torch.tensor([[2], [5]])), ["[[2], [5]]", "2 sequences"]),
    (lambda: final_states(x(2, 5, 4), torch.tensor([2.5, 5])), ["[2.5, 5.0]", "float32", "whole number"]),
    (lambda: RecurrentEncoder(9, 7), ["d_model=7", "divisible by 2"]),
    (lambda: RecurrentEncoder(9, 8, nn.LSTM), ["LSTM reads (time, batch, d)", "batch_first=True"]),
    (lambda: RecurrentLayer(nn.GRU(8, 8)), ["GRU reads (time, batch, d)", "batch_first=True"]),
    (lambda: RecurrentLayer(nn.GRU(8, 4, batch_first=True, bidirectional=True)), ["GRU reads backwards", "bidirectional=False"]),
    (lambda: language_model(LSTM(8, 8), positions="rope"), ["positions='rope' would be ignored"]),
    (lambda: language_model(LSTM(8, 8), n_heads=2), ["n_heads=2 would be ignored"]),
    (lambda: RecurrentEncoderDecoder(9, 7, 6, fixed_context)(tokens, tokens[:1]), ["2 sources", "1 targets"]),
    (lambda: final_states(x(2, 5, 4), torch.tensor([5, 6])), ["[5, 6]", "5 tokens"]),
    (lambda: fixed_context(x(2, 3), x(2, 5, 4), torch.tensor([5, 6])), ["[5, 6]", "5 tokens"]),
    (lambda: AdditiveAttention(3, 4, 5)(x(1, 3), x(2, 6, 4)), ["1 states", "2 texts"]),
    (lambda: AdditiveAttention(3, 4, 5)(x(2, 3), x(2, 6, 4), torch.tensor([7, 6])), ["[7, 6]", "6 tokens"]),
    (lambda: RecurrentEncoderDecoder(9, 7, 6, fixed_context)(tokens, tokens[:, :0]), ["(2, 0)", "0 tokens"]),
])
def test_bad_input_is_refused_and_both_sides_are_named(call, names):
    with pytest.raises(ValueError) as error:
        call()
    for name in names:
        assert name in str(error.value)
