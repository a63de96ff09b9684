"""What a worker prints comes out once, in order and whole."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import targets

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
