"""What an engine's pool adds to the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..report import Section, judge
from .lines import WORKERS, compared_only, rate_line, times

if TYPE_CHECKING:
    from ..harness import Harness

_OURS = ["dask-pool", "dask-pool-trio"]
_BARE = ["dask-submit", "dask-map"]


def dask(harness: Harness) -> Section:
    """A thousand no-ops on their way, against Dask's own client."""
    params = {"workers": WORKERS, "calls": 1000}
    outcome = harness.compete([*_OURS, *_BARE], harness.pick(7, 2), ("burst", params), seconds=60.0)
    lines = []
    for key in [*_OURS, *_BARE]:
        line = rate_line(outcome, key)
        if key in _OURS:
            submit, mapped = (outcome.ratio(key, other, "rate") for other in _BARE)
            line.checks = [
                judge(submit, times(submit, "the bare client, submit"), 0.9, 1.0, "x", more=True),
                compared_only(mapped, "the bare client, map"),
            ]
        lines.append(line)
    remark = (
        "Each contender has a scheduler and two workers of one thread of its own. The bare client "
        "fetches all results at once; map() sends all calls in one message as well, which is for "
        "calls that are known together."
    )
    return Section("dask", "Dask: calls a second, 1,000 no-ops in flight", lines, [remark])
