"""An engine as what backs a pool: which options it can honour."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from .._backing import Backing, WorkerOptions, require_positive
from .._call import encode_call
from .._child.job import pack_job
from .._wire.values import in_place
from ..errors import EngineUnsupported
from .runner import EngineRunner

if TYPE_CHECKING:
    from .._call import CallOptions
    from .._loop import Loop
    from .._settle import Settler
    from .engine import Engine

_ITS_OWN = "its workers are its own: set this up where they are started"
_INSTEAD = {
    "initializer": _ITS_OWN,
    "initargs": _ITS_OWN,
    "preload": _ITS_OWN,
    "max_tasks_per_worker": _ITS_OWN,
    "max_worker_memory": _ITS_OWN,
    "min_workers": _ITS_OWN,
    "idle_timeout": _ITS_OWN,
}


class EngineBacking(Backing):
    def __init__(self, engine: Engine, options: WorkerOptions) -> None:
        self.kind = engine.name
        self.encode = encode_job
        self._engine = engine
        for field in fields(options):
            if field.name in _INSTEAD and getattr(options, field.name) != field.default:
                raise self._refusal(f"{field.name}=", _INSTEAD[field.name])
        require_positive("max_workers", options.max_workers)
        self._max_workers = options.max_workers

    @property
    def max_workers(self) -> int:
        return self._max_workers or max(self._engine.size(), 1)

    def check(self, options: CallOptions) -> None:
        can = self._engine.capabilities
        if options.on_cancel == "kill" and not can.kills_running:
            raise self._refusal(
                'on_cancel="kill"',
                "it cannot end a body that runs: leave on_cancel out to have it stop what it can, "
                'or say "wait" or "abandon"',
            )
        if options.resources and not can.resources:
            raise self._refusal("resources=", "it knows of none: use an engine that does")

    def check_streams(self) -> None:
        raise self._refusal(
            "stream()", "it sends one answer a call: use map(), or a pool on this machine"
        )

    def check_progress(self) -> None:
        if not self._engine.capabilities.progress:
            raise self._refusal(
                "add_progress_callback()", "reports come with the result: wait for that"
            )

    def _refusal(self, option: str, instead: str) -> EngineUnsupported:
        return EngineUnsupported(f"engine {self.kind} does not support {option}; {instead}")

    def open(self, loop: Loop, settler: Settler) -> EngineRunner:
        return EngineRunner(loop, settler, self._engine, self._max_workers)


def encode_job(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    return pack_job(encode_call(function, args, kwargs, in_place))
