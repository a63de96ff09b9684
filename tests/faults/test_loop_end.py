"""A loop that ends before its pool, and pools used where they do not belong."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import anyio
import pytest

from loopworkers import PoolClosed, WorkerPool, current_pool, run_in_worker
from loopworkers._loop import current

from .helpers import BACKENDS, KINDS, children, descriptors, eventually, nothing_left, run_script


@pytest.mark.parametrize("backend", BACKENDS)
def test_default_pool_ends_with_its_loop(backend: str, capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> int:
        return await run_in_worker(abs, -3)

    for _ in range(3):
        with nothing_left():
            assert anyio.run(main, backend=backend) == 3
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_pool_that_nobody_closes_ends_with_its_loop(
    backend: str, kind: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        pool = WorkerPool(kind, max_workers=2)
        await pool.__aenter__()
        await pool.run(abs, -3)
        if kind != "thread":
            pool.run(exec, "while True: pass")
            await pool.run(abs, -3)

    with nothing_left():
        threads = threading.active_count()
        anyio.run(main, backend=backend)
        eventually(lambda: threading.active_count() <= threads, "the threads have ended")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_loops_that_have_ended_and_their_pools_are_not_kept(backend: str, kind: Any) -> None:
    refs: list[weakref.ref[Any]] = []

    async def main() -> None:
        refs.append(weakref.ref(current().key))
        for pool in (current_pool(kind), WorkerPool(kind, max_workers=1)):
            if pool is not current_pool(kind):
                await pool.__aenter__()  # and nobody closes it
            assert await pool.run(abs, -3) == 3
            refs.append(weakref.ref(pool))
        async with WorkerPool(kind, max_workers=1) as pool:
            assert await pool.run(abs, -3) == 3
            refs.append(weakref.ref(pool))

    def kept() -> list[Any]:
        gc.collect()
        return [ref() for ref in refs if ref() is not None]

    for _ in range(3):
        anyio.run(main, backend=backend)
    eventually(lambda: not kept(), "loops and pools are gone")


def test_loop_closed_by_hand() -> None:
    loop = asyncio.new_event_loop()

    async def main() -> int:
        return await run_in_worker(abs, -3)

    before = len(descriptors())
    assert loop.run_until_complete(main()) == 3
    assert loop.run_until_complete(main()) == 3
    assert children()
    loop.close()
    eventually(lambda: not children(), "no process is left", 5.0)
    eventually(lambda: len(descriptors()) <= before, "no descriptor is left", 5.0)


def test_loop_closed_by_hand_makes_no_noise() -> None:
    done = run_script(
        """
        import asyncio
        from loopworkers import run_in_worker
        loop = asyncio.new_event_loop()
        async def main():
            busy = run_in_worker(exec, "while True: pass")
            print(await run_in_worker(abs, -3))
        loop.run_until_complete(main())
        loop.close()
        """
    )
    assert (done.stdout, done.stderr, done.returncode) == ("3\n", "", 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_pool_in_a_second_loop(backend: str, kind: Any) -> None:
    pool = WorkerPool(kind, max_workers=1)

    async def first() -> None:
        await pool.__aenter__()
        assert await pool.run(abs, -3) == 3

        async def second() -> None:
            with pytest.raises(PoolClosed, match="another event loop"):
                pool.run(abs, -3)
            with pytest.raises(PoolClosed, match="another event loop"):
                await pool.aclose()
            async with WorkerPool(kind, max_workers=1) as own:
                assert await own.run(abs, -4) == 4

        # A second loop while the first one lives, which needs a thread of its own.
        await anyio.to_thread.run_sync(lambda: anyio.run(second, backend=backend))
        assert await pool.run(abs, -5) == 5

    async def third() -> None:
        with pytest.raises(PoolClosed):
            pool.run(abs, -3)

    anyio.run(first, backend=backend)
    anyio.run(third, backend=backend)
    assert not children()


@pytest.mark.parametrize("backend", BACKENDS)
def test_pool_in_a_thread_without_a_loop(backend: str) -> None:
    async def main() -> None:
        async with WorkerPool(max_workers=1) as pool:

            def elsewhere() -> None:
                with pytest.raises(PoolClosed, match="another event loop"):
                    pool.run(abs, -3)
                with pytest.raises(RuntimeError, match="no event loop is running"):
                    run_in_worker(abs, -3)

            await anyio.to_thread.run_sync(elsewhere)
            assert await pool.run(abs, -3) == 3

    anyio.run(main, backend=backend)
