"""What the contract tests run in workers: importable there, standard library only.

One name for all of it: `contract_gate` and `contract_tasks` are taken in.
"""

from __future__ import annotations

import asyncio
import enum
import os
import sys
import threading
from collections import namedtuple
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from contract_gate import *  # noqa: F403
from contract_tasks import *  # noqa: F403

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

kept: list[Any] = []


def echo(value: Any) -> Any:
    return value


def echo_all(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    return args, kwargs


def where() -> tuple[int, int]:
    """What tells one worker from another, and from the parent."""
    return os.getpid(), threading.get_native_id()


# --- buffers -------------------------------------------------------------------------------------


def digest(buffer: Any) -> str:
    return sha256(buffer).hexdigest()


def kept_digests() -> list[str]:
    return [digest(buffer) for buffer in kept]


def keep(buffer: Any) -> None:
    kept.append(buffer)


def fill(buffer: Any) -> Any:
    """Overwrite the first byte, which takes a writable buffer."""
    buffer[0] = 7
    return buffer


def make(kind: str, size: int, byte: int) -> Any:
    return {"bytes": bytes, "bytearray": bytearray}[kind]([byte]) * size


def forget_kept() -> None:
    kept.clear()


def die_then_digest(folder: str, data: Any) -> str:
    die_unless_marked(folder, 1)  # noqa: F405
    return digest(data)


# --- classes and callables -----------------------------------------------------------------------


@dataclass
class Point:
    x: int
    y: Any = None

    def moved(self, by: int) -> Point:
        return Point(self.x + by, self.y)

    @classmethod
    def at(cls, x: int) -> Point:
        return cls(x)

    @staticmethod
    def zero() -> int:
        return 0

    async def later(self) -> int:
        await asyncio.sleep(0)
        return self.x


Pair = namedtuple("Pair", "a b")


class Colour(enum.Enum):
    RED = 1


class Adder:
    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, value: int) -> int:
        return value + self.by


class AsyncAdder(Adder):
    async def __call__(self, value: int) -> int:  # type: ignore[override]
        await asyncio.sleep(0)
        return value + self.by


async def double_later(value: int) -> int:
    await asyncio.sleep(0)
    return value * 2


async def fail_later() -> None:
    await asyncio.sleep(0)
    raise LookupError("later")


async def sum_in_tasks(*values: int) -> int:
    return sum(await asyncio.gather(*map(double_later, values)))


async def loop_id() -> int:
    return id(asyncio.get_running_loop())


# --- exceptions ----------------------------------------------------------------------------------


class Custom(Exception):
    def __init__(self, first: int, second: str) -> None:
        super().__init__(first, second)
        self.extra = [first, second]


class BadStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class BadReduce(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("no reduction")


class BadInit(Exception):
    """Pickles, but cannot be built again from its args."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


class HoldsLock(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text, threading.Lock())


class FailsToLoad:
    def __reduce__(self) -> Any:
        return fail_while_loading, ()


def fail_while_loading() -> None:
    raise LookupError("while loading")


def make_unpicklable() -> Any:
    return {"a": [1, threading.Lock()]}


def make_fails_to_load() -> FailsToLoad:
    return FailsToLoad()


class NotHereOnly(Exception):
    """Pickles, and then cannot be built again."""

    def __reduce__(self) -> Any:
        return fail_while_loading, ()


class NotHereGroup(ExceptionGroup):
    def __reduce__(self) -> Any:
        return fail_while_loading, ()


def recurse_with_tblib(name: str) -> None:
    import tblib.pickling_support

    tblib.pickling_support.install()
    try:
        _recurse()
    except RecursionError as error:
        if name == "ExceptionGroup":
            raise ExceptionGroup("several", [error]) from error
        if name == "Custom":
            raise Custom(1, error) from error  # type: ignore[arg-type]
        raise


def _recurse() -> None:
    _recurse()


def chain_with_tblib(links: int) -> None:
    import tblib.pickling_support

    tblib.pickling_support.install()
    error = None
    for number in range(links):
        try:
            raise ValueError(str(number)) from error
        except ValueError as raised:
            error = raised
    assert error is not None
    raise error


def caught(function: Callable[..., object], *args: object) -> Exception | None:
    try:
        function(*args)
    except Exception as error:
        return error
    return None


def throw_not_here(name: str, text: str) -> None:
    error: Exception
    if name == "NotHereGroup":
        error = NotHereGroup(text, [ValueError("inner: error")])
    else:
        error = NotHereOnly(text)
    error.add_note("a note: of two\nlines")
    raise error from BadInit(1, 2)


class OddBase(BaseException):
    class Inner(BaseException):
        pass


class BadBase(BaseException):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def throw_base(name: str, *args: Any) -> None:
    found: Any = sys.modules["builtins"] if name == "KeyboardInterrupt" else sys.modules[__name__]
    for part in name.split("."):
        found = getattr(found, part)
    raise found(*args)


def throw(error: BaseException) -> None:
    raise error


def throw_group() -> None:
    # Made here: once Dask is imported, as by tests of it, one that comes as an argument cannot be.
    raise BaseExceptionGroup("odd", [OddBase("inner")])


def throw_named(name: str, *args: Any) -> None:
    error = globals().get(name) or getattr(sys.modules["builtins"], name)
    raise error(*args)


def throw_chain() -> None:
    try:
        try:
            {}["key"]
        except KeyError as error:
            raise ValueError("the cause") from error
    except ValueError as error:
        error.add_note("a note on the cause")
        wrapped = Custom(1, "two")
        wrapped.add_note("a note")
        wrapped.attribute = {"deep": [1]}  # type: ignore[attr-defined]
        raise wrapped from error


def throw_in_context() -> None:
    try:
        raise OSError(2, "first")
    except OSError:
        raise RuntimeError("second")  # noqa: B904 - that is what is tested


def throw_from_none() -> None:
    try:
        raise OSError(2, "hidden")
    except OSError:
        raise RuntimeError("shown") from None


def throw_cancelled() -> None:
    raise asyncio.CancelledError("not yours")


# --- context variables ---------------------------------------------------------------------------

user: ContextVar[Any] = ContextVar("user", default="nobody")
other: ContextVar[Any] = ContextVar("other", default="nothing")


def get_user() -> Any:
    return user.get()


def get_both() -> tuple[Any, Any]:
    return user.get(), other.get()


def set_user(value: Any) -> None:
    user.set(value)


async def get_user_in_task() -> Any:
    return await asyncio.create_task(_get_user())


async def _get_user() -> Any:
    return user.get()


def stream_of_user(count: int) -> Iterator[Any]:
    for _ in range(count):
        yield user.get()


def user_for(_: Any) -> Any:
    return user.get()


def busy_while_a_module_is_half_imported(folder: str) -> None:
    sys.modules["warnings"] = type(sys)("warnings")
    busy(folder)  # noqa: F405
