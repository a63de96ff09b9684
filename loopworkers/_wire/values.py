"""Values to bytes and back, by pickle protocol 5, with large buffers left in place.

`encode` gives a list of chunks that refer to the large bytes objects and buffers of the
value rather than copy them; whoever sends the chunks copies them once, to where the receiver
can read them. `decode` gives the receiver objects of its own: immutable ones from the
received memory by one copy, writable buffers as new bytearrays.
"""

from __future__ import annotations

import sys
from _contextvars import ContextVar
from _pickle import PickleBuffer, Pickler, Unpickler
from _pickle import dumps as dumps
from _pickle import loads as loads
from _struct import Struct
from _thread import get_ident
from copyreg import dispatch_table

from .by_value import Sink, by_value_dumps
from .by_value import by_value as by_value
from .definitions import ATOMS, Definition, Function, fetch, importable, known_key
from .frames import BUFFERS, INLINE_MAX
from .handles import Handles, refuse, take
from .shield import shielded, unbroken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_COUNT = Struct("<I")
_ENTRY = Struct("<QB")  # size, writable

# Smaller buffers travel inside the pickle: an entry of their own would cost more.
_OUT_OF_BAND_MIN = 8 * 1024


class Encoded:
    """A pickled value: ``chunks`` one after the other are its bytes, ``size`` in all."""

    __slots__ = ("chunks", "flags", "handles", "needs", "size")

    def __init__(
        self,
        chunks: list[Any],
        flags: int,
        needs: Sequence[Definition],
        handles: Handles | None = None,
    ) -> None:
        self.size = len(chunks[0]) if len(chunks) == 1 else sum(map(len, chunks))
        if len(chunks) > 1 and self.size <= INLINE_MAX:
            # Small ones are copied to one piece at once, and so can no longer change either.
            chunks = [b"".join(chunks)]
        self.chunks = chunks
        self.flags = flags
        self.needs = needs
        self.handles = handles if handles is not None and handles.files else None

    def freeze(self) -> None:
        """Copy what the owner could still change: the value is what it was at the call."""
        if self.size > INLINE_MAX:
            self.chunks = [c if _is_constant(c) else bytes(c) for c in self.chunks]


def _is_constant(chunk: Any) -> bool:
    while isinstance(chunk, memoryview):  # a view of a view of ... of what owns the memory
        chunk = chunk.obj
    return type(chunk) is bytes


class _ByValueNeeded(Exception):
    """Only cloudpickle can pickle this."""


class _Pickler(Pickler):
    """pickle, plus references to definitions, context variables, memoryviews."""

    definer: Callable[[Any], Definition] | None
    needs: list[Definition]
    handles: Handles | None

    def reducer_override(self, obj: Any) -> Any:
        kind: type[Any] = type(obj)
        if kind is Function or isinstance(obj, type):
            if importable(obj):
                return NotImplemented
            if self.definer is None:
                # On the way back: by the name under which it came.
                key = known_key(obj)
                if key is None:
                    raise _ByValueNeeded
                return fetch, (key,)
            definition = self.definer(obj)
            self.needs.append(definition)
            return fetch, (definition.key,)
        return reduce_special(obj, self.handles)


# Types whose values have descriptors, and how each is reduced; what subclasses them is added too.
travellers: dict[type[Any], Callable[[Any, Handles], Any]] = {}


def traveller(kind: type[Any]) -> Callable[[Any, Handles], Any] | None:
    """How values of this type are reduced, if they have descriptors."""
    if kind.__name__ == "socket" and kind.__module__ == "socket":
        return _reduce_socket
    return travellers.get(kind)


def _reduce_socket(obj: Any, handles: Handles) -> Any:
    number = handles.add(obj.fileno(), obj.close)  # it moves
    return _rebuild_socket, (number, int(obj.family), int(obj.type), obj.proto)


@unbroken
def _rebuild_socket(number: int, family: int, kind: int, proto: int) -> Any:
    import socket

    thread = get_ident()
    shielded.add(thread)  # for what `socket` does before the number is the object's
    try:
        return socket.socket(family, kind, proto, take(number))
    finally:
        shielded.discard(thread)


