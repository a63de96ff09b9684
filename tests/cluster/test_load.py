"""Nothing is lost under load: neither by changes nor, beyond what it held, by a worker's death."""

from __future__ import annotations

import os
import random
import signal
from typing import Any

import anyio
import members
import pytest
from clients import Load, ask
from contract_help import LONG, KindParams, on_asyncio

from loopworkers import Cluster, Restart, WorkerExited

pytestmark = pytest.mark.anyio
LOCAL = "127.0.0.1:0"
CLIENTS = 4
KILLS = 50


@on_asyncio
@pytest.mark.parametrize("kind", KindParams("process", "isolate"))
@pytest.mark.parametrize("policy", ["shared", "round_robin", "least_busy"])
async def test_rolling_reloads_lose_nothing(kind: Any, policy: Any) -> None:
    async with Cluster(members.serve, workers=2, kind=kind, listen=LOCAL, policy=policy) as cluster:
        await cluster.ready()
        first = max(cluster.workers)
        async with Load(cluster, CLIENTS) as load:
            for _ in range(20):
                await cluster.reload()
                await load.more(10)
        assert load.lost == []
        assert min(cluster.workers) == first + 2 * 20 - 1


@pytest.mark.parametrize(
    ("anyio_backend", "kind", "policy"),
    [
        ("asyncio", "process", "shared"),
        ("asyncio", "process", "round_robin"),
        ("trio", "process", "shared"),
        ("trio", "process", "least_busy"),
        *(
            pytest.param(*each, marks=KindParams("isolate")[0].marks)
            for each in (
                ("asyncio", "isolate", "least_busy"),
                ("trio", "isolate", "round_robin"),
            )
        ),
    ],
)
async def test_scaling_loses_nothing(kind: Any, policy: Any) -> None:
    async with Cluster(members.serve, workers=1, kind=kind, listen=LOCAL, policy=policy) as cluster:
        await cluster.ready()
        async with Load(cluster, CLIENTS) as load:
            for size in (4, 1) * 3:
                await cluster.scale(size)
                await load.more(20)
        assert load.lost == []


@on_asyncio
@pytest.mark.parametrize("policy", ["shared", "round_robin", "least_busy"])
async def test_a_killed_worker_takes_nothing_along_but_what_it_held(policy: Any) -> None:
    restart = Restart(delay=0.001, longest=0.001)
    async with Cluster(
        members.serve, workers=3, listen=LOCAL, policy=policy, restart=restart
    ) as cluster:
        await cluster.ready()
        events = cluster.events()
        async with Load(cluster, CLIENTS) as load:
            for _ in range(KILLS):
                before = len(load.lost)
                victim = random.choice(list(cluster.workers.values()))
                assert victim.pid is not None
                os.kill(victim.pid, signal.SIGKILL)
                with anyio.fail_after(LONG):
                    async for event in events:
                        if isinstance(event, WorkerExited):
                            assert event.worker is victim
                            break
                    await load.more(2 * CLIENTS)
                    await cluster.ready()
                # A client has one connection at a time, and at most all were with that worker.
                assert len(load.lost) - before <= CLIENTS
        # Those had been taken, a third of the clients on average: none was left to wait for ever.
        assert len(load.lost) < KILLS * CLIENTS
        assert not [each for each in load.lost if "Timeout" in each or "refused" in each]
        await cluster.ready()
        assert len(cluster.workers) == 3
        for _ in range(10):
            assert (await ask(cluster))[0] in cluster.workers
