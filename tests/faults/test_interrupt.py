"""Ctrl-C in a terminal: one traceback, a prompt end, and nobody left behind."""

from __future__ import annotations

import os
import signal
import time

import pytest

from .helpers import (
    BACKENDS,
    INTERPRETERS,
    eventually,
    family,
    is_gone,
    killed_at_end,
    start_script,
)

SCRIPT = """
import itertools, time
import {backend} as backend
from loopworkers import WorkerPool, run_in_worker

def slow(number):
    until = time.perf_counter() + 0.01
    while time.perf_counter() < until:
        pass
    return number

def spin():
    while True:
        pass

async def mapping():
    async with WorkerPool({kind!r}, max_workers=2) as pool:
        async for number in pool.map(slow, itertools.count()):
            if number == 20:
                print("under way", flush=True)

async def one_call():
    async with WorkerPool({kind!r}, max_workers=2) as pool:
        call = pool.run(spin)
        await pool.run(slow, 1)
        print("under way", flush=True)
        await call

async def default_pool():
    call = run_in_worker(spin)
    await run_in_worker(slow, 1)
    print("under way", flush=True)
    await call

backend.run({main})
"""


def script(backend: str, kind: str, what: str) -> str:
    main = what if backend == "trio" else f"{what}()"
    return SCRIPT.format(backend=backend, kind=kind, main=main)


@pytest.mark.parametrize("what", ["mapping", "one_call", "default_pool"])
@pytest.mark.parametrize("kind", INTERPRETERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_ctrl_c(backend: str, kind: str, what: str) -> None:
    if what == "default_pool" and kind != "process":
        pytest.skip("the default pool has processes")
    source = script(backend, kind, what)
    with killed_at_end(start_script(source, session=True)) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "under way\n"
        others = [each.pid for each in family(program)]
        # As a terminal does it: to the whole process group in the foreground.
        os.killpg(program.pid, signal.SIGINT)
        pressed = time.monotonic()
        _out, err = program.communicate(timeout=20)
        took = time.monotonic() - pressed
        assert err.count("Traceback (most recent call last)") >= 1
        assert err.count("\nKeyboardInterrupt") == 1, err
        assert err.rstrip().endswith("KeyboardInterrupt"), err
        assert err.count(" slow") == 0, "no worker's traceback"
        assert program.returncode in (-signal.SIGINT, 128 + signal.SIGINT, 1)
        assert took < 3.0
        eventually(lambda: all(map(is_gone, others)), "nobody is left", 2.0)


STUCK = """
async def stuck():
    async with WorkerPool({kind!r}, max_workers=2) as pool:
        call = pool.run(time.sleep, 1000)
        await pool.run(slow, 1)
        print("under way", flush=True)
        await call

backend.run({main})
"""


@pytest.mark.parametrize("kind", INTERPRETERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_ctrl_c_beside_a_worker_in_c_code_is_what_the_program_dies_of(
    backend: str, kind: str
) -> None:
    # An isolate cannot be stopped there, and the program leaves without Python's own end.
    source = (SCRIPT.rpartition("\nbackend")[0] + STUCK).format(
        backend=backend, kind=kind, main="stuck" if backend == "trio" else "stuck()"
    )
    with killed_at_end(start_script(source, session=True)) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "under way\n"
        os.killpg(program.pid, signal.SIGINT)
        _out, err = program.communicate(timeout=20)
        assert err.count("\nKeyboardInterrupt") == 1, err
        assert program.returncode == -signal.SIGINT, err


@pytest.mark.parametrize("backend", BACKENDS)
def test_sigterm_ends_workers_too(backend: str) -> None:
    source = script(backend, "process", "one_call")
    with killed_at_end(start_script(source)) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "under way\n"
        others = [each.pid for each in family(program)]
        program.terminate()
        _, err = program.communicate(timeout=20)
        assert err == ""
        assert program.returncode == -signal.SIGTERM
        eventually(lambda: all(map(is_gone, others)), "nobody is left", 2.0)
