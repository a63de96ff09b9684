"""A program with pools that forks, by itself or through multiprocessing."""

from __future__ import annotations

import pytest

from .helpers import BACKENDS, run_script

FORK = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
import anyio
from loopworkers import PoolClosed, WorkerPool, run_in_worker

async def child_main(old):
    try:
        old.run(abs, -1)
    except PoolClosed as error:
        assert "fork" in str(error), error
    else:
        raise AssertionError("the parent's pool took a call")
    async with WorkerPool(max_workers=1) as pool:
        assert await pool.run(abs, -2) == 2
    assert await run_in_worker(abs, -3) == 3

def fork_and_wait(old):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            import threading
            # The fork was made inside a running loop: its copy here is dead, so a fresh thread.
            failures = []
            def work():
                try:
                    anyio.run(child_main, old, backend={backend!r})
                except BaseException as error:
                    failures.append(error)
                    import traceback; traceback.print_exc()
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            code = 1 if failures else 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

async def main():
    async with WorkerPool(max_workers=2) as pool:
        assert await pool.run(abs, -1) == 1
        assert fork_and_wait(pool) == 0
        busy = pool.run(sum, range(10**7))
        assert fork_and_wait(pool) == 0
        assert await busy == sum(range(10**7))
        assert [n async for n in pool.map(abs, range(-100, 0))] == list(range(100, 0, -1))
        assert pool.stats().died == 0
    print("done")

anyio.run(main, backend={backend!r})
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_fork_inside_a_pool(backend: str) -> None:
    done = run_script(FORK.format(backend=backend))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
    assert done.stderr == ""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_beside_a_pool(method: str) -> None:
    done = run_script(
        f"""
        import multiprocessing, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import anyio
        from loopworkers import WorkerPool

        async def main():
            async with WorkerPool(max_workers=2) as pool:
                assert await pool.run(abs, -1) == 1
                with multiprocessing.get_context({method!r}).Pool(2) as other:
                    calls = [pool.run(abs, -number) for number in range(50)]
                    assert other.map(abs, range(-50, 0)) == list(range(50, 0, -1))
                    assert [await call for call in calls] == list(range(50))
                assert await pool.run(abs, -2) == 2
                assert pool.stats().died == 0
            print("done")

        anyio.run(main)
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
