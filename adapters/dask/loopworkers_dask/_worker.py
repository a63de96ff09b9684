"""In Dask's workers."""

from __future__ import annotations

from typing import Any

from distributed import get_worker

from loopworkers.engines import run_job

from ._once import MARK


def run_task(body: bytes, key: bytes) -> bytes:
    """The task: one call. Its key as bytes, or Dask might take it for the task's result."""
    return run_job(body, _Reporter(key.decode()))


def topic_of(key: str) -> str:
    """Of few topics, since the scheduler keeps the last events of each that there ever was."""
    return f"loopworkers-progress-{key.rpartition(MARK)[2][:2]}"


class _Reporter:
    def __init__(self, key: str) -> None:
        self._worker: Any = get_worker()
        self._key = key

    def send(self, progress: bytes) -> None:
        self._worker.log_event(topic_of(self._key), [self._key, progress])

    def is_stopped(self) -> bool:
        task = self._worker.state.tasks.get(self._key)
        return task is None or task.state == "cancelled"


def still_has(keys: list[str], dask_worker: Any) -> list[str]:
    """Which of these tasks the worker runs, or may yet run."""
    return [key for key in keys if key in dask_worker.state.tasks]
