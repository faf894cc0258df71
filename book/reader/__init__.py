"""From notebooks to the book: the `#|` vocabulary, execution, the Sphinx extension, Colab notebooks, `make book`."""
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "transformer_course"
BUILD = ROOT / "book" / "_build"
SITE = BUILD / "html"


def notebooks() -> list[Path]:
    "The chapters and appendices, in the order of their file names."
    return sorted((ROOT / "nbs").glob("[!_.]*.ipynb"))
