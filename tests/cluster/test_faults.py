"""What goes wrong with workers, or with the primary, and what becomes of it."""

from __future__ import annotations

import errno
import os
import signal
from contextlib import AsyncExitStack
from typing import Any

import anyio
import members
import pytest
from clients import Client, Load, ask, connect, skip_without, spread
from contract_help import LONG, eventually

from loopworkers import (
    Cluster,
    Recycle,
    Restart,
    WorkerDraining,
    WorkerExited,
    WorkerKilled,
    WorkerReady,
    WorkerRestarting,
    WorkerStarted,
)
from loopworkers._cluster import supervisor, worker

LOCAL = "127.0.0.1:0"


@pytest.fixture
def checks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_CHECK_EVERY", 0.02)


async def next_of(events: Any, kind: Any) -> Any:
    with anyio.fail_after(LONG):
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"there was no {kind}")


# --- workers that do not answer ------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
async def test_an_unresponsive_worker_is_killed_and_replaced(
    kind: Any, backend: Any, capfd: Any, checks_often: None
) -> None:
    skip_without(backend, kind)
    async with Cluster(
        members.spin_when_told,
        workers=1,
        kind=kind,
        backend=backend,
        unresponsive=0.5,
        grace=0,
    ) as cluster:
        events = cluster.events()
        await cluster.ready()
        (worker,) = cluster.workers.values()
        await worker.receive(LONG)
        await worker.send("spin")
        assert await next_of(events, WorkerKilled) == WorkerKilled(worker, "unresponsive")
        ended = await next_of(events, WorkerExited)
        assert (ended.worker, ended.voluntary) == (worker, False)
        await cluster.ready()
        assert worker.id not in cluster.workers
    assert "in spin_when_told" in capfd.readouterr().err


@pytest.mark.anyio
async def test_without_being_told_to_it_kills_nobody(kind: Any, checks_often: None) -> None:
    async with Cluster(members.spin_when_told, workers=1, kind=kind, grace=0) as cluster:
        events = cluster.events()
        await cluster.ready()
        (worker,) = cluster.workers.values()
        await worker.receive(LONG)
        await worker.send("spin")
        await eventually(lambda: worker.loop_delay > 0.3)
        assert list(cluster.workers) == [worker.id]
    told = [event async for event in events]
    assert [e.reason for e in told if isinstance(e, WorkerKilled)] == ["grace"]


