"""How busy a worker is, what it has used and what it holds."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import targets
from contract_help import eventually

from loopworkers import LoopworkersError, PortClosed, Worker

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("target", [targets.burn, targets.burn_async])
async def test_utilization_is_0_before_and_after_and_1_for_a_busy_worker(
    kind: Any, target: Any
) -> None:
    worker = Worker(target, kind=kind)
    assert worker.utilization().ratio == 0
    async with worker:
        await worker.ready()
        before = worker.utilization()
        await worker.send(0.3)
        await worker.receive()
        busy = worker.utilization(before)
        assert busy.ratio > 0.9
        before = worker.utilization()
        await eventually(lambda: worker.utilization(before).ratio < 0.1)
    assert worker.utilization() == (0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such clocks")
async def test_cpu_time_is_what_it_has_used(kind: Any) -> None:
    async with Worker(targets.burn, kind=kind) as worker:
        await worker.ready()
        before = await worker.cpu_time()
        await worker.send(0.2)
        await worker.receive()
        assert 0.15 < await worker.cpu_time() - before < 2
    with pytest.raises(PortClosed):
        await worker.cpu_time()


async def test_memory_of_a_process_and_of_no_other(kind: Any) -> None:
    async with Worker(targets.echo, kind=kind) as worker:
        await worker.ready()
        if kind == "process":
            assert 4 << 20 < await worker.memory() < 200 << 20
        else:
            with pytest.raises(LoopworkersError, match="cannot be measured"):
                await worker.memory()


async def test_figures_directly_after_the_start_wait_for_it(own_memory: Any) -> None:
    async with Worker(targets.echo, kind=own_memory) as worker:
        assert await worker.cpu_time() > 0
    if own_memory == "process":
        async with Worker(targets.echo, kind=own_memory) as worker:
            assert await worker.memory() > 1 << 20
