"""What can be changed while a cluster runs: its workers, their number, their settings."""

from __future__ import annotations

from typing import Any

import anyio
import members
import pytest
from clients import Load, ask
from contract_help import LONG, eventually

from loopworkers import (
    Cluster,
    ClusterFailed,
    WorkerDraining,
    WorkerExited,
    WorkerReady,
)

pytestmark = pytest.mark.anyio
LOCAL = "127.0.0.1:0"


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


async def test_one_that_dies_while_others_are_added_is_replaced(kind: Any, tmp_path: Any) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    async with Cluster(members.serve_unless_held, 2, str(hold), workers=1, kind=kind) as cluster:
        await cluster.ready()
        events = cluster.events()
        async with anyio.create_task_group() as group:
            group.start_soon(cluster.scale, 3)
            with anyio.fail_after(LONG):
                while not isinstance(event := await anext(events), WorkerReady):
                    pass
                await cluster.kill(event.worker.id)
            hold.unlink()
        with anyio.fail_after(LONG):
            await cluster.ready()
        assert sorted(worker.seat for worker in cluster.workers.values()) == [0, 1, 2]


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
    async with Cluster(members.return_when_told, workers=1, kind=kind, grace=0) as cluster:
        await cluster.ready()
        (worker,) = cluster.workers.values()
        await worker.send("return")
        await eventually(lambda: worker.id not in cluster.workers)
        await cluster.ready()
        assert len(cluster.workers) == 1
