"""Small real data: the same seed gives the same parts, nothing is in both, and a missing library is named."""
import importlib
import re
from collections import Counter
from datetime import datetime

import pytest
import torch

from transformer_course import datasets
from transformer_course.datasets import FORMATS, LANGUAGES, date_pairs, digits, language_names

HUNGARIAN = "január február március április május június július augusztus szeptember október november december".split()
FEW = ("de", "en", "tr")                                             # languages enough for most tests


def day_of(target: str) -> tuple[int, int, int]:
    year, month, day = re.fullmatch(r"(\d{4})\. (\w+) (\d+)\.", target).groups()
    return int(year), HUNGARIAN.index(month) + 1, int(day)


@pytest.mark.parametrize("load", [language_names, lambda **named: date_pairs(500, **named)], ids=["names", "dates"])
def test_the_seed_decides_the_parts_and_nothing_else_does(load):
    assert load(seed=3) == load(seed=3)
    assert load(seed=3) != load(seed=4)
    train, held_out = load(seed=3, share=0.5)
    assert abs(len(train) - len(held_out)) <= 1


def test_no_name_is_on_both_sides_or_in_two_languages():
    pairs = sum(language_names(), [])
    counts = Counter(name.casefold() for name, _ in pairs)
    assert set(counts.values()) == {1} and len(pairs) > 5000
    assert {language for _, language in pairs} == set(LANGUAGES)


def test_names_that_two_languages_share_are_left_out_and_others_kept():
    from babel import Locale

    said = {code: {" ".join(name.split()).casefold() for kind in ("languages", "scripts", "territories", "currencies")
                   for name in getattr(Locale.parse(code), kind).values()} for code in FEW}
    expected = {(name, code) for code in FEW for name in said[code] if not any(name in said[other] for other in FEW if other != code)}
    assert {(name.casefold(), code) for name, code in sum(language_names(FEW), [])} == expected
    assert any("afghanistan" in said[a] & said[b] for a, b in [("de", "en")])          # the rule has something to leave out


def test_a_name_has_plain_spaces():
    assert not any(re.search(r"[^\S ]|  |^ | $", name) for name, _ in sum(language_names(), []))


def test_other_languages_can_be_named():
    assert {language for _, language in sum(language_names(FEW), [])} == set(FEW)


def test_a_date_and_its_translation_are_the_same_day():
    for source, target in sum(date_pairs(60, formats=["yyyy-MM-dd"]), []):
        assert datetime.strptime(source, "%Y-%m-%d").timetuple()[:3] == day_of(target)


def test_every_format_occurs_and_says_the_day():
    shapes = {"MMMM d, y": "%B %d, %Y", "d MMM y": "%d %b %Y", "EEEE, MMMM d, y": "%A, %B %d, %Y", "d MMMM y": "%d %B %Y"}
    assert set(shapes) == set(FORMATS)
    for form, shape in shapes.items():
        for source, target in sum(date_pairs(50, formats=[form]), []):
            assert datetime.strptime(source, shape).timetuple()[:3] == day_of(target)
    several = [source for source, _ in sum(date_pairs(400), [])]
    weekday, comma = (sum(source.count(",") == n for source in several) for n in (2, 1))
    assert 60 < weekday < 140 and 60 < comma < 140


def test_no_day_is_on_both_sides():
    train, held_out = date_pairs(3000)
    days = [day_of(target) for _, target in train + held_out]
    assert len(set(days)) == len(days) == 3000 and len(train) == 2400


def test_another_format_writes_the_same_days():
    for usual, other in zip(date_pairs(300, seed=5), date_pairs(300, seed=5, formats=["MM/dd/y"])):
        assert [target for _, target in usual] == [target for _, target in other]
        assert all(re.fullmatch(r"\d\d/\d\d/\d{4}", source) for source, _ in other)


def test_the_translation_is_in_the_language_that_is_named():
    assert all(re.fullmatch(r"\d{4}年\d+月\d+日", target) for _, target in date_pairs(20, language="ja")[0])


def test_digits_are_images_between_0_and_1_and_each_is_in_one_part():
    (images, labels), (others, answers) = digits()
    assert images.shape == (1437, 8, 8) and others.shape == (360, 8, 8) and images.dtype == torch.float32
    assert labels.dtype == torch.int64 and sorted(set(labels.tolist())) == list(range(10))
    both = torch.cat([images, others])
    assert both.min() == 0 and both.max() == 1
    assert len(both.flatten(1).unique(dim=0)) == len(both) == 1797                        # no picture twice, so none on both sides
    again, other = digits(), digits(seed=1)
    assert torch.equal(again[1][0], others) and torch.equal(again[1][1], answers) and not torch.equal(other[1][0], others)


def test_a_label_stays_with_its_image():
    from sklearn.datasets import load_digits

    loaded = load_digits()
    known = {tuple(image.ravel().tolist()): label for image, label in zip(loaded.images / 16, loaded.target)}
    for images, labels in digits(seed=2):
        assert [known[tuple(image.flatten().tolist())] for image in images] == labels.tolist()


@pytest.mark.refusal
@pytest.mark.parametrize(("ask", "said"), [
    (lambda: language_names(["de", "xx"]), "language='xx' is unknown to Babel"),
    (lambda: language_names(["de", "de"]), "must name at least 2 languages"),
    (lambda: language_names(FEW, share=1.0), "share=1.0 must be more than 0 and less than 1"),
    (lambda: date_pairs(0), "n=0 days must be at least 1, at most 73049"),
    (lambda: date_pairs(73_050), "n=73050 days must be at least 1, at most 73049"),
    (lambda: date_pairs(9, language="no such"), "language='no such' is unknown to Babel"),
    (lambda: date_pairs(9, formats=()), "must name at least 1 format"),
    (lambda: digits(share=0), "share=0 must be more than 0"),
])
def test_bad_input_is_refused(ask, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        ask()


@pytest.mark.parametrize(("ask", "library"), [(language_names, "babel"), (lambda: date_pairs(9), "babel"), (digits, "sklearn")])
def test_a_missing_library_is_named_with_the_way_to_get_it(ask, library, monkeypatch):
    def missing(name: str):
        if name.split(".")[0] == library:
            raise ImportError(f"No module named {name!r}")
        return importlib.import_module(name)

    monkeypatch.setattr(datasets, "import_module", missing)
    with pytest.raises(ImportError, match=rf"comes with {library}.*pip install 'transformer-course\[notebook\]'"):
        ask()


def test_the_module_imports_without_the_libraries():
    import subprocess
    import sys

    code = "import sys, transformer_course.datasets; print([name for name in ('babel', 'sklearn') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
