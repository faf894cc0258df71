"""Where the course is published, as far as the environment says; nothing is invented.

`GITHUB_REPOSITORY` (set by GitHub's runners), else the git remote `origin`. `COURSE_URL` overrides the address of the site;
empty, it says that there is none, and notebooks bring the course along.
"""
import os
import re
import subprocess

from . import ROOT

PAGES_BRANCH = "gh-pages"


def repository() -> str | None:
    "`owner/name` on github.com, or None where neither the environment nor git knows one."
    if named := os.environ.get("GITHUB_REPOSITORY"):
        return named
    remote = subprocess.run(["git", "remote", "get-url", "origin"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    match = re.search(r"github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?$", remote)
    return match[1] if match else None


def repository_url() -> str | None:
    return f"https://github.com/{slug}" if (slug := repository()) else None


def site_url() -> str | None:
    "The address of the published book, without a slash at its end, or None."
    if (named := os.environ.get("COURSE_URL")) is not None:
        return named.rstrip("/") or None
    if slug := repository():
        owner, name = slug.split("/")
        return f"https://{owner.lower()}.github.io" + ("" if name.lower() == f"{owner.lower()}.github.io" else f"/{name}")
    return None


def colab_url(chapter: str, folder: str = "colab") -> str | None:
    "The address that opens a notebook of the site in Colab, which reads the branch that holds the published site."
    slug = repository()
    return f"https://colab.research.google.com/github/{slug}/blob/{PAGES_BRANCH}/{folder}/{chapter}.ipynb" if slug else None
