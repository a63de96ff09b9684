"""Under load: many equal calls, short beside long ones, the loop's delay, a very long `map`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..contenders import BY_KEY, PEERS
from ..machine import cores
from ..report import Check, Line, Section, judge
from .lines import WORKERS, compared_only, milliseconds, tail_line, time_line

if TYPE_CHECKING:
    from ..harness import Ask, Harness, Outcome

CALL = 0.010


def batch_spin(harness: Harness) -> Section:
    """Pure-Python calls of a fixed amount of work."""
    outcome = harness.compete(["floor"], 1, ("calibrate", {"seconds": CALL}))
    if outcome.reasons:
        line = Line("calibration", reason=outcome.reasons["floor"])
        return Section("batch-spin", "Calls of 10 ms", [line])
    return _batch(harness, outcome.rounds[0]["floor"]["loops"], ["process", "isolate"])


def batch_sleep(harness: Harness) -> Section:
    """The same with sleeping calls: nobody fights over processors."""
    return _batch(harness, 0, ["process", "isolate", "thread"])


def _batch(harness: Harness, loops: int, ours: list[str]) -> Section:
    calls = harness.pick(200, 30)
    params = {"workers": WORKERS, "calls": calls, "loops": loops, "pause": CALL}
    keys = [*ours, "floor", *PEERS]

    def ask(key: str) -> Ask:
        return ("bare_batch" if key == "floor" else "batch"), params

    outcome = harness.compete(keys, harness.pick(3, 2), ask, budget=60)
    lines = []
    for key in keys:
        line = time_line(outcome, key, "took")
        busy, speed = outcome.median(key, "busy"), outcome.ratio("floor", key, "took")
        share = None if busy is None else busy * 100
        words = "-" if share is None else f"{share:.1f} % of the ideal"
        if key == "floor":
            line.who = "floor: two bare processes"
        is_judged = key in ("process", "isolate")
        check = judge(share, words, 95, 99, " %", more=True) if is_judged else Check(words)
        line.checks = [check]
        if is_judged:
            line.checks.append(compared_only(speed, "the speed of the floor"))
        lines.append(line)
    name, work = ("batch-spin", "busy") if loops else ("batch-sleep", "sleeping")
    title = f"{calls} {work} calls of 10 ms each on {WORKERS} workers"
    remark = (
        "Ideal: the workers are inside a call all the time. The calls time themselves, since a "
        "noisy machine stretches them, and sleeps are longer than asked for; what a pool takes "
        "from its own workers shows in the speed. The floor: the same calls dealt out beforehand."
    )
    return Section(name, title, lines, [remark])


def long_call(harness: Harness) -> Section:
    """The delay of 1 ms calls, from when they were due, while one worker has a long call."""
    seconds = harness.pick(2.0, 0.4)
    params = {"workers": WORKERS, "seconds": seconds, "short": 0.001, "every": 0.004}
    keys = ["process", "isolate", *PEERS]
    outcome = harness.compete(keys, harness.pick(3, 1), ("beside_a_long_call", params), budget=60)
    lines = []
    for key in keys:
        line = tail_line(outcome, key)
        if key in ("process", "isolate"):
            p99 = milliseconds(outcome.median(key, "p99"))
            line.checks = [judge(p99, "p99", 20, 5, " ms")]
        lines.append(line)
    title = f"One {seconds:g} s call and pairs of 1 ms calls every 4 ms, {WORKERS} workers: "
    return Section("long-call", title + "p50 / p99 / max of the short ones", lines)


def loop_delay(harness: Harness) -> Section:
    """How late a 1 ms timer fires while as many workers as cores are busy in pure Python."""
    workers = cores()
    params = {"workers": workers, "seconds": harness.pick(1.0, 0.4)}
    baselines = {
        "idle_delay": "floor: nothing else running",
        "bare_delay": f"floor: {workers} busy bare processes",
        "inline_delay": "inline on the loop, in calls of 10 ms",
    }
    rounds = harness.pick(3, 1)
    contenders = ["process", "isolate", "ppe", "ipe", "loky", "anyio-process", "trio-parallel"]
    turns: dict[str, list[Outcome]] = {name: [] for name in baselines}
    outcomes = []
    for _ in range(rounds):  # baselines and contenders in turns
        for name in baselines:
            turns[name].append(harness.compete(["floor"], 1, (name, params)))
        outcomes.append(harness.compete(contenders, 1, ("loop_delay", params)))
    lines = []
    outcome = _joined(outcomes)
    for key in contenders:
        line = tail_line(outcome, key)
        if key in ("process", "isolate"):
            p99 = milliseconds(outcome.median(key, "p99"))
            line.checks = [judge(p99, "p99", 10, 2, " ms")]
        lines.append(line)
    floors = [tail_line(_joined(turns[name]), "floor", who) for name, who in baselines.items()]
    title = f"Loop delay while {workers} workers are busy: p50 / p99 / max of a 1 ms timer"
    return Section("loop-delay", title, [*lines[:2], *floors, *lines[2:]])


def _joined(outcomes: list[Outcome]) -> Outcome:
    first, *others = outcomes
    for other in others:
        first.rounds += other.rounds
        first.reasons |= other.reasons
    return first


def map_memory(harness: Harness) -> Section:
    """A long `map`: what it leaves in memory, and its rate."""
    calls = harness.pick(1_000_000, 50_000)
    limit = harness.pick(30.0, 4.0)
    params = {"workers": WORKERS, "calls": calls, "limit": limit}
    keys = ["process", "isolate"]
    outcome = harness.compete(keys, 1, ("long_map", params), fresh=True, seconds=limit * 1.5 + 10)
    lines = []
    for key in keys:
        line = Line(BY_KEY[key].label, reason=outcome.reasons.get(key))
        grown = None
        if outcome.rounds and key in outcome.rounds[0]:
            figures = line.raw = outcome.rounds[0][key]
            main, workers = (figures[name] / 1e6 for name in ("grown_main", "grown_workers"))
            grown = main + workers
            line.figure = f"{grown:+.1f} MB, {figures['rate']:,.0f} /s"
            line.spread = f"main {main:+.1f}, workers {workers:+.1f} MB"
            if figures["done"] < calls:
                line.reason = f"stopped by its time limit after {figures['done']:,} calls"
        aim = 1.0  # allocator noise, not growth
        line.checks = [judge(grown, "at its peak", 30, aim, " MB", aim_text="flat: ≤ 1 MB")]
        lines.append(line)
    return Section("map-memory", f"{calls:,} calls through map: growth of memory, rate", lines)
