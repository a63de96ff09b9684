"""Engines: what runs the calls of a pool elsewhere, on more than one machine if it likes.

    async with WorkerPool(ExecutorEngine(executor)) as pool:
        value = await pool.run(fn, *args)

A pool takes an `Engine` as its ``kind``. `ExecutorEngine` makes one of any
`concurrent.futures.Executor`; packages may have others, which are found by name under the entry
point group ``loopworkers.engines``. The remaining names are for those who write an engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._child.job import run_job as run_job
from ._engine.engine import Capabilities as Capabilities
from ._engine.engine import Engine as Engine
from ._engine.engine import Job as Job
from ._engine.engine import JobLost as JobLost
from ._engine.executor import ExecutorEngine as ExecutorEngine

if TYPE_CHECKING:
    from ._child.job import Reporter as Reporter

__all__ = ["Capabilities", "Engine", "ExecutorEngine", "Job", "JobLost", "run_job"]
