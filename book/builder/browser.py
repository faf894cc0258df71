"""Find a Chromium for the browser tests, or install one: `python -m builder.browser` prints where it is.

Tried in this order: the one that `CHROMIUM` names, an installed Chromium or Chrome, Playwright's own download,
the system's package manager. Where none can be had, this fails and says what was tried.
"""
import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MACOS = ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium")


def installed() -> str | None:
    "The path of a browser that is on this machine, or None."
    from playwright.sync_api import sync_playwright

    if named := os.environ.get("CHROMIUM"):
        return named
    found = next(filter(None, map(shutil.which, NAMES)), None) or next((path for path in MACOS if Path(path).exists()), None)
    if found:
        return found
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


def install() -> str:
    "The path of a browser, installed if there was none. Raises RuntimeError when every way failed."
    if found := installed():
        return found
    download = [sys.executable, "-m", "playwright", "install", "--with-deps", "chromium-headless-shell"]
    system = ["apt-get", "install", "-y", "-qq", "chromium"]
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    ways = [download[:4] + download[5:]]
    if shutil.which("apt-get") and (not sudo or shutil.which("sudo")):
        ways += [[*sudo, "apt-get", "update", "-qq"], [*sudo, *system]]
    said = []
    for way in ways:
        print("no browser yet, trying:", " ".join(way), flush=True)
        done = subprocess.run(way, capture_output=True, text=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        said.append(f"$ {' '.join(way)}\n{(done.stdout + done.stderr)[-600:]}")
        if found := installed():
            return found
    raise RuntimeError("the browser tests need Chromium or Chrome and found none. Install one, or name it in CHROMIUM.\n" + "\n".join(said))


if __name__ == "__main__":
    try:
        print("browser:", install())
    except RuntimeError as error:
        sys.exit(str(error))
