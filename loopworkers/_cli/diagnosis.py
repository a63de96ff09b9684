"""Compares the imports of an application in a process with those in an isolate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .advice import cannot_do_without, instead_of
from .run import run

if TYPE_CHECKING:
    from .run import Attempt, Fail, Run

# Of what is tried one by one after the application itself; each start costs a process.
_MAX_CRASHES = 10

LOADS, FALLS_BACK, REFUSED = "loads", "falls back", "refused"
RAISES, CRASHES, HANGS = "raises", "crashes", "hangs"
BLOCKED, SKIPPED = "blocked", "not reached"
#: Those that keep an application from running in isolates.
FATAL = (REFUSED, RAISES, CRASHES, HANGS)


@dataclass
class Finding:
    """What became of one module in an isolate.

    Attributes:
        error: what it raised, or how it ended the process.
        imported_by: the modules that were being imported then, the outermost first.
        without: the module that went on without this one.
        instead: what to use in its place.
    """

    module: str
    state: str
    kind: str = "python"
    file: str | None = None
    error: str | None = None
    where: str | None = None
    imported_by: tuple[str, ...] = ()
    without: str | None = None
    instead: str | None = None


@dataclass
class Diagnosis:
    """What became of an application.

    Attributes:
        cannot_import: why there is nothing to compare: it cannot be imported in a process.
    """

    can_run: bool
    findings: list[Finding]
    cannot_import: str | None = None


def diagnose(module: str, attribute: str, timeout: float) -> Diagnosis:
    plain = run("process", [module], attribute, timeout)
    why = _why_not(plain, module)
    if why is not None:
        return Diagnosis(False, [], why)
    isolate = run("isolate", [module], attribute, timeout)
    if isolate.broken is not None:
        return Diagnosis(False, [], f"the isolate failed: {isolate.broken}")
    case = _Case(module, plain)
    case.examine(isolate)
    case.examine_target(isolate)
    can_run = not any(finding.state in FATAL for finding in case.troubles.values())
    if not can_run:
        case.examine_the_rest(timeout)
    return Diagnosis(can_run, case.findings())


def _why_not(plain: Run, module: str) -> str | None:
    if plain.ended_by is not None:
        at = f" while importing {plain.loading[-1]}" if plain.loading else ""
        return f"it {plain.ended_by}{at}"
    if module in plain.failed:
        attempt = plain.failed[module]
        return f"{attempt.error} ({attempt.where})" if attempt.where else attempt.error
    return plain.no_attribute


class _Case:
    def __init__(self, target: str, plain: Run) -> None:
        self._target = target
        self._plain = plain
        self._modules = {name: m for name, m in plain.modules.items() if not m.was_there}
        self._fails_anyway = {fail.name for fail in plain.fails} - plain.loaded
        self._loaded: set[str] = set()
        self._failed: set[str] = set()
        self.troubles: dict[str, Finding] = {}

    # --- what one run in an isolate shows ----------------------------------------------------

    def examine(self, isolate: Run, *, one_by_one: bool = False) -> None:
        """One by one, a module may fail by being imported out of its order: no word of that."""
        self._loaded |= isolate.loaded
        if not one_by_one:
            # What stands in for a refused module is imported nowhere else.
            only_here = isolate.importers.keys() & isolate.modules.keys()
            for name in sorted(only_here - self._plain.modules.keys()):
                self._modules[name] = isolate.modules[name]
        self._failed |= {fail.name for fail in isolate.fails} | set(isolate.failed)
        fatal = {_root(attempt.cause, isolate.fails) for attempt in isolate.failed.values()}
        # Then what was caught may be why something else failed later, of another error.
        masked = any(root is None or not _is_refusal(isolate.fails[root]) for root in fatal)
        for number, fail in enumerate(isolate.fails):
            if fail.cause is not None:
                continue
            state = REFUSED if _is_refusal(fail) else RAISES
            catcher = _caught_by(number, isolate.fails) or self._target
            if state == RAISES and one_by_one:
                continue
            if number not in fatal:
                if fail.name in self._fails_anyway or not self._concerns(fail):
                    continue
                went_on = _top(catcher) in isolate.loaded or not masked
                if went_on and not cannot_do_without(catcher, fail.name):
                    state = FALLS_BACK
            known = self.troubles.get(fail.name)
            # By itself, it is imported without those around it that can do without it.
            if known is None or (known.state == FALLS_BACK and not one_by_one):
                self.troubles[fail.name] = self._finding(fail, state, catcher)
        if isolate.ended_by is not None and isolate.loading:
            *importers, name = isolate.loading
            state = HANGS if isolate.timed_out else CRASHES
            self._failed.update(isolate.loading)
            self.troubles[name] = self._named(name, state, isolate.ended_by, tuple(importers))

    def _concerns(self, fail: Fail) -> bool:
        """Whether its failure is the isolate's doing, though the application went on."""
        return _is_refusal(fail) or fail.name in self._plain.loaded

    def examine_target(self, isolate: Run) -> None:
        attempt: Attempt | None = isolate.failed.get(self._target)
        error = isolate.no_attribute
        state = RAISES
        if attempt is not None:
            error = None if attempt.cause is not None else attempt.error
        elif isolate.ended_by is not None and not isolate.loading:
            state = HANGS if isolate.timed_out else CRASHES
            error = f"{isolate.ended_by}, when the isolate was to end"
        if error is not None:
            self.troubles[self._target] = self._named(self._target, state, error)

    def examine_the_rest(self, timeout: float) -> None:
        """Import what the application would have, had it not stopped at its first trouble."""
        for _ in range(_MAX_CRASHES):
            names = [name for name in self._modules if not self._is_known(name)]
            if not names:
                return
            isolate = run("isolate", names, "", timeout)
            self.examine(isolate, one_by_one=True)
            if isolate.ended_by is None or not isolate.loading:
                return

    def _is_known(self, name: str) -> bool:
        parts = name.split(".")
        packages = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
        return name in self._loaded or not packages.isdisjoint(self._failed)

    # --- findings ----------------------------------------------------------------------------

    def _finding(self, fail: Fail, state: str, catcher: str) -> Finding:
        finding = self._named(fail.name, state, fail.error, fail.importers)
        finding.kind = fail.kind
        finding.where = fail.where or None
        if state == FALLS_BACK:
            finding.without = catcher
        return finding

    def _named(
        self, name: str, state: str, error: str | None = None, importers: tuple[str, ...] = ()
    ) -> Finding:
        finding = Finding(name, state, error=error)
        finding.imported_by = self._plain.importers.get(name, importers)
        module = self._modules.get(name)
        if module is not None:
            finding.file, finding.kind = module.file, module.kind
        if state in FATAL:
            finding.instead = instead_of(name, raises=state == RAISES)
        return finding

    def findings(self) -> list[Finding]:
        """Of all modules: the troubles first, then the others in the order of their imports."""
        others: list[Finding] = []
        for name in self._modules:
            if name in self.troubles:
                continue
            state = BLOCKED if name in self._failed else SKIPPED
            if name in self._loaded:
                state = LOADS
            others.append(self._named(name, state))
        troubles = sorted(self.troubles.values(), key=lambda finding: finding.state not in FATAL)
        return troubles + others


def _top(name: str) -> str:
    return name.partition(".")[0]


def _is_refusal(fail: Fail) -> bool:
    """PyO3's modules say so in their own words, and ImportError is common to all."""
    return "subinterpreters" in fail.error or (
        fail.kind != "python" and fail.error.startswith("ImportError")
    )


def _root(number: int | None, fails: list[Fail]) -> int | None:
    while number is not None and fails[number].cause is not None:
        number = fails[number].cause
    return number


def _caught_by(number: int, fails: list[Fail]) -> str | None:
    """The innermost module that was being imported and did not fail because of it."""
    last = number
    for later in range(number + 1, len(fails)):
        if fails[later].cause == last:
            last = later
    importers = fails[last].importers
    return importers[-1] if importers else None
