"""Fetch the browser assets of the site again, at the versions below, into this folder (needs npm; commit the result).

    python book/vendor/refresh.py
"""
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
FONT_FILES = ["wght-normal", "wght-italic"]
PACKAGES = {   # npm package -> (version, licence, {file or folder in the package: place here})
    "mathjax": ("3.2.2", "Apache-2.0", {
        "es5/tex-chtml.js": "mathjax/tex-chtml.js",
        "es5/output/chtml/fonts/woff-v2": "mathjax/output/chtml/fonts/woff-v2",
        "LICENSE": "mathjax/LICENSE"}),
    "@fontsource-variable/source-serif-4": ("5.2.9", "OFL-1.1", {
        **{f"files/source-serif-4-latin-{f}.woff2": f"fonts/source-serif-4-{f}.woff2" for f in FONT_FILES},
        "LICENSE": "fonts/source-serif-4-LICENSE"}),
    "@fontsource-variable/inter": ("5.2.8", "OFL-1.1", {
        "files/inter-latin-wght-normal.woff2": "fonts/inter-wght-normal.woff2",
        "LICENSE": "fonts/inter-LICENSE"}),
    "@fontsource-variable/jetbrains-mono": ("5.2.8", "OFL-1.1", {
        "files/jetbrains-mono-latin-wght-normal.woff2": "fonts/jetbrains-mono-wght-normal.woff2",
        "LICENSE": "fonts/jetbrains-mono-LICENSE"}),
}


def refresh():
    for folder in ("mathjax", "fonts"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as tmp:
        for name, (version, _, files) in PACKAGES.items():
            packed = subprocess.run(["npm", "pack", "--silent", "--json", f"{name}@{version}"], cwd=tmp,
                                    check=True, capture_output=True, text=True)
            shutil.unpack_archive(Path(tmp) / json.loads(packed.stdout)[0]["filename"], tmp, "gztar")
            for source, place in files.items():
                target = HERE / place
                target.parent.mkdir(parents=True, exist_ok=True)
                copy = shutil.copytree if (Path(tmp) / "package" / source).is_dir() else shutil.copy
                copy(Path(tmp) / "package" / source, target)
            shutil.rmtree(Path(tmp) / "package")
    lines = ["package version licence", *(f"{name} {version} {licence}" for name, (version, licence, _) in PACKAGES.items())]
    (HERE / "VERSIONS").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    refresh()
