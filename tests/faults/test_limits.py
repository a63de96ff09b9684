"""Too few descriptors, too little memory: errors that say so, and no hang."""

from __future__ import annotations

import anyio
import pytest

from loopworkers import WorkerPool

from .helpers import BACKENDS, INTERPRETERS, run_script

# The limit is felt here, by the isolate, or by a forkserver that cannot even import its modules.
CLEAR = (
    "descriptor",
    "open files",
    "while it started",
    "could not be started",
    "lost the forkserver",
)


@pytest.mark.parametrize("spare", [0, 3, 6, 12, 25])
@pytest.mark.parametrize("kind", [*INTERPRETERS, "thread"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_few_descriptors(backend: str, kind: str, spare: int) -> None:
    done = run_script(
        f"""
        import os, resource
        import anyio
        from loopworkers import LoopworkersError, WorkerPool

        async def main():
            top = max(map(int, os.listdir("/proc/self/fd")))
            resource.setrlimit(resource.RLIMIT_NOFILE, (top + {spare}, 4096))
            ends = []
            try:
                async with WorkerPool({kind!r}, max_workers=20) as pool:
                    calls = [pool.run(abs, -number) for number in range(100)]
                    for number, call in enumerate(calls):
                        try:
                            assert await call == number
                            ends.append("value")
                        except LoopworkersError as error:
                            assert any(text in str(error) for text in {CLEAR!r}), error
                            ends.append("error")
            except OSError as error:
                ends.append("no pool")
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
            async with WorkerPool({kind!r}, max_workers=2) as pool:
                assert await pool.run(abs, -1) == 1
            assert ends, ends
            assert len(ends) == 100 or "no pool" in ends, ends

        with_backend = anyio.run(main, backend={backend!r})
        print("done")
        """,
        timeout=40,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"


def test_worker_with_a_memory_limit() -> None:
    source = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))"

    async def main() -> None:
        with anyio.fail_after(30):
            async with WorkerPool(max_workers=1, initializer=exec, initargs=(source,)) as pool:
                for _ in range(3):
                    with pytest.raises(MemoryError):
                        await pool.run(bytes, 2 << 30)
                    assert await pool.run(abs, -1) == 1
                assert await pool.run(len, bytes(50_000_000)) == 50_000_000
                assert pool.stats().died == 0

    anyio.run(main)
