"""A batch of joblib's calls on its way to a worker process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from joblib import parallel as _untyped

from .._wire.values import travellers

if TYPE_CHECKING:
    from .._wire.handles import Handles

joblib: Any = _untyped


class Task:
    """Called, in a thread, it is the batch; pickled, too, but with large arrays left in files.

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
        return self.batch()

    def _reduce(self, handles: Handles) -> Any:
        handles.reducers = self._reducers
        return _arrived, (self.batch,)


travellers[Task] = Task._reduce


def _arrived(batch: Any) -> Any:
    # What runs here may ask for the backend by its name. Few do, and it takes a while to load.
    joblib.BACKENDS.setdefault("loopworkers", _make_backend)
    return batch


def _make_backend(**options: Any) -> Any:
    from ..joblib import LoopworkersBackend

    return LoopworkersBackend(**options)
