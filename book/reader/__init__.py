"""From notebooks to the book: the `#|` vocabulary, execution, the Sphinx extension, Colab notebooks, `make book`."""
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "transformer_course"
BUILD = ROOT / "book" / "_build"
SITE = BUILD / "html"


def notebooks(root: Path = ROOT) -> list[Path]:
    "The chapters and appendices, in the order of their file names."
    return sorted((root / "nbs").glob("[!_.]*.ipynb"), key=_place)


def _place(path: Path) -> tuple[str, int]:
    "Chapters by number, then appendices by number: 00, 01, ..., A1, ..., A10."
    letter, number = re.match(r"(\D*)(\d+)", path.stem).groups()
    return letter, int(number)
