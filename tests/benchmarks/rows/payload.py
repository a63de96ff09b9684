"""8 MiB of bytes: there and back, and to an isolate with only a number coming back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..contenders import BY_KEY, NODE, OURS, PEERS
from ..report import Section, judge
from .lines import WORKERS, compared_only, milliseconds, time_line, times

if TYPE_CHECKING:
    from ..harness import Ask, Harness

SIZE = 8 << 20


def there_and_back(harness: Harness) -> Section:
    """An echo, against ProcessPoolExecutor; the floor streams through a socketpair."""
    keys = [*OURS, "floor", *PEERS, *NODE]
    params = {"workers": WORKERS, "size": SIZE, "calls": harness.pick(5, 2), "back": True}

    def ask(key: str) -> Ask:
        return ("ping_pong" if key == "floor" else "payload"), params

    outcome = harness.compete(keys, harness.pick(5, 2), ask)
    lines = []
    for key in keys:
        line = time_line(outcome, key)
        ratio = outcome.ratio("ppe", key, "p50")
        faster = times(ratio, "the speed of ProcessPoolExecutor")
        if key == "floor":
            line.who = "floor: blocking socketpair, streamed"
        if key == "process":
            line.checks = [judge(ratio, faster, 10.0, 25.0, "x", more=True)]
        elif key == "isolate":
            line.checks = [compared_only(ratio, "the speed of ProcessPoolExecutor")]
        lines.append(line)
    return Section("bytes", "8 MiB of bytes there and back", lines)


def to_an_isolate(harness: Harness) -> Section:
    """No copy at all would take less time than one memcpy."""
    who = ["isolate", "ipe", "anyio-isolate", "process"]
    params = {"workers": WORKERS, "size": SIZE, "calls": harness.pick(9, 5), "back": False}
    rounds = harness.pick(7, 3)

    def ask(key: str, view: bool = False) -> Ask:
        return ("copy" if key == "floor" else "payload"), {**params, "memoryview": view}

    plain = harness.compete([*who, "floor"], rounds, ask)
    views = harness.compete([*who[:3], "floor"], rounds, lambda key: ask(key, view=True))
    lines = []
    for key in [*who, "floor"]:
        for outcome, kind in ((plain, "bytes"), (views, "memoryview")):
            if outcome is views and key in ("process", "floor"):
                continue
            line = time_line(outcome, key, who=f"{BY_KEY[key].label}, {kind}")
            if key == "floor":
                line.who = "floor: one memcpy, warm"
            if key == "isolate":
                median = outcome.median(key, "p50")
                copies = outcome.ratio(key, "floor", "p50")
                check = judge(milliseconds(median), times(copies, "a memcpy"), 1.0, None, " ms")
                check.aim = "no copy: < 1x"
                if copies is not None and copies < 1.0:
                    check.met = "aim"
                line.checks = [check]
            lines.append(line)
    return Section("bytes-isolate", "8 MiB to an isolate, a number back", lines)
