"""Workers that workers have started end with them."""

from __future__ import annotations

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
            await eventually(lambda: not inner.is_running() or inner.status() == "zombie")


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
