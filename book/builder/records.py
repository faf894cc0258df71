"""Keep what a script in `benchmarks/` measured, with what made it: `make record NAME=heads` runs `benchmarks/heads.py`.

A record holds a key of the script and of everything in the package that it uses. `stale` lists the records whose code has
changed since; a test fails for them.
"""
import json
import os
import platform
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

from . import PACKAGE, ROOT
from .keys import code_key

RESULTS = ROOT / PACKAGE / "results"


def record(name: str, result: dict | list, script: str) -> Path:
    "Keep `result` under that name; `script` is the `__file__` of the script that made it. Returns the file."
    path = Path(script).resolve()
    made = {
        "command": f"make record NAME={path.stem}",
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "machine": f"{sys.platform} {platform.machine()}, {os.cpu_count()} cores",
        "code": code_key(path.read_text(encoding="utf-8")),
    }
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps({"made": made, "result": result}, ensure_ascii=False) + "\n", encoding="utf-8")
    return file


def stale() -> list[str]:
    "The records that other code has made than the code that is there, each with the command that makes it again."
    out = []
    for file in sorted(RESULTS.glob("*.json")):
        made = json.loads(file.read_text(encoding="utf-8"))["made"]
        script = ROOT / "benchmarks" / f"{made['command'].split('=')[-1]}.py"
        if not script.is_file() or made.get("code") != code_key(script.read_text(encoding="utf-8")):
            out.append(f"{file.stem}: run `{made['command']}`")
    return out