def reduce_special(obj: Any, handles: Handles | None) -> Any:
    kind: type[Any] = type(obj)
    travelling = traveller(kind)
    if travelling is not None:
        return refuse(obj) if handles is None else travelling(obj, handles)
    if handles is not None and kind in handles.reducers:
        return handles.reducers[kind](obj, handles)
    if kind is memoryview:
        return _reduce_memoryview(obj)
    if kind is ContextVar:
        from .context import reduce_variable

        return reduce_variable(obj)
    if kind.__name__ == "_lru_cache_wrapper" and not importable(obj):
        # A cached function reduces to its name, which means nothing where it is by value.
        return _rebuild_cached, (obj.__wrapped__, obj.cache_parameters())
    if isinstance(obj, BaseException) and _is_tblibs(dispatch_table.get(kind)):
        return obj.__reduce_ex__(5)
    return NotImplemented


def _is_tblibs(reducer: Any) -> bool:
    """tblib, which comes with Dask, has exceptions take their chains and all frames along.

    These can be too deep for pickle, and in a chain each would have what is behind it once more.
    """
    return getattr(reducer, "__module__", None) == "tblib.pickling_support"


def _reduce_memoryview(view: memoryview) -> Any:
    shape = view.shape or ()
    if 0 in shape[1:]:
        raise TypeError(f"nothing but its owner can make a memoryview of shape {shape}")
    if not view.c_contiguous:
        packed = view.tobytes() if view.readonly else bytearray(view.tobytes())
        return _rebuild_memoryview, (packed, view.format, view.shape)
    if view.format == "B" and view.ndim == 1:
        return memoryview, (PickleBuffer(view),)
    return _rebuild_memoryview, (PickleBuffer(view), view.format, view.shape)


def _rebuild_memoryview(buffer: Any, format: str, shape: tuple[int, ...]) -> memoryview:
    plain: Any = memoryview(buffer).cast("B")
    if len(shape) == 1:
        return plain.cast(format)  # type: ignore[no-any-return]
    if 0 not in shape:
        return plain.cast(format, shape)  # type: ignore[no-any-return]
    # cast() takes no such shape: begin with one row, and leave it out.
    size = plain.cast(format).itemsize
    for length in shape[1:]:
        size *= length
    row: Any = memoryview(bytes(size) if plain.readonly else bytearray(size))
    return row.cast(format, (1, *shape[1:]))[:0]  # type: ignore[no-any-return]


def _rebuild_cached(function: Any, parameters: dict[str, Any]) -> Any:
    from functools import lru_cache

    return lru_cache(**parameters)(function)


_PLAIN = frozenset((int, float, bool, type(None), complex))


def is_plain(value: Any) -> bool:
    """Whether it is a small value of a builtin type, which plain pickle does as well."""
    kind: type[Any] = type(value)
    return kind in _PLAIN or ((kind is str or kind is bytes) and len(value) < 4096)


def in_place(obj: Any) -> Definition:
    """A definer for receivers of whom nothing is known: what goes by value is pickled in place."""
    raise _ByValueNeeded


def encode(value: Any, definer: Callable[[Any], Definition] | None = None) -> Encoded:
    """Pickle ``value``; raises whatever pickling it raises.

    ``definer`` makes definitions of what must go by value; without it (a worker's results)
    such parts go by the name under which they came, or are pickled in place.
    """
    chunks: list[Any] = []
    buffers: list[PickleBuffer] = []

    def out_of_band(buffer: PickleBuffer) -> bool:
        view = memoryview(buffer)
        if view.nbytes < _OUT_OF_BAND_MIN or not view.contiguous:
            return True  # in band
        buffers.append(buffer)
        return False

    pickler = _Pickler(Sink(chunks), 5, buffer_callback=out_of_band)
    pickler.definer = definer
    needs: list[Definition] = []
    pickler.needs = needs
    pickler.handles = handles = Handles()
    try:
        pickler.dump(value)
    except _ByValueNeeded:
        buffers.clear()
        needs.clear()
        handles = Handles()
        chunks = by_value_dumps(value, out_of_band, handles)
    except Exception as error:
        # What plain pickle cannot do, cloudpickle sometimes can; its error would be no clearer.
        buffers.clear()
        needs.clear()
        handles = Handles()
        try:
            chunks = by_value_dumps(value, out_of_band, handles)
        except Exception:
            raise error from None
    if not buffers:
        return Encoded(chunks, 0, needs, handles)
    views = [buffer.raw() for buffer in buffers]
    table = _COUNT.pack(len(views)) + b"".join(
        _ENTRY.pack(len(view), not view.readonly) for view in views
    )
    return Encoded([table, *views, *chunks], BUFFERS, needs, handles)


