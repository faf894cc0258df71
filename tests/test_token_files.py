"""Text becomes a file of tokens, and batches follow from the seed and the step."""
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer_course import token_files
from transformer_course.prediction import ByteTokenizer, random_batches, sequential_batches
from transformer_course.token_files import (
    TokenFile,
    batch_at,
    cut,
    pieces_in_order,
    read_text,
    survey,
    text_files,
    token_type,
    write_tokens,
)

TOKENS = np.random.default_rng(0).integers(0, 200, 1003, dtype=np.uint8)


class Wide:
    "One token a character, as Unicode numbers it."

    vocab_size = 0x110000

    def encode(self, text):
        return [ord(character) for character in text]


def test_a_folder_is_read_in_the_order_of_its_names_without_what_is_hidden(tmp_path):
    for name, text in {"b.md": "two", "a/c.txt": "one", ".git/config": "no", "z.txt": "three"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert [path.name for path in text_files(tmp_path)] == ["c.txt", "b.md", "z.txt"]
    assert "".join(read_text(tmp_path)) == "one\n\ntwo\n\nthree"


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1), piece=st.integers(1, 9))
def test_pieces_give_the_text_whatever_their_size(tmp_path_factory, text, piece):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(text, encoding="utf-8", newline="")
    before, token_files.PIECE = token_files.PIECE, piece
    try:
        expected = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        if expected:
            assert "".join(read_text(path)) == expected
            file = write_tokens(path.with_name("tokens"), read_text(path), Wide())
            assert "".join(map(chr, file.tokens)) == expected
    finally:
        token_files.PIECE = before


def test_a_long_text_without_line_ends_comes_in_pieces(tmp_path):
    (tmp_path / "text").write_text("ab " * token_files.PIECE)
    assert [len(piece) for piece in read_text(tmp_path / "text")] == 3 * [token_files.PIECE] + [0]


@pytest.mark.refusal
@pytest.mark.parametrize(("content", "said"), [
    (b"", "is empty"),
    (b"\xef\xbb\xbf", "is empty"),
    (b"The cat\xff sat", "place 7 is not UTF-8"),
    (b"x" * 20_000 + b"\xe2\x82", "place 20,000 is not UTF-8"),
    ("é".encode() * 9_000 + b"\x80", "place 18,000 is not UTF-8"),
])
def test_files_that_hold_no_text_are_refused(tmp_path, content, said):
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(ValueError, match=said) as refusal:
        list(read_text(tmp_path / "text"))
    assert str(tmp_path / "text") in str(refusal.value)


@pytest.mark.refusal
def test_absent_files_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        text_files(tmp_path / "nothing")
    with pytest.raises(ValueError, match="holds no file"):
        text_files(tmp_path)


def test_an_unreadable_file_is_refused(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "text").write_text("x")
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ValueError, match="can't be read: Permission denied"):
        list(read_text(tmp_path / "text"))


@pytest.mark.parametrize(("vocab_size", "size"), [(1, 1), (256, 1), (257, 2), (65_536, 2), (65_537, 4), (2**32, 4)])
def test_a_token_takes_as_few_bytes_as_it_can(vocab_size, size):
    assert token_type(vocab_size).itemsize == size


def test_a_file_is_written_once_and_again_when_its_header_differs(tmp_path):
    first = write_tokens(tmp_path / "t", ["The ", "cat"], ByteTokenizer(), text="a")
    assert bytes(first.tokens) == b"The cat" and first.header == {"vocab_size": 256, "text": "a", "dtype": "uint8", "tokens": 7}
    assert bytes(write_tokens(tmp_path / "t", ["dog"], ByteTokenizer(), text="a").tokens) == b"The cat"
    assert bytes(write_tokens(tmp_path / "t", ["dog"], ByteTokenizer(), text="b").tokens) == b"dog"


