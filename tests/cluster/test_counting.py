"""What is counted of a worker's connections, on every loop."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import members
import pytest
from clients import Client, answers, connect, skip_without
from contract_help import LONG, eventually

from loopworkers import Cluster

pytestmark = pytest.mark.anyio
LOCAL = "127.0.0.1:0"


async def test_nothing_is_handed_over_where_workers_accept_by_themselves(
    kind: Any, policy: Any
) -> None:
    async with Cluster(members.serve, workers=1, kind=kind, listen=LOCAL, policy=policy) as cluster:
        await cluster.ready()
        (worker,) = cluster.workers.values()
        async with await Client.connect(cluster) as client:
            await client.ask(b"hello")
            assert (worker.connections, worker.untaken) == (1, 0)


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
async def test_who_has_said_that_it_serves_is_not_late_for_loading_modules(
    kind: Any, backend: Any
) -> None:
    skip_without(backend, kind)
    async with Cluster(members.tell_imports, workers=1, kind=kind, backend=backend) as cluster:
        await cluster.ready()
        (worker,) = cluster.workers.values()
        assert await worker.receive(LONG) == []


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
async def test_closed_connections_are_not_counted_until_garbage_is_collected(
    kind: Any, backend: Any, policy: Any
) -> None:
    skip_without(backend, kind)
    async with Cluster(
        members.serve_without_collector,
        workers=1,
        kind=kind,
        listen=LOCAL,
        policy=policy,
        backend=backend,
    ) as cluster:
        await cluster.ready()
        (worker,) = cluster.workers.values()
        async with AsyncExitStack() as stack:
            await answers(await connect(cluster, 3, stack))
            assert worker.connections == 3
        await eventually(lambda: worker.connections == 0)
