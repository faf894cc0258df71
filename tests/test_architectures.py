"""The three architectures equal PyTorch's, connect tokens as they say, start as GPT-2 did, and refuse bad input."""
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from transformer_course.architectures import (
    GPT,
    NO_LABEL,
    Classifier,
    DecoderBlock,
    Encoder,
    EncoderDecoder,
    MaskedLM,
    VisionTransformer,
    mask_tokens,
    masked_loss,
    patches,
    pool,
    shift_right,
    translate,
)
from transformer_course.attention import attention, causal_mask
from transformer_course.block import Block, LayerNorm, final_norm
from transformer_course.config import PRESETS, Config
from transformer_course.positions import position_vectors
from transformer_course.prediction import LanguageModel, cross_entropy, fit, generate, next_token_loss

KINDS = {"decoder": GPT, "encoder": Encoder, "encoder-decoder": EncoderDecoder}
BOS, EOS, PAD = 0, 1, 2


def config(kind: str = "decoder", **rest) -> Config:
    return Config(**{"vocab_size": 11, "max_len": 9, "d_model": 12, "n_layers": 2, "n_heads": 3, "positions": "learned", "kind": kind} | rest)


def some(*shape) -> torch.Tensor:
    return torch.randint(11, shape)


def spread(model: nn.Module, std: float = 0.5) -> nn.Module:
    "Random parameters of a size at which every part matters; in evaluation mode."
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=std)
    return model.eval()


def real(*lengths: int, total: int) -> torch.Tensor:
    return torch.arange(total) < torch.tensor(lengths)[:, None]


def put_heads(heads, into) -> None:
    maps = (heads.query, heads.key, heads.value)
    for one, weight, bias in zip(maps, into.in_proj_weight.chunk(3), into.in_proj_bias.chunk(3)):
        one.load_state_dict({"weight": weight, "bias": bias})
    heads.output.load_state_dict(into.out_proj.state_dict())


def put(*pairs) -> None:
    for one, other in pairs:
        one.load_state_dict(other.state_dict())


