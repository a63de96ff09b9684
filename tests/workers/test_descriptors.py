"""Files and sockets of a worker are closed when it ends."""

from __future__ import annotations

import os
import socket
from typing import Any

import anyio
import pytest
import targets
import targets_own
from contract_help import LONG, no_isolates

from loopworkers import SharedBuffer, Worker

pytestmark = pytest.mark.anyio


async def end_of_file(sock: socket.socket) -> bool:
    sock.settimeout(LONG)
    return await anyio.to_thread.run_sync(sock.recv, 1) == b""


@pytest.mark.parametrize("how", ["return", "exit", "failure", "terminate"])
async def test_files_and_sockets_that_a_worker_kept_are_closed_at_its_end(
    own_memory: Any, how: str
) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        async with Worker(targets_own.keep_open, how, kind=own_memory) as worker:
            await worker.send(theirs)
            assert await worker.receive() == "open"
            if how == "terminate":
                await worker.terminate()
            elif how == "failure":
                with pytest.raises(LookupError):
                    await worker.wait()
        assert await end_of_file(ours)
    # That the others are closed as well is seen after every test.


async def test_bare_descriptors_of_a_process_are_closed_at_its_end() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        async with Worker(targets_own.keep_a_bare_descriptor) as worker:
            await worker.send(theirs)
            await worker.receive()
        assert await end_of_file(ours)


@no_isolates
async def test_bare_descriptors_of_an_isolate_are_the_programs() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        async with Worker(targets_own.keep_a_bare_descriptor, kind="isolate") as worker:
            await worker.send(theirs)
            number = await worker.receive()
        os.write(number, b"still open")
        os.close(number)
        assert ours.recv(100) == b"still open"


@no_isolates
async def test_an_isolate_stopped_while_it_passes_descriptors_on_leaves_none() -> None:
    for _ in range(10):
        async with Worker(targets.echo, kind="isolate") as worker:
            with SharedBuffer(8) as buffer:
                for _ in range(3):
                    await worker.send([buffer])
                (await worker.receive())[0].close()
            await worker.terminate()
