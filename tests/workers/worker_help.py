"""What several topics have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from loopworkers import Worker

# Two stages of an isolate, or SIGTERM and SIGKILL, on a busy machine.
BOUND = 5.0
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
