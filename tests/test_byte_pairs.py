"""Byte pairs lose nothing, are the simple loop's and the library's, and bad input is refused."""
import json
import re
import sys
import unicodedata
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from transformer_course.byte_pairs import BytePairTokenizer, count_pairs, merge, split_words, train_byte_pairs
from transformer_course.prediction import ByteTokenizer, load_corpus

CORPUS = load_corpus()
TRAINED = train_byte_pairs(CORPUS, 1500, ["<|endoftext|>", "<|end|>", "<|end|><|end|>"])
LIBRARY = TRAINED.fast()
KNOWN = st.characters(exclude_categories=["Cs", "Cn"])                         # the library knows a newer Unicode than Python
TRICKY = st.sampled_from([*" \n\t\r\x0b\x1c\x1f\x85\xa0\u2028\u3000ab12½²ⅣxЖ猫'_.-é\u0301\u200d🙂", "'s", "'ll", "'LL", "<|end|>", "<|endoftext|>", "the ", "  "])
texts = st.one_of(st.text(KNOWN), st.lists(TRICKY).map("".join), st.tuples(st.integers(0, len(CORPUS)), st.integers(0, 300)).map(
    lambda cut: CORPUS[cut[0]:cut[0] + cut[1]]))


def trained_simply(text, n_merges):
    "The definition: count everything again for each merge."
    words = Counter(tuple(word.encode()) for word in split_words(text))
    merges = []
    while len(merges) < n_merges:
        counts = Counter()
        for word, times in words.items():
            for pair in pairwise(word):
                counts[pair] += times
        merges.append(min(counts, key=lambda pair: (-counts[pair], pair)))
        words = {tuple(merge(word, merges[-1], 255 + len(merges))): times for word, times in words.items()}
    return tuple(merges)


# --- nothing is lost ----------------------------------------------------------------------------------------------------------------


@given(st.one_of(texts, st.text()))
def test_any_text_comes_back(text):
    assert "".join(split_words(text)) == text
    for special in (False, True):
        tokens = TRAINED.encode(text, special=special)
        assert all(0 <= token < TRAINED.vocab_size for token in tokens)
        assert TRAINED.decode(tokens) == text
    assert BytePairTokenizer([]).encode(text) == ByteTokenizer().encode(text)


@pytest.mark.parametrize("text", ["", "\0", "e\u0301", "👩‍👩‍👧‍👦", "مرحبا", "नमस्ते", "한국어", "\U0010ffff", "a" * 5000, "\r\n\r\n", "\ufeff", " " * 99 + "x"])
def test_unusual_texts_come_back(text):
    assert TRAINED.decode(TRAINED.encode(text)) == text and LIBRARY.encode(text).ids == TRAINED.encode(text)


def test_lone_surrogates_are_refused():
    with pytest.raises(ValueError, match="surrogates not allowed"):
        TRAINED.encode("a\ud800b")
    with pytest.raises(ValueError, match="surrogates not allowed"):
        train_byte_pairs("a\ud800b", 257)


def test_half_a_character_is_shown_as_such():
    assert BytePairTokenizer([]).decode("é".encode()[:1]) == "�"


@pytest.mark.parametrize("token", [-1, TRAINED.vocab_size])
def test_a_number_that_is_no_token_is_refused(token):
    with pytest.raises(ValueError, match=f"{token} is not among the 1500 tokens"):
        TRAINED.decode([3, token])


# --- the library --------------------------------------------------------------------------------------------------------------------


@given(texts)
def test_the_library_gives_the_same_tokens(text):
    assert LIBRARY.encode(text).ids == TRAINED.encode(text, special=True)
    LIBRARY.encode_special_tokens = True                                       # its way of saying: ordinary text
    assert LIBRARY.encode(text).ids == TRAINED.encode(text)
    LIBRARY.encode_special_tokens = False
    assert LIBRARY.decode(TRAINED.encode(text), skip_special_tokens=False) == text


def test_every_kind_of_character_is_cut_and_encoded_as_by_the_library():
    "All characters, of the large alphabets of Chinese and Korean every hundredth."
    kinds = [(chr(n), unicodedata.category(chr(n))) for n in range(sys.maxunicode + 1)]
    known = [c for n, (c, kind) in enumerate(kinds) if kind not in ("Cs", "Cn", "Co") and (kind != "Lo" or n < 0x3400 or n % 100 == 0)]
    assert len(known) > 15_000
    for begin in range(0, len(known), 2000):
        text = "".join(f"a{c}1{c} {c}." for c in known[begin:begin + 2000])
        assert LIBRARY.encode(text).ids == TRAINED.encode(text)


def test_words_are_cut_as_the_categories_of_unicode_say():
    "Python's classes are what the docstring promises: letters with Nl and No, and digits."
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    kinds = list(map(unicodedata.category, every))
    letters, digits, spaces = (set(re.findall(one, every)) for one in (r"[^\W\d_]", r"\d", r"\s"))
    assert letters == {c for c, kind in zip(every, kinds) if kind[0] == "L" or kind in ("Nl", "No")}
    assert digits == {c for c, kind in zip(every, kinds) if kind == "Nd"} and not spaces & (letters | digits)


