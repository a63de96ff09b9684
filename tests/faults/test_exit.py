"""The program ends, in every state its pools can be in: its exit code stands, and nothing hangs."""

from __future__ import annotations

import pytest

from .helpers import BACKENDS, needs_isolates, run_script

HEAD = """
import os, sys, threading, time
import {backend} as backend
from loopworkers import WorkerPool, run_in_worker

def start(main):
    backend.run(main if backend.__name__ == "trio" else main())

def spin():
    while True:
        pass

def stubborn():
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass

async def open_pool(kind, workers=2):
    pool = WorkerPool(kind, max_workers=workers)
    await pool.__aenter__()
    await pool.run(abs, -1)
    return pool
"""

LEAVE = {
    "normal end": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "exception": ("raise ValueError('out of main')", 1),
    "os._exit": ("os._exit(5)", 5),
}
BODIES = {
    "idle": "pool = await open_pool({kind!r})",
    "busy": """
    pool = await open_pool({kind!r}, 3)
    calls = [pool.run(spin) for _ in range(3)]
    await backend.sleep(0.05)
""",
    "in a block": """
    async with WorkerPool({kind!r}, max_workers=2) as pool:
        await pool.run(abs, -1)
        LEAVE
""",
    "in a block, busy": """
    async with WorkerPool({kind!r}, max_workers=2) as pool:
        calls = [pool.run(spin) for _ in range(2)]
        await backend.sleep(0.05)
        LEAVE
        pool.kill_all()
""",
}


def leave(backend: str, body: str, how: str) -> None:
    statement, code = LEAVE[how]
    if "LEAVE" not in body:
        body += "\n    LEAVE"
    body = body.replace("LEAVE", statement or "pass")
    source = (
        HEAD.format(backend=backend) + f"\nasync def main():\n    {body.strip()}\n\nstart(main)\n"
    )
    done = run_script(source, timeout=15)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    if how == "exception":
        assert done.stderr.rstrip().endswith("ValueError: out of main"), done.stderr
        assert done.stderr.count("Traceback (most recent call last)") == 1
    else:
        assert done.stderr == ""


@pytest.mark.parametrize("how", LEAVE)
@pytest.mark.parametrize("state", BODIES)
@pytest.mark.parametrize("kind", ["process", pytest.param("isolate", marks=needs_isolates)])
def test_exit_of_the_program(kind: str, state: str, how: str) -> None:
    leave("asyncio", BODIES[state].format(kind=kind), how)


@pytest.mark.parametrize("state", BODIES)
@pytest.mark.parametrize("kind", ["process", pytest.param("isolate", marks=needs_isolates)])
def test_exit_of_a_trio_program(kind: str, state: str) -> None:
    leave("trio", BODIES[state].format(kind=kind), "normal end")


@needs_isolates
@pytest.mark.parametrize("run", range(10))
def test_three_busy_isolates_ten_times(run: int) -> None:
    body = """
    pool = await open_pool("isolate", 3)
    calls = [pool.run(spin), pool.run(stubborn), pool.run(spin)]
    await backend.sleep(0.05)
"""
    leave(BACKENDS[run % 2], body, ["normal end", "sys.exit"][run // 2 % 2])


STUCK = {
    "C code": "sum, range(10**12)",
    "sleep": "time.sleep, 1000",
    "read": "os.read, os.pipe()[0], 1",
    "lock": "exec, 'import threading; threading.Event().wait()'",
}


@needs_isolates
@pytest.mark.parametrize("how", ["normal end", "sys.exit", "exception"])
@pytest.mark.parametrize("where", STUCK)
def test_exit_beside_an_isolate_that_cannot_be_stopped(where: str, how: str) -> None:
    body = f"""
    pool = await open_pool("isolate", 2)
    call = pool.run({STUCK[where]})
    await backend.sleep(0.1)
"""
    leave("asyncio", body, how)


@pytest.mark.parametrize("backend", BACKENDS)
def test_exit_beside_a_thread_that_goes_on(backend: str) -> None:
    body = """
    pool = await open_pool("thread")
    call = pool.run(time.sleep, 1000)
"""
    leave(backend, body, "sys.exit" if backend == "asyncio" else "normal end")
