"""Workers that workers have started end with them."""

from __future__ import annotations

import os
import signal
from typing import Any

import psutil
import pytest
import targets_ends
from contract_help import eventually, no_isolates
from worker_help import pid_of

from loopworkers import Worker

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("inner_kind", ["process", pytest.param("isolate", marks=no_isolates)])
async def test_terminate_ends_nested_workers_too(own_memory: Any, inner_kind: Any) -> None:
    async with Worker(targets_ends.start_another, inner_kind, kind=own_memory) as worker:
        inner = psutil.Process(await pid_of(worker))
        inner_id = await worker.receive()
        assert inner_id != worker.id
        await worker.terminate()
        if inner_kind == "process":
            await eventually(lambda: has_ended(inner))


@no_isolates
@pytest.mark.parametrize("inner_kind", ["process", "isolate"])
async def test_nested_workers_end_where_the_outer_one_swallows_every_exception(
    inner_kind: Any,
) -> None:
    start = targets_ends.start_another_and_swallow
    for _ in range(5):
        async with Worker(start, inner_kind, kind="isolate") as worker:
            await pid_of(worker)
            await worker.terminate()
            assert await worker.wait() == 1


CHAINS = [
    ["process", "process"],
    pytest.param(["isolate", "process"], marks=no_isolates),
    pytest.param(["process", "isolate"], marks=no_isolates),
    pytest.param(["isolate", "isolate"], marks=no_isolates),
]


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == "zombie"


@pytest.mark.parametrize("chain", CHAINS)
async def test_terminate_ends_workers_of_workers_of_workers(own_memory: Any, chain: Any) -> None:
    async with Worker(targets_ends.start_a_chain, chain, kind=own_memory) as worker:
        processes = [psutil.Process(pid) for pid in await worker.receive() if pid != os.getpid()]
        await worker.terminate()
        for process in processes:
            await eventually(lambda process=process: has_ended(process))


@pytest.mark.parametrize("chain", CHAINS)
async def test_a_killed_worker_takes_its_own_workers_with_it(chain: Any) -> None:
    async with Worker(targets_ends.start_a_chain, chain) as worker:
        processes = [psutil.Process(pid) for pid in await worker.receive()]
        processes[-1].kill()
        assert await worker.wait() == -signal.SIGKILL
        for process in processes:
            await eventually(lambda process=process: has_ended(process))
