"""Which worker gets a connection, and that every connection gets one."""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import members
import psutil
import pytest
from clients import Client, answers, ask, connect, port_of, spread
from contract_help import LONG, eventually

from loopworkers import Cluster, WorkerDraining
from loopworkers._cluster import dealer

pytestmark = pytest.mark.anyio
LOCAL = "127.0.0.1:0"
HANDING_OVER = pytest.mark.parametrize("policy", ["round_robin", "least_busy"])


@pytest.fixture
def nobody_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is."""
    monkeypatch.setattr(dealer, "_PATIENCE", LONG)


def first_of(peer: Any, workers: Any) -> Any:
    return workers[0]


def by_seat(cluster: Any, seat: int) -> Any:
    return next(worker for worker in cluster.workers.values() if worker.seat == seat)


async def occupy(client: Client, flag: Any) -> None:
    """Its worker computes until it is killed."""
    await client.send(b"spin " + os.fsencode(flag))
    await eventually(flag.exists)


# --- in turn -------------------------------------------------------------------------------------


async def test_round_robin_gives_everybody_as_many(kind: Any, nobody_is_late: None) -> None:
    cluster = Cluster(members.serve, workers=3, kind=kind, listen=LOCAL, policy="round_robin")
    async with cluster:
        await cluster.ready()
        assert sorted((await spread(cluster, 10)).values()) == [3, 3, 4]


@HANDING_OVER
async def test_a_busy_workers_connections_go_to_another(
    kind: Any, policy: Any, tmp_path: Any
) -> None:
    async with (
        Cluster(members.serve, workers=2, kind=kind, listen=LOCAL, policy=policy) as cluster,
        AsyncExitStack() as stack,
    ):
        await cluster.ready()
        (busy,) = await connect(cluster, 1, stack)
        (busy_id,) = await answers([busy])
        await occupy(busy, tmp_path / "flag")
        ids = await answers(await connect(cluster, 20, stack))
        assert len(set(ids)) == 1
        assert busy_id not in ids
        await cluster.kill(busy_id)


async def test_connections_that_a_killed_worker_had_not_taken_are_answered(
    kind: Any, policy: Any, tmp_path: Any
) -> None:
    async with (
        Cluster(members.serve, workers=1, kind=kind, listen=LOCAL, policy=policy) as cluster,
        AsyncExitStack() as stack,
    ):
        await cluster.ready()
        (busy,) = await connect(cluster, 1, stack)
        (busy_id,) = await answers([busy])
        await occupy(busy, tmp_path / "flag")
        waiting = await connect(cluster, 12, stack)
        if policy in ("round_robin", "least_busy"):  # some are with it, the others wait here
            await eventually(lambda: cluster.workers[busy_id].untaken)
        await cluster.kill(busy_id)
        assert busy_id not in await answers(waiting)


async def test_every_connection_outlives_all_stopped_workers(policy: Any) -> None:
    async with (
        Cluster(members.serve, workers=2, listen=LOCAL, policy=policy) as cluster,
        AsyncExitStack() as stack,
    ):
        await cluster.ready()
        before = list(cluster.workers.values())
        for worker in before:
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGSTOP)
            await eventually(lambda pid=worker.pid: psutil.Process(pid).status() == "stopped")
        waiting = await connect(cluster, 20, stack)
        if policy in ("round_robin", "least_busy"):
            # The first that is found late gets none while the other may still take some.
            await eventually(lambda: any(worker.untaken for worker in before))
        for worker in before:
            os.kill(worker.pid, signal.SIGKILL)  # type: ignore[arg-type]
        assert not {worker.id for worker in before} & set(await answers(waiting))


@pytest.mark.parametrize("policy", ["round_robin", "least_busy", first_of])
@pytest.mark.parametrize("workers", [1, 2])
async def test_draining_serves_what_was_dealt_and_not_yet_taken(
    kind: Any, policy: Any, workers: int, tmp_path: Any
) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    async with Cluster(
        members.serve, workers=workers, kind=kind, listen=LOCAL, policy=policy
    ) as cluster:
        await cluster.ready()
        async with AsyncExitStack() as stack, anyio.create_task_group() as group:
            for worker in cluster.workers.values():
                if policy is first_of and worker.seat > 0:
                    continue
                (busy,) = await connect(cluster, 1, stack)
                id, _ = await busy.answer()
                await busy.send(b"hold " + os.fsencode(hold))
                await eventually(Path(f"{hold}.{id}").exists)
            dealt = await connect(cluster, 5, stack)
            await eventually(
                lambda: sum(worker.untaken for worker in cluster.workers.values()) == 5
            )
            events = cluster.events()
            group.start_soon(cluster.drain)
            with anyio.fail_after(LONG):
                while not isinstance(await anext(events), WorkerDraining):
                    pass
            hold.unlink()
            await answers(dealt)
            await stack.aclose()


# --- by what they do -----------------------------------------------------------------------------


async def test_least_busy_prefers_who_has_fewer_connections(
    kind: Any, nobody_is_late: None
) -> None:
    async with (
        Cluster(members.serve, workers=3, kind=kind, listen=LOCAL, policy="least_busy") as cluster,
        AsyncExitStack() as stack,
    ):
        await cluster.ready()
        clients = await connect(cluster, 9, stack)
        ids = await answers(clients)
        assert sorted(ids) == sorted([*cluster.workers] * 3)
        for client, id in zip(clients, ids, strict=True):
            if id == ids[4]:
                await client.close()
        emptied = cluster.workers[ids[4]]
        await eventually(lambda: emptied.connections == 0)
        assert await answers(await connect(cluster, 3, stack)) == [emptied.id] * 3
        assert [worker.connections for worker in cluster.workers.values()] == [3, 3, 3]


# --- by a function -------------------------------------------------------------------------------


async def test_a_function_chooses_and_knows_who_connects(kind: Any) -> None:
    asked: list[Any] = []

    def last(peer: Any, workers: Any) -> Any:
        asked.append((peer, [worker.seat for worker in workers]))
        return workers[-1]

    async with Cluster(members.serve, workers=2, kind=kind, listen=LOCAL, policy=last) as cluster:
        await cluster.ready()
        assert set(await spread(cluster, 5)) == {by_seat(cluster, 1).id}
    assert len(asked) == 5
    for (host, port), seats in asked:
        assert (host, port > 0, seats) == ("127.0.0.1", True, [0, 1])


async def test_a_functions_choice_holds_even_when_that_worker_is_late(kind: Any) -> None:
    async with (
        Cluster(members.serve, workers=2, kind=kind, listen=LOCAL, policy=first_of) as cluster,
        AsyncExitStack() as stack,
    ):
        await cluster.ready()
        busy, *others = await connect(cluster, 3, stack)
        await busy.send(b"burn 0.5")
        others += await connect(cluster, 10, stack)
        assert set(await answers([busy, *others])) == {by_seat(cluster, 0).id}


@pytest.mark.parametrize("rubbish", ["raises", "None", "a number", "one that has ended"])
async def test_round_robin_serves_where_the_function_fails(
    kind: Any, rubbish: str, caplog: Any
) -> None:
    ended: list[Any] = []

    def fail(peer: Any, workers: Any) -> Any:
        if rubbish == "raises":
            raise ZeroDivisionError("in the policy")
        return {"None": None, "a number": 7}[rubbish] if not ended else ended[0]

    async with Cluster(members.serve, workers=2, kind=kind, listen=LOCAL, policy=fail) as cluster:
        await cluster.ready()
        if rubbish == "one that has ended":
            ended.append(by_seat(cluster, 0))
            await cluster.kill(ended[0].id)
            await cluster.ready()
        assert set(await spread(cluster, 8)) == set(cluster.workers)
    said = "policy failed" if rubbish == "raises" else "none of the workers"
    # A killed isolate may have something to say as well.
    assert sum(said in record.message for record in caplog.records) == 8


# --- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["round_robin", "least_busy", first_of])
async def test_who_has_no_room_gets_no_more_until_one_closes(kind: Any, policy: Any) -> None:
    async with Cluster(
        members.serve, workers=1, kind=kind, listen=LOCAL, policy=policy, max_connections=2
    ) as cluster:
        await cluster.ready()
        (worker,) = cluster.workers.values()
        async with AsyncExitStack() as stack:
            first, second = await connect(cluster, 2, stack)
            await answers([first, second])
            waiting = await connect(cluster, 5, stack)
            await second.ask(b"still there")
            assert worker.connections + worker.untaken == 2
            await first.close()
            with anyio.fail_after(LONG):
                for client in waiting:  # each makes room for the next
                    assert (await client.answer())[1] == b"hello"
                    assert worker.connections + worker.untaken <= 2
                    await client.close()
            await second.ask(b"still there")


async def test_a_full_worker_passes_the_connection_on(kind: Any, nobody_is_late: None) -> None:
    async with (
        Cluster(
            members.serve,
            workers=2,
            kind=kind,
            listen=LOCAL,
            policy="round_robin",
            max_connections=1,
        ) as cluster,
        AsyncExitStack() as stack,
    ):
        await cluster.ready()
        clients = await connect(cluster, 2, stack)
        ids = await answers(clients)
        assert set(ids) == set(cluster.workers)
        for _ in range(3):  # always the same, though it is the other one's turn
            await clients.pop().close()
            clients += await connect(cluster, 1, stack)
            assert await answers(clients[-1:]) == ids[-1:]


# --- what is listened on -------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "sockets"), [("shared", 1), ("reuse_port", 2)])
async def test_how_many_sockets_the_workers_have(kind: Any, policy: Any, sockets: int) -> None:
    async with Cluster(
        members.tell_socket, workers=2, kind=kind, listen=LOCAL, policy=policy
    ) as cluster:
        await cluster.ready()
        numbers = {await worker.receive(LONG) for worker in cluster.workers.values()}
        assert len(numbers) == sockets


@pytest.mark.parametrize("policy", ["shared", "round_robin", "reuse_port"])
async def test_packets_are_shared(kind: Any, policy: Any) -> None:
    async with Cluster(
        members.serve_udp,
        workers=2,
        kind=kind,
        listen="udp://127.0.0.1:0",
        policy=policy,
        backend="asyncio",
    ) as cluster:
        await cluster.ready()
        port = port_of(cluster)
        for number in range(20):
            async with await anyio.create_connected_udp_socket("127.0.0.1", port) as client:
                with anyio.fail_after(LONG):
                    await client.send(b"%d" % number)
                    id, _, said = (await client.receive()).strip().partition(b" ")
            assert int(id) in cluster.workers
            assert int(said) == number


@pytest.mark.parametrize("policy", ["shared", "round_robin", "least_busy", first_of])
async def test_unix_sockets(kind: Any, policy: Any, tmp_path: Any) -> None:
    path = tmp_path / "s"
    async with Cluster(
        members.serve, workers=2, kind=kind, listen=f"unix:{path}", policy=policy
    ) as cluster:
        await cluster.ready()
        assert sum((await spread(cluster, 10)).values()) == 10
        await cluster.reload()
        assert (await ask(cluster, b"kind"))[1] == kind.encode()
    assert not path.exists()
