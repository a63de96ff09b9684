"""Messages to a worker that stays, and back: small ones, many of them, and 1 MiB handed over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..contenders import BY_KEY, OTHER_LOOPS, OURS
from ..report import Check, Section, duration, judge
from .lines import compared_only, rate_line, time_line, times

if TYPE_CHECKING:
    from ..harness import Ask, Harness, Outcome

# As long as the floor's, and text, which both Python and Node are quick with.
MESSAGE = "x" * 64
NODE = "worker-threads"
SIZE = 1 << 20
MORE = 16  # so many times as much, for a second look


def echo(harness: Harness) -> Section:
    """p50 of one message there and back, against the floor; Node's beside it."""
    floors = {
        "floor": "floor: socketpair ping-pong, two cores",
        "floor-one-core": "floor: the same on one core",
    }
    keys = [*OURS, *harness.pick(OTHER_LOOPS, []), *floors, NODE]
    calls = harness.pick(800, 200)

    def ask(key: str) -> Ask:
        if key in floors:
            return "ping_pong", {"calls": calls, "cores": 2 if key == "floor" else 1}
        return "port_echo", {"kind": key, "calls": calls, "message": MESSAGE}

    outcome = harness.compete(keys, harness.pick(9, 3), ask)
    lines = []
    for key in keys:
        line = time_line(outcome, key)
        line.who = floors.get(key, line.who)
        if key in OURS:
            floor, one_core, node = (
                outcome.ratio(key, other, "p50") for other in ("floor", "floor-one-core", NODE)
            )
            line.checks = [compared_only(floor, "the floor")]
            if key != "thread":
                line.checks = [
                    judge(floor, times(floor, "the floor"), 2.0, None, "x"),
                    compared_only(one_core, "the floor on one core"),
                ]
            line.checks.append(compared_only(node, "worker_threads"))
        lines.append(line)
    remark = (
        "The floor is blocking sends and receives between two Python processes; the workers block "
        "in the same way, and their callers await on an event loop. Node posts the next message "
        "from the callback of the one before, without a promise, and its worker answers from one."
    )
    title = "Echo of one small message by a worker that stays, p50"
    return Section("port-echo", title, lines, [remark])


def rate(harness: Harness) -> Section:
    """Messages a second that came back, with 64 under way; Node's beside it."""
    keys = [*OURS, *harness.pick(OTHER_LOOPS, []), NODE]
    params = {"in_flight": 64, "seconds": harness.pick(0.4, 0.1), "message": MESSAGE}
    outcome = harness.compete(
        keys, harness.pick(5, 3), lambda key: ("port_rate", {**params, "kind": key})
    )
    lines = []
    for key in keys:
        line = rate_line(outcome, key)
        if key in OURS:
            node = outcome.ratio(key, NODE, "rate")
            line.checks = [compared_only(node, "worker_threads")]
        if key in ("process", "isolate"):
            median = outcome.median(key, "rate")
            line.checks.insert(0, judge(median, "", 100_000, None, " /s", more=True))
        lines.append(line)
    remark = "Each has crossed the port twice: twice as many messages were sent and received."
    title = "Echoes of small messages a second by a worker that stays, 64 under way"
    return Section("port-rate", title, lines, [remark])


def move(harness: Harness) -> Section:
    """1 MiB by `transfer=`, a number back; and 16 MiB, which tells what is copied."""
    whats = ["SharedBuffer", "bytearray"]
    ours = ["isolate", "process"]
    calls = {SIZE: harness.pick(30, 10), SIZE * MORE: harness.pick(9, 3)}

    def compete(what: str, size: int) -> Outcome:
        params = {"what": what, "size": size, "calls": calls[size]}

        def ask(key: str) -> Ask:
            return ("copy" if key == "floor" else "port_move"), {**params, "kind": key}

        keys = [*ours, "floor", *([NODE] if what == whats[0] else [])]
        return harness.compete(keys, harness.pick(5, 2), ask)

    lines = []
    for what in whats:
        one, sixteen = compete(what, SIZE), compete(what, SIZE * MORE)
        for key in ours:
            line = time_line(one, key, who=f"{BY_KEY[key].label}, {what}")
            line.checks = _move_checks(one, sixteen, key)
            if what == whats[0]:
                node = one.ratio(key, NODE, "p50")
                line.checks.append(compared_only(node, "worker_threads"))
            lines.append(line)
        if what == whats[0]:
            node_line = time_line(one, NODE, who=f"{BY_KEY[NODE].label}, ArrayBuffer")
            node_line.checks = _move_checks(one, sixteen, NODE)
            floor_line = time_line(one, "floor", who="floor: one memcpy, warm")
    remark = (
        "A SharedBuffer is handed over by its descriptor, an ArrayBuffer by its address: their "
        "bytes are not copied. What still grows with the size is taking the pages out of the "
        "sender's memory and giving them back once the worker is done. A bytearray is emptied "
        "here, and its bytes go through the socket like those of any message. The worker looks at "
        "the first and the last byte. Each is made and filled anew before its time begins."
    )
    title = "1 MiB handed over to a worker, a number back"
    return Section("port-move", title, [*lines, floor_line, node_line], [remark])


def _move_checks(one: Outcome, sixteen: Outcome, key: str) -> list[Check]:
    more = duration(sixteen.median(key, "p50"))
    copies = sixteen.ratio(key, "floor", "p50")
    return [
        compared_only(one.ratio(key, "floor", "p50"), "a memcpy"),
        Check(f"with {MORE} MiB {more}, {times(copies, 'a memcpy')}"),
        Check(f"made and filled in {duration(one.median(key, 'made'))}"),
    ]
