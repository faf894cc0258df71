"""A page with one figure, as the book makes it, on a disk and without a network."""
from pathlib import Path

from test_site import PHONE, violations

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


def look_for_violations(opened, states, options: dict, scheme: str):
    "Axe finds nothing in any of the states that a page goes through."
    page = opened(**options, color_scheme=scheme)
    page.add_style_tag(content=f"body {{ background: {'#14181e' if scheme == 'dark' else '#fff'}; color: {'#e6edf3' if scheme == 'dark' else '#1f2328'}; }}")
    for name in states(page):
        page.wait_for_timeout(300)                         # colours glide
        found = violations(page, "figure.live", preload=False)
        assert [(one["id"], node["html"][:140], node.get("failureSummary", "")[:200]) for one in found for node in one["nodes"]] == [], name


def measure_on_a_phone(opened, states):
    "Every state fits a phone, its controls a finger, and no text is too small."
    page = opened(**PHONE)
    for name in states(page):
        edge = page.locator(".live-body").evaluate("(body) => body.getBoundingClientRect().right + 1")
        wide = page.evaluate("""(edge) => [...document.querySelectorAll(".live-body *")].filter((node) => node.checkVisibility() && !node.closest(".live-scroll, svg") && node.getBoundingClientRect().right > edge).map((node) => node.outerHTML.slice(0, 90))""", edge)
        assert wide == [] and page.evaluate("document.documentElement.scrollWidth") <= 390, name
        for target in page.locator(".live-button, .live-chip, input[type=range], summary").filter(visible=True).all():
            box = target.bounding_box()
            assert box["height"] >= 44 and box["width"] >= 44, (name, target.evaluate("(node) => node.outerHTML.slice(0, 80)"))
        small = page.evaluate("""[...document.querySelectorAll(".live-body *")].filter((node) => node.checkVisibility() && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()) && parseFloat(getComputedStyle(node).fontSize) < 9).map((node) => node.outerHTML.slice(0, 90))""")
        assert small == [], name
