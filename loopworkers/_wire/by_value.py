"""cloudpickle, adapted: what it makes of functions and classes that cannot be imported.

Functions of ``__main__`` share one namespace in a worker, as they share one here: a global that
an initializer has set there is seen by the calls after it. A definition carries the globals its
functions use, each with a token of its value. In the worker a global is set when its token is
another than before, that is, when the program has changed it, and left alone otherwise.
"""

from __future__ import annotations

import sys
from _io import BytesIO, TextIOWrapper
from _pickle import Unpickler, dumps
from _weakref import ref
from itertools import count

from .definitions import ATOMS, Definition, Function, Module, define, fetch, importable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .handles import Handles

    Globals = list[tuple[str, Any, Any]]  # name, token and value


# --- in the sender ------------------------------------------------------------------------


class Sink:
    """The file of a pickler; the C one hands large bytes objects to write() as they are."""

    __slots__ = ("write",)

    def __init__(self, chunks: list[Any]) -> None:
        self.write = chunks.append


def by_value_dumps(
    obj: Any,
    callback: Callable[[Any], Any] | None = None,
    handles: Handles | None = None,
) -> list[Any]:
    """Pickle ``obj`` with all it refers to, for plain `pickle.loads`."""
    chunks: list[Any] = []
    pickler = _pickler(chunks, callback, None)
    pickler.handles = handles
    pickler.dump(obj)
    return chunks


def by_value(obj: Any) -> Definition:
    """The definition of a function or class that a worker cannot import."""
    return define(obj, _dump_definition)


# What is being defined: classes that refer to each other would else define each other for ever.
_under_way: list[Any] = []


def _dump_definition(obj: Any) -> tuple[bytes, list[Definition]]:
    chunks: list[Any] = []
    parts = _Parts()
    pickler = _pickler(chunks, None, parts)
    _under_way.append(obj)
    try:
        pickler.dump(obj)
        done: set[str] = set()
        # Pickling the value of a global can bring up further ones.
        while parts.globals:
            name, value = parts.globals.popitem()
            if name not in done:
                done.add(name)
                pickler.dump((name, _token(value), value))
        pickler.dump(None)
    finally:
        _under_way.pop()
    return b"".join(chunks), parts.needs


class _Parts:
    """What a definition needs besides its own pickle."""

    def __init__(self) -> None:
        self.needs: list[Definition] = []
        self.globals: dict[str, Any] = {}


def _token(value: Any) -> Any:
    if type(value) in ATOMS:
        return dumps(value, 5)  # not repr(), which has a limit for ints
    if type(value) in (Function, Module) or isinstance(value, type):
        return "number", _number_of(value)
    from hashlib import blake2b

    return blake2b(b"".join(by_value_dumps(value)), digest_size=16).hexdigest()


_numbers: dict[int, tuple[ref[Any], int]] = {}
_new_number = count().__next__


def _number_of(obj: Any) -> int:
    """What names ``obj`` for ever: when it is gone, its id() can be that of its successor."""
    known = _numbers.get(id(obj))
    if known is not None and known[0]() is obj:
        return known[1]
    at, number = id(obj), _new_number()
    forget = _numbers.pop  # bound here, as in `definitions._remember`
    _numbers[at] = ref(obj, lambda _: forget(at, None)), number
    return number


_CloudPickler: Any = None


def _pickler(chunks: list[Any], callback: Any, parts: _Parts | None) -> Any:
    global _CloudPickler
    if _CloudPickler is None:
        _CloudPickler = _make_cloud_pickler()
    pickler = _CloudPickler(Sink(chunks), 5, buffer_callback=callback)
    pickler.parts = parts
    return pickler


def _make_cloud_pickler() -> Any:
    import cloudpickle

    from .values import reduce_special

    class CloudPickler(cloudpickle.Pickler):  # type: ignore[misc]
        parts: _Parts | None
        handles: Handles | None = None
        dispatch_table = cloudpickle.Pickler.dispatch_table.new_child(  # pyright: ignore
            {TextIOWrapper: _reduce_file}
        )

        def reducer_override(self, obj: Any) -> Any:
            if self.parts is not None and isinstance(obj, type) and _is_apart(obj):
                # Under a name of its own a class finds its way back, wherever it came along.
                definition = by_value(obj)
                self.parts.needs.append(definition)
                return fetch, (definition.key,)
            special = reduce_special(obj, self.handles)
            if special is NotImplemented:
                return super().reducer_override(obj)  # pyright: ignore
            return special

        def _dynamic_function_reduce(self, func: Any) -> Any:
            reduced: Any = super()._dynamic_function_reduce(func)  # pyright: ignore
            if self.parts is None or not _is_of_main(func):
                return reduced
            _, (code, _, *rest), (attributes, slots), *others = reduced
            self.parts.globals.update(slots["__globals__"])
            state = (attributes, {**slots, "__globals__": {}})
            return (_make_function_of_main, (code, *rest), state, *others)

    return CloudPickler


def _reduce_file(file: Any) -> Any:
    for name in ("stdin", "stdout", "stderr"):
        if file is getattr(sys, name):
            return getattr, (sys, name)
    # cloudpickle would read the rest of it and send a StringIO.
    raise TypeError("cannot pickle an open file")


def _is_apart(cls: type) -> bool:
    return not importable(cls) and not any(cls is obj for obj in _under_way)


def _is_of_main(function: Any) -> bool:
    namespace = function.__globals__
    main = sys.modules.get("__main__")
    return namespace is _of_main or (main is not None and namespace is main.__dict__)


# --- in the receiver -----------------------------------------------------------------------

_of_main: dict[str, Any] = {"__name__": "__main__"}
_tokens: dict[str, Any] = {}


def _make_function_of_main(code: Any, *rest: Any) -> Any:
    from cloudpickle.cloudpickle import _make_function

    return _make_function(code, _of_main, *rest)


def load_definition(blob: bytes) -> tuple[Any, Globals]:
    unpickler = Unpickler(BytesIO(blob))
    obj = unpickler.load()
    found: Globals = []
    while (item := unpickler.load()) is not None:
        found.append(item)
    return obj, found


def set_globals(found: Globals) -> None:
    """Give the functions of ``__main__`` the globals that the program has changed."""
    for name, token, value in found:
        if name not in _of_main or _tokens.get(name) != token:
            _of_main[name] = value
            _tokens[name] = token
