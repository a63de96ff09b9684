"""`SharedLock`: one holder at a time, and none that outlives its worker."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import targets_shared
from contract_help import LONG, no_isolates
from worker_help import MIXED, run_all, run_worker_script

from loopworkers import AtomicInt64, SharedBuffer, SharedLock, Worker

pytestmark = pytest.mark.anyio


@no_isolates
async def test_a_lock_lets_one_worker_in_at_a_time() -> None:
    lock = SharedLock()
    with SharedBuffer(8) as buffer:
        target = targets_shared.increment_under_lock
        await run_all(*[Worker(target, buffer, lock, 2_000, kind=kind) for kind in MIXED])  # type: ignore[arg-type]
        assert AtomicInt64(buffer).load() == 8_000
    assert not lock.locked()


async def test_tasks_and_threads_wait_for_a_lock_without_blocking_the_loop() -> None:
    lock = SharedLock()
    await lock.acquire()
    entered: list[str] = []

    async def task() -> None:
        async with lock:
            entered.append("task")

    def thread() -> None:
        with lock:
            entered.append("thread")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(task)
        tasks.start_soon(anyio.to_thread.run_sync, thread)
        assert await lock.acquire(timeout=0.05) is False
        assert entered == []
        lock.release()
    assert sorted(entered) == ["task", "thread"]
    with pytest.raises(RuntimeError, match="not acquired"):
        lock.release()


async def test_cancelling_an_acquire_leaves_the_lock_to_others() -> None:
    lock = SharedLock()
    await lock.acquire()
    with anyio.move_on_after(0.01):
        await lock.acquire()
    lock.release()
    assert await lock.acquire(timeout=0)
    lock.release()


async def test_a_holder_that_is_stopped_or_dies_gives_the_lock_up_and_that_is_told(
    own_memory: Any,
) -> None:
    lock = SharedLock()
    async with Worker(targets_shared.hold_for_ever, lock, kind=own_memory) as worker:
        assert await worker.receive() == "held"
        assert lock.locked()
        assert await lock.acquire(timeout=0) is False
        async with anyio.create_task_group() as tasks:

            async def acquire() -> None:
                with anyio.fail_after(LONG):
                    async with lock:
                        # An isolate ends in peace, by its `with` block; a process does not.
                        assert lock.torn == (own_memory == "process")

            tasks.start_soon(acquire)
            await anyio.wait_all_tasks_blocked()
            await worker.terminate()
    async with lock:
        assert not lock.torn


async def test_a_holder_that_crashes_gives_the_lock_up() -> None:
    lock = SharedLock()
    async with Worker(targets_shared.die_holding, lock) as worker:
        await worker.receive()
        await worker.send("now")
        with anyio.fail_after(LONG):
            await lock.acquire()
        assert lock.torn
        lock.release()
        await worker.wait()


async def test_a_killed_looker_takes_the_lock_from_nobody(own_memory: Any) -> None:
    for _ in range(10):
        lock = SharedLock()
        await lock.acquire()
        async with Worker(targets_shared.look_at_lock, lock, kind=own_memory) as worker:
            await worker.receive()
            await worker.terminate()
        assert lock.locked()
        lock.release()


async def test_a_lock_survives_the_stop_of_who_takes_it_all_the_time(own_memory: Any) -> None:
    lock = SharedLock()
    for _ in range(30):
        async with Worker(targets_shared.take_and_give_back, lock, kind=own_memory) as worker:
            await worker.receive()
            await worker.terminate()
        with anyio.fail_after(LONG):
            await lock.acquire()
        lock.release()


@pytest.mark.parametrize("target", [targets_shared.try_lock, targets_shared.try_lock_async])
async def test_a_worker_need_not_wait_for_a_lock_and_can_give_up(kind: Any, target: Any) -> None:
    lock = SharedLock()
    await lock.acquire()
    async with Worker(target, lock, kind=kind) as worker:
        assert await worker.receive() is False
        assert await worker.receive() is False
        lock.release()
        assert await worker.receive() == "at last"


async def test_a_holder_that_fails_gives_the_lock_up(own_memory: Any) -> None:
    lock = SharedLock()
    async with Worker(targets_shared.fail_holding, lock, kind=own_memory) as worker:
        with pytest.raises(LookupError):
            await worker.wait()
    with anyio.fail_after(LONG):
        async with lock:
            assert lock.torn


# --- a program that forks ------------------------------------------------------------------------

FORKED_WHILE_HELD = """
import os
from loopworkers import SharedLock

lock = SharedLock()
lock.acquire()
if (pid := os.fork()) == 0:
    try:
        lock.release()
    except RuntimeError:
        os._exit(lock.acquire(timeout=0))
    os._exit(2)
assert os.waitpid(pid, 0)[1] == 0
assert lock.locked()
lock.release()
assert lock.acquire(timeout=0)
"""

HOLDER_DIED_BEFORE_ITS_CHILD = """
import os
from loopworkers import SharedLock

lock = SharedLock()
reading, writing = os.pipe()
if (pid := os.fork()) == 0:
    lock.acquire()
    if os.fork() == 0:
        os.close(writing)
        os.read(reading, 1)  # until the program ends
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert lock.acquire(timeout=20)
assert lock.torn
"""

FORKED_INSIDE_OF_A_GUARD = """
import fcntl, os, signal
from loopworkers import AtomicInt64, SharedBuffer

buffer = SharedBuffer(8)
number = AtomicInt64(buffer)
reading, writing = os.pipe()
with buffer.guard:
    if (pid := os.fork()) == 0:
        signal.alarm(20)
        number.add(1)  # waits for the parent
        with buffer.guard:
            os.write(writing, b"held")
            signal.pause()
assert os.read(reading, 4) == b"held"
assert number.load() == 1
try:
    fcntl.flock(buffer.guard._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
else:
    raise AssertionError("parent and child are in at the same time")
number.add(1)
"""


@pytest.mark.parametrize(
    "script",
    [FORKED_WHILE_HELD, HOLDER_DIED_BEFORE_ITS_CHILD, FORKED_INSIDE_OF_A_GUARD],
    ids=["while it is held", "whose parent dies", "inside of a guard"],
)
def test_a_forked_child_holds_nothing(script: str) -> None:
    done = run_worker_script(script)
    assert (done.returncode, done.stderr) == (0, "")
