"""The floor: what the machine does with the same work when there is no library in between."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from . import work
from .memory import proportional
from .rounds import measure_lateness, spread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from .player import Stage

Params = dict[str, Any]
Figures = dict[str, Any]
clock = time.perf_counter

# About what a small call and its answer take as frames.
MESSAGE = b"x" * 64
_PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


def opener(_workers: int) -> Any:
    """The floor has no pool."""
    raise NotImplementedError("the floor has no pool")


def _child(function: str, **options: Any) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return _program(f"from benchmarks import floor; floor.{function}()", **options)


@contextmanager
def _program(code: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", code], **options)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def _receive(connection: socket.socket, view: memoryview) -> bool:
    while view:
        count = connection.recv_into(view)
        if not count:
            return False
        view = view[count:]
    return True


def _places(cores: int) -> tuple[set[int], set[int]] | None:
    """Where the two ends of a ping-pong run; None where nobody can say."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    usable = sorted(os.sched_getaffinity(0))
    if cores == 1:
        return {usable[0]}, {usable[0]}
    return ({usable[0]}, {usable[1]}) if len(usable) > 1 else None


def echo() -> None:
    """In the child: read a message of an agreed size, send it back."""
    fd, size, core = (int(os.environ[f"BENCH_{name}"]) for name in ("FD", "SIZE", "CORE"))
    if core >= 0:
        os.sched_setaffinity(0, {core})
    connection = socket.socket(fileno=fd)
    buffer = memoryview(bytearray(size))
    while _receive(connection, buffer):
        connection.sendall(buffer)


def _echo_settings(fd: int, size: int, core: int) -> dict[str, str]:
    return {"BENCH_FD": str(fd), "BENCH_SIZE": str(size), "BENCH_CORE": str(core)}


@contextmanager
def _pinned(places: tuple[set[int], set[int]] | None) -> Iterator[None]:
    if places is None:
        yield
        return
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, places[0])
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)


async def ping_pong(_stage: Stage, params: Params) -> Figures:
    """Blocking sends and receives on a socketpair between two processes; nothing else.

    Both ends are tied to their places: where the scheduler puts them decides between 10 and 40 us,
    and it decides anew each time.
    """
    size = params.get("size", len(MESSAGE))
    places = _places(params.get("cores", 2))
    here, there = socket.socketpair()
    fd = there.fileno()
    core = -1 if places is None else min(places[1])
    environment = {**os.environ, **_echo_settings(fd, size, core)}
    with here, there, _pinned(places), _child("echo", pass_fds=[fd], env=environment):
        there.close()
        message, buffer = b"x" * size, memoryview(bytearray(size))
        samples = []
        for turn in range(params["calls"] + 3):
            start = clock()
            here.sendall(message)
            if not _receive(here, buffer):
                raise OSError("the other end went away")
            if turn >= 3:  # the first ones wait for the child to start
                samples.append(clock() - start)
    return spread(samples)


async def copy(_stage: Stage, params: Params) -> Figures:
    """One warm memcpy of that size: what cannot be beaten without leaving the copy out."""
    source, target = bytes([7]) * params["size"], bytearray(params["size"])
    samples = []
    for _ in range(params["calls"] + 1):
        start = clock()
        target[:] = source
        samples.append(clock() - start)
    return spread(samples[1:])


async def calibrate(_stage: Stage, params: Params) -> Figures:
    """How many turns of `work.loops` take so long here."""
    turns, best = 10_000, float("inf")
    for _ in range(40):
        start = clock()
        work.loops(turns)
        best = min(best, clock() - start)
    return {"loops": int(turns * params["seconds"] / best)}


def bare() -> None:
    """In the child: on each line, do that many calls, then say how long they took."""
    print(flush=True)
    for line in sys.stdin:
        calls, loops, pause = line.split()
        begin, inside = clock(), 0.0
        for _ in range(int(calls)):
            inside += work.loops(int(loops)) if int(loops) else work.pause(float(pause))
        print(clock() - begin, inside, flush=True)


@contextmanager
def _bare_workers(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    if not count:
        yield []
        return
    with _child("bare", **_PIPES) as child, _bare_workers(count - 1) as others:
        assert child.stdout is not None
        child.stdout.readline()  # started
        yield [child, *others]


def _tell(workers: list[subprocess.Popen[bytes]], line: str) -> None:
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(line.encode() + b"\n")
        worker.stdin.flush()


async def bare_batch(_stage: Stage, params: Params) -> Figures:
    """The calls of `rounds.batch`, dealt out beforehand to processes that know nothing else.

    Their rates are added up: a noisy machine makes one end before the other, and dealt out as
    they get free, the calls would have kept both busy.
    """
    calls, workers = params["calls"], params["workers"]
    with _bare_workers(workers) as team:
        _tell(team, f"{calls // workers} {params['loops']} {params['pause']}")
        rate = busy = 0.0
        for worker in team:
            assert worker.stdout is not None
            took, inside = map(float, worker.stdout.readline().split())
            rate += calls // workers / took
            busy += inside / took / workers
        return {"took": calls / rate, "busy": busy}


async def program_start(stage: Stage, params: Params) -> Figures:
    """From starting an interpreter to its first line, as asyncio's users start programs."""
    samples, code = [], f"{params['imports']}print('hello', flush=True)"
    for _ in range(params["warm_up"] + params["starts"]):
        if params["rest_ms"]:
            await stage.backend.sleep(params["rest_ms"] / 1000)
        start = clock()
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        line = await child.stdout.readline()
        samples.append(clock() - start)
        if line != b"hello\n":
            raise OSError("the program did not say hello")
        await child.wait()
    return spread(samples[params["warm_up"] :])


async def program_memory(stage: Stage, params: Params) -> Figures:
    """What each further interpreter adds that has imported nothing and waits for a line."""
    with ExitStack() as stack:

        async def idle(count: int) -> int:
            for _ in range(count):
                child = stack.enter_context(_program("print(flush=True); input()", **_PIPES))
                assert child.stdout is not None
                child.stdout.readline()
            await stage.backend.sleep(0.2)
            return proportional()

        before = await idle(1)
        grown = await idle(params["workers"]) - before
    return {"each": grown / params["workers"]}


async def idle_delay(stage: Stage, params: Params) -> Figures:
    """Lateness of the loop's timers when nothing is going on."""
    return await measure_lateness(stage.backend, params["seconds"])


async def inline_delay(stage: Stage, params: Params) -> Figures:
    """The same with the work done on the loop itself, in calls of 10 ms."""
    stop = False

    async def inline() -> None:
        while not stop:
            work.spin(0.010)
            await asyncio.sleep(0)

    task = asyncio.create_task(inline())
    try:
        return await measure_lateness(stage.backend, params["seconds"])
    finally:
        stop = True
        await task


async def bare_delay(stage: Stage, params: Params) -> Figures:
    """The same beside busy processes that no library has started: the scheduler's own share."""
    with _bare_workers(params["workers"]) as team:
        _tell(team, "1000000 100000 0")  # busy until they are killed
        await stage.backend.sleep(0.1)
        return await measure_lateness(stage.backend, params["seconds"])


ROUNDS = {
    "ping_pong": ping_pong,
    "copy": copy,
    "calibrate": calibrate,
    "program_start": program_start,
    "program_memory": program_memory,
    "bare_batch": bare_batch,
    "idle_delay": idle_delay,
    "inline_delay": inline_delay,
    "bare_delay": bare_delay,
}
