"""Requests a second of a cluster, and how long they take while one of its workers is stuck."""

from __future__ import annotations

import socket
import statistics
import time
from typing import TYPE_CHECKING, Any

from ..harness import Outcome
from ..players import OutOfPlayError
from ..report import Check, Line, Section, judge
from ..servers import CONNECTIONS, Server, get, rate
from .lines import WORKERS, rate_line, tail_line, times

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..harness import Harness

LABELS = {
    "uvicorn": f"uvicorn --workers {WORKERS}",
    "shared": "loopworkers serve, shared",
    "round_robin": "loopworkers serve, round_robin",
    "least_busy": "loopworkers serve, least_busy",
}
_TWO = ("--workers", str(WORKERS))


def _compete(keys: list[str], rounds: int, play: Callable[[str], dict[str, Any]]) -> Outcome:
    """Servers take turns, each started anew: two that run would share the processors."""
    outcome = Outcome()
    for turn in range(rounds):
        figures: dict[str, dict[str, Any]] = {}
        for key in keys[turn % len(keys) :] + keys[: turn % len(keys)]:
            if key in outcome.reasons:
                continue
            try:
                figures[key] = play(key)
            except OutOfPlayError as error:
                outcome.reasons[key] = str(error)
        outcome.rounds.append(figures)
    return outcome


def throughput(harness: Harness) -> Section:
    return _throughput(harness, "serve-rate", apart=False)


def throughput_apart(harness: Harness) -> Section:
    return _throughput(harness, "serve-rate-apart", apart=True)


def _throughput(harness: Harness, name: str, *, apart: bool) -> Section:
    """With a connection for each request, which is where accepting and dealing show."""
    seconds, keys = harness.pick(3, 1), list(LABELS)

    def play(key: str) -> dict[str, Any]:
        with Server(key, *_TWO, apart=apart) as server:
            return rate(server.port, "/", seconds, keep_alive=False)

    outcome = _compete(keys, harness.pick(5, 1), play)
    lines = []
    for key in keys:
        line = rate_line(outcome, key, LABELS[key])
        if key != "uvicorn":
            value = outcome.ratio(key, "uvicorn", "rate")
            must = 0.97 if key == "shared" else 0.85
            line.checks = [judge(value, times(value, "uvicorn"), must, None, "x", more=True)]
        lines.append(line)
    title = f"Requests a second by {WORKERS} process workers, a connection for each"
    share = "as a process among those that serve"
    if apart:
        title += ", load from another session"
        share = "which Linux gives as much as all that serve"
    remark = (
        f"wrk with {CONNECTIONS} clients, {share}; httptools and asyncio's loop for all. The "
        "policies but `shared` accept in the primary and hand each connection over."
    )
    return Section(name, title, lines, [remark])


def isolates(harness: Harness) -> Section:
    """Two of one process against one, with pure Python to run for each request."""
    cases = {"one": "1", "two": str(WORKERS)}
    seconds = harness.pick(3, 1)

    def play(key: str) -> dict[str, Any]:
        # httptools is not for isolates; and who stays connected should be dealt out evenly.
        options = ("--kind", "isolate", "--http", "h11", "--workers", cases[key])
        with Server("round_robin", *options) as server:
            return rate(server.port, "/work", seconds, keep_alive=True)

    outcome = _compete(list(cases), harness.pick(5, 1), play)
    value = outcome.ratio("two", "one", "rate")
    lines = [
        rate_line(outcome, "one", "loopworkers serve --kind isolate --workers 1"),
        rate_line(outcome, "two", f"loopworkers serve --kind isolate --workers {WORKERS}"),
    ]
    lines[1].checks = [judge(value, times(value, "one isolate"), 1.6, None, "x", more=True)]
    remark = "Some 1 ms of pure Python for each request; wrk takes its share of the processors."
    title = "Requests a second by the isolates of one process, keep-alive"
    return Section("serve-isolates", title, lines, [remark])


def stuck(harness: Harness) -> Section:
    """The latency of others, while one worker computes for five seconds."""
    seconds, keys = harness.pick(3.0, 1.0), ["uvicorn", "shared", "least_busy"]

    def play(key: str) -> dict[str, Any]:
        with Server(key, *_TWO) as server:
            idle = _latencies(server.port, seconds)
            with socket.create_connection(("127.0.0.1", server.port)) as one:
                one.sendall(b"GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n")
                one.settimeout(5)
                one.recv(4096)  # it has begun
                time.sleep(0.1)
                busy = _latencies(server.port, seconds)
        return {**busy, "idle": idle["p99"]}

    outcome = _compete(keys, harness.pick(5, 1), play)
    lines: list[Line] = []
    for key in keys:
        line = tail_line(outcome, key, LABELS[key])
        ratios = [round["p99"] / round["idle"] for round in outcome.of(key)]
        value = statistics.median(ratios) if ratios else None
        words = times(value, "its own p99 when idle")
        is_asked = key == "least_busy"
        line.checks = [judge(value, words, 2.0, None, "x") if is_asked else Check(words)]
        lines.append(line)
    remark = "At most 200 requests a second, one after the other, a connection for each."
    title = "Requests beside a stuck worker: p50 / p99 / max of the others"
    return Section("serve-stuck", title, lines, [remark])


def _latencies(port: int, seconds: float) -> dict[str, Any]:
    samples: list[float] = []
    begin = time.perf_counter()
    while (start := time.perf_counter()) < begin + seconds:
        get(port)
        samples.append(time.perf_counter() - start)
        time.sleep(max(0.0, 0.005 - samples[-1]))
    samples.sort()
    return {
        "p50": statistics.median(samples),
        "p99": samples[int(len(samples) * 0.99)],
        "max": samples[-1],
    }
