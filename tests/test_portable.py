"""The ways that only other systems take, forced here: they carry calls as the usual ones do.

macOS has no sockets that keep packet boundaries and no memfd; Windows has no fork either, and
its event loop cannot watch sockets by callbacks.
"""

from __future__ import annotations

import operator
import os
import sys
import time

import anyio
import pytest

from loopworkers import CallTimeout, WorkerDied, WorkerPool
from loopworkers._loop import asyncio as asyncio_loop
from loopworkers._workers import base, channel, process, spawn

needs_isolates = pytest.mark.skipif(sys.version_info < (3, 14), reason="isolates need 3.14")
KINDS = ["process", pytest.param("isolate", marks=needs_isolates), "thread"]


@pytest.fixture
def like_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "KEEPS_PACKETS", False)
    monkeypatch.setattr(base, "KEEPS_PACKETS", False)
    monkeypatch.setattr(base, "create_slab", lambda: None)


@pytest.fixture
def like_windows(like_macos: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "starter", spawn)
    monkeypatch.setattr(asyncio_loop, "adapter", asyncio_loop.TaskWatchingLoop)


@pytest.fixture(params=["like_macos", "like_windows"], autouse=True)
def elsewhere(request: pytest.FixtureRequest) -> str:
    request.getfixturevalue(request.param)
    return request.param


@pytest.fixture(params=[("asyncio", {"use_uvloop": False}), ("trio", {})], ids=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_of_all_sizes_come_back(kind: str) -> None:
    async with WorkerPool(kind, max_workers=2) as pool:
        for size in (0, 1, 48 * 1024, 49 * 1024, 3 * 1024 * 1024):
            data = os.urandom(size)
            assert await pool.run(operator.add, data, b"!") == data + b"!"


@pytest.mark.parametrize("kind", KINDS)
async def test_many_calls_at_once_settle(kind: str) -> None:
    async with WorkerPool(kind, max_workers=2) as pool:
        assert [n async for n in pool.map(abs, range(-2000, 0))] == list(range(2000, 0, -1))
        assert sorted([n async for n in pool.stream(range, 100)]) == list(range(100))


@pytest.mark.parametrize("kind", ["process", KINDS[1]])
async def test_a_running_call_is_stopped(kind: str) -> None:
    def spin() -> None:
        while True:
            pass

    async with WorkerPool(kind, max_workers=1) as pool:
        assert await pool.run(abs, -1) == 1
        with pytest.raises(CallTimeout):
            await pool.options(timeout=0.2).run(spin)
        assert pool.stats().killed == 1
        dropped = pool.run(spin)
        queued = pool.run(abs, -2)
        dropped.cancel()
        with anyio.fail_after(20):
            assert await queued == 2


async def test_a_worker_that_dies_is_replaced() -> None:
    async with WorkerPool(max_workers=1) as pool:
        dying = pool.run(os._exit, 3)
        queued = [pool.run(abs, -n) for n in range(5)]
        with pytest.raises(WorkerDied) as caught:
            await dying
        assert caught.value.exitcode == 3
        assert [await future for future in queued] == list(range(5))


async def test_nothing_is_left_behind() -> None:
    def opened() -> set[str]:
        return set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()

    async with WorkerPool(max_workers=1) as pool:
        await pool.run(abs, -1)
    before = opened()
    for _ in range(3):
        async with WorkerPool(max_workers=2) as pool:
            await pool.run(abs, -1)
    deadline = time.monotonic() + 10
    # The threads that look after a spawned process close its descriptors a moment after its end.
    while len(opened()) > len(before) and time.monotonic() < deadline:
        await anyio.lowlevel.checkpoint()
    assert len(opened()) <= len(before)
