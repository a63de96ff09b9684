"""joblib on these workers and on loky's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..report import Check, Section
from .lines import WORKERS, compared_only, rate_line, time_line

if TYPE_CHECKING:
    from ..harness import Ask, Harness, Outcome

BACKENDS = {"process": "loopworkers", "loky": "loky"}


def calls(harness: Harness) -> Section:
    """The rate of no-ops through `Parallel`, in batches and one by one."""
    lines = []
    for calls, batch_size, how in ((10_000, "auto", "batches"), (2_000, 1, "one by one")):

        def ask(key: str, calls: int = calls, batch_size: object = batch_size) -> Ask:
            params = {"backend": BACKENDS[key], "workers": WORKERS}
            return "joblib_calls", {**params, "calls": calls, "batch_size": batch_size}

        outcome = harness.compete(list(BACKENDS), harness.pick(9, 3), ask)
        for key, backend in BACKENDS.items():
            line = rate_line(outcome, key, f"joblib on {backend}, {how}")
            if key == "process":
                line.checks = [compared_only(outcome.ratio("process", "loky", "rate"), "loky")]
            lines.append(line)
    remark = (
        "In batches of a size that joblib chooses most of the time is joblib's own: it looks for "
        "results every 10 ms."
    )
    return Section("joblib-calls", "joblib: no-op calls a second, warm", lines, [remark])


def search(harness: Harness) -> Section:
    """A grid search of scikit-learn's, the first one and the second."""

    def ask(key: str) -> Ask:
        return "joblib_search", {"backend": BACKENDS[key], "workers": WORKERS}

    outcome = harness.compete(
        list(BACKENDS), harness.pick(5, 2), ask, fresh=True, seconds=60, budget=120
    )
    lines = []
    for figure, when in (("first", "first call"), ("took", "second call")):
        for key, backend in BACKENDS.items():
            line = time_line(outcome, key, figure, f"joblib on {backend}, {when}")
            if key == "process":
                line.checks = [_speed(outcome, figure)]
            lines.append(line)
    remark = "In the first call the workers import scikit-learn, which is nearly all of its time."
    return Section("joblib-search", "joblib: a grid search of 80 short fits", lines, [remark])


def _speed(outcome: Outcome, figure: str) -> Check:
    return compared_only(outcome.ratio("loky", "process", figure), "the speed of loky")
