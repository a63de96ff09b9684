"""What several topics have in common."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from contract_help import ROOT

if TYPE_CHECKING:
    from loopworkers import Worker

# Two stages of an isolate, or SIGTERM and SIGKILL, on a busy machine.
BOUND = 5.0
HERE = str(Path(__file__).parent)
MIXED = ["process", "process", "isolate", "thread"]


async def pid_of(worker: Worker) -> int:
    pid = await worker.receive()
    assert isinstance(pid, int)
    return pid


async def run_all(*workers: Worker) -> None:
    async with anyio.create_task_group() as tasks:

        async def one(worker: Worker) -> None:
            async with worker:
                await worker.wait()

        for worker in workers:
            tasks.start_soon(one, worker)


def run_worker_script(text: str) -> subprocess.CompletedProcess[str]:
    """Run a program that can import the modules of this folder."""
    return subprocess.run(
        [sys.executable, "-c", text],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((ROOT, HERE))},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
