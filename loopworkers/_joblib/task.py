"""A batch of joblib's calls on its way to a worker process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._wire.values import travellers

if TYPE_CHECKING:
    from .._wire.handles import Handles


class Task:
    """Called as what it is, and pickled with large arrays left in files.

    Args:
        batch: what joblib submits.
        reducers: of types, how their values inside the batch travel.
    """

    contains_others = True  # an error is to name what is inside

    def __init__(self, batch: Any, reducers: dict[type[Any], Any]) -> None:
        self.batch = batch
        self._reducers = reducers
        # Errors tell of the user's function, not of what it is wrapped in.
        items = getattr(batch, "items", None)
        named = items[0][0] if items else batch
        self.__module__ = getattr(named, "__module__", None) or type(named).__module__
        self.__qualname__ = getattr(named, "__qualname__", None) or type(named).__qualname__

    def __call__(self) -> Any:
        raise AssertionError("a task runs as the batch that arrives in the worker")

    def _reduce(self, handles: Handles) -> Any:
        handles.reducers = self._reducers
        return _arrived, (self.batch,)


travellers[Task] = Task._reduce


def _arrived(batch: Any) -> Any:
    # What runs here may ask for the backend by its name.
    from .. import joblib as joblib

    return batch