def test_a_file_that_was_not_finished_is_written_again(tmp_path):
    def broken():
        yield "The cat"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tokens(tmp_path / "t", broken(), ByteTokenizer(), text="a")
    assert not TokenFile(tmp_path / "t").fits(text="a")
    assert len(write_tokens(tmp_path / "t", ["The cat"], ByteTokenizer(), text="a").tokens) == 7
    (tmp_path / "t.bin").write_bytes(b"The")
    assert not TokenFile(tmp_path / "t").fits(text="a")
    with pytest.raises(ValueError, match="has 3 bytes, and its header says 7 tokens"):
        _ = TokenFile(tmp_path / "t").tokens


@pytest.mark.refusal
def test_damaged_headers_and_empty_texts_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no header"):
        _ = TokenFile(tmp_path / "t").header
    (tmp_path / "t.json").write_text("[")
    with pytest.raises(ValueError, match="no header"):
        _ = TokenFile(tmp_path / "t").header
    with pytest.raises(ValueError, match="empty"):
        write_tokens(tmp_path / "t", [""], ByteTokenizer())
    with pytest.raises(ValueError, match="vocab_size="):
        token_type(2**32 + 1)


def test_the_survey_and_the_cut_do_not_depend_on_the_pieces():
    text = "The cat sat on the mat."
    for pieces in ([text], list(text), ["", text[:5], "", text[5:]]):
        found = survey(pieces)
        assert found == survey([text]) and found.length == len(text) and found.alphabet == "".join(sorted(set(text)))
        for at in range(len(text) + 1):
            parts = {first: "".join(p for which, p in cut(pieces, at) if which == first) for first in (True, False)}
            assert (parts[True], parts[False]) == (text[:at], text[at:])


def test_a_batch_follows_from_seed_and_step():
    def batch(**other):
        return batch_at(TOKENS, **{"step": 5, "batch_size": 6, "max_len": 9, "seed": 1} | other)

    one = batch()
    assert one.shape == (6, 10) and one.dtype == torch.int64 and one.equal(batch())
    for other in ({"step": 6}, {"seed": 2}):
        assert not one.equal(batch(**other))
    pieces = {tuple(TOKENS[i : i + 10].tolist()) for i in range(len(TOKENS) - 9)}
    assert {tuple(row.tolist()) for step in range(50) for row in batch(step=step)} <= pieces


def test_every_place_is_drawn_the_first_and_the_last_too():
    tokens = np.arange(12, dtype=np.uint8)
    starts = {row[0].item() for step in range(60) for row in batch_at(tokens, step=step, batch_size=4, max_len=4, seed=0)}
    assert starts == set(range(8)) == {b[0, 0].item() for b, _ in zip(random_batches(torch.from_numpy(tokens), batch_size=1, max_len=4), range(200))}


@pytest.mark.parametrize("max_len", [1, 7, 50, 1002])
def test_pieces_in_order_are_those_of_chapter_0(max_len):
    ours = list(pieces_in_order(TOKENS, batch_size=3, max_len=max_len))
    theirs = sequential_batches(torch.from_numpy(TOKENS).long(), batch_size=3, max_len=max_len)
    assert len(ours) == len(theirs) and all(a.equal(b) for a, b in zip(ours, theirs))
    few = torch.cat(list(pieces_in_order(TOKENS, batch_size=3, max_len=max_len, most=100)))
    assert few[:, 1:].numel() == max(max_len, 100 // max_len * max_len)


@pytest.mark.refusal
def test_a_context_longer_than_the_text_is_refused():
    for draw in (lambda: batch_at(TOKENS, step=0, batch_size=1, max_len=1003, seed=0), lambda: list(pieces_in_order(TOKENS, batch_size=1, max_len=1003))):
        with pytest.raises(ValueError, match="1,003 tokens is too short for a context of 1003, which takes 1004"):
            draw()


def test_only_the_pages_that_a_batch_touches_are_read(tmp_path):
    file = write_tokens(tmp_path / "t", ["x" * 5000], ByteTokenizer(), note="n")
    assert isinstance(file.tokens, np.memmap) and file.tokens.mode == "r" and json.loads((tmp_path / "t.json").read_text())["note"] == "n"
