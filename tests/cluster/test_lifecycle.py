"""How a cluster starts, is changed while it runs, and ends."""

from __future__ import annotations

import signal
import socket
from typing import Any

import anyio
import members
import pytest
from clients import Client, Load, ask, port_of, spread
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


async def ready_events(events: Any, count: int) -> list[Any]:
    """Read on until so many workers were ready; what was read."""
    read = []
    with anyio.fail_after(LONG):
        while count:
            read.append(await anext(events))
            count -= isinstance(read[-1], WorkerReady)
    return read


async def exit_of(events: Any) -> WorkerExited:
    with anyio.fail_after(LONG):
        async for event in events:
            if isinstance(event, WorkerExited):
                return event
    raise AssertionError("no worker has ended")


# --- starting ------------------------------------------------------------------------------------


async def test_every_worker_serves_on_one_port(kind: Any, policy: Any) -> None:
    async with Cluster(members.serve, workers=2, kind=kind, listen=LOCAL, policy=policy) as cluster:
        await cluster.ready()
        seen: set[int] = set()
        with anyio.fail_after(LONG):
            while seen != set(cluster.workers):
                assert (await ask(cluster, b"kind"))[1] == kind.encode()
                async with anyio.create_task_group() as group:

                    async def look() -> None:
                        seen.add((await ask(cluster, b"burn 0.01"))[0])

                    for _ in range(8):
                        group.start_soon(look)


async def test_a_plain_function_serves_as_well(kind: Any, policy: Any) -> None:
    start = members.serve_blocking
    async with Cluster(start, workers=2, kind=kind, listen=LOCAL, policy=policy) as cluster:
        await cluster.ready()
        assert sum((await spread(cluster, 6)).values()) == 6


async def test_a_lambda_and_a_closure_can_be_the_target(kind: Any) -> None:
    serve = members.serve
    async with Cluster(lambda member: serve(member), workers=1, kind=kind, listen=LOCAL) as cluster:
        await cluster.ready()
        assert (await ask(cluster))[1] == b"hello"


@on_asyncio
@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
async def test_the_members_loop_can_be_another(backend: Any, policy: Any) -> None:
    if backend == "uvloop":
        pytest.importorskip("uvloop")
    cluster = Cluster(members.serve, workers=2, listen=LOCAL, policy=policy, backend=backend)
    async with cluster:
        await cluster.ready()
        assert sum((await spread(cluster, 10)).values()) == 10
        await cluster.reload()
        assert sum((await spread(cluster, 10)).values()) == 10


async def test_several_addresses(kind: Any, policy: Any) -> None:
    listen = [LOCAL, LOCAL]
    async with Cluster(members.serve, workers=2, kind=kind, listen=listen, policy=policy) as both:
        await both.ready()
        for url in both.addresses:
            stream = await anyio.connect_tcp("127.0.0.1", int(url.rpartition(":")[2]))
            async with Client(stream) as client:
                assert (await client.ask(b"hello"))[1] == b"hello"


async def test_a_port_in_use_raises_at_once(policy: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="in use") as raised:
            async with Cluster(members.serve, listen=listen, policy=policy):
                raise AssertionError("it was entered")
        assert listen in str(raised.value)


async def test_the_port_is_free_after_the_end(kind: Any, policy: Any) -> None:
    async with Cluster(members.serve, workers=2, kind=kind, listen=LOCAL, policy=policy) as cluster:
        await cluster.ready()
        port = port_of(cluster)
    with pytest.raises(OSError, match=r"."):
        await anyio.connect_tcp("127.0.0.1", port)
    listen = f"127.0.0.1:{port}"
    async with Cluster(members.serve, workers=1, kind=kind, listen=listen, policy=policy) as again:
        await again.ready()
        await ask(again)


# --- those that do not start ---------------------------------------------------------------------


async def test_a_worker_that_fails_at_its_start_stops_the_cluster(kind: Any) -> None:
    with pytest.raises(ClusterFailed, match="on purpose") as raised:
        async with Cluster(members.fail_at_start, workers=2, kind=kind) as cluster:
            events = cluster.events()
            await cluster.ready()
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    *_, last = [event async for event in events]
    assert last == ClusterStopped(raised.value)


async def test_leaving_the_block_raises_what_nobody_was_told(kind: Any) -> None:
    with pytest.raises(ClusterFailed):
        async with Cluster(members.fail_at_start, workers=1, kind=kind) as cluster:
            async for event in cluster.events():
                if isinstance(event, WorkerExited):
                    break


async def test_a_worker_that_returns_before_it_is_ready_stops_the_cluster(kind: Any) -> None:
    with pytest.raises(ClusterFailed, match="code 0"):
        async with Cluster(members.return_at_start, workers=1, kind=kind) as cluster:
            await cluster.wait()


async def test_a_worker_that_is_not_ready_in_time_stops_the_cluster(kind: Any) -> None:
    with pytest.raises(ClusterFailed, match=r"ready\(\) within"):
        async with Cluster(members.never_ready, workers=1, kind=kind, start_timeout=0.2) as cluster:
            await cluster.ready()


