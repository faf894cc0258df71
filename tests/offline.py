"""A page with one figure, as the book makes it, on a disk and without a network."""
from pathlib import Path

from builder import figure_scripts


def on_disk(folder: Path, figure) -> Path:
    "Write the page x.html with what it needs; returns the folder."
    figure_scripts.write_scripts(folder)
    scripts = f'<script defer src="{figure.name}.js"></script><script defer src="host.js"></script>'
    (folder / "x.html").write_text(f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>A page</title><link rel=stylesheet href=figures.css><body>{figure.to_html(alone=False)}{scripts}", encoding="utf-8")
    return folder


def state(page, key: str):
    return page.evaluate("(key) => document.querySelector('[data-figure]').model.get(key)", key)


def put(page, key: str, value):
    page.evaluate("([key, value]) => document.querySelector('[data-figure]').model.set(key, value)", [key, value])
