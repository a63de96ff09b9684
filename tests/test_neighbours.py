"""Cases in which one call once harmed another or was lost, found by trying to break things."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from loopworkers import (
    CallTimeout,
    NotTransferable,
    PoolClosed,
    RemoteError,
    WorkerDied,
    WorkerPool,
    run_in_worker,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

needs_isolates = pytest.mark.skipif(sys.version_info < (3, 14), reason="isolates need 3.14")
OWN_MEMORY = ["process", pytest.param("isolate", marks=needs_isolates)]


@pytest.fixture(params=[("asyncio", {"use_uvloop": False}), ("trio", {})], ids=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


def _hold(folder: str) -> str:
    """Begin, and end when told to; works by files, in any kind of worker."""
    open(os.path.join(folder, "begun"), "w").close()
    while not os.path.exists(os.path.join(folder, "end")):
        time.sleep(0.001)
    return "held"


async def _begun(folder: Path) -> None:
    with anyio.fail_after(30):
        while not (folder / "begun").exists():  # noqa: ASYNC110 - it is another process that begins
            await anyio.sleep(0.001)


@pytest.mark.parametrize("kind", OWN_MEMORY)
@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_a_call_with_a_large_closure_is_given_up_without_harm(
    kind: str, how: str, tmp_path: Path
) -> None:
    table = "x" * 200_000
    async with WorkerPool(kind, max_workers=1) as pool:
        for _ in range(30):
            await pool.run(abs, -1)  # short: calls are sent ahead
        running = pool.run(_hold, str(tmp_path))
        await _begun(tmp_path)
        if how == "cancel":
            assert pool.run(lambda: len(table)).cancel()
        else:
            with pytest.raises(CallTimeout):
                await pool.options(timeout=0.05).run(lambda: len(table))
        (tmp_path / "end").touch()
        assert await running == "held"
        assert pool.stats().killed == 0


def _count_for_ever() -> Iterator[int]:
    n = 0
    while True:
        yield n
        n += 1


@pytest.mark.parametrize("on_cancel", ["kill", "wait", "abandon"])
async def test_a_stream_that_is_stopped_frees_its_worker(on_cancel: Any) -> None:
    with anyio.fail_after(60):
        async with WorkerPool(max_workers=1) as pool:
            stream = pool.options(on_cancel=on_cancel).stream(_count_for_ever)
            assert await anext(stream) == 0
            pool.kill_all()
            with pytest.raises(PoolClosed):
                async for _ in stream:
                    pass
            assert await pool.run(abs, -3) == 3


async def test_a_stream_that_times_out_unheard_frees_its_worker() -> None:
    with anyio.fail_after(60):
        async with WorkerPool(max_workers=1) as pool:
            with pytest.raises(CallTimeout):  # noqa: PT012
                async for _ in pool.options(on_cancel="abandon", timeout=0.2).stream(
                    _count_for_ever
                ):
                    await anyio.sleep(0.01)
            assert await pool.run(abs, -3) == 3


@pytest.mark.parametrize("on_cancel", ["wait", "abandon"])
async def test_kill_all_stops_calls_of_any_kind(on_cancel: Any, tmp_path: Path) -> None:
    async with WorkerPool(max_workers=1) as pool:
        running = pool.options(on_cancel=on_cancel).run(_hold, str(tmp_path))
        await _begun(tmp_path)
        pool.kill_all()
        assert running.cancelled()
        assert await pool.run(abs, -1) == 1
        assert pool.stats().killed == 1


def _two_then_die() -> Iterator[int]:
    yield 1
    yield 2
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)


async def test_a_stream_is_not_repeated_once_it_has_given_items() -> None:
    async with WorkerPool(max_workers=1, retries=3) as pool:
        items = []
        with pytest.raises(WorkerDied):  # noqa: PT012
            async for item in pool.stream(_two_then_die):
                items.append(item)
        assert items == [1, 2]


@pytest.mark.parametrize("kind", OWN_MEMORY)
async def test_a_huge_int_comes_back(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        assert await pool.run(pow, 2, 2_000_000) == 2**2_000_000


def _log_much() -> int:
    logging.getLogger("much").warning("here", extra={"body": "x" * 100_000})
    return 1


@pytest.mark.parametrize("kind", OWN_MEMORY)
async def test_a_record_with_a_large_extra_arrives_without_it(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        assert await pool.run(_log_much) == 1
    assert [record.getMessage() for record in caplog.records if record.name == "much"] == ["here"]


class Closed(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


def _raise_closed() -> None:
    raise Closed("no entry")


@pytest.mark.parametrize("kind", OWN_MEMORY)
async def test_an_exception_that_lets_nothing_be_set_arrives_by_name(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        with anyio.fail_after(30), pytest.raises((RemoteError, Closed)):
            await pool.run(_raise_closed)
        assert await pool.run(abs, -1) == 1


async def test_a_function_by_value_is_passed_on_to_a_nested_worker() -> None:
    offset = 40

    def add(n: int) -> int:
        return n + offset

    async def outer(fn: Any) -> int:
        result: int = await run_in_worker(fn, 2)
        return result

    async with WorkerPool(max_workers=1) as pool:
        assert await pool.run(outer, add) == 42


async def test_what_comes_before_a_bad_item_of_a_map_is_delivered() -> None:
    results = []
    async with WorkerPool(max_workers=1) as pool:
        with pytest.raises(NotTransferable):  # noqa: PT012
            async for result in pool.map(str, [1, 2, threading.Lock(), 3]):
                results.append(result)
    assert results == ["1", "2"]


async def test_cancelled_waiting_calls_are_not_kept(tmp_path: Path) -> None:
    async with WorkerPool(max_workers=1) as pool:
        running = pool.run(_hold, str(tmp_path))
        await _begun(tmp_path)
        for _ in range(1000):
            pool.run(abs, -1).cancel()
        assert pool.stats().waiting == 0
        assert len(pool._runner._queue) < 200
        (tmp_path / "end").touch()
        assert await running == "held"
