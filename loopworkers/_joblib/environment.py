"""What a worker has of its parent before anything of the user's is imported there."""

from __future__ import annotations

import os
from multiprocessing import current_process
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Environment:
    """Environment variables and a key that are set where this is unpickled.

    OpenBLAS, OpenMP and their like read their variables when they are loaded. What follows in the
    same pickle, an initializer with all that its module imports, finds them set; and proxies of a
    `multiprocessing.Manager` find the key without which they cannot connect.
    """

    def __init__(self, variables: dict[str, str], authkey: bytes) -> None:
        self.variables = variables
        self.authkey = authkey

    def __reduce__(self) -> tuple[Any, ...]:
        return _set, (self.variables, self.authkey)


def _set(variables: dict[str, str], authkey: bytes) -> Environment:
    os.environ.update(variables)
    current_process().authkey = authkey
    return Environment(variables, authkey)


def initialize(
    environment: Environment, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> None:
    """The initializer of a pool for joblib; ``environment`` has done its part when it comes."""
    if initializer is not None:
        initializer(*initargs)
