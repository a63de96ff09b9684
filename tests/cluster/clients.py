"""Clients of the tests' clusters."""

# ruff: noqa: ASYNC110  (what is waited for is elsewhere)

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from contract_help import LONG

from loopworkers import WorkerExited


def skip_without(backend: str, kind: str) -> None:
    if backend == "uvloop":
        pytest.importorskip("uvloop")
        if kind == "isolate":
            pytest.skip("uvloop does not load in isolates")


def port_of(cluster: Any, number: int = 0) -> int:
    return int(cluster.addresses[number].rpartition(":")[2])


if TYPE_CHECKING:
    from contextlib import AsyncExitStack


async def exit_of(events: Any) -> WorkerExited:
    with anyio.fail_after(LONG):
        async for event in events:
            if isinstance(event, WorkerExited):
                return event
    raise AssertionError("no worker has ended")


class Client:
    """One connection, on which lines are asked."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._reader = BufferedByteReceiveStream(stream)

    @classmethod
    async def connect(cls, cluster: Any, tls: Any = None) -> Client:
        url = cluster.addresses[0]
        if url.startswith("unix:"):
            return cls(await anyio.connect_unix(url.removeprefix("unix:")))
        stream = await anyio.connect_tcp("127.0.0.1", port_of(cluster), ssl_context=tls)
        return cls(stream)

    async def send(self, line: bytes) -> None:
        await self._stream.send(line + b"\n")

    async def answer(self) -> tuple[int, bytes]:
        """The worker's id and what it said; raises when the connection ends without."""
        line = await self._reader.receive_until(b"\n", 1 << 16)
        id, _, said = line.partition(b" ")
        return int(id), said

    async def ask(self, line: bytes) -> tuple[int, bytes]:
        await self.send(line)
        return await self.answer()

    async def close(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self.close()


async def ask(cluster: Any, line: bytes = b"hello") -> tuple[int, bytes]:
    """By a connection of its own."""
    async with await Client.connect(cluster) as client:
        return await client.ask(line)


async def connect(cluster: Any, number: int, stack: AsyncExitStack) -> list[Client]:
    """Clients that have asked and wait for the answer."""
    clients = []
    for _ in range(number):
        clients.append(await stack.enter_async_context(await Client.connect(cluster)))
        await clients[-1].send(b"hello")
    return clients


async def answers(clients: list[Client]) -> list[int]:
    """The ids of those that have answered."""
    with anyio.fail_after(LONG):
        return [(await client.answer())[0] for client in clients]


async def spread(cluster: Any, connections: int) -> Counter[int]:
    """How many of so many connections, one after the other, each worker got."""
    return Counter([(await ask(cluster))[0] for _ in range(connections)])


class Load:
    """Clients that connect, ask and close all the time, until `stop`."""

    def __init__(self, cluster: Any, clients: int = 4) -> None:
        self._cluster = cluster
        self._clients = clients
        self.answered = 0
        self.lost: list[str] = []
        self._over = False

    async def __aenter__(self) -> Load:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        for _ in range(self._clients):
            self._group.start_soon(self._run)
        return self

    async def __aexit__(self, *exc: Any) -> Any:
        self._over = True
        return await self._group.__aexit__(*exc)

    async def more(self, answers: int) -> None:
        """Wait for so many further answers."""
        goal = self.answered + answers
        with anyio.fail_after(60):
            while self.answered < goal:
                await anyio.sleep(0.005)

    async def _run(self) -> None:
        while not self._over:
            try:
                with anyio.fail_after(30):
                    await ask(self._cluster)
            except Exception as error:
                self.lost.append(repr(error))
            else:
                self.answered += 1
