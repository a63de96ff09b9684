"""How workers end, by themselves and because the cluster ends."""

from __future__ import annotations

import signal
from typing import Any

import anyio
import members
import pytest
from clients import Client, ask, exit_of, port_of
from contract_help import LONG, eventually, on_asyncio

from loopworkers import (
    Cluster,
    ClusterFailed,
    ClusterStopped,
    Restart,
    WorkerDied,
    WorkerDraining,
    WorkerExited,
    WorkerKilled,
    WorkerReady,
    WorkerRestarting,
    WorkerStarted,
)

# ruff: noqa: ASYNC110, PT012  (a cluster raises when its block is left)
pytestmark = pytest.mark.anyio
LOCAL = "127.0.0.1:0"


# --- the end of a worker -------------------------------------------------------------------------


async def test_a_crash_is_not_voluntary_and_the_place_is_filled_again(kind: Any) -> None:
    async with Cluster(members.fail_when_told, workers=1, kind=kind, grace=0) as cluster:
        events = cluster.events()
        await cluster.ready()
        (first,) = cluster.workers.values()
        await first.send("go on")
        ended = await exit_of(events)
        assert ended.worker is first
        assert (ended.exitcode, ended.voluntary) == (1, False)
        assert isinstance(ended.error, ZeroDivisionError)
        assert first.id not in cluster.workers
        assert await anext(events) == WorkerRestarting(first, 0.0)
        await cluster.ready()
        (second,) = cluster.workers.values()
        assert (second.seat, second.id != first.id) == (first.seat, True)


async def test_accidents_are_logged_though_nobody_reads_events(kind: Any, caplog: Any) -> None:
    async with Cluster(members.fail_when_told, workers=1, kind=kind, grace=0) as cluster:
        await cluster.ready()
        (worker,) = cluster.workers.values()
        await worker.send("go on")
        await eventually(lambda: worker.id not in cluster.workers)
        await cluster.ready()
        await cluster.kill(*cluster.workers)  # that is none
        await cluster.ready()
    # A killed isolate may have something to say as well.
    said = [each for each in caplog.messages if each.startswith("worker ")]
    assert len(said) == 1
    assert said[0].startswith(f"worker {worker.id}")
    assert "ZeroDivisionError" in caplog.text
    assert "in fail_when_told" in caplog.text


async def test_a_signal_is_told_and_not_voluntary(caplog: Any) -> None:
    async with Cluster(members.serve, workers=1, listen=LOCAL) as cluster:
        events = cluster.events()
        await cluster.ready()
        pid = next(iter(cluster.workers.values())).pid
        with pytest.raises((anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError)):
            await ask(cluster, b"die")
        ended = await exit_of(events)
        assert (ended.exitcode, ended.voluntary) == (-signal.SIGKILL, False)
        assert isinstance(ended.error, WorkerDied | None)
        assert f"(process {pid}) ended unasked, with code -9" in caplog.text
        await cluster.ready()
        await ask(cluster)


@pytest.mark.parametrize("code", [0, 7])
async def test_sys_exit_gives_its_code_and_is_not_voluntary(kind: Any, code: int) -> None:
    async with Cluster(members.exit_when_told, workers=1, kind=kind, grace=0) as cluster:
        events = cluster.events()
        await cluster.ready()
        (worker,) = cluster.workers.values()
        await worker.send(code)
        ended = await exit_of(events)
        assert (ended.exitcode, ended.voluntary, ended.error) == (code, False, None)


async def test_every_worker_tells_its_life_in_order_and_once(kind: Any) -> None:
    async with Cluster(members.serve, workers=2, kind=kind, listen=LOCAL) as cluster:
        events = cluster.events()
        await cluster.ready()
    told: dict[int, list[type]] = {}
    async for event in events:
        if not isinstance(event, ClusterStopped):
            told.setdefault(event.worker.id, []).append(type(event))
    life = [WorkerStarted, WorkerReady, WorkerDraining, WorkerExited]
    assert list(told.values()) == [life, life]


async def test_one_that_cannot_be_replaced_stops_the_cluster(
    kind: Any, tmp_path: Any, caplog: Any
) -> None:
    flag = tmp_path / "flag"
    restart = Restart(delay=0.001, failures=3)
    with pytest.raises(ClusterFailed, match="there it is"):
        async with Cluster(
            members.fail_if_there_is, str(flag), workers=1, kind=kind, listen=LOCAL, restart=restart
        ) as cluster:
            events = cluster.events()
            await cluster.ready()
            flag.touch()
            await cluster.kill(next(iter(cluster.workers)))
            await cluster.wait()
    ends = [event async for event in events if isinstance(event, WorkerExited)]
    assert len(ends) == 1 + 3
    said = [each for each in caplog.records if "ZeroDivisionError('there it is')" in each.message]
    assert len(said) == 2  # and the last was raised


async def test_kill_ends_one_that_never_returns(kind: Any) -> None:
    async with Cluster(members.spin_when_told, workers=1, kind=kind, grace=0) as cluster:
        events = cluster.events()
        await cluster.ready()
        (worker,) = cluster.workers.values()
        await worker.receive()
        await worker.send("spin")
        await cluster.kill(worker.id)
        assert not (await exit_of(events)).voluntary
        with pytest.raises(KeyError):
            await cluster.kill(worker.id)


