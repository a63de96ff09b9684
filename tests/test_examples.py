"""Every file in examples/ runs as it is, as a program of its own, from any folder."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import loopworkers

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

# What each must print, and its arguments.
EXPECTED: dict[str, tuple[str, ...]] = {
    "asgi_service.py": (
        "25997 primes below 300000",
        "answers beside it",
        "quick enough",
        "the server ended with code 0",
    ),
    "cancel_and_timeout.py": ("cancelled after 0.", "CallTimeout: ", "gives 1024", "stopped: 2"),
    "chat.py": (
        "ann heard ['bob: hello', 'cid: hello', 'the program: good evening']",
        "bob has heard worker 0 ask 'how are you?'",
    ),
    "cluster_tcp.py": (
        "worker 1: hello, ",
        "worker 2: hello, ",
        ": hello, eve, still the old one",
        ": good evening, fay",
        "worker 1 has ended with code 0",
        "worker 4 has ended with code 0",
        "all have ended",
    ),
    "context_and_logs.py": (
        "a worker prints 1",
        "INFO shop: order 1 of ann",
        "INFO shop: order 2 of bob",
        "UserWarning: order 2 is large",
    ),
    "crash_and_retry.py": (
        "SIGKILL",
        "499999500000",
        "second attempt",
        "died: 2, calls run again: 1",
    ),
    "executor_sync.py": ("collatz(871) takes 178 steps", "longest below 20000: 278", "exit code 3"),
    "hello.py": ("primes: 2262 4203 6057",),
    "isolates_vs_processes.py": (
        "process  in another process",
        "isolate  ",
        "thread   in this process",
    ),
    "map_async_source.py": ("message 199 27527bfaf04413b1", "200 messages done"),
    "progress.py": ("10 of 10: step 10", "the call is done", "sum 4950"),
    "shared_stripes.py": ("@@@", "in all: 64"),
    "sqlite_worker.py": ("True modules", "heap -> [('heapq'", "nothing like this -> []", "code 0"),
    "stdlib_census.py": ("loop delay", "the ten most complex functions", "ways agree."),
    "sticky_websocket.py": tuple(f"has seen 127.0.0.{n} 3 times" for n in (1, 2, 3)),
    "stream_rows.py": ("city 5000 5000000", "city 5002 5002000", "free again: 2"),
}
# What each needs that the library does not: one of these.
NEEDS = {"asgi_service.py": ("uvicorn", "hypercorn"), "sticky_websocket.py": ("wsproto",)}
ARGUMENTS = {"stdlib_census.py": ["--limit", "40"]}


def run(path: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(loopworkers.__file__).resolve().parents[1])
    path_variable = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path_variable}
    # It would write a line in pieces, and those of two workers between each other.
    environment.pop("PYTHONUNBUFFERED", None)
    return subprocess.run(
        [sys.executable, str(path), *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_example(path: Path, tmp_path: Path) -> None:
    ended = run(path, tmp_path, *ARGUMENTS.get(path.name, []))
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    needed = NEEDS.get(path.name)
    if needed and not any(map(find_spec, needed)):
        assert ended.stdout.startswith("skipped: ")
        return
    for line in EXPECTED[path.name]:  # a KeyError: say what the new example prints
        assert line in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_census_on_trio(tmp_path: Path) -> None:
    pytest.importorskip("trio")
    ended = run(EXAMPLES / "stdlib_census.py", tmp_path, "--trio", "--limit", "20")
    assert ended.returncode == 0, ended.stderr
    assert "ways agree." in ended.stdout


def test_census_has_the_three_ways_or_says_why_not(tmp_path: Path) -> None:
    ended = run(EXAMPLES / "stdlib_census.py", tmp_path, "--limit", "4")
    assert "inline on the loop" in ended.stdout
    assert "process workers" in ended.stdout
    if sys.version_info >= (3, 14):
        assert "isolate workers" in ended.stdout
    else:
        assert "no isolates: isolates need CPython 3.14" in ended.stdout


def test_census_measures_what_it_says(tmp_path: Path) -> None:
    census = runpy.run_path(str(EXAMPLES / "stdlib_census.py"))
    module = tmp_path / "module.py"
    module.write_text(
        "import os, sys\n"
        "from ast import parse\n"
        "class A:\n"
        "    def method(self, x):\n"
        "        if x and x > 1 or not x:\n"
        "            return [y for y in x if y]\n"
        "        def inner():\n"
        "            try:\n"
        "                pass\n"
        "            except ValueError:\n"
        "                pass\n"
        "        return lambda: 1 if x else 2\n"
    )
    assert census["measure"](str(module)) == {
        "path": str(module),
        "files": 1,
        "lines": 12,
        "functions": 3,
        "classes": 1,
        "branches": 7,  # if, or, and, for and if of the list, except, the conditional
        "complexity": 10,
        "imports": 3,
        "longest function": 9,
        "most complex": [(6, 9, 4, "method"), (2, 5, 7, "inner"), (2, 1, 12, "<lambda>")],
    }
    module.write_text("def\n")
    assert census["measure"](str(module))["invalid"] == 1


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ([{"path": "a", "lines": 2}], "'lines' of a is 1 inline, but 2 in process workers"),
        ([], "of a is 1 inline, but None in process workers"),
        ([{"path": "a", "lines": 1}, {"path": "b"}], "of None is None inline, but b in process"),
    ],
)
def test_census_notices_when_the_ways_disagree(wrong: list[dict[str, Any]], text: str) -> None:
    census = runpy.run_path(str(EXAMPLES / "stdlib_census.py"))
    expected = census["Run"]("inline", 1.0, [0.0], [{"path": "a", "lines": 1}])
    assert census["difference"](expected, expected) is None
    other = replace(expected, way="process workers", modules=wrong)
    assert text in census["difference"](expected, other)


def test_census_fails_when_the_ways_disagree(tmp_path: Path) -> None:
    program = (EXAMPLES / "stdlib_census.py").read_text()
    spoilt = program.replace('"files": 1,', '"files": os.getpid(),')
    assert spoilt != program
    (tmp_path / "spoilt.py").write_text(spoilt)
    ended = run(tmp_path / "spoilt.py", tmp_path, "--limit", "2")
    assert ended.returncode == 1
    assert "THE WAYS DISAGREE: 'files' of " in ended.stderr
