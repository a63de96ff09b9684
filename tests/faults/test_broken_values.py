"""Results that cannot be rebuilt, and exceptions whose own methods raise."""

from __future__ import annotations

import os
import threading
from typing import Any

import anyio
import pytest

from loopworkers import LoopworkersError, NotTransferable, RemoteError, WorkerPool

from .helpers import BACKENDS, INTERPRETERS, KINDS

MARK = "a mark in the message"
ENDINGS = {
    "ValueError": ValueError,
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
}


# --- results that break where they arrive --------------------------------------------------------


def explode(name: str) -> None:
    raise ENDINGS[name](MARK)


class ExplodesInUnpickling:
    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> Any:
        return explode, (self.name,)


def broken_items(name: str) -> Any:
    yield 1
    yield ExplodesInUnpickling(name)
    yield 2


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("kind", INTERPRETERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_unpickling_the_result_raises(backend: str, kind: Any, name: str) -> None:
    async def main() -> None:
        with anyio.fail_after(20):
            async with WorkerPool(kind, max_workers=1) as pool:
                calls = [pool.run(ExplodesInUnpickling, name), pool.run(abs, -1)]
                with pytest.raises(NotTransferable, match=MARK) as caught:
                    await calls[0]
                assert isinstance(caught.value.__cause__, ENDINGS[name])
                assert await calls[1] == 1

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("kind", INTERPRETERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_unpickling_an_item_of_a_stream_raises(backend: str, kind: Any, name: str) -> None:
    async def main() -> None:
        with anyio.fail_after(20):
            async with WorkerPool(kind, max_workers=1) as pool:
                items = pool.stream(broken_items, name)
                assert await anext(items) == 1
                with pytest.raises(NotTransferable, match=MARK):
                    await anext(items)
                assert await pool.run(abs, -1) == 1

    anyio.run(main, backend=backend)


# --- exceptions that fight back ----------------------------------------


class InitRaises(Exception):
    def __init__(self, number: int, *, armed: bool = True) -> None:
        if armed and number != 12:
            raise RuntimeError("not from anybody else")
        super().__init__(MARK)


class InitNeedsMore(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(MARK)


class StrRaises(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class ReduceRaises(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("not to be pickled")


class ReduceExits(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit(4)


class RebuildRaises(Exception):
    def __reduce__(self) -> Any:
        return explode, ("KeyboardInterrupt",)


class BecomesSomethingElse(Exception):
    def __reduce__(self) -> Any:
        return int, (3,)


class BecomesAnExit(Exception):
    def __reduce__(self) -> Any:
        return SystemExit, (4,)


class Holds(Exception):
    def __init__(self) -> None:
        super().__init__(MARK)
        self.lock = threading.Lock()


class NotesAreWrong(Exception):
    __notes__ = 5  # type: ignore[assignment]


def circle() -> Exception:
    first, second = ValueError(MARK), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def group() -> Exception:
    return ExceptionGroup(MARK, [StrRaises(), ReduceRaises(), ValueError()])


MAKERS = {
    "InitRaises": lambda: InitRaises(12),
    "InitNeedsMore": lambda: InitNeedsMore("a", "b"),
    "StrRaises": lambda: StrRaises(MARK),
    "ReduceRaises": lambda: ReduceRaises(MARK),
    "ReduceExits": lambda: ReduceExits(MARK),
    "RebuildRaises": lambda: RebuildRaises(MARK),
    "BecomesSomethingElse": lambda: BecomesSomethingElse(MARK),
    "BecomesAnExit": lambda: BecomesAnExit(MARK),
    "Holds": Holds,
    "NotesAreWrong": lambda: NotesAreWrong(MARK),
    "circle": circle,
    "group": group,
    "StopIteration": lambda: StopIteration(MARK),
    "GeneratorExit": lambda: GeneratorExit(MARK),
}


def throw(name: str) -> None:
    raise MAKERS[name]()


def throw_from(name: str) -> None:
    try:
        throw(name)
    except BaseException as error:
        raise ValueError("the outer one") from error


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_exception_that_fights_back(backend: str, kind: Any, name: str) -> None:
    async def main() -> None:
        with anyio.fail_after(20):
            async with WorkerPool(kind, max_workers=1) as pool:
                calls = [pool.run(throw, name), pool.run(throw_from, name), pool.run(abs, -1)]
                with pytest.raises(Exception) as caught:  # noqa: PT011 - each its own
                    await calls[0]
                error = caught.value
                if not isinstance(error, RemoteError):
                    assert type(error).__name__ in (name, type(MAKERS[name]()).__name__)
                elif name != "StrRaises":
                    assert MARK in f"{error} {error.traceback_text}", repr(error)
                with pytest.raises(ValueError, match="the outer one") as caught:
                    await calls[1]
                assert caught.value.__cause__ is not None
                assert await calls[2] == 1
                assert pool.stats().died == 0

    anyio.run(main, backend=backend)


# --- arguments that cannot leave ----------------------------------------


class Refuses:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


@pytest.mark.parametrize("kind", INTERPRETERS)
def test_argument_that_cannot_be_pickled_costs_only_its_call(kind: Any) -> None:
    async def main() -> None:
        async with WorkerPool(kind, max_workers=1) as pool:
            before = pool.run(os.getpid)
            with pytest.raises(NotTransferable, match=r"args\[1\]"):
                pool.run(max, 1, [2, Refuses(ValueError(MARK))])
            with pytest.raises(KeyboardInterrupt):
                pool.run(max, 1, Refuses(KeyboardInterrupt()))
            assert await before
            assert await pool.run(abs, -1) == 1
            stats = pool.stats()
            assert (stats.running, stats.waiting) == (0, 0)

    anyio.run(main)


@pytest.mark.parametrize("kind", INTERPRETERS)
def test_result_that_cannot_be_pickled_is_named(kind: Any) -> None:
    async def main() -> None:
        async with WorkerPool(kind, max_workers=1) as pool:
            with pytest.raises(LoopworkersError, match="result"):
                await pool.run(lambda: {"a": [threading.Lock()]})
            assert await pool.run(abs, -1) == 1

    anyio.run(main)
