"""The caller's context variables, as far as they can be pickled, to the worker and back.

A variable is named by the module attributes it is bound to. One that has no such name (it
lives in ``__main__`` or in a function) is named by a number: the worker makes one variable
for that number and every value and function that refers to it finds the same one.
"""

from __future__ import annotations

import sys
from _contextvars import Context, ContextVar, copy_context

from .definitions import ATOMS
from .values import decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The loops' own bookkeeping (a worker that believes to be inside trio would break), and ours: that
# of the adapters, loopworkers_*, as well.
_NOT_OURS = ("sniffio", "anyio", "trio", "asyncio", "_asyncio", "uvloop", "loopworkers")
# asgiref's hang on its classes and objects, where no module has a name for them. What Django keeps
# in them (a whole catalogue of messages, the thread of a request) means nothing to a worker.
_OF_ASGIREF = (
    "asgiref.local", "thread_sensitive_context", "async_single_thread_context", "deadlock_context",
)  # fmt: skip

# Where it was made cannot be told from where it was imported to, and not all of that may load in
# a worker: so a few places are told.
_PLACES = 4

_names: dict[ContextVar[Any], tuple[tuple[str, str], ...]] = {}
_by_number: dict[str, ContextVar[Any]] = {}
_numbers: dict[ContextVar[Any], str] = {}


def _names_of(variable: ContextVar[Any]) -> tuple[tuple[str, str], ...]:
    try:
        return _names[variable]
    except KeyError:
        pass
    found: list[tuple[str, str]] = []
    for module_name, module in list(sys.modules.items()):
        if module_name == "__main__" or not hasattr(module, "__dict__"):
            continue
        for attribute, value in list(vars(module).items()):
            if value is variable:
                found.append((module_name, attribute))
                break
        if len(found) == _PLACES:
            break
    names = _names[variable] = tuple(found)
    return names


def _is_a_loops(variable: ContextVar[Any]) -> bool:
    return variable.name in _OF_ASGIREF or any(
        module.partition(".")[0] in _NOT_OURS or module.startswith("loopworkers_")
        for module, _ in _names_of(variable)
    )


def reduce_variable(variable: ContextVar[Any]) -> Any:
    names = _names_of(variable)
    if names:
        return _by_name, names
    number = _numbers.get(variable)
    if number is None:
        import os

        # A worker numbers variables of its own for its nested workers: keep them apart.
        number = _numbers[variable] = f"{os.getpid()}.{id(sys)}.{len(_numbers)}"
        _by_number[number] = variable
    return _numbered, (number, variable.name)


def _by_name(*names: tuple[str, str]) -> Any:
    for module, attribute in names:
        variable = getattr(sys.modules.get(module), attribute, None)
        if variable is not None:
            return variable
    for module, attribute in names:
        try:
            __import__(module)
            return getattr(sys.modules[module], attribute)
        except Exception:
            continue
    raise LookupError(f"no such context variable here: {names}")


def _numbered(number: str, name: str) -> ContextVar[Any]:
    variable = _by_number.get(number)
    if variable is None:
        variable = _by_number[number] = ContextVar(name)
        _numbers[variable] = number
    return variable


# For each variable: its latest value, and that value's form, _FAILED, or _CHANGING. Those that
# are not sent have no value here, so that no pool or loop lives on in it.
_forms: dict[ContextVar[Any], tuple[Any, Any]] = {}
_FAILED, _CHANGING, _NOT_SENT = object(), object(), object()


def capture() -> list[tuple[bytes, int]] | None:
    """The current context as pickled pairs, or None where there is nothing to send."""
    pairs: list[tuple[bytes, int]] = []
    for variable, value in copy_context().items():
        try:
            known, form = _forms[variable]
        except KeyError:
            known = form = None
        if form is _NOT_SENT:
            continue
        if known is not value or form is None:
            form = _form_of(variable, value)
        if form is _CHANGING:
            form = _pickled(variable, value)
        if form is not _FAILED and form is not _NOT_SENT:
            pairs.append(form)
    return pairs or None


def _form_of(variable: ContextVar[Any], value: Any) -> Any:
    if _is_a_loops(variable):
        _forms[variable] = None, _NOT_SENT
        return _NOT_SENT
    form = _pickled(variable, value)
    # What failed once would fail at every call, and failing is expensive.
    if form is not _FAILED and type(value) not in ATOMS:
        form = _CHANGING
    _forms[variable] = value, form
    return form


def _pickled(variable: ContextVar[Any], value: Any) -> Any:
    try:
        encoded = encode((variable, value))
        return b"".join(encoded.chunks), encoded.flags
    except Exception:
        return _FAILED


def for_thread() -> Context:
    """A copy of the current context without the loops' bookkeeping: a thread has none of them."""
    context = Context()
    for variable, value in copy_context().items():
        if not _is_a_loops(variable):
            context.run(variable.set, value)
    return context


def restore(pairs: list[tuple[bytes, int]], context: Context | None = None) -> Context:
    """A context, a new one if none is given, with those of ``pairs`` that can be rebuilt here."""
    if context is None:
        context = Context()
    for body, flags in pairs:
        try:
            variable, value = decode(body, flags)
            context.run(variable.set, value)
        except Exception:  # as with what could not be pickled
            continue
    return context
