"""No-ops: the round trip of one, and the rate of many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..contenders import NODE, OTHER_LOOPS, OURS, PEERS
from ..report import Check, Section, judge
from .lines import WORKERS, compared_only, rate_line, time_line, times

if TYPE_CHECKING:
    from ..harness import Ask, Harness, Outcome


def round_trip(harness: Harness) -> Section:
    """p50 of a no-op, against the floor, two peers, and Node."""
    floors = {
        "floor": "floor: socketpair ping-pong, two cores",
        "floor-one-core": "floor: the same on one core",
    }
    keys = [*OURS, *harness.pick(OTHER_LOOPS, []), *floors, *PEERS, *NODE]
    calls = harness.pick(400, 150)

    def ask(key: str) -> Ask:
        if key in floors:
            return "ping_pong", {"calls": calls * 2, "cores": 2 if key == "floor" else 1}
        return "round_trip", {"workers": WORKERS, "calls": calls}

    outcome = harness.compete(keys, harness.pick(9, 3), ask)
    lines = []
    for key in keys:
        line = time_line(outcome, key)
        line.who = floors.get(key, line.who)
        if key in ("process", "isolate"):
            line.checks = _round_trip_checks(outcome, key)
        lines.append(line)
    remark = (
        "The floor is blocking sends and receives between two Python processes. On two cores it is "
        "what a worker that runs beside its caller can reach, and what the targets are held "
        "against; on one core there is no core to wake. Contenders run where the scheduler puts "
        "them."
    )
    return Section("round-trip", "Round trip of a no-op, p50", lines, [remark])


def _round_trip_checks(outcome: Outcome, key: str) -> list[Check]:
    floor = outcome.ratio(key, "floor", "p50")
    anyio = outcome.ratio("anyio-process", key, "p50")
    ppe = outcome.ratio("ppe", key, "p50")
    one_core = outcome.ratio(key, "floor-one-core", "p50")
    tinypool = outcome.ratio(key, "tinypool", "p50")
    return [
        judge(floor, times(floor, "the floor"), 2.0, 1.0, "x"),
        compared_only(one_core, "the floor on one core"),
        judge(anyio, times(anyio, "the speed of anyio.to_process"), 1.4, 2.0, "x", more=True),
        judge(ppe, times(ppe, "the speed of ProcessPoolExecutor"), 3.0, 6.0, "x", more=True),
        judge(tinypool, times(tinypool, "tinypool"), None, 1.0, "x"),
    ]


def throughput(harness: Harness) -> Section:
    """Calls a second with 64 in flight, against ProcessPoolExecutor and Node."""
    keys = [*OURS, *harness.pick(OTHER_LOOPS, []), *PEERS, *NODE]
    params = {"workers": WORKERS, "in_flight": 64, "seconds": harness.pick(0.4, 0.1)}
    outcome = harness.compete(keys, harness.pick(5, 3), ("throughput", params))
    lines = []
    for key in keys:
        line = rate_line(outcome, key)
        if key in ("process", "isolate"):
            ppe, tinypool = (outcome.ratio(key, other, "rate") for other in ("ppe", "tinypool"))
            line.checks = [
                judge(ppe, times(ppe, "ProcessPoolExecutor"), 7.0, 15.0, "x", more=True),
                judge(tinypool, times(tinypool, "tinypool"), None, 1.0, "x", more=True),
            ]
        lines.append(line)
    return Section("throughput", "No-op calls a second, 64 in flight", lines)
