"""What workers start from is kept for the next one, is as good as new, and ends with the loop."""

from __future__ import annotations

import os
import sys
import threading
from textwrap import dedent
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import pytest
import targets
import targets_own
from contract_help import no_isolates, succeed
from worker_help import run_all, run_worker_script

from loopworkers import Worker

if TYPE_CHECKING:
    from pathlib import Path


async def start_one(kind: Any) -> Any:
    async with Worker(targets.introduce_itself, kind=kind) as worker:
        return await worker.receive()


@pytest.mark.anyio
async def test_workers_of_a_loop_are_forked_from_one_server() -> None:
    parents = []
    for _ in range(2):
        async with Worker(targets_own.tell_parent, kind="process") as worker:
            parents.append(await worker.receive())
    assert parents[0] == parents[1] != os.getpid()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_nothing_is_kept_when_the_loop_has_ended(kind: Any, backend: Any) -> None:
    # By the fixture that looks for what is left; twice, since the second loop starts from nothing.
    for _ in range(2):
        anyio.run(start_one, kind, backend=backend)


@pytest.mark.parametrize("ends_first", [True, False])
def test_loops_in_two_threads_keep_it_for_each_other(own_memory: Any, ends_first: bool) -> None:
    started, ended = threading.Event(), threading.Event()

    async def other() -> None:
        await start_one(own_memory)
        started.set()
        if not ends_first:
            await anyio.to_thread.run_sync(ended.wait)
            await start_one(own_memory)

    async def main() -> None:
        await anyio.to_thread.run_sync(started.wait)
        await start_one(own_memory)

    thread = threading.Thread(target=anyio.run, args=(other,))
    thread.start()
    try:
        started.wait()
        if ends_first:
            thread.join()
        anyio.run(main)
    finally:
        ended.set()
        thread.join()


@pytest.mark.anyio
async def test_a_module_that_has_come_since_is_found(
    own_memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start_one(own_memory)
    name = f"come_since_{uuid4().hex}"
    (tmp_path / f"{name}.py").write_text("def run(port): port.send('found')")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        async with Worker(__import__(name).run, kind=own_memory) as worker:
            assert await worker.receive() == "found"
    finally:
        sys.modules.pop(name, None)


@pytest.mark.anyio
async def test_many_that_start_at_once(own_memory: Any) -> None:
    await start_one(own_memory)
    await run_all(*(Worker(targets.introduce_itself, kind=own_memory) for _ in range(5)))


@no_isolates
def test_an_isolate_that_has_ended_does_not_crash_a_fork() -> None:
    text = """
        import anyio, os, warnings
        from loopworkers import Worker

        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads

        def echo(port):
            for message in port:
                port.send(message)

        async def start_one():
            async with Worker(echo, kind="isolate") as worker:
                await worker.send("here")
                return await worker.receive()

        async def main():
            await start_one()
            child = os.fork()
            if child == 0:
                os._exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), await start_one())

        anyio.run(main)
    """
    assert succeed(run_worker_script(dedent(text))) == "7 here\n"
