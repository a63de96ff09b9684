"""Workers that start while descriptors run out: errors that say so, and no harm to the others."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest
from worker_help import run_worker_script

HEAD = """
import os, resource
from contextlib import contextmanager
import anyio
import targets
from loopworkers import LoopworkersError, Worker

@contextmanager
def few_descriptors(left):
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (top + 1 + left, most))
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for fd in taken[:left]:
        os.close(fd)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
        for fd in taken[left:]:
            os.close(fd)
"""


def run(script: str, kind: str, backend: str) -> list[str]:
    text = HEAD + dedent(script).replace("KIND", repr(kind)).replace("BACKEND", repr(backend))
    done = run_worker_script(text)
    # Not of its stderr: CPython prints there that it could not create an interpreter.
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_one_that_cannot_start_leaves_the_others_alone(own_memory: Any, backend: str) -> None:
    script = """
        async def main():
            async with Worker(targets.echo, kind=KIND) as other:
                await other.ready()
                for left in range(2, 26, 2):
                    with few_descriptors(left):
                        try:
                            async with Worker(targets.echo, kind=KIND):
                                pass
                        except (OSError, LoopworkersError):
                            pass
                await other.send("alive")
                print(await other.receive())

        anyio.run(main, backend=BACKEND)
    """
    assert run(script, own_memory, backend) == ["alive"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_one_that_could_not_run_its_function_says_so(own_memory: Any, backend: str) -> None:
    script = """
        def tell(port):
            os.write(1, b"run\\n")

        async def main():
            async with Worker(targets.echo, kind=KIND):
                pass  # what the program itself imports for a first one, it has
            for left in range(14, 26):
                with few_descriptors(left):
                    try:
                        async with Worker(tell, kind=KIND):
                            pass
                    except (OSError, LoopworkersError):
                        continue
                os.write(1, b"ended\\n")

        anyio.run(main, backend=BACKEND)
    """
    lines = run(script, own_memory, backend)
    assert lines.count("run") == lines.count("ended"), lines
