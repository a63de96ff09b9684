"""What a running call tells the loop's side besides its result: progress, logs, warnings."""

from __future__ import annotations

import sys
from _contextvars import ContextVar
from _pickle import dumps
from time import monotonic

from .._wire.frames import BEGUN, INLINE_MAX, LOG, PROGRESS, WARN
from .._wire.values import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Often enough for a bar that moves smoothly, seldom enough to cost nothing.
_PROGRESS_INTERVAL = 0.02
_HANDLER = "loopworkers"


class Report:
    """The progress of one call; keeps the last figure back if they come too fast."""

    # On the class: one is made for every call, and few report anything.
    _sent_at = 0.0
    _held: bytes | None = None

    def __init__(self, link: Any, id: int) -> None:
        self._link = link
        self._id = id

    def progress(self, done: float, total: float | None, message: str | None) -> None:
        payload = dumps((done, total, None if message is None else str(message)[:1000]), 5)
        if len(payload) > INLINE_MAX:
            raise ValueError("report_progress() takes numbers of an ordinary size")
        now = monotonic()
        if now - self._sent_at < _PROGRESS_INTERVAL:
            self._held = payload
            return
        self._held = None
        self._sent_at = now
        self._link.send(PROGRESS, self._id, payload)

    def begin(self) -> None:
        self._link.send(BEGUN, self._id)

    def finish(self) -> None:
        if self._held is not None:
            self._link.send(PROGRESS, self._id, self._held)


_current: ContextVar[Report | None] = ContextVar("loopworkers_report", default=None)


# By position only: the function may have parameters of any name.
def reporting(report: Report, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    _current.set(report)
    return function(*args, **kwargs)


def begun() -> None:
    """Tell the loop's side that the function of this call is about to run."""
    report = _current.get()
    assert report is not None
    report.begin()


def report_progress(done: float, total: float | None = None, message: str | None = None) -> None:
    """Tell the caller how far this call is; does nothing outside of a worker.

    Args:
        done: how much is done, in any unit.
        total: how much there is in that unit, if known.
        message: what is being done, in a few words.

    The figures appear as `WorkerFuture.progress`, in its progress callbacks, and in the bar
    of ``map(..., progress=True)``. Calling it very often is cheap: at most fifty reports a
    second are sent, and always the last one.
    """
    report = _current.get()
    if report is not None:
        report.progress(done, total, message)


# --- logs and warnings ----------------------------------------------------------------------


class _WhenLoggingIsImported:
    """A finder that installs the log handler the moment somebody imports `logging`.

    Importing it up front would double the start of a worker that logs nothing.
    """

    def __init__(self, install: Callable[[], None]) -> None:
        self._install = install

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                # Importing it from here would have it loaded twice, the second time without us.
                spec.loader = _ThenInstall(spec.loader, self._install)  # type: ignore[assignment]
                return spec
        return None


class _ThenInstall:
    def __init__(self, loader: Any, install: Callable[[], None]) -> None:
        self._loader = loader
        self._install = install

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._install()


def forward_logs(link: Any, level: int) -> None:
    """Send the records of this worker's loggers, from ``level`` up, to the loop's side."""

    def install() -> None:
        import logging

        class Forward(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                link.send(LOG, 0, _portable(record))

        root = logging.getLogger()
        for handler in [h for h in root.handlers if h.get_name() == _HANDLER]:
            root.removeHandler(handler)
        forward = Forward()
        forward.set_name(_HANDLER)
        root.addHandler(forward)
        root.setLevel(level)

    if "logging" in sys.modules:
        install()
    elif not any(isinstance(f, _WhenLoggingIsImported) for f in sys.meta_path):
        sys.meta_path.insert(0, _WhenLoggingIsImported(install))


def _portable(record: Any) -> bytes:
    # As logging.handlers.QueueHandler does: the text is made here, where its arguments live.
    fields = dict(record.__dict__)
    try:
        fields["msg"] = record.getMessage()
    except Exception as error:
        fields["msg"] = f"{record.msg!r} (its arguments do not fit: {error})"
    fields["args"] = None
    if record.exc_info:
        import logging

        fields["exc_text"] = fields["exc_text"] or logging.Formatter().formatException(
            record.exc_info
        )
        fields["exc_info"] = None
    try:
        encoded = encode(fields)
        if encoded.size <= INLINE_MAX and not encoded.flags:
            return encoded.chunks[0]  # type: ignore[no-any-return]
    except Exception:  # an extra that cannot be pickled
        pass
    # Without its extras, and cut, rather than not at all.
    return dumps({name: _short(fields.get(name)) for name in _OF_EVERY_RECORD}, 5)


_OF_EVERY_RECORD = (
    "name", "msg", "args", "levelname", "levelno", "pathname", "filename", "module", "exc_info",
    "exc_text", "stack_info", "lineno", "funcName", "created", "msecs", "relativeCreated",
    "thread", "threadName", "processName", "process", "taskName",
)  # fmt: skip


def _short(value: Any) -> Any:
    if type(value) is str:
        return value[: INLINE_MAX // 16]
    return value if type(value) in (int, float) else None


def forward_warnings(link: Any) -> None:
    """Show this worker's warnings on the loop's side, under the filters there."""
    import warnings

    def show(
        message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        try:
            payload = b"".join(encode((str(message), category, filename, lineno)).chunks)
        except Exception:
            payload = dumps((str(message), UserWarning, filename, lineno), 5)
        if len(payload) <= INLINE_MAX:
            link.send(WARN, 0, payload)

    warnings.showwarning = show
