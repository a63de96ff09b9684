"""Tells whether an application can run in isolates, and which modules keep it from that.

It is imported twice, in a process and in an isolate, and the imports are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from .._workers.kinds import worker_type
from ..errors import IsolateUnsupported
from .diagnosis import (
    BLOCKED,
    CRASHES,
    FALLS_BACK,
    FATAL,
    HANGS,
    LOADS,
    RAISES,
    REFUSED,
    SKIPPED,
    Diagnosis,
    Finding,
    diagnose,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIMEOUT = 60.0
_VERBS = {
    REFUSED: ("is refused", "are refused"),
    RAISES: ("raises an error", "raise errors"),
    CRASHES: ("ends the process", "end the process"),
    HANGS: ("does not end", "do not end"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        metavar="module[:app]",
        type=_target,
        help="what to import, seen from the working directory, and the application's name in it",
    )
    parser.add_argument("--all", action="store_true", help="list the modules that load as well")
    parser.add_argument("--json", action="store_true", help="print it for a program to read")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=_TIMEOUT,
        metavar="SECONDS",
        help="for one attempt to import it all (default: %(default)g)",
    )


def _target(text: str) -> str:
    module, colon, attribute = text.partition(":")
    names = [*module.split("."), *(attribute.split(".") if colon else [])]
    if all(name.isidentifier() for name in names) and not module.endswith(".py"):
        return text
    raise argparse.ArgumentTypeError(
        f"{text!r} is not of the form module or module:app, such as package.main:app"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def run(options: argparse.Namespace) -> int:
    """0: it can run in isolates; 1: it cannot, or cannot be imported at all."""
    module, _, attribute = options.target.partition(":")
    try:
        worker_type("isolate")
    except IsolateUnsupported as unsupported:
        diagnosis = Diagnosis(False, [])
        summary = f"{options.target} cannot run in isolates here: {unsupported}"
    else:
        sys.path.insert(0, os.getcwd())
        diagnosis = diagnose(module, attribute, options.timeout)
        summary = _summary(options.target, diagnosis)
    if options.json:
        print(json.dumps(_as_json(options.target, summary, diagnosis), indent=2))
    else:
        print(summary)
        for line in _table(diagnosis.findings, _top(module), everything=options.all):
            print(line)
    return 0 if diagnosis.can_run else 1


def _as_json(target: str, summary: str, diagnosis: Diagnosis) -> dict[str, object]:
    return {
        "target": target,
        "can_run": diagnosis.can_run,
        "summary": summary,
        "python": ".".join(map(str, sys.version_info[:3])),
        "modules": [asdict(finding) for finding in diagnosis.findings],
    }


# --- as text ----------------------------------------------------------------------------------


def _summary(target: str, diagnosis: Diagnosis) -> str:
    if diagnosis.cannot_import is not None:
        return f"{target} cannot be imported: {diagnosis.cannot_import}"
    states = [finding.state for finding in diagnosis.findings]
    if diagnosis.can_run:
        loaded, fallen = states.count(LOADS), states.count(FALLS_BACK)
        summary = f"{loaded} modules load" if loaded != 1 else "1 module loads"
        if fallen:
            summary += f", {fallen} {'is' if fallen == 1 else 'are'} refused and done without"
        return f"{target} can run in isolates: {summary}"
    parts: list[str] = []
    for state in FATAL:
        if count := states.count(state):
            of = f" of {len(states)} modules" if not parts else ""
            parts.append(f"{count}{of} {_VERBS[state][count > 1]}")
    return f"{target} cannot run in isolates: {', '.join(parts)}"


def _table(findings: list[Finding], own: str, *, everything: bool) -> Iterator[str]:
    shown = [finding for finding in findings if everything or _is_trouble(finding)]
    if not shown:
        return
    yield ""
    width = max(len(finding.module) for finding in shown)
    states = max(len(finding.state) for finding in shown)
    for finding in shown:
        kind = finding.file or finding.kind
        row = f"{finding.module:<{width}}  {finding.state:<{states}}  {kind if everything else ''}"
        yield row.rstrip()
        if _is_trouble(finding):
            yield from (f"    {line}" for line in _details(finding, own))


def _is_trouble(finding: Finding) -> bool:
    return finding.state not in (LOADS, BLOCKED, SKIPPED)


def _details(finding: Finding, own: str) -> Iterator[str]:
    if finding.error is not None:
        at = f" ({finding.where})" if finding.state == RAISES and finding.where else ""
        yield finding.error + at
    if importers := _path(finding.imported_by, own):
        yield f"imported by: {importers}"
    if finding.without is not None:
        yield f"{finding.without} goes on without it, often in slower pure Python"
    if finding.instead is not None:
        yield f"instead: {finding.instead}"


def _path(importers: tuple[str, ...], own: str) -> str:
    """The modules of the application itself, and the first of each package of others."""
    names: list[str] = []
    for name in importers:
        if not names or _top(name) == own or _top(name) != _top(names[-1]):
            names.append(name)
    return " > ".join(names)


def _top(name: str) -> str:
    return name.partition(".")[0]
