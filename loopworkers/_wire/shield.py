"""Where the stop of an isolate does not interrupt: in code that has descriptors as numbers.

An object closes its descriptor however it ends; a number that is forgotten leaves it open for ever.
See `_child/stop.py`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

# Threads (by id) and functions (by code), which must be short and never wait.
shielded: set[object] = set()


def unbroken(function: Function) -> Function:
    """Shield the instructions of this function, though not what it calls."""
    shielded.add(function.__code__)
    return function
