"""One call on its way: what to run, under which options, and where it stands."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from ._wire.context import capture, for_thread
from ._wire.definitions import Builtin, Function, importable
from ._wire.frames import INLINE_MAX
from ._wire.values import Encoded, by_value, dumps, encode, find_culprit, is_plain
from .errors import NotTransferable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._wire.definitions import Definition
    from ._workers.base import Worker

OnCancel = Literal["kill", "wait", "abandon"]
# From Python 3.14: an argument of a partial for which the call's own go in.
_PLACEHOLDER = getattr(functools, "Placeholder", object())


def _are_resources(given: Any) -> bool:
    return isinstance(given, Mapping) and all(
        isinstance(name, str) and isinstance(amount, (int, float)) and 0 < amount < inf
        for name, amount in given.items()  # pyright: ignore[reportUnknownVariableType]
    )


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What can be set for a pool and, through ``options()``, for single calls."""

    timeout: float | None = None
    retries: int = 0
    on_cancel: OnCancel | None = None  # as "kill", as far as what runs the call can
    chunksize: int | None = None
    in_flight: int | None = None
    ordered: bool = True
    progress: bool = False
    resources: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout must be a positive number of seconds, not {self.timeout}")
        if self.retries < 0:
            raise ValueError(f"retries must be 0 or more, not {self.retries}")
        if self.on_cancel not in (None, "kill", "wait", "abandon"):
            raise ValueError(
                f'on_cancel must be "kill", "wait" or "abandon", not {self.on_cancel!r}'
            )
        if self.resources is not None and not _are_resources(self.resources):
            raise ValueError(
                f"resources must be a mapping of names to positive amounts, not {self.resources!r}"
            )
        for name in ("chunksize", "in_flight"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")

    @property
    def stops(self) -> bool:
        """Whether cancelling the call stops its body, or is meant to."""
        return self.on_cancel in (None, "kill")

    def but(self, **overrides: Any) -> CallOptions:
        return replace(self, **overrides) if overrides else self


class Call:
    """A call from `run` until it is settled; the pool and one worker at a time hold it."""

    # Defaults on the class: a call sets only what it has.
    future: Any = None
    stream: Any = None  # a weak reference to it
    is_stream = False
    worker: Worker | None = None
    made_at = 0.0  # only where somebody observes the pool
    sent_at = 0.0
    timer: Any = None
    timed_out = False
    progress = b""  # what an engine told last
    lost_before = ""  # how an engine lost it, before it was tried again

    def __init__(self, pool: Any, id: int, function: Any, body: Any, options: CallOptions) -> None:
        self.pool = pool
        self.id = id
        self.function = function
        self.key = key_of(function)  # calls of one key are taken to run about equally long
        self.body: Any = body  # Encoded, or for threads (function, args, kwargs, context)
        self.options = options
        self.retries = options.retries
        self.surroundings: Any = None  # see `_workers/settings.py`

    def check_progress(self) -> None:
        """Raise EngineUnsupported where nothing will be reported."""
        self.pool._backing.check_progress()

    def cancel(self) -> bool:
        """Asked by the future: may it be cancelled now?"""
        allowed: bool = self.pool.cancel(self)
        return allowed

    @property
    def name(self) -> str:
        return name_of(self.function)

    @property
    def is_small(self) -> bool:
        """Whether it fits into one packet, the definitions that go along included."""
        body = self.body
        if type(body) is not Encoded:
            return True
        if not body.needs:
            return body.size <= INLINE_MAX
        return body.size + sum(definition.size for definition in body.needs) <= INLINE_MAX

    def freeze(self) -> None:
        """Before it waits: what it carries is what it was at the call."""
        if type(self.body) is Encoded:
            self.body.freeze()

    def let_go(self) -> None:
        """At its end: it and its future refer to each other, and results can be large."""
        self.future = self.stream = self.body = None

    def ran_for(self) -> float:
        return perf_counter() - self.sent_at if self.sent_at else 0.0


def name_of(function: Any) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None)
    return f"{module}.{name}" if module else str(name)


def encode_call(
    function: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    definer: Callable[[Any], Definition] = by_value,
) -> Encoded:
    """The call as bytes; raises NotTransferable, naming the argument, if that cannot be.

    With `in_place` as ``definer`` they are for a worker that shares nothing with this program.
    """
    if type(function) is functools.partial and not any(a is _PLACEHOLDER for a in function.args):
        # Its parts travel better than the whole: the function by reference or as a definition.
        args = function.args + args
        kwargs = {**function.keywords, **kwargs}
        function = function.func
    target = _target_of(function)
    try:
        if type(target) is str and not kwargs and all(map(is_plain, args)):
            # What nearly every short call is: no pickler of our own is needed.
            return Encoded([dumps((target, args, kwargs, capture()), 5)], 0, ())
        encoded = encode((target, args, kwargs, capture()), definer)
        if encoded.handles is not None and definer is not by_value:
            raise TypeError("ports, sockets and shared memory cannot leave this machine")
    except Exception as error:
        raise _explain(function, args, kwargs, error) from error
    if encoded.handles is not None:
        for move in encoded.handles.take_moves():
            move()
    return encoded


_targets: dict[Any, str] = {}
_MOST_TARGETS = 1024


def _target_of(function: Any) -> Any:
    """The name to import the function by, or the function itself."""
    if type(function) is not Function and type(function) is not Builtin:
        return function
    target = _targets.get(function)
    if target is None:
        if not importable(function):
            return function
        if len(_targets) >= _MOST_TARGETS:
            _targets.clear()
        target = _targets[function] = f"{function.__module__}:{function.__qualname__}"
    return target


def _explain(function: Any, args: Any, kwargs: Any, error: Exception) -> NotTransferable:
    name = name_of(function)
    parts = [(f"args[{i}]", arg) for i, arg in enumerate(args)]
    parts += [(f"kwargs[{key!r}]", arg) for key, arg in kwargs.items()]
    parts.append(("the function itself", function))
    for path, value in parts:
        try:
            encode(value, by_value)
        except Exception:
            return NotTransferable(
                f"cannot send the call of {name} to a worker: {find_culprit(value, path)} "
                f"cannot be pickled: {error!r}"
            )
    return NotTransferable(f"cannot send the call of {name} to a worker: {error!r}")


def direct_call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call for a thread: by reference, in a copy of the caller's context."""
    return function, args, kwargs, for_thread()


def key_of(function: Any) -> Any:
    """What identifies a function for statistics, without keeping it alive."""
    if type(function) is Function:
        return function.__code__
    name: str | None = getattr(function, "__qualname__", None)
    kind: type[Any] = type(function)
    return name or kind
