"""`request` and `on_request`: any worker asks any other; each failure is an error of its own."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import targets
import targets_family
from contract_help import LONG

from loopworkers import (
    HandlerFailed,
    NoHandler,
    RequestError,
    RequestTimeout,
    RequestToSelf,
    SharedEvent,
    UnknownWorker,
    Worker,
    on_request,
    request,
)

pytestmark = pytest.mark.anyio


async def test_the_program_asks_a_worker(kind: Any) -> None:
    async with Worker(targets_family.answer, kind=kind) as worker:
        await worker.receive()
        assert await request(worker.id, 21) == (42, 0)
        assert await request(worker.id, b"x" * 500_000) == (b"x" * 1_000_000, 0)
    async with Worker(targets_family.answer_async, kind=kind) as worker:
        await worker.receive()
        assert await request(worker.id, "x") == ("xxx", 0)


@pytest.mark.parametrize("asking", [targets_family.ask, targets_family.ask_async])
async def test_workers_ask_each_other_and_the_program(kind: Any, asking: Any) -> None:
    on_request(lambda value, source: (f"the program says {value}", source))
    async with (
        Worker(targets_family.answer, kind=kind) as answering,
        Worker(asking, kind=kind) as worker,
    ):
        await answering.receive()
        for to, expected in (
            (answering.id, (42, worker.id)),
            (0, ("the program says 21", worker.id)),
            (worker.id, "RequestToSelf"),
            (answering.id + 1000, "UnknownWorker"),
        ):
            await worker.send((to, 21, LONG))
            with anyio.fail_after(LONG):
                assert await worker.receive() == expected


async def test_a_nested_worker_is_asked_from_anywhere(kind: Any) -> None:
    async with (
        Worker(targets_family.answer_below, kind=kind) as outer,
        Worker(targets_family.ask, kind=kind) as other,
    ):
        inner_id = await outer.receive()
        assert await request(inner_id, 5) == (10, 0)
        await other.send((inner_id, 6, LONG))
        assert await other.receive() == (12, other.id)
        with pytest.raises(NoHandler):
            await request(outer.id, 1)
        with pytest.raises(UnknownWorker):
            await request(inner_id + 1, 1)


async def test_every_failure_is_an_error_of_its_own(kind: Any) -> None:
    async with (
        Worker(targets_family.answer, kind=kind) as worker,
        Worker(targets.echo, kind=kind) as mute,
    ):
        await worker.receive()
        await mute.ready()
        with pytest.raises(UnknownWorker):
            await request(worker.id + 1000, 1)
        with pytest.raises(RequestToSelf):
            await request(0, 1)
        with pytest.raises(NoHandler):
            await request(mute.id, 1)
        with pytest.raises(HandlerFailed) as caught:
            await request(worker.id, "fail")
        assert isinstance(caught.value.__cause__, LookupError)
        assert await request(worker.id, 1) == (2, 0)
        gone = mute.id
    with pytest.raises(UnknownWorker):
        await request(gone, 1)


async def test_an_answer_that_does_not_come_times_out(kind: Any) -> None:
    event = SharedEvent()
    async with Worker(targets_family.answer, kind=kind) as worker:
        await worker.receive()
        with pytest.raises(RequestTimeout):
            await request(worker.id, event, timeout=0.01)
        event.set()
        assert await request(worker.id, 1) == (2, 0)


@pytest.mark.parametrize("asking", [targets_family.ask, targets_family.ask_async])
async def test_every_failure_is_an_error_of_its_own_in_a_worker_too(kind: Any, asking: Any) -> None:
    event = SharedEvent()
    async with (
        Worker(targets_family.answer, kind=kind) as answering,
        Worker(targets.echo, kind=kind) as mute,
        Worker(asking, kind=kind) as worker,
    ):
        await answering.receive()
        await mute.ready()
        for to, value, timeout, expected in (
            (answering.id + 1000, 1, LONG, "UnknownWorker"),
            (worker.id, 1, LONG, "RequestToSelf"),
            (mute.id, 1, LONG, "NoHandler"),
            (answering.id, "fail", LONG, "HandlerFailed"),
            (answering.id, event, 0.01, "RequestTimeout"),
        ):
            await worker.send((to, value, timeout))
            with anyio.fail_after(LONG):
                assert await worker.receive() == expected
        event.set()


async def test_terminating_a_worker_fails_the_requests_that_it_has(own_memory: Any) -> None:
    event = SharedEvent()
    async with Worker(targets_family.answer, kind=own_memory) as worker:
        await worker.receive()

        async def ask() -> None:
            with pytest.raises(RequestError, match="ended before it answered"):
                await request(worker.id, event)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            await worker.terminate()


async def test_a_worker_that_dies_over_a_request_answers_with_an_error() -> None:
    async with Worker(targets_family.answer) as worker:
        await worker.receive()
        with pytest.raises(RequestError, match="ended before it answered"):
            await request(worker.id, "die")
        await worker.wait()
