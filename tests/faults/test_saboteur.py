"""Thousands of calls while somebody kills workers: each settles once, and nothing is left."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

import anyio
import psutil
import pytest

from loopworkers import WorkerDied, WorkerPool

from .helpers import BACKENDS, nothing_left, resident, soon, worker_processes

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 20_000
IN_FLIGHT = 256
PERIOD = 0.05


def make_double() -> Callable[[int], int | bytes]:
    def double(number: int) -> int | bytes:
        # A quarter of a millisecond of work, so that the run sees many deaths, and now and then
        # an answer that goes through shared memory or in several pieces.
        until = time.perf_counter() + 0.00025
        while time.perf_counter() < until:
            pass
        return bytes(300_000) if number % 97 == 0 else 2 * number

    # Made here it goes by value: by its name every new worker would import pytest first.
    return double


async def sabotage(kills: list[int]) -> None:
    while True:
        await anyio.sleep(PERIOD)
        workers = worker_processes()
        if workers:
            victim = random.choice(workers)
            try:
                victim.kill()
            except psutil.NoSuchProcess:
                continue
            kills.append(victim.pid)


async def storm() -> None:
    double = make_double()
    kills: list[int] = []
    settled = [0] * CALLS
    died = 0
    reasons = set()

    def settle(number: int) -> None:
        settled[number] += 1

    async with WorkerPool(max_workers=2, min_workers=2) as pool, anyio.create_task_group() as tasks:
        tasks.start_soon(sabotage, kills)
        futures = {}
        for number in range(CALLS + IN_FLIGHT):
            if number < CALLS:
                futures[number] = future = pool.run(double, number)
                future.add_done_callback(lambda _, number=number: settle(number))
            due = number - IN_FLIGHT
            if due >= 0:
                try:
                    value = await futures.pop(due)
                except WorkerDied as error:
                    reasons.add((error.signal, "double" in str(error)))
                    died += 1
                else:
                    assert value == (bytes(300_000) if due % 97 == 0 else 2 * due)
        tasks.cancel_scope.cancel()
        # A death costs the call that was running, and no other.
        assert 0 < died <= len(kills)
        assert reasons == {(signal.SIGKILL, True)}
        await soon(lambda: pool.stats().workers == pool.stats().idle == 2, "two idle workers")
        assert await pool.run(abs, -1) == 1
        stats = pool.stats()
        assert stats.running == stats.waiting == 0
        assert stats.completed == CALLS - died + 1
        assert stats.failed == died
    assert settled == [1] * CALLS
    assert len(kills) > 20, "the storm was over before it was one"


@pytest.mark.parametrize("backend", BACKENDS)
def test_calls_settle_once_while_workers_are_killed(backend: str) -> None:
    with nothing_left():
        anyio.run(storm, backend=backend)
    # What the first run fills, the interpreter keeps; the second one must not need more. A leak
    # of one kilobyte a call, or a megabyte a death, would be twenty or a hundred.
    before = resident()
    with nothing_left():
        anyio.run(storm, backend=backend)
    assert resident() - before < 12 << 20
