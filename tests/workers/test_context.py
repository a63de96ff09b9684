"""Context variables, set before a worker starts, are what Node's environment data is for."""

from __future__ import annotations

from threading import Lock
from typing import Any

import pytest
import targets_own
from contract_help import KindParams
from targets_own import deployment

from loopworkers import Worker

pytestmark = pytest.mark.anyio

TARGETS = [targets_own.use_deployment, targets_own.use_deployment_async]


@pytest.mark.parametrize("target", TARGETS)
async def test_what_was_set_before_the_start_is_seen_there(kind: Any, target: Any) -> None:
    for value in ("green", {"region": [1, 2]}):
        token = deployment.set(value)
        async with Worker(target, kind=kind) as worker:
            deployment.reset(token)  # it has its copy
            await worker.send(None)
            assert await worker.receive() == value
    async with Worker(target, kind=kind) as worker:
        await worker.send(None)
        assert await worker.receive() == "not set"


@pytest.mark.parametrize("inner_kind", KindParams("process", "isolate", "thread"))
async def test_what_was_set_before_the_start_is_seen_in_nested_workers(
    kind: Any, inner_kind: Any
) -> None:
    token = deployment.set("green")
    outer, args = targets_own.pass_on_to_a_nested_worker, (targets_own.use_deployment, inner_kind)
    async with Worker(outer, *args, kind=kind) as worker:
        deployment.reset(token)
        await worker.send(None)
        assert await worker.receive() == "green"


@pytest.mark.parametrize("target", TARGETS)
async def test_what_is_set_in_a_worker_stays_there(kind: Any, target: Any) -> None:
    async with Worker(target, kind=kind) as worker:
        await worker.send("blue")
        assert await worker.receive() == "blue"
        assert deployment.get() == "not set"


async def test_what_cannot_be_sent_is_not_set_there(own_memory: Any) -> None:
    token = deployment.set(Lock())
    async with Worker(targets_own.use_deployment, kind=own_memory) as worker:
        deployment.reset(token)
        await worker.send(None)
        assert await worker.receive() == "not set"
