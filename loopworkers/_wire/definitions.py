"""Functions and classes that a worker cannot import, shipped by value once.

Lambdas, closures and whatever lives in ``__main__`` have no module that a worker could
import them from. Such an object is pickled by cloudpickle into a `Definition`, named by a
hash of its bytes; a worker gets the definition once and calls refer to it by that name. On
the way back the name stands for the original object, so an instance of a ``__main__`` class
comes home as an instance of that very class.

A definition is made anew when something the object captured (a global, a closure cell, a
default) is another object than before. What can change in place, such as a captured list,
is pickled at each call, and shipped again only if the bytes differ.
"""

from __future__ import annotations

import sys
from _contextvars import ContextVar
from _weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import CodeType
    from typing import Any

Function = type(lambda: None)
Module: type[Any] = type(sys)
Builtin = type(len)
Code = type((lambda: None).__code__)

# Types whose values never change, so that the same object means the same bytes.
ATOMS: frozenset[type[Any]] = frozenset(
    (type(None), bool, int, float, complex, str, bytes, range, type(...))
)
CONSTANT: frozenset[type[Any]] = ATOMS | {Module, Builtin, Code, ContextVar}

# More than a program has lambdas alive at one time; a bound all the same, since closures that
# refer to each other would keep their own entries alive.
_MOST_REMEMBERED = 2048


class Definition:
    """An object by value: ``key`` names it, ``blob`` is cloudpickle's form of it.

    The blob refers to the definitions in ``needs``, which must be known where it is loaded.
    """

    __slots__ = ("__weakref__", "_ref", "blob", "key", "needs")

    def __init__(self, key: str, blob: bytes, obj: Any, needs: Sequence[Definition] = ()) -> None:
        self.key = key
        self.blob = blob
        self.needs = needs
        self._ref: ref[Any] = ref(obj)

    @property
    def size(self) -> int:
        return len(self.blob) + sum(needed.size for needed in self.needs)

    def object(self) -> Any:
        obj = self._ref()
        if obj is None:
            from .by_value import load_definition, set_globals

            obj, found = load_definition(self.blob)
            set_globals(found)
            self._ref = ref(obj)
        return obj


# One table an interpreter: a worker may itself be the parent of workers, and what it got from
# above it may pass on below under the same name.
_by_key: dict[str, ref[Definition]] = {}
_by_id: dict[int, tuple[ref[Any], list[Any] | None, Definition]] = {}
_received: dict[str, bytes] = {}
_kept: dict[str, Any] = {}  # what a received definition built must not vanish between calls


# --- by reference or by value ------------------------------------------------------------

_findable: dict[str, bool] = {}


def importable(obj: Any) -> bool:
    """Whether a worker with the same ``sys.path`` finds this very object by its name."""
    module_name = getattr(obj, "__module__", None)
    name = getattr(obj, "__qualname__", None)
    if module_name is None or name is None or module_name == "__main__":
        return False
    if module_name == "builtins":
        return True
    found: Any = sys.modules.get(module_name)
    if found is None:
        return False
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        return False
    return found is obj and _module_findable(module_name)


def _module_findable(name: str) -> bool:
    # A module may sit in sys.modules without any finder knowing it: made at run time, loaded
    # from a path outside sys.path, executed in a notebook.
    known = _findable.get(name)
    if known is None:
        known = _findable[name] = _ask_finders(name)
        if not known:
            module = sys.modules[name]
            import cloudpickle

            untyped: Any = cloudpickle
            untyped.register_pickle_by_value(module)
    return known


def _ask_finders(name: str) -> bool:
    parent, _, _ = name.rpartition(".")
    path = None
    if parent:
        if not _module_findable(parent):
            return False
        path = getattr(sys.modules[parent], "__path__", None)
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        try:
            if find_spec is not None and find_spec(name, path) is not None:
                return True
        except Exception:  # a finder that cannot answer must not fail a call
            continue
    # Submodules such as os.path are no files of their own, yet importing the parent gives them.
    spec = getattr(sys.modules[name], "__spec__", None)
    return spec is not None and spec.name != name


# --- what a definition depends on -----------------------------------------------------------

_names: dict[CodeType, tuple[str, ...]] = {}


def _global_names(code: CodeType) -> tuple[str, ...]:
    names = _names.get(code)
    if names is None:
        found = set(code.co_names)
        for const in code.co_consts:
            if isinstance(const, type(code)):
                found.update(_global_names(const))
        if len(_names) > 4096:  # a program that makes code for ever must not fill memory
            _names.clear()
        names = _names[code] = tuple(sorted(found))
    return names


