"""Inside a contender's process: one line of JSON in is one round, one line out its figures.

Started with `python -c`, not as a file or with `-m`: spawned workers import the main module again,
and would pay for this one's imports. So every peer is seen at its best.
"""

from __future__ import annotations

import json
import sys
import traceback
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from . import faults, floor, parallel, ports, rounds, workers
from .backends import Backend, backend_for
from .contenders import BY_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .peers import Opener, Side

# Marks our lines among whatever else a library or its workers may print.
MARK = "\x1e"


class Stage:
    """What a round gets to work with: the loop, and open pools."""

    def __init__(self, backend: Backend, opener: Opener, stack: AsyncExitStack) -> None:
        self.backend = backend
        self._opener = opener
        self._stack = stack
        self._sides: dict[int, Side] = {}

    async def side(self, workers: int) -> Side:
        """A warm pool, kept for the next rounds."""
        if workers not in self._sides:
            self._sides[workers] = await self._stack.enter_async_context(self._opener(workers))
        side = self._sides[workers]
        await rounds.warm_up(self.backend, side, workers)
        return side

    @asynccontextmanager
    async def fresh(self, workers: int) -> AsyncIterator[Side]:
        """A pool of its own for one round."""
        async with self._opener(workers) as side:
            yield side


def _say(**message: Any) -> None:
    print(MARK + json.dumps(message), flush=True)


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    first_line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line}"[:160].rstrip(": ")


def _opener(key: str) -> Opener:
    contender = BY_KEY[key]
    if contender.group == "ours":
        from . import ours

        return ours.opener(key)
    if contender.group == "floor":
        return floor.opener
    if contender.group == "dask":
        from . import dasks

        return dasks.opener(key)
    from . import peers

    return peers.opener(key)


async def _serve(backend: Backend, opener: Opener) -> None:
    known: dict[str, Any] = {}
    for module in (rounds, faults, ports, workers, parallel, floor):
        known |= module.ROUNDS
    async with AsyncExitStack() as stack:
        stage = Stage(backend, opener, stack)
        _say(ready=True)
        while line := await backend.read_line():
            request = json.loads(line)
            try:
                figures = await known[request["round"]](stage, request["params"])
            except Exception as error:
                traceback.print_exc()
                _say(error=_reason(error))
            else:
                _say(figures=figures)


def main() -> None:
    """Play the contender named on the command line until standard input ends."""
    key = sys.argv[1]
    try:
        backend = backend_for(BY_KEY[key].loop)
        opener = _opener(key)
    except Exception as error:
        traceback.print_exc()
        _say(error=_reason(error))
        return

    async def serve() -> None:
        await _serve(backend, opener)

    backend.run(serve)
