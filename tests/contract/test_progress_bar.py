"""``map(progress=True)`` draws a bar on a terminal, and nothing elsewhere."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from contract_help import ROOT, run_script, succeed

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import asyncio
from loopworkers import WorkerPool

async def main():
    async with WorkerPool("thread", max_workers=1) as pool:
        async for _ in pool.map(abs, {items}, progress={progress}, chunksize=3):
            pass
    print("done")

asyncio.run(main())
"""


def on_a_terminal(script: str) -> str:
    """What a script shows on the terminal that is its stderr."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", script], stderr=theirs, stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": ROOT, "COLUMNS": "60"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # Linux: the last one at the other end has closed it
        pass
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()


def test_a_terminal_shows_how_many_of_how_many() -> None:
    shown = on_a_terminal(SCRIPT.format(items="range(50)", progress=True))
    last = re.split(r"[\r\n]+", shown.rstrip())[-1]
    assert "100%" in last
    assert "50/50" in last
    assert len(last) < 70
    assert shown.endswith("\n")


def test_without_a_length_it_shows_how_many() -> None:
    shown = on_a_terminal(SCRIPT.format(items="iter(range(50))", progress=True))
    assert "50 done" in shown


@pytest.mark.parametrize("progress", [False, None])
def test_it_is_off_unless_asked_for(progress: object) -> None:
    assert on_a_terminal(SCRIPT.format(items="range(50)", progress=progress)) == ""


def test_it_is_silent_where_stderr_is_no_terminal(tmp_path: Path) -> None:
    script = SCRIPT.format(items="range(50)", progress=True)
    assert succeed(run_script(script, tmp_path)) == "done\n"
