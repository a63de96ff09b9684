"""Starts a probe in a process of its own, which a crash may end, and reads what it tells."""

from __future__ import annotations

import signal
import subprocess
import sys
from ast import literal_eval
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

_ROOT = str(Path(__file__).resolve().parents[2])
_BOOT = (
    "import sys; path, *request = eval(sys.stdin.read()); "
    "sys.path[:] = path; from loopworkers._cli.probe import main; main(*request)"
)


class Fail(NamedTuple):
    """The loading of a module raised."""

    name: str
    kind: str
    importers: tuple[str, ...]  # the outermost first
    cause: int | None  # the number of the failure that led to it
    error: str
    where: str


class Attempt(NamedTuple):
    """The import that a probe was asked for raised."""

    error: str
    where: str
    cause: int | None


class Module(NamedTuple):
    file: str | None
    kind: str
    was_there: bool  # before the first import


@dataclass
class Run:
    """What one probe told of its imports.

    Attributes:
        ended_by: what kept the probe from its end: a signal, an exit, the timeout.
        loading: what was being imported then, the outermost first.
        importers: of each module, those that were being imported when it first was.
    """

    fails: list[Fail] = field(default_factory=list)
    loaded: set[str] = field(default_factory=set)
    loading: list[str] = field(default_factory=list)
    importers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    failed: dict[str, Attempt] = field(default_factory=dict)
    no_attribute: str | None = None
    modules: dict[str, Module] = field(default_factory=dict)
    done: bool = False
    broken: str | None = None
    ended_by: str | None = None
    timed_out: bool = False

    def read(self, what: str, *told: Any) -> None:
        if what == "begin":
            self.importers.setdefault(told[0], tuple(self.loading))
            self.loading.append(told[0])
        elif what == "end":
            self.loaded.add(told[0])
            self._forget(told[0])
        elif what == "fail":
            self.fails.append(Fail(*told))
            self._forget(told[0])
        elif what == "failed":
            self.failed[told[0]] = Attempt(*told[1:])
        elif what == "no attribute":
            self.no_attribute = told[0]
        elif what == "broken":
            self.broken = told[0]
        elif what == "done":
            self.done = True
            self.modules = {name: Module(*rest) for name, *rest in told[0]}
            self.loaded.update(self.modules)

    def _forget(self, name: str) -> None:
        if name in self.loading:
            self.loading.remove(name)


def run(
    place: Literal["process", "isolate"], names: list[str], attribute: str, timeout: float
) -> Run:
    """Import ``names`` one after the other; ``attribute`` is looked for in the first."""
    request = ascii(([*sys.path, _ROOT], place, names, attribute))
    result = Run()
    try:
        ended = subprocess.run(
            [sys.executable, "-c", _BOOT],
            input=request.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        output = late.output or b""
        result.timed_out = True
        result.ended_by = f"had not ended after {timeout:g} s"
    else:
        output = ended.stdout
        if ended.returncode:
            result.ended_by = f"ended the process: {_name(ended.returncode)}"
    for line in output.splitlines(keepends=True):
        if line.endswith(b"\n"):  # the last one may have been cut off
            result.read(*literal_eval(line.decode()))
    if not result.done and result.ended_by is None:
        result.ended_by = "ended the process: exit code 0"
    return result


def _name(returncode: int) -> str:
    if returncode > 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"
