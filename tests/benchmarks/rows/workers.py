"""The life of a worker that stays: until its first message, and what it holds while it idles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..contenders import BY_KEY, OURS
from ..report import Check, Line, Section, judge
from .lines import compared_only, time_line, times

if TYPE_CHECKING:
    from ..harness import Ask, Harness, Outcome

NODE = "worker-threads"
PROGRAM = "create_subprocess_exec"
# What each is started with: nothing, and the least with which a program can be talked to.
FLOORS = {
    "floor": ("", f"floor: asyncio.{PROGRAM}"),
    "floor-with-imports": ("import pickle, socket; ", "floor: the same, importing pickle, socket"),
}


CASES = {
    "the first": {"warm_up": 0, "rest_ms": 0},
    "one after the other": {"warm_up": 2, "rest_ms": 0},
    "after a rest": {"warm_up": 2, "rest_ms": 100},
}


def start(harness: Harness) -> Section:
    """From making a worker to its first message, against a program that prints a line."""
    keys = [*OURS, *FLOORS, NODE]
    outcomes: dict[str, Outcome] = {}
    for case, params in CASES.items():
        is_first = not params["warm_up"]
        params = {**params, "starts": 1 if is_first else harness.pick(9, 3)}

        def ask(key: str, params: dict[str, int] = params) -> Ask:
            if key in FLOORS:
                return "program_start", {**params, "imports": FLOORS[key][0]}
            return "worker_start", {**params, "kind": key}

        rounds = harness.pick(7, 2)
        outcomes[case] = harness.compete(keys, rounds, ask, fresh=is_first, budget=30)
    lines = []
    for key in keys:
        each = {case: time_line(outcome, key) for case, outcome in outcomes.items()}
        line = Line(BY_KEY[key].label, " / ".join(part.figure for part in each.values()))
        line.raw = {case: part.raw for case, part in each.items()}
        line.reason = next((part.reason for part in each.values() if part.reason), None)
        if key in FLOORS:
            line.who = FLOORS[key][1]
        if key in OURS:
            line.checks = _start_checks(outcomes, key)
        lines.append(line)
    remark = (
        "The first is that of a program which has done nothing else. Later ones follow at once on "
        "the end of the one before, or a tenth of a second later, when a spare isolate is ready. "
        "The floor is a Python that prints a line; with what it takes to be sent anything, it is "
        "the second one. The ends are not part of the times."
    )
    title = "From making a worker to its first message, p50: " + " / ".join(CASES)
    return Section("worker-start", title, lines, [remark])


def _start_checks(outcomes: dict[str, Outcome], key: str) -> list[Check]:
    checks = []
    for case, outcome in outcomes.items():
        floor = outcome.ratio(key, "floor", "p50")
        words = times(floor, f"{PROGRAM}, {case}")
        checks.append(judge(floor, words, 0.5, None, "x") if key == "isolate" else Check(words))
    for case, outcome in outcomes.items():
        node = outcome.ratio(key, NODE, "p50")
        checks.append(compared_only(node, f"worker_threads, {case}"))
    return checks


def memory(harness: Harness) -> Section:
    """What one more worker adds to the memory of the program and all its processes."""
    keys = [*OURS, "floor", NODE]
    params = {"workers": harness.pick(8, 4)}

    def ask(key: str) -> Ask:
        name = "program_memory" if key == "floor" else "worker_memory"
        return name, {**params, "kind": key}

    outcome = harness.compete(keys, harness.pick(3, 1), ask, fresh=True, budget=30)
    lines = []
    for key in keys:
        values = outcome.values(key, "each")
        line = Line(BY_KEY[key].label, raw={"each": values}, reason=outcome.reasons.get(key))
        if values:
            line.figure = f"{(outcome.median(key, 'each') or 0) / 1e6:.2f} MB"
        if len(values) > 1:
            line.spread = f"{min(values) / 1e6:.2f} .. {max(values) / 1e6:.2f} MB"
        if key == "floor":
            line.who = "floor: a Python that waits for a line"
        if key in ("process", "isolate"):
            floor, node = (outcome.ratio(key, other, "each") for other in ("floor", NODE))
            line.checks = [compared_only(floor, "the floor"), compared_only(node, "worker_threads")]
        lines.append(line)
    remark = (
        "Each has answered one message and waits for the next. Proportional set sizes: a page that "
        "several processes share counts once, so what a fork has left shared costs nothing."
    )
    return Section("worker-memory", "Memory of one more idle worker", lines, [remark])
