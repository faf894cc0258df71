"""From notebooks to the book: the `#|` vocabulary, execution, the Sphinx extension, Colab notebooks, `make book`."""
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "transformer_course"
BUILD = ROOT / "book" / "_build"
SITE = BUILD / "html"


def chapters(root: Path = ROOT) -> list[Path]:
    return [path for path in _in(root / "nbs") if path.stem[0].isdigit()]


def primer(root: Path = ROOT) -> list[Path]:
    "The page of mathematics in front of the chapters."
    return [path for path in _in(root / "nbs") if not path.stem[0].isdigit()]


def exercise_notebooks(root: Path = ROOT) -> list[Path]:
    return _in(root / "nbs" / "exercises")


def studies(root: Path = ROOT) -> list[Path]:
    return _in(root / "nbs" / "studies")


def tools(root: Path = ROOT) -> list[Path]:
    return _in(root / "nbs" / "tools")


def notebooks(root: Path = ROOT) -> list[Path]:
    "All notebooks: primer, chapters, their exercises, studies, tools."
    return [*primer(root), *chapters(root), *exercise_notebooks(root), *studies(root), *tools(root)]


def run_notebooks(root: Path = ROOT) -> list[Path]:
    "The notebooks whose outputs stand on their pages. A page of exercises shows none."
    return [*primer(root), *chapters(root), *studies(root), *tools(root)]


def _in(folder: Path) -> list[Path]:
    return sorted(folder.glob("[!_.]*.ipynb"))


def number(path: Path) -> str:
    "The number of the chapter that a notebook belongs to: `2` of `02_attention` and of its studies, `7b` of `07b_pretrained`."
    return path.stem.partition("_")[0].lstrip("0") or "0"


def name(path: Path) -> str:
    "The place of a notebook under `nbs`, without ending: `02_attention`, `studies/02_scale`."
    return path.relative_to(ROOT / "nbs").with_suffix("").as_posix()
