"""The rows of the table: one function each, in the order in which they are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import calls, engines, load, parallel, payload, ports, serving, start, workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..harness import Harness
    from ..report import Section

ROWS: dict[str, Callable[[Harness], Section]] = {
    "round-trip": calls.round_trip,
    "throughput": calls.throughput,
    "bytes": payload.there_and_back,
    "bytes-isolate": payload.to_an_isolate,
    "first-result": start.first_result,
    "killed": start.killed,
    "batch-spin": load.batch_spin,
    "batch-sleep": load.batch_sleep,
    "long-call": load.long_call,
    "loop-delay": load.loop_delay,
    "map-memory": load.map_memory,
    "port-echo": ports.echo,
    "port-rate": ports.rate,
    "port-move": ports.move,
    "worker-start": workers.start,
    "worker-memory": workers.memory,
    "serve-rate": serving.throughput,
    "serve-rate-apart": serving.throughput_apart,
    "serve-isolates": serving.isolates,
    "serve-stuck": serving.stuck,
    "joblib-calls": parallel.calls,
    "joblib-search": parallel.search,
    "import": start.import_time,
    "dask": engines.dask,  # whose clusters stay until the end of the run
}
