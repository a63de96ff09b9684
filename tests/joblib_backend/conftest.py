"""Nothing of joblib's or of the backend's stays in the process that runs the tests."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING

import psutil
import pytest

from loopworkers.joblib import shutdown_workers

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
    assert set(psutil.Process().children(recursive=True)) <= children
    assert threading.active_count() <= threads