@pytest.mark.parametrize("begun", [False, True], ids=["made", "begun"])
async def test_killing_one_that_starts_fills_its_place_again(kind: Any, begun: bool) -> None:
    async with Cluster(members.never_ready, workers=1, kind=kind, grace=0) as cluster:
        events = cluster.events()
        (worker,) = cluster.workers.values()
        if begun:
            await worker.send("it has its port by now")
        await cluster.kill(worker.id)
        with anyio.fail_after(LONG):
            while not isinstance(await anext(events), WorkerRestarting):
                pass
            assert isinstance(await anext(events), WorkerStarted)


# --- draining ------------------------------------------------------------------------------------


async def test_drain_lets_live_connections_end_first(kind: Any, policy: Any) -> None:
    async with Cluster(members.serve, workers=2, kind=kind, listen=LOCAL, policy=policy) as cluster:
        events = cluster.events()
        await cluster.ready()
        port = port_of(cluster)
        async with await Client.connect(cluster) as client, anyio.create_task_group() as group:
            await client.ask(b"hello")
            group.start_soon(cluster.drain)
            with anyio.fail_after(LONG):
                while not isinstance(await anext(events), WorkerDraining):
                    pass

            async def is_refused() -> bool:
                try:
                    await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
                except OSError:
                    return True
                return False

            with anyio.fail_after(LONG):
                while not await is_refused():
                    await anyio.sleep(0.002)
            assert (await client.ask(b"still there"))[1] == b"still there"
            await client.close()
        ends = [event async for event in events if isinstance(event, WorkerExited)]
        assert [(e.exitcode, e.voluntary) for e in ends] == [(0, True), (0, True)]


@on_asyncio
async def test_draining_lets_live_connections_end_on_uvloop_too(policy: Any) -> None:
    pytest.importorskip("uvloop")
    async with Cluster(
        members.serve, workers=1, listen=LOCAL, policy=policy, backend="uvloop"
    ) as cluster:
        events = cluster.events()
        await cluster.ready()
        (worker,) = cluster.workers.values()
        async with await Client.connect(cluster) as client, anyio.create_task_group() as group:
            await client.ask(b"hello")
            assert worker.connections == 1
            group.start_soon(cluster.drain)
            with anyio.fail_after(LONG):
                while not isinstance(await anext(events), WorkerDraining):
                    pass
            assert (await client.ask(b"wait 0.1"))[1] == b"wait 0.1"
            await client.close()
        assert (await exit_of(events)).exitcode == 0


async def test_drain_twice_at_once_and_again_afterwards(kind: Any) -> None:
    async with Cluster(members.serve, workers=2, kind=kind, listen=LOCAL) as cluster:
        await cluster.ready()
        async with anyio.create_task_group() as group:
            group.start_soon(cluster.drain)
            group.start_soon(cluster.drain)
        assert not cluster.workers
        await cluster.drain()
        await cluster.wait()


async def test_draining_again_tells_of_it_once_and_can_shorten_it(kind: Any, caplog: Any) -> None:
    async with Cluster(members.ignore_stopping, workers=2, kind=kind, backend="asyncio") as cluster:
        events = cluster.events()
        await cluster.ready()
        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as group:
                group.start_soon(cluster.drain, 60)
                await anyio.wait_all_tasks_blocked()
                group.start_soon(cluster.drain, 0)
                group.start_soon(cluster.drain, 0)
    told = [event async for event in events]
    for each in (WorkerDraining, WorkerKilled, WorkerExited):
        assert len([event for event in told if isinstance(event, each)]) == 2
    # Nobody wonders what they were doing instead.
    assert not [record for record in caplog.records if "stacks" in record.message]


async def test_those_that_start_when_another_fails_are_not_said_to_be_late(
    kind: Any, caplog: Any
) -> None:
    with pytest.raises(ClusterFailed, match="on purpose"):
        async with Cluster(members.fail_in_seat, 1, workers=3, kind=kind, grace=0) as cluster:
            events = cluster.events()
            await cluster.ready()
    told = [event async for event in events]
    assert not [event for event in told if isinstance(event, WorkerKilled)]
    assert not [record for record in caplog.records if "is killed" in record.message]


async def test_drain_during_the_start(kind: Any) -> None:
    async with Cluster(members.serve, workers=2, kind=kind, listen=LOCAL) as cluster:
        await cluster.drain()
        assert not cluster.workers


async def test_what_does_not_finish_in_time_is_killed_and_its_stacks_are_told(
    kind: Any, capfd: Any
) -> None:
    async with Cluster(members.spin_when_told, workers=1, kind=kind, grace=0.05) as cluster:
        events = cluster.events()
        await cluster.ready()
        (worker,) = cluster.workers.values()
        await worker.receive()
        await worker.send("spin")
        await cluster.drain()
    told = [event async for event in events]
    assert WorkerKilled(worker, "grace") in told
    ended = next(event for event in told if isinstance(event, WorkerExited))
    assert ended.voluntary
    assert "spin_when_told" in capfd.readouterr().err


async def test_an_exception_in_the_block_ends_all_at_once(kind: Any) -> None:
    async def fail() -> None:
        async with Cluster(members.ignore_stopping, workers=2, kind=kind, grace=60) as cluster:
            await cluster.ready()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), anyio.fail_after(LONG):
        await fail()


async def test_a_cancellation_ends_all_at_once(kind: Any) -> None:
    with anyio.CancelScope() as scope:
        async with Cluster(members.serve, workers=2, kind=kind, listen=LOCAL, grace=60) as cluster:
            await cluster.ready()
            client = await Client.connect(cluster)
            await client.ask(b"hello")
            scope.cancel()
    assert not cluster.workers
    with anyio.CancelScope(shield=True):
        await client.close()
