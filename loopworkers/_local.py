"""Workers on this machine as what backs a pool: their options, and what they share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._backing import Backing, WorkerOptions, require_positive
from ._call import direct_call, encode_call
from ._dispatch import Dispatcher
from ._limits import default_workers, kind_here
from ._workers.kinds import worker_type
from ._workers.settings import Settings

if TYPE_CHECKING:
    from ._call import CallOptions
    from ._loop import Loop
    from ._settle import Settler


class LocalBacking(Backing):
    """Processes, isolates or threads."""

    def __init__(self, kind: str, options: WorkerOptions) -> None:
        self._type = worker_type(kind_here(kind))
        self.kind = self._type.kind
        self.encode = direct_call if self.kind == "thread" else encode_call
        most = options.max_workers
        self._max_workers = default_workers() if most is None else most
        require_positive("max_workers", self._max_workers)
        require_positive("max_tasks_per_worker", options.max_tasks_per_worker)
        require_positive("max_worker_memory", options.max_worker_memory)
        if not 0 <= options.min_workers <= self._max_workers:
            raise ValueError(
                f"min_workers must be from 0 to max_workers ({self._max_workers}), not "
                f"{options.min_workers}"
            )
        if not options.idle_timeout >= 0:
            raise ValueError(f"idle_timeout must be 0 or more seconds, not {options.idle_timeout}")
        if options.max_worker_memory is not None and self.kind != "process":
            raise ValueError(
                "max_worker_memory needs kind='process': isolates and threads have no memory "
                "of their own that could be measured"
            )
        if options.initializer is not None and not callable(options.initializer):
            raise TypeError(f"initializer must be callable, not {options.initializer!r}")
        self._options = options
        preload = options.preload
        self._settings = Settings(
            kind=self.kind,
            initializer=options.initializer,
            initargs=tuple(options.initargs),
            preload=(preload,) if isinstance(preload, str) else tuple(preload),
            memory_limit=options.max_worker_memory,
        )

    @property
    def max_workers(self) -> int:
        return self._max_workers

    def check(self, options: CallOptions) -> None:
        if options.resources:
            raise ValueError(
                f"resources={dict(options.resources)!r} is for engines that know of resources; a "
                f"{self.kind} pool has none: use a pool of its own for such calls"
            )

    def open(self, loop: Loop, settler: Settler) -> Dispatcher:
        self._settings.check()
        self._type.prepare(self._settings)
        options = self._options
        dispatcher = Dispatcher(
            loop,
            self._type,
            self._settings,
            settler,
            max_workers=self._max_workers,
            min_workers=options.min_workers,
            idle_timeout=options.idle_timeout,
            max_tasks=options.max_tasks_per_worker,
        )
        dispatcher.keep_minimum()
        return dispatcher
