"""The end of programs that still have workers: no hang, no noise, the program's own exit code."""

from __future__ import annotations

import pytest
from contract_help import no_isolates, succeed
from worker_help import run_worker_script

HEAD = """
import {backend} as backend
import sys, targets, targets_ends
from loopworkers import Worker

def run(main):
    backend.run(main if backend.__name__ == "trio" else main())

"""

# Workers that no block owns: what is called an unref'd worker elsewhere.
LEFT = """
async def main():
    for _ in range({number}):
        worker = Worker({target}, kind={kind!r})
        await worker.__aenter__()
        await {until}
    print("there", flush=True)
    {leave}

run(main)
"""

LEAVE = {"normal end": ("pass", 0), "sys.exit": ("sys.exit(7)", 7), "exception": ("1 / 0", 1)}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("how", LEAVE)
@pytest.mark.parametrize("state", ["idle", "busy"])
def test_a_program_ends_with_workers_that_nobody_waits_for(
    kind: str, state: str, how: str, backend: str
) -> None:
    statement, code = LEAVE[how]
    target, until = "targets.echo", "worker.ready()"
    if state == "busy":
        target, until = "targets_ends.swallow", "worker.receive()"
    text = HEAD.format(backend=backend) + LEFT.format(
        number=1 if kind == "thread" else 3, target=target, kind=kind, until=until, leave=statement
    )
    done = run_worker_script(text)
    assert (done.returncode, done.stdout) == (code, "there\n"), done.stderr
    if how == "exception":
        assert done.stderr.count("Traceback (most recent call last)") == 1
        assert done.stderr.rstrip().endswith("ZeroDivisionError: division by zero")
    else:
        assert done.stderr == ""


@no_isolates
@pytest.mark.parametrize("run", range(10))
def test_a_program_ends_with_busy_isolates_ten_times(run: int) -> None:
    test_a_program_ends_with_workers_that_nobody_waits_for(
        "isolate", "busy", "sys.exit", ["asyncio", "trio"][run % 2]
    )


OWNED = """
async def main():
    async with Worker(targets.say_at_the_end, kind={kind!r}):
        print("leaving", flush=True)

run(main)
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_block_keeps_the_program_until_its_worker_has_ended(kind: str, backend: str) -> None:
    text = HEAD.format(backend=backend) + OWNED.format(kind=kind)
    assert succeed(run_worker_script(text)) == "leaving\nended\n"


DAEMON = """
import atexit, threading

has_stopped, outcome = threading.Event(), []

def after_all_isolates_were_stopped():
    has_stopped.set()
    thread.join(20)
    print(*outcome)

atexit.register(after_all_isolates_were_stopped)

async def start_one():
    async with Worker(targets.echo, kind="isolate") as worker:
        await worker.ready()

async def main():
    await start_one()
    has_started.set()
    has_stopped.wait()
    try:
        await start_one()
    except RuntimeError as error:
        outcome.append(error)

has_started = threading.Event()
thread = threading.Thread(target=run, args=(main,), daemon=True)
thread.start()
has_started.wait()
sys.exit(7)
"""


@no_isolates
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_daemon_thread_starts_no_isolate_beside_the_end_of_the_program(backend: str) -> None:
    done = run_worker_script(HEAD.format(backend=backend) + DAEMON)
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == "an isolate cannot be started any more: the program is ending\n"


UNAWAITED = """
async def never(): ...

def hold(port):
    coroutine = never()
    port.send("held")
    while True:
        pass

async def main():
    async with Worker(hold, kind="isolate") as worker:
        await worker.receive()
        await worker.terminate()

run(main)
"""


@no_isolates
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_stop_before_the_first_step_of_a_coroutine_makes_no_noise(backend: str) -> None:
    assert succeed(run_worker_script(HEAD.format(backend=backend) + UNAWAITED)) == ""
