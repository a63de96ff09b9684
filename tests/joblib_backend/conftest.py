"""Nothing of joblib's or of the backend's stays in the process that runs the tests."""

from __future__ import annotations

import gc
import threading
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

import psutil
import pytest

from loopworkers.joblib import shutdown_workers

from .helpers import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True, scope="module")
def nothing_stays() -> Iterator[None]:
    """Tests of a file share workers, which take a second to import what joblib needs."""
    threads = threading.active_count()
    children = set(psutil.Process().children(recursive=True))
    yield
    gc.collect()
    shutdown_workers()
    # joblib's own threads take locks of multiprocessing's, which has a process for those.
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]

    def left() -> list[object]:
        new = set(psutil.Process().children(recursive=True)) - children
        return [*new, *threading.enumerate()[threads:]]

    try:
        eventually(lambda: not left(), "processes and threads have ended")
    except AssertionError:
        pytest.fail(f"left: {[(p, getattr(p, 'cmdline', str)()) for p in left()]}")