@pytest.mark.anyio
async def test_one_that_has_answered_is_not_killed_for_having_been_late(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_CHECK_EVERY", LONG)  # here by hand
    async with Cluster(
        members.serve, workers=1, kind=kind, listen=LOCAL, unresponsive=0.2
    ) as cluster:
        await cluster.ready()
        (worker,) = cluster.workers.values()
        async with await Client.connect(cluster) as client:
            while worker.loop_delay < 0.2:  # its answer may be faster than the line
                await client.send(b"burn 0.5")
                cluster._supervisor._check()
                await client.answer()
                await eventually(lambda: worker._silent_for == 0)
        cluster._supervisor._check()
        assert (await ask(cluster))[0] == worker.id
        assert worker.state == "ready"


# --- workers that want for something ------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("policy", ["round_robin", "least_busy"])
async def test_a_worker_without_descriptors_serves_again_when_it_has_some(
    policy: Any, caplog: Any
) -> None:
    async with Cluster(
        members.serve_with_few_descriptors, 5, workers=1, listen=LOCAL, policy=policy
    ) as cluster:
        await cluster.ready()
        (worker,) = cluster.workers.values()
        async with AsyncExitStack() as stack:
            clients = await connect(cluster, 40, stack)
            answered = 0
            for client in clients:
                with anyio.fail_after(LONG):
                    try:
                        await client.answer()
                    except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
                        continue
                answered += 1
            assert 5 <= answered < 40
        await eventually(lambda: worker.connections == worker.untaken == 0)
        assert set(await spread(cluster, 20)) == {worker.id}
    assert "may open no more files" in caplog.text


# --- recycling -----------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("why", ["requests", "age", "memory"])
async def test_a_successor_serves_before_a_worker_is_recycled(
    kind: Any, why: str, checks_often: None
) -> None:
    if (kind, why) == ("isolate", "memory"):
        with pytest.raises(ValueError, match="isolate"):
            Cluster(members.serve, kind="isolate", recycle=Recycle(memory=1))
        return
    limits: Any = {"requests": 10, "age": 0.5, "memory": 1 << 20}
    async with Cluster(
        members.serve,
        workers=1,
        kind=kind,
        listen=LOCAL,
        recycle=Recycle(**{why: limits[why]}, jitter=0.0),
    ) as cluster:
        events = cluster.events()
        await cluster.ready()
        (first,) = cluster.workers.values()
        async with Load(cluster, 2) as load:
            ready = await next_of(events, WorkerReady)
            if ready.worker is first:
                ready = await next_of(events, WorkerReady)
            assert await next_of(events, WorkerDraining) == WorkerDraining(first, why)  # type: ignore[arg-type]
            ended = await next_of(events, WorkerExited)
            assert (ended.worker, ended.exitcode, ended.voluntary) == (first, 0, True)
        assert load.lost == []
        assert ready.worker.seat == first.seat
        if why == "requests":
            assert first.requests >= 10


@pytest.mark.anyio
async def test_a_recycled_worker_finishes_what_it_does(kind: Any, checks_often: None) -> None:
    async with Cluster(
        members.serve, workers=1, kind=kind, listen=LOCAL, recycle=Recycle(requests=1, jitter=0)
    ) as cluster:
        events = cluster.events()
        await cluster.ready()
        async with await Client.connect(cluster) as client:
            id, _ = await client.ask(b"hello")
            assert (await next_of(events, WorkerDraining)).worker.id == id
            assert await client.ask(b"still there") == (id, b"still there")
        assert (await next_of(events, WorkerExited)).worker.id == id
        assert (await ask(cluster))[0] != id


@pytest.mark.anyio
async def test_scaling_down_is_not_undone_by_a_successor(
    kind: Any, tmp_path: Any, checks_often: None
) -> None:
    hold = tmp_path / "hold"
    async with Cluster(
        members.serve_unless_held,
        1,
        str(hold),
        workers=2,
        kind=kind,
        listen=LOCAL,
        policy=lambda peer, workers: workers[-1],
        recycle=Recycle(requests=1, jitter=0),
    ) as cluster:
        await cluster.ready()
        events = cluster.events()
        hold.touch()
        await ask(cluster)
        successor = (await next_of(events, WorkerStarted)).worker
        await cluster.scale(1)
        hold.unlink()
        with anyio.fail_after(LONG):
            while (await next_of(events, WorkerExited)).worker is not successor:
                pass
        assert [worker.seat for worker in cluster.workers.values()] == [0]


# --- being replaced ------------------------------------------------------------------------------


def test_delays_double_up_to_the_longest() -> None:
    restart = Restart(delay=0.1, longest=1.0)
    delays = [restart.delay_after(accidents) for accidents in range(1, 8)]
    assert delays == pytest.approx([0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert restart.delay_after(10**6) == 1.0


@pytest.mark.anyio
async def test_one_that_dies_again_and_again_is_replaced_ever_later(kind: Any) -> None:
    restart = Restart(delay=0.01, longest=0.04, stable=3600, failures=2)
    async with Cluster(
        members.fail_when_told, workers=1, kind=kind, restart=restart, grace=0
    ) as cluster:
        events = cluster.events()
        delays = []
        for _ in range(7):  # more often than `failures`, which are those that never served
            await cluster.ready()
            (worker,) = cluster.workers.values()
            await worker.send("go on")
            delays.append((await next_of(events, WorkerRestarting)).delay)
        assert delays == pytest.approx([0, 0.01, 0.02, 0.04, 0.04, 0.04, 0.04])
        await cluster.ready()


@pytest.mark.anyio
async def test_killing_is_no_accident_and_delays_nothing(kind: Any) -> None:
    restart = Restart(delay=3600, longest=3600, stable=3600)
    async with Cluster(members.serve, workers=1, kind=kind, restart=restart) as cluster:
        events = cluster.events()
        for _ in range(3):
            await cluster.ready()
            await cluster.kill(*cluster.workers)
            assert (await next_of(events, WorkerRestarting)).delay == 0
        with anyio.fail_after(LONG):
            await cluster.ready()


@pytest.mark.anyio
async def test_one_that_was_stable_is_replaced_at_once() -> None:
    restart = Restart(delay=3600, stable=0)
    async with Cluster(members.serve, workers=2, restart=restart) as cluster:
        events = cluster.events()
        for _ in range(3):
            await cluster.ready()
            pid = next(iter(cluster.workers.values())).pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            assert (await next_of(events, WorkerRestarting)).delay == 0
            await cluster.ready()


@pytest.mark.anyio
async def test_one_is_replaced_when_there_are_descriptors_again(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Any] = []

    class Failing(worker.Handover):
        def __init__(self, listener: Any, ledger: Any) -> None:
            tries.append(listener)
            if len(tries) < 4:
                raise OSError(errno.EMFILE, "no descriptor is left")
            super().__init__(listener, ledger)

    restart = Restart(delay=0.001, failures=1)
    async with Cluster(
        members.serve, workers=1, kind=kind, listen=LOCAL, policy="round_robin", restart=restart
    ) as cluster:
        await cluster.ready()
        monkeypatch.setattr(worker, "Handover", Failing)
        await cluster.kill(*cluster.workers)
        with anyio.fail_after(LONG):
            await cluster.ready()
        await ask(cluster)
    assert len(tries) == 4
