"""Streams, maps, workers and pools in workers, as the contract tests run them."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

from contract_gate import busy, hold, note

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

kept: list[Any] = []


def numbers(count: int, folder: str = "", size: int = 0) -> Iterator[Any]:
    """0, 1, ...; each is marked in ``folder`` before it is yielded."""
    try:
        for number in range(count):
            if folder:
                note(folder, "begun")
            yield (number, bytes(size)) if size else number
    finally:
        if folder:
            note(folder, "left")


async def numbers_later(count: int, folder: str = "") -> AsyncIterator[int]:
    try:
        for number in range(count):
            await asyncio.sleep(0)
            if folder:
                note(folder, "begun")
            yield number
    finally:
        if folder:
            note(folder, "left")


def numbers_then_error(count: int) -> Iterator[int]:
    yield from range(count)
    raise LookupError("after the last")


def number_then_hold(folder: str) -> Iterator[int]:
    yield 1
    hold(folder)


def hold_between(folder: str) -> Iterator[int]:
    yield 1
    hold(folder)
    yield 2


def unpicklable_third() -> Iterator[Any]:
    yield 1
    yield 2
    yield threading.Lock()


def numbers_then_die(count: int) -> Iterator[int]:
    yield from range(count)
    os._exit(5)


# --- maps ----------------------------------------------------------------------------------------


def square(value: int) -> int:
    return value * value


def fail_at(value: int, bad: int) -> int:
    if value == bad:
        raise LookupError(value)
    return value


def mark_and_square(value: int, folder: str) -> int:
    note(folder, "begun")
    return value * value


def hold_first(value: int, folder: str) -> int:
    return hold(folder, value) if value == 0 else value


# --- workers -------------------------------------------------------------------------------------

initialized_with: list[Any] = []


def initialize(*args: Any) -> None:
    initialized_with.append(args)


def get_initialized() -> list[Any]:
    return initialized_with


def fail_to_initialize(folder: str) -> None:
    note(folder, "begun")
    if not os.path.exists(os.path.join(folder, "open")):
        raise LookupError("not today")


def die_unless_marked(folder: str, times: int) -> str:
    """Kill this process, the first ``times`` times."""
    note(folder, "begun")
    if os.path.getsize(os.path.join(folder, "begun")) <= times:
        os._exit(9)
    return "done"


def allocate(mebibytes: int) -> int:
    kept.append(bytearray(os.urandom(1024)) * 1024 * mebibytes)
    return os.getpid()


def die() -> None:
    os._exit(9)


# --- what a call tells besides its result --------------------------------------------------------


def log(name: str, level: int, message: str, *args: Any) -> None:
    import logging

    logging.getLogger(name).log(level, message, *args)


def log_exception(name: str) -> None:
    import logging

    try:
        raise LookupError("logged")
    except LookupError:
        logging.getLogger(name).exception("failed", extra={"colour": "red"})


def log_odd(name: str) -> None:
    import logging

    logger = logging.getLogger(name)
    logger.warning("unpicklable %s", threading.Lock(), extra={"lock": threading.Lock()})
    logger.warning("x" * 1_000_000)


def warn(text: str) -> str:
    import warnings

    warnings.warn(text, stacklevel=1)
    return "warned"


def report_and_hold(folder: str) -> str:
    from loopworkers import report_progress

    report_progress(1, 3, "first")
    hold(folder)
    report_progress(2, 3)
    report_progress(3, 3)
    return "done"


async def report_later(value: int) -> int:
    from loopworkers import report_progress

    report_progress(value)
    await asyncio.sleep(0)
    report_progress(value * 100)
    return value


def report_often(count: int) -> None:
    from loopworkers import report_progress

    for n in range(1, count + 1):
        report_progress(n, count)


# --- pools in workers ----------------------------------------------------------------------------


async def nested(levels: int) -> list[Any]:
    """The (kind, pid) of each pool on the way down, ours first."""
    from loopworkers import current_pool, run_in_worker

    pool = current_pool()
    below = [] if levels == 0 else await run_in_worker(nested, levels - 1)
    return [(pool.kind, os.getpid()), *below]


async def nested_sum(values: list[int]) -> int:
    from loopworkers import run_in_worker

    return sum([await future for future in [run_in_worker(square, v) for v in values]])


async def nested_map(kind: Any, count: int) -> list[int]:
    from loopworkers import WorkerPool

    async with WorkerPool(kind) as pool:
        assert pool.max_workers == 1
        return [r async for r in pool.map(square, range(count))]


async def nested_hold(folder: str) -> None:
    from loopworkers import run_in_worker

    await run_in_worker(busy, folder)


def nested_executor(values: list[int]) -> list[int]:
    from loopworkers import WorkerExecutor

    with WorkerExecutor() as executor:
        return list(executor.map(square, values))
