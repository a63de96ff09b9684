"""Node's pools: installed by npm into a cache beside this file, where node and npm are there."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE / ".node"  # git-ignored; `rm -r` it to install afresh
PINNED = {"piscina": "5.3.2", "tinypool": "2.2.0"}


def prepare(seconds: float) -> list[str] | str:
    """The command that plays a Node contender, or the reason why there is none."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return "node and npm are not both on this machine"
    if _installed() != PINNED:
        problem = _install(npm, seconds)
        if problem:
            return problem
    # Node looks packages up from the folder of the file that imports them.
    for file in (HERE / "node").glob("*.mjs"):
        shutil.copy(file, CACHE)
    return [node, str(CACHE / "bench.mjs")]


def _install(npm: str, seconds: float) -> str | None:
    CACHE.mkdir(exist_ok=True)
    (CACHE / "package.json").write_text('{"private": true}\n')
    packages = [f"{name}@{number}" for name, number in PINNED.items()]
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages]
    try:
        done = subprocess.run(command, cwd=CACHE, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"npm install took more than {seconds:.0f} s"
    if done.returncode:
        problems = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
        return (problems or [f"npm install ended with {done.returncode}"])[0][:160]
    return None


def _installed() -> dict[str, str]:
    found = {}
    for name in PINNED:
        try:
            manifest = json.loads((CACHE / "node_modules" / name / "package.json").read_text())
        except (OSError, ValueError):
            continue
        found[name] = manifest["version"]
    return found


def versions() -> str:
    """For the header."""
    node = shutil.which("node")
    if node is None:
        return "-"
    number = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip()
    return ", ".join([number, *(f"{name} {what}" for name, what in _installed().items())])
