"""The figures of `Workers` in the text format of Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from loopworkers import CallEnd, LoopDelay, PoolStats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_OUTCOMES = ("completed", "failed", "cancelled", "timed_out")
_QUANTILES = (0.5, 0.9, 0.99, 0.999)


class Histogram:
    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(_BOUNDS, seconds)] += 1
        self._sum += seconds

    def samples(self, name: str, labels: str) -> Iterator[str]:
        total = 0
        for bound, count in zip((*_BOUNDS, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {total}'
        yield f"{name}_sum{{{labels}}} {self._sum}"
        yield f"{name}_count{{{labels}}} {total}"


class CallFigures:
    """What a pool's own statistics leave out; an observer of it."""

    def __init__(self) -> None:
        self.refused = 0
        self.waited = Histogram()
        self.ran = Histogram()

    def __call__(self, end: CallEnd) -> None:
        self.waited.add(end.waited)
        if end.ran:
            self.ran.add(end.ran)


def render(
    name: str, stats: PoolStats, calls: CallFigures, delay: LoopDelay | None, is_ready: bool
) -> str:
    labels = f'pool="{_escaped(name)}",kind="{stats.kind}"'

    def of(metric: str, value: float, more: str = "") -> str:
        return f"{metric}{{{labels}{more}}} {value}"

    def family(metric: str, kind: str, help: str, samples: Iterable[str]) -> Iterator[str]:
        yield f"# HELP {metric} {help}"
        yield f"# TYPE {metric} {kind}"
        yield from samples

    def single(metric: str, kind: str, help: str, value: float) -> Iterator[str]:
        return family(metric, kind, help, [of(metric, value)])

    ends = "loopworkers_calls_total"
    counts = {name: getattr(stats, name) for name in _OUTCOMES} | {"refused": calls.refused}
    waited, ran = "loopworkers_call_wait_seconds", "loopworkers_call_run_seconds"
    lines = [
        *family(
            ends,
            "counter",
            "Calls that ended, by outcome.",
            [of(ends, count, f',outcome="{outcome}"') for outcome, count in counts.items()],
        ),
        *single("loopworkers_calls_waiting", "gauge", "Calls without a worker.", stats.waiting),
        *single("loopworkers_calls_running", "gauge", "Calls that a worker has.", stats.running),
        *family(
            waited,
            "histogram",
            "Time from a call until a worker ran it.",
            calls.waited.samples(waited, labels),
        ),
        *family(ran, "histogram", "Time that calls ran.", calls.ran.samples(ran, labels)),
        *single("loopworkers_workers", "gauge", "Workers alive.", stats.workers),
        *single("loopworkers_workers_ready", "gauge", "Workers that have started.", stats.ready),
        *single("loopworkers_workers_idle", "gauge", "Workers with nothing to do.", stats.idle),
    ]
    for counter, help in {
        "started": "Workers started; less those of the beginning, the restarts.",
        "died": "Workers that ended without being told to.",
        "killed": "Workers stopped because their call was cancelled or timed out.",
        "retired": "Workers replaced by plan, or let go when idle.",
        "stuck": "Isolates and threads that would not stop.",
    }.items():
        name = f"loopworkers_workers_{counter}_total"
        lines += single(name, "counter", help, getattr(stats, counter))
    lines += single(
        "loopworkers_workers_busy_seconds_total",
        "counter",
        "Time in which workers had a call, all workers together.",
        stats.busy,
    )
    lines += single(
        "loopworkers_calls_retried_total",
        "counter",
        "Runs repeated because their worker had died.",
        stats.retried,
    )
    lines += single("loopworkers_ready", "gauge", "Whether readiness is told.", int(is_ready))
    if delay is not None:
        metric = "loopworkers_loop_delay_seconds"
        samples = [of(metric, delay.percentile(100 * q), f',quantile="{q}"') for q in _QUANTILES]
        samples.append(of(f"{metric}_sum", delay.mean * delay.count))
        samples.append(of(f"{metric}_count", delay.count))
        lines += family(metric, "summary", "How late the event loop ran what was due.", samples)
        lines += single(
            "loopworkers_loop_delay_max_seconds", "gauge", "The longest such delay.", delay.max
        )
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
