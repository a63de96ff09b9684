"""What a worker prints comes out once, in order and whole."""

from __future__ import annotations

import signal
from typing import Any

import anyio
import pytest
import targets
import targets_own
from contract_help import succeed
from worker_help import run_worker_script

from loopworkers import PIPE, Worker

pytestmark = pytest.mark.anyio


async def test_all_output_comes_out_once_and_in_order_even_at_an_abrupt_end(
    own_memory: Any,
) -> None:
    lines = 2_000
    async with Worker(
        targets.print_and_leave, lines, kind=own_memory, stdout=PIPE, stderr=PIPE
    ) as worker:
        got: dict[str, bytes] = {}

        async def read(name: str, stream: Any) -> None:
            got[name] = b"".join([chunk async for chunk in stream])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, "out", worker.stdout)
            tasks.start_soon(read, "err", worker.stderr)
        assert await worker.wait() == 3
    out = "".join(f"line {n}\n" for n in range(lines)) + "no end of line"
    assert got["out"].decode() == out
    assert got["err"].decode() == "".join(f"error {n}\n" for n in range(lines))


async def lines_of(stream: Any, at_least: int = 0) -> list[bytes]:
    data = b""
    async for chunk in stream:
        data += chunk
        if at_least and data.count(b"\n") >= at_least:
            break
    return data.splitlines(keepends=True)


@pytest.mark.parametrize(
    ("target", "code"),
    [(targets_own.print_and_exit_at_once, 3), (targets_own.print_and_die, -signal.SIGKILL)],
)
async def test_the_lines_of_a_process_that_dies_come_out(target: Any, code: int) -> None:
    async with Worker(target, 500, stdout=PIPE) as worker:
        assert await lines_of(worker.stdout) == [b"line %d\n" % n for n in range(500)]
        assert await worker.wait() == code


async def test_the_lines_of_a_worker_that_is_terminated_are_whole(own_memory: Any) -> None:
    async with Worker(targets_own.print_for_ever, kind=own_memory, stdout=PIPE) as worker:
        lines = await lines_of(worker.stdout, at_least=100)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.terminate)
            rest = await lines_of(worker.stdout)
        text = b"".join(lines + rest)
        assert text == b"".join(b"line %d\n" % n for n in range(text.count(b"\n")))


SHARED = """
import {backend} as backend, sys, targets_own
from loopworkers import Worker

async def main():
    async with (
        Worker(targets_own.print_lines, "one", 300, kind={kind!r}),
        Worker(targets_own.print_lines, "two", 300, kind={kind!r}),
    ):
        pass

backend.run(main if backend.__name__ == "trio" else main())
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_workers_print_comes_out_of_the_program(kind: str, backend: str) -> None:
    script = SHARED.format(kind=kind, backend=backend)
    lines = succeed(run_worker_script(script)).splitlines()
    for name in ("one", "two"):
        expected = [f"{name} {number}" for number in range(300)]
        assert [line for line in lines if line.startswith(name)] == expected
    assert len(lines) == 600
