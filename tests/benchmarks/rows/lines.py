"""Lines of the table from what a row's contenders did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..contenders import BY_KEY
from ..report import Check, Line, duration, duration_range

if TYPE_CHECKING:
    from ..harness import Outcome

WORKERS = 2


def time_line(outcome: Outcome, key: str, name: str = "p50", who: str | None = None) -> Line:
    """One time, and its range over the rounds."""
    values = outcome.values(key, name)
    line = Line(who or BY_KEY[key].label, raw={name: values}, reason=outcome.reasons.get(key))
    if values:
        line.figure = duration(outcome.median(key, name))
        line.spread = duration_range(values)
    return line


def rate_line(outcome: Outcome, key: str, who: str | None = None) -> Line:
    """One rate, and its range over the rounds."""
    line = time_line(outcome, key, "rate", who)
    values = outcome.values(key, "rate")
    if values:
        line.figure = f"{outcome.median(key, 'rate'):,.0f} /s"
        line.spread = f"{min(values):,.0f} .. {max(values):,.0f}"
    return line


def tail_line(outcome: Outcome, key: str, who: str | None = None) -> Line:
    """p50 and p99 as medians over the rounds, the maximum over all of them."""
    line = Line(who or BY_KEY[key].label, reason=outcome.reasons.get(key))
    line.raw = {name: outcome.values(key, name) for name in ("p50", "p99", "max")}
    if line.raw["p50"]:
        p50, p99 = (duration(outcome.median(key, name)) for name in ("p50", "p99"))
        line.figure = f"{p50} / {p99} / {duration(max(line.raw['max']))}"
        line.spread = f"p99 {duration_range(line.raw['p99'])}" if len(line.raw["p99"]) > 1 else ""
    return line


def times(value: float | None, of: str) -> str:
    """A multiple, in words."""
    return "-" if value is None else f"{value:.2f}x {of}"


def milliseconds(seconds: float | None) -> float | None:
    """For targets that are given in them."""
    return None if seconds is None else seconds * 1e3


def compared_only(value: float | None, of: str) -> Check:
    """A ratio that no target asks for."""
    return Check(times(value, of))