def decode(body: Any, flags: int) -> Any:
    """The value whose bytes are ``body`` (one buffer); it shares no memory with it."""
    if not flags & BUFFERS:
        return loads(body)
    view = memoryview(body)
    (count,) = _COUNT.unpack_from(view)
    at = _COUNT.size + count * _ENTRY.size
    buffers: list[Any] = []
    for size, writable in _ENTRY.iter_unpack(view[_COUNT.size : at]):
        part = view[at : at + size]
        at += size
        buffers.append(bytearray(part) if writable else bytes(part))
    return loads(view[at:], buffers=buffers)


def decode_lent(parts: Sequence[memoryview], flags: int) -> Any:
    """The value in ``parts``, which are lent: constant buffers are used where they lie."""
    if not flags & BUFFERS:
        return Unpickler(_Source(parts)).load()
    (count,) = _COUNT.unpack_from(parts[0])
    entries = _ENTRY.iter_unpack(parts[0][_COUNT.size :])
    buffers = [
        bytearray(part) if writable else part
        for (_, writable), part in zip(entries, parts[1 : 1 + count], strict=True)
    ]
    return Unpickler(_Source(parts[1 + count :]), buffers=buffers).load()


class _Source:
    """The file that an Unpickler reads lent parts from; large objects by one copy."""

    def __init__(self, parts: Sequence[memoryview]) -> None:
        self._parts = list(parts)
        self._at = 0

    def readinto(self, target: Any) -> int:
        wanted = memoryview(target)
        done = 0
        while done < len(wanted) and self._parts:
            part = self._parts[0][self._at : self._at + len(wanted) - done]
            wanted[done : done + len(part)] = part
            done += len(part)
            self._at += len(part)
            if self._at == len(self._parts[0]):
                del self._parts[0]
                self._at = 0
        return done

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            size = sum(map(len, self._parts)) - self._at
        data = bytearray(size)
        return bytes(data[: self.readinto(data)])

    def readline(self) -> bytes:
        line = bytearray()
        while (byte := self.read(1)) and byte != b"\n":
            line += byte
        return bytes(line + byte)


def find_culprit(value: Any, path: str) -> str:
    """The path to the innermost part of ``value`` that cannot be pickled."""
    for _ in range(20):
        kind: type[Any] = type(value)
        if traveller(kind) is not None and not hasattr(kind, "contains_others"):
            break
        for name, part in _children(value):
            if type(part) in ATOMS:
                continue
            try:
                encode(part, by_value)
            except Exception:
                value, path = part, path + name
                break
        else:
            break
    return f"{path} ({type(value).__module__}.{type(value).__qualname__})"


def _children(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        items: list[tuple[Any, Any]] = list(value.items())  # pyright: ignore
        keys = [(f" key {key!r:.60}", key) for key, _ in items]
        return keys + [(f"[{key!r:.60}]", part) for key, part in items]
    if isinstance(value, (list, tuple)):
        parts: list[Any] = list(value)  # pyright: ignore
        return [(f"[{index}]", part) for index, part in enumerate(parts)]
    if isinstance(value, (set, frozenset)):
        members: list[Any] = list(value)  # pyright: ignore
        return [(" element", part) for part in members]
    if type(value) is Function and value.__closure__:
        names = value.__code__.co_freevars
        cells = zip(names, value.__closure__, strict=True)
        return [(f" closure variable {name!r}", cell.cell_contents) for name, cell in cells]
    if hasattr(value, "__self__") and not isinstance(value.__self__, type(sys)):
        return [(".__self__", value.__self__)]
    return [(f".{name}", part) for name, part in getattr(value, "__dict__", {}).items()]
