"""`request` and `on_request`: any worker asks any other; each failure is an error of its own."""

from __future__ import annotations

import errno
import os
import signal
import time
from typing import Any

import anyio
import pytest
import targets
import targets_family
from contract_help import LONG, eventually_sync

from loopworkers import (
    Broadcast,
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


async def test_more_requests_than_a_socket_holds_are_all_answered(kind: Any) -> None:
    count = 400
    on_request(lambda value, source: value)
    event = SharedEvent()
    answers: list[int] = []

    async def ask(number: int) -> None:
        answers.append(await request(answering.id, number))

    with anyio.fail_after(LONG):
        async with Worker(targets_family.answer_late, event, kind=kind) as answering:
            await answering.receive()
            async with anyio.create_task_group() as tasks:
                for number in range(count):
                    tasks.start_soon(ask, number)
                await anyio.wait_all_tasks_blocked()
                event.set()
            assert sorted(answers) == list(range(count))
        async with Worker(targets_family.ask_much, 0, count, kind=kind) as asking:
            await asking.ready()
            assert _receive_beside_the_loop(asking) == "asked"
            assert await asking.receive() == list(range(count))


def _receive_beside_the_loop(worker: Worker) -> Any:
    """What it sends; until then the loop hears nothing."""
    while True:
        try:
            return worker._port.receive_nowait()
        except BlockingIOError:
            time.sleep(0.001)


async def test_a_worker_that_was_just_killed_is_unknown_and_who_asks_is_not_cut_off() -> None:
    on_request(lambda value, source: value)
    async with Worker(targets_family.answer) as first, Worker(targets_family.ask) as second:
        await first.receive()
        await second.ready()
        pid: int = getattr(first._host, "pid", 0)
        os.kill(pid, signal.SIGKILL)
        _until_it_ended(pid)  # the loop has not heard of it yet
        with pytest.raises(UnknownWorker):
            await request(first.id, 1)
        with anyio.fail_after(LONG):
            await second.send((first.id, 1))
            assert await second.receive() in ("UnknownWorker", "RequestError")
            await second.send((0, 2))
            assert await second.receive() == 2
        assert await first.wait() == -signal.SIGKILL


def _until_it_ended(pid: int) -> None:
    while os.path.exists(f"/proc/{pid}"):
        time.sleep(0.001)


async def test_the_timeout_counts_while_nobody_takes_the_value(kind: Any) -> None:
    event = SharedEvent()
    async with (
        Worker(targets_family.answer_late, event, kind=kind) as answering,
        Worker(targets_family.ask, kind=kind) as worker,
    ):
        await answering.receive()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(request, answering.id, "keeps it busy")
            await worker.send((answering.id, bytes(1_000_000), 0.05))
            with anyio.fail_after(LONG):
                assert await worker.receive() == "RequestTimeout"
            event.set()


async def test_requests_that_nobody_waits_for_any_more_do_not_pile_up(kind: Any) -> None:
    event = SharedEvent()
    async with (
        Worker(targets_family.answer_late, event, kind=kind) as worker,
        anyio.create_task_group() as tasks,
    ):
        await worker.receive()
        tasks.start_soon(request, worker.id, "keeps it busy")
        await anyio.wait_all_tasks_blocked()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(700):  # more than the sockets hold
            with pytest.raises(RequestTimeout):
                await request(worker.id, "late", timeout=0)
        assert len(os.listdir("/proc/self/fd")) < before + 50
        event.set()
        assert await request(worker.id, "in time", timeout=LONG) == "in time"


async def test_the_timeout_counts_while_the_program_does_not_read(kind: Any) -> None:
    on_request(lambda value, source: value)
    event = SharedEvent()
    async with Worker(targets_family.ask_in_vain, event, kind=kind) as worker:
        await worker.ready()
        assert eventually_sync(event.is_set)  # blocks the loop
        await worker.send("go on")
        with anyio.fail_after(LONG):
            assert await worker.receive() == "in time"


async def test_a_request_that_there_is_no_descriptor_for_fails_and_the_next_is_answered(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_descriptor(*_: Any) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with (
        Worker(targets_family.answer, kind=kind) as answering,
        Worker(targets_family.ask, kind=kind) as worker,
    ):
        await answering.receive()
        await worker.ready()
        with monkeypatch.context() as patch:
            patch.setattr(answering._post._pipe, "send", no_descriptor)
            await worker.send((answering.id, 1))
            with anyio.fail_after(LONG):
                assert await worker.receive() == "RequestError"
        await worker.send((answering.id, 1))
        with anyio.fail_after(LONG):
            assert await worker.receive() == (2, worker.id)


async def test_a_later_handler_replaces_the_one_before(kind: Any) -> None:
    async with Worker(targets_family.answer_anew, kind=kind) as worker:
        await worker.receive()
        assert {await request(worker.id, 1) for _ in range(20)} == {"new"}


async def test_a_handler_that_asks_to_exit_has_failed_and_answers_the_next(kind: Any) -> None:
    async with Worker(targets_family.answer, kind=kind) as worker:
        await worker.receive()
        with pytest.raises(HandlerFailed, match="handler"):
            await request(worker.id, "exit")
        assert await request(worker.id, 1) == (2, 0)


async def test_an_id_that_no_worker_has_is_unknown_and_what_is_none_a_type_error() -> None:
    for number in (-1, -(1 << 20), 1 << 90):
        with pytest.raises(UnknownWorker):
            await request(number, 1)
    with pytest.raises(TypeError):
        await request("worker 1", 1)  # type: ignore[arg-type]


async def test_a_loop_that_has_ended_in_a_worker_leaves_it_connected(kind: Any) -> None:
    on_request(lambda value, source: value)
    async with (
        Broadcast("after a loop") as member,
        Worker(targets_family.ask_after_a_loop, kind=kind) as worker,
    ):
        with anyio.fail_after(LONG):
            assert await worker.receive() == "asked"
            assert await member.receive() == "said"