def test_the_library_learns_the_same_merges():
    "Bytes as letters in the order of bytes, since the library breaks ties by the order of letters."
    letters = [chr(0x4E00 + byte) for byte in range(256)]
    spelled = " ".join("".join(letters[byte] for byte in word.encode()) for word in split_words(CORPUS[:120_000]))
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    theirs.train_from_iterator([spelled], trainers.BpeTrainer(vocab_size=1000, initial_alphabet=letters, show_progress=False))
    ours = train_byte_pairs(CORPUS[:120_000], 1000)
    learned = json.loads(theirs.to_str())["model"]["merges"]
    as_letters = lambda token: "".join(letters[byte] for byte in ours.spellings[token])
    assert [tuple(pair) for pair in learned] == [(as_letters(one), as_letters(other)) for one, other in ours.merges]


def test_the_library_s_file_is_the_same_tokenizer(tmp_path):
    LIBRARY.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(CORPUS[:9000]).ids == TRAINED.encode(CORPUS[:9000])


def test_without_the_library_one_reads_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match="pip install tokenizers"):
        TRAINED.fast()


# --- training -----------------------------------------------------------------------------------------------------------------------


@given(st.text(st.sampled_from("ab .é"), min_size=1, max_size=60), st.integers(1, 12))
def test_merges_are_those_of_the_definition(text, n_merges):
    try:
        ours = train_byte_pairs(text, 256 + n_merges).merges
    except ValueError as error:
        least = int(re.search(r"the text gives (\d+) tokens at most", str(error))[1])
        assert least < 256 + n_merges and trained_simply(text, least - 256) == train_byte_pairs(text, least).merges
    else:
        assert ours == trained_simply(text, n_merges)


def test_merges_of_real_text_are_those_of_the_definition_and_nested():
    ours = train_byte_pairs(CORPUS[:30_000], 256 + 60)
    assert ours.merges == trained_simply(CORPUS[:30_000], 60)
    assert train_byte_pairs(CORPUS[:30_000], 256 + 20).merges == ours.merges[:20]
    words = set(split_words(CORPUS))
    assert all(any(one.decode() in word for word in words) for one in ours.spellings[256:])  # none crosses a border


def test_counts_and_merges():
    assert count_pairs({(1, 1, 1): 2, (1, 2): 3, (5,): 9, (): 1}) == {(1, 1): 4, (1, 2): 3}
    assert merge([1, 1, 1], (1, 1), 9) == [9, 1] and merge((1, 2, 1, 2, 2), (1, 2), 7) == [7, 7, 2] and merge([], (1, 2), 7) == []


def test_spaces_go_with_the_word_after_them():
    assert split_words("it's  12 mats,\n  aren't_ ") == ["it", "'s", " ", " 12", " mats", ",", "\n ", " aren", "'t", "_", " "]


# --- special tokens, files, refusals ------------------------------------------------------------------------------------------------


def test_special_tokens_come_last_and_only_where_asked_for():
    end, short, twice = TRAINED.special_tokens.values()
    assert (end, short, twice) == (1497, 1498, 1499) and TRAINED.vocab_size == 1500
    said = "a<|end|><|end|><|end|>b<|endoftext|>"
    assert TRAINED.encode(said, special=True) == [97, twice, short, 98, end] and max(TRAINED.encode(said)) < end
    assert TRAINED.decode(TRAINED.encode(said)) == TRAINED.decode([97, twice, short, 98, end]) == said


def test_a_tokenizer_is_saved_and_loaded(tmp_path):
    TRAINED.save(tmp_path / "pairs.json")
    again = BytePairTokenizer.load(tmp_path / "pairs.json")
    assert again.merges == TRAINED.merges and again.special_tokens == TRAINED.special_tokens
    assert again.encode(CORPUS[:5000]) == TRAINED.encode(CORPUS[:5000])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"merges": [[1, 999]], "special_tokens": []}', '{"merges": 5, "special_tokens": []}',
                                     '{"merges": [["a", "b"]], "special_tokens": []}'])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match="x.json holds no byte-pair tokenizer"):
        BytePairTokenizer.load(tmp_path / "x.json")


@pytest.mark.refusal
@pytest.mark.parametrize(("merges", "special", "said"), [
    ([(97, 256)], [], r"merge 0, \(97, 256\), is no pair of the 256 tokens before it"),
    ([(97, 98), (98, 99), (256, 99), (97, 257)], [], r"merge 3, \(97, 257\), makes b'abc', which is a token already"),
    ([(97, 98, 99)], [], "is no pair"),
    ([], ["a", "a"], "different and not empty"), ([], [""], "different and not empty"), ([], "<|end|>", "must be a list of names"),
])
def test_other_merges_and_names_are_refused(merges, special, said):
    with pytest.raises(ValueError, match=said):
        BytePairTokenizer(merges, special)


@pytest.mark.parametrize(("size", "special", "said"), [
    (256, ["<|end|>"], "vocab_size=256 is below the 256 bytes and 1 special tokens"), (9000, [], "vocab_size=9000, but the text gives 259 tokens at most"),
    (300, "ab", "must be a list of names"),
])
def test_sizes_that_can_t_be_are_refused(size, special, said):
    with pytest.raises(ValueError, match=said):
        train_byte_pairs("abab ab", size, special)