async def test_what_cannot_be_is_refused() -> None:
    for options in (
        {"workers": 0},
        {"kind": "thread"},
        {"policy": "sometimes"},
        {"max_connections": 3},
        {"listen": "nowhere"},
    ):
        with pytest.raises(ValueError, match=r"."):
            async with Cluster(members.serve, **options):
                raise AssertionError("it was entered")
    with pytest.raises(TypeError, match="callable"):
        Cluster(3)  # type: ignore[arg-type]


# --- the end of a worker -------------------------------------------------------------------------


async def test_a_crash_is_not_voluntary_and_the_place_is_filled_again(kind: Any) -> None:
    async with Cluster(members.fail_when_told, workers=1, kind=kind) as cluster:
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


async def test_a_signal_is_told_and_not_voluntary() -> None:
    async with Cluster(members.serve, workers=1, listen=LOCAL) as cluster:
        events = cluster.events()
        await cluster.ready()
        with pytest.raises((anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError)):
            await ask(cluster, b"die")
        ended = await exit_of(events)
        assert (ended.exitcode, ended.voluntary) == (-signal.SIGKILL, False)
        assert isinstance(ended.error, WorkerDied | None)
        await cluster.ready()
        await ask(cluster)


@pytest.mark.parametrize("code", [0, 7])
async def test_sys_exit_gives_its_code_and_is_not_voluntary(kind: Any, code: int) -> None:
    async with Cluster(members.exit_when_told, workers=1, kind=kind) as cluster:
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


async def test_one_that_cannot_be_replaced_stops_the_cluster(kind: Any, tmp_path: Any) -> None:
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


async def test_kill_ends_one_that_never_returns(kind: Any) -> None:
    async with Cluster(members.spin_when_told, workers=1, kind=kind) as cluster:
        events = cluster.events()
        await cluster.ready()
        (worker,) = cluster.workers.values()
        await worker.receive()
        await worker.send("spin")
        await cluster.kill(worker.id)
        assert not (await exit_of(events)).voluntary
        with pytest.raises(KeyError):
            await cluster.kill(worker.id)


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


async def test_drain_twice_at_once_and_again_afterwards(kind: Any) -> None:
    async with Cluster(members.serve, workers=2, kind=kind, listen=LOCAL) as cluster:
        await cluster.ready()
        async with anyio.create_task_group() as group:
            group.start_soon(cluster.drain)
            group.start_soon(cluster.drain)
        assert not cluster.workers
        await cluster.drain()
        await cluster.wait()


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


# --- changes while it runs -----------------------------------------------------------------------


async def test_reload_replaces_each_after_its_successor_serves(kind: Any) -> None:
    async with Cluster(members.serve, workers=2, kind=kind, listen=LOCAL) as cluster:
        await cluster.ready()
        before = set(cluster.workers)
        events = cluster.events()
        await cluster.reload()
        assert not before & set(cluster.workers)
        assert len(cluster.workers) == 2
        await cluster.drain()
        told = [
            type(event)
            async for event in events
            if isinstance(event, WorkerReady | WorkerDraining | WorkerExited)
        ]
        assert told[:6] == [WorkerReady, WorkerDraining, WorkerExited] * 2


async def test_a_reload_that_fails_leaves_the_old_ones(kind: Any, tmp_path: Any) -> None:
    flag = tmp_path / "flag"
    target = members.fail_if_there_is
    async with Cluster(target, str(flag), workers=2, kind=kind, listen=LOCAL) as cluster:
        await cluster.ready()
        before = set(cluster.workers)
        flag.touch()
        with pytest.raises(ClusterFailed, match="there it is"):
            await cluster.reload()
        assert set(cluster.workers) == before
        await ask(cluster)


async def test_scale_up_and_down(kind: Any, policy: Any) -> None:
    async with Cluster(members.serve, workers=1, kind=kind, listen=LOCAL, policy=policy) as cluster:
        await cluster.ready()
        await cluster.scale(3)
        assert [worker.state for worker in cluster.workers.values()] == ["ready"] * 3
        await cluster.scale(1)
        assert [worker.seat for worker in cluster.workers.values()] == [0]
        await ask(cluster)


async def test_new_settings_are_for_later_workers(kind: Any) -> None:
    env = {"LOOPWORKERS_TEST": "first"}
    async with Cluster(members.serve, workers=1, kind=kind, listen=LOCAL, env=env) as cluster:
        await cluster.ready()
        cluster.configure(env={"LOOPWORKERS_TEST": "second"})
        assert (await ask(cluster, b"environment"))[1] == b"first"
        await cluster.reload()
        assert (await ask(cluster, b"environment"))[1] == b"second"


async def test_load_goes_on_through_reload_and_scale(kind: Any, policy: Any) -> None:
    async with Cluster(members.serve, workers=2, kind=kind, listen=LOCAL, policy=policy) as cluster:
        await cluster.ready()
        async with Load(cluster) as load:
            await load.more(20)
            await cluster.reload()
            await cluster.scale(3)
            await load.more(20)
            if policy != "reuse_port":
                await cluster.scale(1)
            await load.more(20)
        assert load.lost == []


async def test_a_worker_that_returned_is_replaced(kind: Any) -> None:
    async with Cluster(members.return_when_told, workers=1, kind=kind) as cluster:
        await cluster.ready()
        (worker,) = cluster.workers.values()
        await worker.send("return")
        await eventually(lambda: worker.id not in cluster.workers)
        await cluster.ready()
        assert len(cluster.workers) == 1