def like(theirs: nn.Transformer, ours: EncoderDecoder) -> EncoderDecoder:
    "Our model with the parameters of PyTorch's."
    for a, b in zip(ours.encoder.layers, theirs.encoder.layers, strict=True):
        put_heads(a.attention.sublayer.heads, b.self_attn)
        put((a.feed_forward.sublayer.up, b.linear1), (a.feed_forward.sublayer.down, b.linear2), (a.attention.norm, b.norm1), (a.feed_forward.norm, b.norm2))
    for a, b in zip(ours.decoder, theirs.decoder.layers, strict=True):
        put_heads(a.attention.sublayer.heads, b.self_attn)
        put_heads(a.cross_attention.sublayer, b.multihead_attn)
        put((a.feed_forward.sublayer.up, b.linear1), (a.feed_forward.sublayer.down, b.linear2),
            (a.attention.norm, b.norm1), (a.cross_attention.norm, b.norm2), (a.feed_forward.norm, b.norm3))
    if ours.config.norm_first:
        put((ours.encoder.norm, theirs.encoder.norm), (ours.norm, theirs.decoder.norm))
    return ours


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder_decoder_equals_pytorch_values_and_gradients(norm_first, activation, padded):
    torch.manual_seed(0)
    settings = config("encoder-decoder", norm_first=norm_first, activation=activation, d_ff=20, positions="sinusoidal", dropout=0.1)
    theirs = spread(nn.Transformer(12, 3, 2, 2, 20, activation=activation, norm_first=norm_first, batch_first=True))
    if not norm_first:                                               # PyTorch puts a last norm after post-norm layers as well
        theirs.encoder.norm = theirs.decoder.norm = None
    ours = like(theirs, EncoderDecoder(settings).eval())
    nn.init.normal_(ours.lm_head.weight)
    source, target = some(3, 6), some(3, 4)
    mask = real(6, 4, 1, total=6) if padded else None
    hidden = None if mask is None else ~mask
    made = theirs(ours.encoder.embed(source), ours.encoder.embed(target), tgt_mask=~causal_mask(4),
                  src_key_padding_mask=hidden, memory_key_padding_mask=hidden)
    logits, expected = ours(source, target, mask), ours.lm_head(made)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    into = torch.randn_like(logits)
    found = torch.autograd.grad(logits, [ours.decoder[0].cross_attention.sublayer.value.weight, ours.encoder.layers[0].feed_forward.sublayer.up.weight], into)
    wanted = torch.autograd.grad(expected, [theirs.decoder.layers[0].multihead_attn.in_proj_weight, theirs.encoder.layers[0].linear1.weight], into)
    torch.testing.assert_close(found[0], wanted[0].chunk(3)[2], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[1], wanted[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rest", [{}, {"positions": "rope", "norm": "rms", "activation": "swiglu", "bias": False, "n_kv_heads": 1, "d_ff": 20}, {"tie_embeddings": True}])
def test_gpt_is_the_language_model_of_chapter_6(rest):
    settings = config(**rest)
    gpt = spread(GPT(settings))
    blocks = LanguageModel(settings, [Block(settings), Block(settings)], positions=position_vectors(settings), norm=final_norm(settings)).eval()
    blocks.load_state_dict(gpt.state_dict())
    tokens = some(2, 9)
    assert torch.equal(gpt(tokens), blocks(tokens)) and gpt(tokens).shape == (2, 9, 11)
    grown = generate(gpt, tokens[:, :4], 5, temperature=0)
    assert grown.shape == (2, 9) and torch.equal(grown[:, :4], tokens[:, :4])


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"mistral-7b"}))
def test_presets_build_models_of_their_published_size(name):
    counts = {"gpt2": 124_439_808, "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080, "gpt2-xl": 1_557_611_200, "bert-base": 108_891_648,
              "llama-7b": 6_738_415_616, "llama-2-70b": 68_976_648_192, "llama-3-8b": 8_030_261_248, "llama-3-70b": 70_553_706_496,
              "mixtral-8x7b": 46_702_792_704}
    with torch.device("meta"):
        model = KINDS[PRESETS[name].kind](PRESETS[name])
    count = sum(p.numel() for p in model.parameters())
    assert count == counts.get(name, count)


# who reads whom

def moved(read, changed, *given) -> set[int]:
    "The positions of the result that changed."
    before, after = read(*given), read(*changed)
    return {t for t in range(before.shape[1]) if not torch.allclose(before[:, t], after[:, t], rtol=0, atol=1e-6)}


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rope", "none"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_each_kind_connects_its_tokens_as_it_says(norm_first, positions):
    torch.manual_seed(0)
    tokens = some(2, 7)
    for at in (0, 3, 6):
        other = tokens.clone()
        other[:, at] = (other[:, at] + 1) % 11
        for kind, reads in (("decoder", range(at, 7)), ("encoder", range(7))):
            model = spread(KINDS[kind](config(kind, norm_first=norm_first, positions=positions)), 0.3)
            assert moved(model, (other,), tokens) == set(reads)
        model = spread(EncoderDecoder(config("encoder-decoder", norm_first=norm_first, positions=positions)), 0.3)
        assert moved(model, (other, tokens), tokens, tokens) == set(range(7))
        assert moved(model, (tokens, other), tokens, tokens) == set(range(at, 7))


