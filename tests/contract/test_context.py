"""The caller's context variables are seen by the call, and nothing leaks out of it."""

from __future__ import annotations

from contextvars import ContextVar, copy_context
from threading import Lock
from typing import Any

import contract_work as work
import pytest
from contract_help import on_two_loops

from loopworkers import WorkerPool

pytestmark = [pytest.mark.anyio, on_two_loops]

mine: ContextVar[Any] = ContextVar("mine", default=None)


async def test_the_callers_values_are_seen(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        assert await pool.run(work.get_both) == ("nobody", "nothing")
        for value in ("anna", {"id": [1, 2]}, b"x" * 100_000, work.Point(1)):
            token = work.user.set(value)
            assert await pool.run(work.get_user) == value
            assert await pool.run(work.get_user_in_task) == value
            work.user.reset(token)
        assert await pool.run(work.get_both) == ("nobody", "nothing")


async def test_values_are_those_at_the_call(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        futures = []
        for n in range(20):
            token = work.user.set(n)
            futures.append(pool.run(work.get_user))
            work.user.reset(token)
        assert [await future for future in futures] == list(range(20))


async def test_a_value_changed_in_place_is_seen(own_memory: str) -> None:
    value = [1]
    token = work.user.set(value)
    async with WorkerPool(own_memory, max_workers=1) as pool:
        assert await pool.run(work.get_user) == [1]
        value.append(2)
        assert await pool.run(work.get_user) == [1, 2]
    work.user.reset(token)


async def test_what_a_call_sets_does_not_leak(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        await pool.run(work.set_user, "leaked")
        assert await pool.run(work.get_user) == "nobody"
        assert work.user.get() == "nobody"


async def test_a_value_that_cannot_be_pickled_is_left_out(own_memory: str) -> None:
    tokens = work.user.set(Lock()), work.other.set("here")
    async with WorkerPool(own_memory, max_workers=1) as pool:
        for _ in range(2):
            assert await pool.run(work.get_both) == ("nobody", "here")
    work.user.reset(tokens[0])
    work.other.reset(tokens[1])


async def test_a_value_that_cannot_be_rebuilt_is_left_out(own_memory: str) -> None:
    tokens = work.user.set(work.FailsToLoad()), work.other.set("here")
    async with WorkerPool(own_memory, max_workers=1) as pool:
        assert await pool.run(work.get_both) == ("nobody", "here")
    work.user.reset(tokens[0])
    work.other.reset(tokens[1])


async def test_variables_that_no_module_names(kind: str) -> None:
    nameless: ContextVar[str] = ContextVar("nameless", default="unset")
    token = nameless.set("set")
    async with WorkerPool(kind, max_workers=1) as pool:
        assert await pool.run(lambda: nameless.get()) == "set"
        nameless.reset(token)
        assert await pool.run(lambda: nameless.get("gone")) == "gone"


async def test_a_lambda_sees_a_variable_of_its_module(kind: str) -> None:
    token = mine.set("mine")
    async with WorkerPool(kind, max_workers=1) as pool:
        assert await pool.run(lambda: mine.get()) == "mine"
    mine.reset(token)


async def test_calls_from_different_contexts_do_not_mix(kind: str) -> None:
    async with WorkerPool(kind, max_workers=2) as pool:
        futures = []
        for n in range(30):
            context = copy_context()
            context.run(work.user.set, n)
            futures.append(context.run(pool.run, work.get_user))
        assert [await future for future in futures] == list(range(30))


async def test_a_stream_and_a_map_see_them_too(kind: str) -> None:
    token = work.user.set("anna")
    async with WorkerPool(kind, max_workers=1) as pool:
        async with pool.stream(work.stream_of_user, 2) as stream:
            assert [value async for value in stream] == ["anna", "anna"]
        assert [value async for value in pool.map(work.user_for, "ab")] == ["anna", "anna"]
    work.user.reset(token)


@pytest.mark.anyio
async def test_async_functions_find_the_loop_of_their_worker(kind: Any) -> None:
    async def library() -> str:
        import anyio

        await anyio.lowlevel.checkpoint()
        return anyio.get_cancelled_exc_class().__name__

    async with WorkerPool(kind, max_workers=1) as pool:
        # A worker's loop is asyncio's whatever the program's is.
        assert await pool.run(library) == "CancelledError"
