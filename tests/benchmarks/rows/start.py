"""Beginnings: a fresh pool's first result, a killed worker's replacement, the import."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from ..contenders import BY_KEY, NODE, OURS
from ..players import environment
from ..report import Check, Line, Section, duration, duration_range, judge
from .lines import WORKERS, compared_only, milliseconds, time_line, times

if TYPE_CHECKING:
    from ..harness import Harness, Outcome


def first_result(harness: Harness) -> Section:
    """From building a pool to its first result, each time in a new process."""
    against = {"process": "ppe", "isolate": "ipe", "thread": "tpe"}
    peers = ["ppe", "ipe", "tpe", "loky", "anyio-process", "anyio-isolate", "trio-parallel"]
    keys = [*OURS, *peers, *NODE]
    outcome = harness.compete(
        keys,
        harness.pick(7, 2),
        ("first", {"workers": WORKERS}),
        fresh=True,
        budget=60,
    )
    lines = []
    for key in keys:
        line = time_line(outcome, key, "took")
        if key in against:
            ratio = outcome.ratio(against[key], key, "took")
            name = {"ppe": "ProcessPool", "ipe": "InterpreterPool", "tpe": "ThreadPool"}
            words = f"the speed of {name[against[key]]}Executor"
            if key == "thread":
                line.checks = [compared_only(ratio, words)]
            else:
                line.checks = [judge(ratio, times(ratio, words), 1.0, 3.0, "x", more=True)]
        lines.append(line)
    return Section("first-result", "First result of a fresh pool, in a fresh process", lines)


CASES = {
    "pool of 1, idle": {"workers": 1, "busy": False},
    "pool of 1, in a call": {"workers": 1, "busy": True},
    "pool of 2": {"workers": 2, "busy": False},
}


def killed(harness: Harness) -> Section:
    """SIGKILL to the answer of a process that wasn't there before."""
    keys = ["process", "ppe", "loky", "anyio-process", "trio-parallel"]
    patience = harness.pick(8.0, 3.0)
    outcomes: dict[str, Outcome] = {}
    failed: dict[str, str] = {}
    for case, params in CASES.items():
        outcomes[case] = harness.compete(
            [key for key in keys if key not in failed],  # who never recovers costs much time
            harness.pick(5, 1),
            ("killed", {**params, "patience": patience}),
            fresh=True,
            budget=30,
        )
        failed |= outcomes[case].reasons
    lines = []
    for key in keys:
        cases = {case: time_line(outcome, key, "took") for case, outcome in outcomes.items()}
        line = Line(BY_KEY[key].label, " / ".join(each.figure for each in cases.values()))
        line.raw = {case: each.raw for case, each in cases.items()}
        line.reason = failed.get(key)
        if key == "process":
            line.checks = [
                judge(milliseconds(outcome.median(key, "took")), case, 50, 10, " ms")
                for case, outcome in outcomes.items()
            ]
        lines.append(line)
    remark = (
        "One worker is killed, and one caller per worker then calls without a pause until a "
        "process answers that wasn't there before. ProcessPoolExecutor and loky's executor are "
        "broken for good by it: their time includes building a new one."
    )
    title = "A worker is killed by SIGKILL, until its replacement has answered: "
    return Section("killed", title + " / ".join(CASES), lines, [remark])


BARE = "pass"
API = "from loopworkers import WorkerPool, run_in_worker"
IMPORTS = [
    "import loopworkers",
    API,
    BARE,
    "import concurrent.futures.process",
    "import asyncio",
    "import anyio.to_process",
    "import loky",
    "import trio_parallel",
]
WATCHED = ["trio", "asyncio", "anyio", "cloudpickle"]


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    )
    return str(done.stdout)


def _start_up(code: str) -> float:
    start = time.perf_counter()
    _python(code)
    return time.perf_counter() - start


def _pulled_in(code: str) -> list[str]:
    loaded: list[str] = json.loads(
        _python(f"{code}; import sys, json; print(json.dumps([*sys.modules]))")
    )
    return [name for name in WATCHED if name in loaded]


def import_time(harness: Harness) -> Section:
    """Whole start-ups, with the import and without, in turns."""
    took: dict[str, list[float]] = {code: [] for code in IMPORTS}
    reasons: dict[str, str] = {}
    try:
        _python(API)
    except subprocess.SubprocessError as error:
        # A folder of that name alone can be imported, and in no time.
        reasons = dict.fromkeys(IMPORTS[:2], _why(error))
    for turn in range(harness.pick(15, 4) + 1):
        for code in IMPORTS:
            if code in reasons or harness.is_late:
                continue
            try:
                seconds = _start_up(code)
            except subprocess.SubprocessError as error:
                reasons[code] = _why(error)
            else:
                if turn:  # the first one compiles and fills the page cache
                    took[code].append(seconds)
    lines = [_import_line(code, took, reasons) for code in IMPORTS]
    return Section("import", "Import over bare start-up", lines)


def _why(error: subprocess.SubprocessError) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return (str(error.stderr).strip().splitlines() or ["it failed"])[-1][:160]
    return "it took more than 20 s"


def _import_line(code: str, took: dict[str, list[float]], reasons: dict[str, str]) -> Line:
    line = Line(f"floor: python -c {BARE}" if code == BARE else code, raw={"took": took[code]})
    if code == API:
        line.who = "from loopworkers import WorkerPool, ..."
    median = None
    if took[code]:
        bare = [0.0] * len(took[code]) if code == BARE else took[BARE]
        values = [mine - other for mine, other in zip(took[code], bare, strict=False)]
        median = statistics.median(values)
        line.figure, line.spread = duration(median), duration_range(values)
    else:
        line.reason = reasons.get(code, "out of time")
    if code == IMPORTS[0]:
        line.checks = [judge(milliseconds(median), "", 60, 25, " ms")]
    if code in IMPORTS[:2] and median is not None:
        loaded = _pulled_in(code)
        words = "loads " + (", ".join(loaded) or "none of " + ", ".join(WATCHED))
        if code == API:
            line.checks.append(Check(words))
        else:
            clean = "trio" not in loaded and "asyncio" not in loaded
            line.checks.append(Check(words, "", "no trio, asyncio", "aim" if clean else "not yet"))
    return line
