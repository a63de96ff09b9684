"""Calls and set-ups that end every worker they meet: an end is found, and soon."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import anyio
import pytest

from loopworkers import LoopworkersError, WorkerDied, WorkerPool

from .helpers import BACKENDS, nothing_left

DEATHS = {
    "exit": "import os; os._exit(9)",
    "SIGKILL": "import os; os.kill(os.getpid(), 9)",
    "sys.exit": "import sys; sys.exit(9)",
}


@pytest.mark.parametrize("retries", [0, 1, 5])
@pytest.mark.parametrize("how", ["exit", "SIGKILL"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_poison_is_retried_as_often_as_asked(
    backend: str, how: str, retries: int, tmp_path: Any
) -> None:
    note = tmp_path / "runs"
    source = f"open({str(note)!r}, 'a').write('x'); {DEATHS[how]}"

    async def main() -> None:
        with anyio.fail_after(20):
            async with WorkerPool(max_workers=2) as pool:
                poison = pool.options(retries=retries).run(exec, source)
                others = [pool.run(abs, -number) for number in range(50)]
                with pytest.raises(WorkerDied) as caught:
                    await poison
                assert [await each for each in others] == list(range(50))
                stats = pool.stats()
                assert (stats.died, stats.retried) == (retries + 1, retries)
                if how == "SIGKILL":
                    assert caught.value.signal == signal.SIGKILL

    with nothing_left():
        anyio.run(main, backend=backend)
    assert note.read_text() == "x" * (retries + 1)


@pytest.mark.parametrize("minimum", [0, 2])
@pytest.mark.parametrize("how", DEATHS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_initializer_that_ends_its_worker(backend: str, how: str, minimum: int) -> None:
    async def main() -> None:
        with anyio.fail_after(20):
            async with WorkerPool(
                max_workers=2,
                min_workers=minimum,
                retries=1000,
                initializer=exec,
                initargs=(DEATHS[how],),
            ) as pool:
                for _ in range(2):
                    calls = [pool.run(abs, -number) for number in range(20)]
                    for call in calls:
                        with pytest.raises(LoopworkersError):
                            await call
                assert pool.stats().started < 100
                assert pool.stats().waiting == 0

    began = time.monotonic()
    with nothing_left():
        anyio.run(main, backend=backend)
    assert time.monotonic() - began < 10


def test_initializer_that_ends_some_workers_does_not_stop_the_others(tmp_path: Any) -> None:
    # The first worker takes the only licence; those after it end while they start.
    licence = tmp_path / "licence"
    source = f"""
import os
try:
    os.close(os.open({str(licence)!r}, os.O_CREAT | os.O_EXCL))
except FileExistsError:
    os._exit(3)
"""

    async def main() -> None:
        with anyio.fail_after(30):
            async with WorkerPool(max_workers=2, initializer=exec, initargs=(source,)) as pool:
                assert await pool.run(os.path.exists, str(licence))
                calls = [pool.run(time.sleep, 0.02) for _ in range(50)]
                for call in calls:
                    await call
                assert pool.stats().failed == 0
                assert pool.stats().started < 15

    with nothing_left():
        anyio.run(main)
