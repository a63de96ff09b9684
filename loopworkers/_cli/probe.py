"""Imports modules and tells of each import as it happens: the doctor's side in another process.

What is told are tuples, one a line, on what the doctor started this process with as standard
output: a crash then loses nothing that came before it. Where a plain process is looked at, only
what every Python has loaded may be imported up here, or it would hide that the application does.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

# For an isolate to end after the imports: a thread that they started may keep it.
_GRACE = 5.0
_LONGEST = 300


def main(place: str, names: list[str], attribute: str) -> None:
    """Be the process that the doctor has started to import ``names`` in."""
    output = os.dup(1)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    if place == "process":
        record(names, attribute, output)
    else:
        _in_isolate(names, attribute, output)
    os._exit(0)  # what the application does at its end is not asked for


def _in_isolate(names: list[str], attribute: str, output: int) -> None:
    from threading import Timer

    import anyio

    from .._pool import WorkerPool

    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    except ImportError:  # Windows
        pass

    async def run() -> None:
        async with WorkerPool("isolate", max_workers=1) as pool:
            await pool.run(record, names, attribute, output)
            late = Timer(_GRACE, os._exit, (0,))
            late.daemon = True
            late.start()

    try:
        anyio.run(run)
    except Exception as error:
        _tell(output, "broken", describe(error))
        os._exit(1)


def record(names: Sequence[str], attribute: str, output: int) -> None:
    """Import ``names``, look for the first one's ``attribute``, and tell what happened."""
    before = set(sys.modules)
    recorder = _Recorder(output)
    sys.meta_path.insert(0, recorder)
    for name in names:
        try:
            __import__(name)
        except BaseException as error:
            told = describe(error), where(error), recorder.cause_of(error)
            _tell(output, "failed", name, *told)
        else:
            _tell(output, "imported", name)
    value: Any = sys.modules.get(names[0])
    try:
        for part in filter(None, attribute.split(".")):
            value = getattr(value, part)
    except BaseException as error:
        _tell(output, "no attribute", describe(error))
    modules = list(sys.modules.items())
    _tell(output, "done", [(name, *_place(module), name in before) for name, module in modules])


class _Recorder:
    """The first finder on `sys.meta_path`: asks the others, and tells how the loading ends."""

    def __init__(self, output: int) -> None:
        self._output = output
        self._loading: list[str] = []
        self._failures: list[BaseException] = []

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        for finder in list(sys.meta_path):
            if finder is self:
                continue
            find: Any = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find and find(name, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(self, spec.loader)  # type: ignore[assignment]  # pyright: ignore
                return spec
        return None

    def begin(self, name: str) -> None:
        self._loading.append(name)
        _tell(self._output, "begin", name)

    def end(self, name: str) -> None:
        self._forget(name)
        _tell(self._output, "end", name)

    def fail(self, spec: ModuleSpec, error: BaseException) -> None:
        self._forget(spec.name)
        cause = self.cause_of(error)
        self._failures.append(error)  # kept alive: it is known again by its identity
        of = spec.name, _kind(spec), tuple(self._loading), cause
        _tell(self._output, "fail", *of, describe(error), where(error))

    def _forget(self, name: str) -> None:
        if name in self._loading:
            self._loading.remove(name)

    def cause_of(self, error: BaseException) -> int | None:
        """The number of the failure that ``error`` is, or was raised because of."""
        for link in chain(error):
            for number in reversed(range(len(self._failures))):
                if self._failures[number] is link:
                    return number
        return None


class _Loader:
    """Stands in for a loader until it has made the module, as `importlib.util.LazyLoader`."""

    def __init__(self, recorder: _Recorder, loader: Any) -> None:
        self._recorder = recorder
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        self._recorder.begin(spec.name)
        try:
            module: ModuleType | None = self._loader.create_module(spec)
        except BaseException as error:
            self._recorder.fail(spec, error)
            raise
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        spec.loader = module.__loader__ = self._loader
        try:
            self._loader.exec_module(module)
        except BaseException as error:
            self._recorder.fail(spec, error)
            raise
        self._recorder.end(spec.name)


def _tell(output: int, *told: object) -> None:
    line = memoryview(ascii(told).encode() + b"\n")
    while line:
        line = line[os.write(output, line) :]


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """It and what it was raised because of, hidden by ``from None`` or not."""
    seen: list[BaseException] = []
    while error is not None and all(error is not link for link in seen):
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def describe(error: BaseException) -> str:
    """Its type and the first line of what it says."""
    try:
        lines = [line.strip() for line in str(error).splitlines()]
    except BaseException:
        lines = []
    text = next(filter(None, lines), "")
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + " ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def where(error: BaseException) -> str:
    """File and line of the module that raised it, or in which what it called did."""
    found = ""
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_name == "<module>":
            found = f"{code.co_filename}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return found


def _place(module: Any) -> tuple[str | None, str]:
    spec: Any = getattr(module, "__spec__", None)
    file: Any = getattr(module, "__file__", None)
    return file if isinstance(file, str) else None, _kind(spec)


def _kind(spec: Any) -> str:
    from _imp import extension_suffixes

    origin = getattr(spec, "origin", None)
    if origin in ("built-in", "frozen"):
        return str(origin)
    if isinstance(origin, str) and origin.endswith(tuple(extension_suffixes())):
        return "extension"
    return "python"
