"""The measured code of messages to a `Worker` and back. Times in seconds.

The worker's side blocks in `for message in port`, as a plain function of a worker does; this side
awaits on its event loop. A worker is kept for one round, and is awake before a clock runs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from . import work
from .rounds import spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from .player import Stage

Params = dict[str, Any]
Figures = dict[str, Any]
clock = time.perf_counter


async def port_echo(_stage: Stage, params: Params) -> Figures:
    """One small message after the other, each sent when the one before has come back."""
    from .ours import worker

    message, samples = params["message"], []
    async with worker(params["kind"], work.echo) as echo:
        for _ in range(params["calls"] + 20):
            start = clock()
            await echo.send(message)
            answer = await echo.receive()
            samples.append(clock() - start)
            if answer != message:
                raise ValueError("the answer is not what was sent")
    return spread(samples[20:])


async def port_rate(_stage: Stage, params: Params) -> Figures:
    """Small messages with so many under way: one more is sent for each that has come back.

    Counted is what came back, so each has crossed the port twice.
    """
    from .ours import worker

    message, in_flight = params["message"], params["in_flight"]
    rate = 0.0
    async with worker(params["kind"], work.echo) as echo:
        send, receive = echo.send, echo.receive
        for seconds in (params["seconds"] / 5, params["seconds"]):  # the first to warm up
            begin, done = clock(), 0
            end = begin + seconds
            for _ in range(in_flight):
                await send(message)
            while (now := clock()) < end:
                await receive()
                await send(message)
                done += 1
            rate = done / (now - begin)
            for _ in range(in_flight):
                await receive()
    return {"rate": rate}


async def port_move(_stage: Stage, params: Params) -> Figures:
    """Something large is handed over with `transfer=`, and a number comes back.

    Each is made anew, for it is gone once it is sent, and written to all over; that is not part of
    the time, but a figure of its own.
    """
    from .ours import worker

    make, size = _makers()[params["what"]], params["size"]
    samples, made = [], []
    async with worker(params["kind"], work.size_of_each) as other:
        for turn in range(params["calls"] + 2):
            before = clock()
            data = make(bytes([turn % 3 + 1]) * size)
            start = clock()
            await other.send(data, transfer=[data])
            answer = await other.receive()
            samples.append(clock() - start)
            made.append(start - before)
            if answer != size or not _is_gone(data):
                raise ValueError("it was not handed over")
    return {**spread(samples[2:]), "made": spread(made[2:])["p50"]}


def _makers() -> dict[str, Callable[[bytes], Any]]:
    from loopworkers import SharedBuffer

    def shared(content: bytes) -> SharedBuffer:
        buffer = SharedBuffer(len(content))
        buffer.view[:] = content
        return buffer

    return {"SharedBuffer": shared, "bytearray": bytearray}


def _is_gone(data: Any) -> bool:
    return not data if type(data) is bytearray else bool(data.closed)


ROUNDS = {"port_echo": port_echo, "port_rate": port_rate, "port_move": port_move}