@pytest.mark.parametrize("norm_first", [False, True])
def test_no_pad_is_read(norm_first):
    torch.manual_seed(0)
    mask, tokens = real(7, 3, 1, total=7), some(3, 7)
    junk = torch.where(mask, tokens, (tokens + 1 + some(3, 7) % 9) % 11)
    encoder = spread(Encoder(config("encoder", norm_first=norm_first)))
    for row, length in enumerate((7, 3, 1)):
        alone = encoder(tokens[row: row + 1, :length])[0]
        torch.testing.assert_close(encoder(tokens, mask)[row, :length], alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(encoder(junk, mask)[row, :length], alone, rtol=1e-4, atol=1e-5)
    for pooling in ("first", "mean"):
        classifier = spread(Classifier(encoder, 4, pooling))
        torch.testing.assert_close(classifier(tokens, mask), classifier(junk, mask))
        torch.testing.assert_close(classifier(tokens, mask)[2:], classifier(tokens[2:, :1]))
    model = spread(EncoderDecoder(config("encoder-decoder", norm_first=norm_first)))
    torch.testing.assert_close(model(tokens, some(3, 4) * 0, mask), model(junk, some(3, 4) * 0, mask))
    empty = torch.zeros(3, 7, dtype=torch.bool)
    assert torch.isfinite(encoder(tokens, empty)).all() and torch.isfinite(model(tokens, tokens, empty)).all()
    assert torch.equal(pool(encoder(tokens), empty), torch.zeros(3, 12))


def test_the_order_of_the_memory_is_in_its_vectors():
    model = spread(EncoderDecoder(config("encoder-decoder", positions="rope")))
    source, target, order = some(2, 6), some(2, 4), torch.randperm(6)
    memory = model.encode(source)
    torch.testing.assert_close(model.decode(target, memory), model.decode(target, memory[:, order]), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(model(source, target), model(source.flip(1), target))


# the parts

def test_bert_embeddings():
    torch.manual_seed(0)
    settings = config("encoder", norm_first=False, n_segments=2, norm_eps=1e-3)
    encoder, tokens = spread(Encoder(settings)), some(2, 7)
    at, segments = torch.arange(7), torch.arange(7).expand(2, 7) // 4
    added = encoder.token_embedding.weight[tokens] + encoder.position_embedding.table.weight[at]
    for which, given in ((segments, segments), (torch.zeros_like(tokens), None)):
        expected = encoder.embedding_norm(added + encoder.segment_embedding.weight[which])
        torch.testing.assert_close(encoder.embed(tokens, given), expected)
    assert encoder.embedding_norm.eps == encoder.layers[0].attention.norm.eps == 1e-3
    assert type(encoder.norm) is nn.Identity
    assert type(EncoderDecoder(config("encoder-decoder", norm_first=False)).encoder.embedding_norm) is nn.Identity
    pre = Encoder(config("encoder"))
    assert type(pre.embedding_norm) is nn.Identity and type(pre.norm) is LayerNorm and pre.segment_embedding is None


def test_sinusoids_meet_embeddings_of_their_size():
    encoder, tokens = Encoder(config("encoder", positions="sinusoidal", d_model=48, n_heads=4)), some(1, 5)
    torch.testing.assert_close(encoder.embed(tokens) - encoder.position_embedding(torch.arange(5)), encoder.token_embedding(tokens) * 48**0.5)


def test_attention_function_is_used_everywhere():
    calls = []

    def counted(q, k, v, mask=None):
        calls.append((q.shape[2], k.shape[2]))
        return attention(q, k, v, mask)

    tokens, mask = some(2, 5), real(5, 3, total=5)
    for kind, given, expected in (("decoder", (tokens,), [(5, 5)] * 2), ("encoder", (tokens, mask), [(5, 5)] * 2),
                                  ("encoder-decoder", (tokens, tokens[:, :4], mask), [(5, 5)] * 2 + [(4, 4), (4, 5)] * 2)):
        calls.clear()
        ours = spread(KINDS[kind](config(kind), attention_fn=counted))
        fused = KINDS[kind](config(kind), attention_fn=F.scaled_dot_product_attention).eval()
        fused.load_state_dict(ours.state_dict())
        torch.testing.assert_close(ours(*given), fused(*given), rtol=1e-4, atol=1e-4)
        assert calls == expected
    calls.clear()
    VisionTransformer(config("encoder"), 6, 2, 4, attention_fn=counted)(torch.rand(2, 1, 6, 6))
    assert calls == [(9, 9)] * 2


def test_dropout_works_in_training_alone():
    tokens = some(2, 5)
    for kind in KINDS:
        model = KINDS[kind](config(kind, dropout=0.5))
        given = (tokens, tokens) if kind == "encoder-decoder" else (tokens,)
        assert not torch.equal(model(*given), model(*given))
        assert torch.equal(model.eval()(*given), model(*given))
    for model in (GPT(config(dropout=0.5)), Encoder(config("encoder", dropout=0.5)), Encoder(config("encoder", dropout=0.5, norm_first=False))):
        assert 0.3 < (model.embed(some(9, 9)) == 0).float().mean() < 0.7
    for model, given in ((Classifier(Encoder(config("encoder", dropout=0.5)), 4), tokens), (VisionTransformer(config("encoder", dropout=0.5), 6, 2, 4), torch.rand(2, 1, 6, 6))):
        layers = model.encoder if isinstance(model, Classifier) else model.layers
        layers.eval()                                                # the model's own dropout is left
        assert not torch.equal(model(given), model(given))


def test_pooling():
    x = torch.arange(24.0).view(2, 3, 4)
    assert torch.equal(pool(x, pooling="first"), x[:, 0]) and torch.equal(pool(x), x.mean(1))
    assert torch.equal(pool(x, real(2, 3, total=3)), torch.stack([x[0, :2].mean(0), x[1].mean(0)]))


def test_shift_right():
    assert shift_right(torch.tensor([[5, 6, 7], [8, 9, EOS]]), BOS).tolist() == [[BOS, 5, 6], [BOS, 8, 9]]


# initialisation and tying

@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm_first", [False, True])
def test_parameters_start_as_those_of_gpt_2(kind, norm_first):
    torch.manual_seed(0)
    settings = config(kind, d_model=96, n_layers=8, norm_first=norm_first, n_segments=2 if kind == "encoder" else 0)
    for name, parameter in KINDS[kind](settings).named_parameters():
        if "norm" in name:
            assert (parameter == (1 if name.endswith("weight") else 0)).all(), name
        elif name.endswith("bias"):
            assert (parameter == 0).all(), name
        else:
            writes = name.endswith(("output.weight", "down.weight"))
            std = 0.02 / (math.sqrt(16) if writes and norm_first else 1)
            assert abs(parameter.std() - std) < std * 5 / math.sqrt(2 * parameter.numel()), name
            assert abs(parameter.mean()) < std * 5 / math.sqrt(parameter.numel()), name


@pytest.mark.parametrize("tied", [False, True])
def test_weights_are_tied_where_the_config_says_so(tied):
    for kind, build in (("decoder", GPT), ("encoder", lambda c: MaskedLM(Encoder(c))), ("encoder-decoder", EncoderDecoder)):
        model = build(config(kind, tie_embeddings=tied))
        table = model.token_embedding if kind == "decoder" else model.encoder.token_embedding
        assert (model.lm_head.weight is table.weight) is tied
        spread(model, 1)
        given = (some(2, 5), some(2, 5)) if kind == "encoder-decoder" else (some(2, 5),)
        model(*given).sum().backward()
        assert table.weight.grad.abs().sum() > 0
        assert len(list(model.parameters())) == len({id(p) for p in model.parameters()})
        clone = build(config(kind, tie_embeddings=tied)).eval()
        clone.load_state_dict(model.state_dict())
        assert torch.equal(clone(*given), model(*given))


def test_every_parameter_gets_a_gradient_and_the_first_loss_is_that_of_a_uniform_guess():
    torch.manual_seed(0)
    tokens, mask = some(4, 6), real(6, 6, 4, 2, total=6)
    labels = tokens.masked_fill(~mask, NO_LABEL)
    cases = [
        (GPT(config()), next_token_loss, tokens, 11),
        (MaskedLM(Encoder(config("encoder"))), masked_loss, (tokens, mask, labels), 11),
        (MaskedLM(Encoder(config("encoder", norm_first=False, tie_embeddings=True, n_segments=2))), masked_loss, (tokens, None, labels), 11),
        (Classifier(Encoder(config("encoder")), 7, "first"), masked_loss, (tokens, mask, torch.tensor([0, 3, 6, 1])), 7),
        (EncoderDecoder(config("encoder-decoder")), masked_loss, (tokens, shift_right(tokens, BOS), mask, labels), 11),
        (VisionTransformer(config("encoder"), 6, 2, 5), masked_loss, (torch.rand(4, 1, 6, 6), torch.tensor([0, 1, 4, 4])), 5),
    ]
    for model, loss, batch, n in cases:
        value = loss(model, batch)
        assert abs(value.item() - math.log(n)) < 0.15
        value.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


# losses and training

def test_masked_loss_counts_the_labels_alone():
    model = spread(MaskedLM(Encoder(config("encoder"))))
    tokens, labels = some(2, 6), torch.full((2, 6), NO_LABEL)
    labels[0, 1], labels[1, 4] = 3, 7
    expected = cross_entropy(model(tokens)[[0, 1], [1, 4]], torch.tensor([3, 7]))
    torch.testing.assert_close(masked_loss(model, (tokens, None, labels)), expected)


def test_tokens_are_masked_as_bert_masked_them():
    vocab_size, mask_token, special = 1000, 4, (0, 1, 4)
    tokens = torch.randint(vocab_size, (500, 400), generator=torch.Generator().manual_seed(1))
    before = tokens.clone()
    inputs, labels = mask_tokens(tokens, mask_token, vocab_size, special=special, generator=torch.Generator().manual_seed(0))
    assert torch.equal(tokens, before) and inputs.shape == labels.shape == tokens.shape
    chosen, plain = labels != NO_LABEL, ~torch.isin(tokens, torch.tensor(special))
    assert not (chosen & ~plain).any() and abs(chosen.sum() / plain.sum() - 0.15) < 0.003
    assert torch.equal(labels[chosen], tokens[chosen]) and torch.equal(inputs[~chosen], tokens[~chosen])
    masked, kept = (inputs == mask_token)[chosen].float().mean(), (inputs == tokens)[chosen].float().mean()
    assert abs(masked - 0.8) < 0.01 and abs(kept - 0.1) < 0.01
    drawn = inputs[chosen & (inputs != mask_token) & (inputs != tokens)]
    assert len(drawn.unique()) > 0.9 * vocab_size
    again = mask_tokens(tokens, mask_token, vocab_size, special=special, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again[0], inputs) and torch.equal(again[1], labels)
    everything = mask_tokens(tokens, mask_token, vocab_size, share=1.0)[1]
    assert torch.equal(everything, tokens) and (mask_tokens(tokens, mask_token, vocab_size, share=0.0)[1] == NO_LABEL).all()


def reversed_pairs(size: int, lengths: tuple[int, int] = (2, 5), seed: int = 0):
    "Sources of unequal length, and their letters from the last to the first; letters are 3 to 10."
    generator = torch.Generator().manual_seed(seed)
    while True:
        length = torch.randint(lengths[0], lengths[1] + 1, (size, 1), generator=generator)
        at = torch.arange(lengths[1] + 1)
        letters = torch.randint(3, 11, (size, lengths[1] + 1), generator=generator)
        mask = at < length
        source = letters.masked_fill(~mask, PAD)
        target = source.gather(1, (length - 1 - at).clamp(min=0)).masked_fill(~mask, PAD).scatter(1, length, EOS)
        labels = target.masked_fill(at > length, NO_LABEL)
        yield source, shift_right(target, BOS), mask, labels


@pytest.mark.trained
@pytest.mark.parametrize(("rate", "rest"), [
    (1e-2, {"d_model": 24}), (5e-3, {"d_model": 32, "n_heads": 4, "positions": "sinusoidal", "norm_first": False, "activation": "relu", "tie_embeddings": True}),
])
def test_an_encoder_decoder_learns_to_reverse_and_stops(rate, rest):
    torch.manual_seed(0)
    model = EncoderDecoder(config("encoder-decoder", n_layers=1, **rest))
    losses = fit(model, reversed_pairs(64), steps=500, learning_rate=rate, loss=masked_loss, progress=False)
    assert losses[-1] < 0.3
    source, _, mask, labels = next(reversed_pairs(100, seed=1))
    written = translate(model, source, BOS, EOS, 6, source_mask=mask)
    right = [row[: (label != NO_LABEL).sum()].tolist() == label[label != NO_LABEL].tolist() for row, label in zip(written, labels)]
    assert sum(right) > 80
    assert model.training                                            # as it was


def test_translate_takes_the_likeliest_token_and_reads_the_source_once():
    torch.manual_seed(0)
    model = spread(EncoderDecoder(config("encoder-decoder")))
    source, mask, encoded = some(5, 7), real(7, 5, 3, 2, 1, total=7), []
    model.encoder.register_forward_hook(lambda *_: encoded.append(1))
    written = translate(model, source, BOS, EOS, 9, source_mask=mask)
    assert len(encoded) == 1
    for row in range(5):
        alone = [BOS]
        while len(alone) <= 9 and alone[-1] != EOS:
            logits = model(source[row: row + 1, :mask[row].sum()], torch.tensor([alone]))
            alone.append(logits[0, -1].argmax().item())
        length = len(alone) - 1
        assert written[row, :length].tolist() == alone[1:] and (written[row, length:] == EOS).all()


def test_translate_reads_in_evaluation_mode_and_leaves_the_model_as_it_was():
    model, source = EncoderDecoder(config("encoder-decoder", dropout=0.5)), some(4, 7)
    nn.init.normal_(model.lm_head.weight)
    model.encoder.eval()
    written = translate(model, source, BOS, EOS, 9)
    assert all(torch.equal(translate(model, source, BOS, EOS, 9), written) for _ in range(3))
    assert model.training and model.decoder.training and not model.encoder.training


def test_a_row_that_has_ended_writes_eos_whatever_the_model_says():
    class Scripted(EncoderDecoder):
        "Writes the columns of a script."
        script = torch.tensor([[EOS, 5, 6, 7], [4, 5, EOS, 8], [4, 5, 6, 7]])

        def encode(self, source, source_mask=None):
            return torch.zeros(*source.shape, 12)

        def decode(self, target, memory, source_mask=None):
            return F.one_hot(self.script[: len(target), : target.shape[1]], 11).float()

    model = Scripted(config("encoder-decoder"))
    written = translate(model, some(3, 5), BOS, EOS, 4)
    assert written.tolist() == [[EOS] * 4, [4, 5, EOS, EOS], [4, 5, 6, 7]]
    assert translate(model, some(2, 5), BOS, EOS, 4).tolist() == [[EOS] * 3, [4, 5, EOS]]
    assert translate(model, some(1, 5), BOS, EOS, 4).tolist() == [[EOS]]


def test_patches_are_squares_row_by_row():
    images = torch.arange(2 * 2 * 4 * 6).view(2, 2, 4, 6).float()
    cut = patches(images, 2)
    assert cut.shape == (2, 6, 8)
    assert torch.equal(cut[1, 4], images[1, :, 2:4, 2:4].flatten())
    conv = nn.Conv2d(2, 5, 2, stride=2)
    torch.testing.assert_close(conv(images).flatten(2).mT, F.linear(cut, conv.weight.flatten(1), conv.bias), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("positions", ["learned", "none"])
def test_a_vision_transformer_needs_positions_to_know_where_a_patch_is(positions):
    torch.manual_seed(0)
    model = spread(VisionTransformer(config("encoder", positions=positions), 6, 2, 5), 0.3)
    images = torch.rand(2, 1, 6, 6)
    swapped = torch.cat([images[:, :, 2:4], images[:, :, :2], images[:, :, 4:]], dim=2)
    assert torch.allclose(model(images), model(swapped), atol=1e-5) is (positions == "none")
    assert model(images).shape == (2, 5)


@pytest.mark.refusal
@pytest.mark.parametrize(("call", "names"), [
    (lambda: GPT(config("encoder")), ["GPT", "'decoder'", "'encoder'"]),
    (lambda: Encoder(config()), ["Encoder", "'encoder-decoder'", "kind='decoder'"]),
    (lambda: EncoderDecoder(config("encoder")), ["'encoder-decoder'", "kind='encoder'"]),
    (lambda: VisionTransformer(config(), 6, 2, 4), ["VisionTransformer", "kind='decoder'"]),
    (lambda: Encoder(config("encoder", positions="alibi")), ["alibi", "kind='encoder'"]),
    (lambda: EncoderDecoder(config("encoder-decoder", positions="alibi")), ["alibi", "kind='encoder-decoder'"]),
    (lambda: GPT(PRESETS["mistral-7b"].replace(n_layers=1, d_model=64, vocab_size=9)), ["window=4096 would be ignored"]),
    (lambda: Encoder(config("encoder", window=4)), ["window=4 would be ignored"]),
    (lambda: VisionTransformer(config("encoder", n_segments=2), 6, 2, 4), ["n_segments=2 would be ignored"]),
    (lambda: EncoderDecoder(config("encoder-decoder", n_segments=2)), ["n_segments=2 would be ignored"]),
    (lambda: GPT(config(n_segments=2)), ["n_segments=2 would be ignored"]),
    (lambda: Encoder(config("encoder", rope_base=5.0)), ["rope_base=5.0 would be ignored"]),
    (lambda: GPT(config())(some(2, 10)), ["10 tokens", "max_len=9"]),
    (lambda: Encoder(config("encoder"))(some(2, 10)), ["10 tokens", "max_len=9"]),
    (lambda: Encoder(config("encoder"))(some(7)), ["(7,)"]),
    (lambda: Encoder(config("encoder"))(some(2, 5), torch.ones(2, 5)), ["boolean", "float32", "(2, 5)"]),
    (lambda: Encoder(config("encoder"))(some(2, 5), torch.ones(2, 4).bool()), ["(2, 5)", "(2, 4)"]),
    (lambda: Encoder(config("encoder"))(some(2, 5), segments=some(2, 5)), ["segments", "n_segments=0"]),
    (lambda: Encoder(config("encoder", n_segments=2))(some(2, 5), segments=torch.zeros(2, 4).long()), ["(2, 4)", "(2, 5)"]),
    (lambda: EncoderDecoder(config("encoder-decoder"))(some(2, 5), some(3, 4)), ["2 sources", "3 targets"]),
    (lambda: EncoderDecoder(config("encoder-decoder"))(some(2, 5), some(2, 4), torch.ones(2, 4).bool()), ["(2, 5)", "(2, 4)"]),
    (lambda: EncoderDecoder(config("encoder-decoder")).decode(some(2, 4), torch.zeros(2, 5, 12), torch.ones(2, 4).bool()), ["source mask", "(2, 5)", "(2, 4)"]),
    (lambda: translate(EncoderDecoder(config("encoder-decoder")), some(2, 5), BOS, EOS, 10), ["max_new_tokens=10", "max_len=9"]),
    (lambda: translate(EncoderDecoder(config("encoder-decoder")), some(2, 5), BOS, EOS, 0), ["max_new_tokens=0", "1"]),
    (lambda: pool(torch.zeros(2, 3, 4), pooling="last"), ["'last'", "'first'"]),
    (lambda: pool(torch.zeros(2, 3, 4), torch.ones(2, 4).bool()), ["(2, 3)", "(2, 4)"]),
    (lambda: mask_tokens(some(2, 5), 11, 11), ["mask_token=11", "vocab_size=11"]),
    (lambda: mask_tokens(some(2, 5), 3, 11, share=1.5), ["share=1.5"]),
    (lambda: masked_loss(MaskedLM(Encoder(config("encoder"))), (some(2, 5), None, torch.full((2, 5), NO_LABEL))), ["no token"]),
    (lambda: patches(torch.zeros(2, 1, 5, 6), 2), ["(2, 1, 5, 6)", "2x2"]),
    (lambda: patches(torch.zeros(2, 6, 6), 2), ["(2, 6, 6)"]),
    (lambda: VisionTransformer(config("encoder"), 8, 2, 4), ["16 patches", "max_len=9"]),
    (lambda: VisionTransformer(config("encoder"), 6, 2, 4)(torch.zeros(2, 1, 8, 8)), ["(1, 8, 8)", "(1, 6, 6)"]),
    (lambda: DecoderBlock(config())(torch.zeros(2, 4, 12), torch.zeros(2, 5, 8)), ["d_model=12", "(2, 5, 8)"]),
])
def test_bad_input_is_refused_and_both_sides_are_named(call, names):
    with pytest.raises(ValueError) as error:
        call()
    for name in names:
        assert name in str(error.value)