def _captured(obj: Any) -> list[Any] | None:
    """Every object that the pickled form of ``obj`` depends on, or None if one is mutable.

    ``obj`` itself is not listed: the list is kept beside a weak reference to it.
    """
    found: list[Any] = []
    seen: set[int] = {id(obj)}
    stack = list(_parts(obj) or ())
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        parts = () if isinstance(item, (Function, type)) and importable(item) else _parts(item)
        if parts is None:
            return None
        found.append(item)
        stack.extend(parts)
    return found


def _parts(item: Any) -> Iterable[Any] | None:
    """What ``item`` is made of, empty for a constant, None for what can change in place."""
    kind: type[Any] = type(item)
    if kind in CONSTANT:
        return ()
    if kind is Function:
        return _function_parts(item)
    if isinstance(item, type):
        return _class_parts(item)
    if kind is tuple or kind is frozenset:
        return item  # type: ignore[no-any-return]
    return None


def _function_parts(function: Any) -> Iterable[Any]:
    yield function.__code__
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield from function.__dict__.values()
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            yield None
    namespace = function.__globals__
    for name in _global_names(function.__code__):
        if name in namespace:
            yield namespace[name]


def _class_parts(cls: type) -> Iterable[Any]:
    # Plain attributes of a class are taken as constant: dataclasses and enums are full of
    # mutable bookkeeping that nobody changes after the class statement.
    yield from cls.__bases__
    for name, value in list(vars(cls).items()):
        function = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
        if name == "__repr__":
            # A dataclass's is wrapped in one that notes in a set whose repr is being made.
            function = getattr(function, "__wrapped__", function)
        # The one that makes the annotations holds the dict they were in.
        if type(function) is Function and name not in ("__annotate__", "__annotate_func__"):
            yield function


# --- the sender's side ---------------------------------------------------------------------


def define(obj: Any, dumps: Callable[[Any], tuple[bytes, Sequence[Definition]]]) -> Definition:
    """The definition of ``obj`` as it is now; ``dumps`` pickles by value."""
    known = _by_id.get(id(obj))
    captured = _captured(obj)
    if known is not None and known[0]() is obj and _same(known[1], captured):
        return known[2]
    blob, needs = dumps(obj)
    from hashlib import blake2b  # only the side that defines pays for this import

    key = blake2b(blob, digest_size=16).hexdigest()
    entry = _by_key.get(key)
    definition = entry() if entry is not None else None
    if definition is None:
        definition = Definition(key, blob, obj, needs)
    _remember(obj, captured, definition)
    return definition


def _same(before: list[Any] | None, now: list[Any] | None) -> bool:
    if before is None or now is None or len(before) != len(now):
        return False
    return all(a is b for a, b in zip(before, now, strict=True))


def _remember(obj: Any, captured: list[Any] | None, definition: Definition) -> None:
    if len(_by_id) > _MOST_REMEMBERED:
        _by_id.clear()
    number, key = id(obj), definition.key
    # Bound here: at the interpreter's end the names of this module are gone before the objects.
    forget_id, forget_key = _by_id.pop, _by_key.pop
    _by_id[number] = (ref(obj, lambda _: forget_id(number, None)), captured, definition)
    _by_key[key] = ref(definition, lambda _: forget_key(key, None))


def known_key(obj: Any) -> str | None:
    """The name under which ``obj`` was received, or None if it was made here."""
    entry = _by_id.get(id(obj))
    if entry is not None and entry[0]() is obj and entry[2].key in _received:
        return entry[2].key
    return None


# --- the receiver's side ---------------------------------------------------------------------


def receive(key: str, blob: bytes) -> None:
    # Built at first use: only then is cloudpickle imported, and an error is the call's.
    _received[key] = blob


def forget(key: str) -> None:
    _received.pop(key, None)
    _kept.pop(key, None)


def fetch(key: str) -> Any:
    """Called while unpickling: the object that ``key`` names, here."""
    from .by_value import load_definition, set_globals

    own = _by_key.get(key)
    definition = own() if own is not None else None
    if definition is not None and key not in _kept:
        return definition.object()
    if key not in _kept:
        blob = _received[key]
        obj, found = load_definition(blob)
        definition = Definition(key, blob, obj)
        _kept[key] = obj, definition, found
        _remember(obj, None, definition)
    obj, _, found = _kept[key]
    set_globals(found)
    return obj
