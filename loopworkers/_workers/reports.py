"""Log records, warnings and progress of workers, handed to their counterparts here."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from .._loop.future import Progress
from .._wire.frames import LOG
from .._wire.values import loads

_logger = logging.getLogger("loopworkers")


def relay(kind: int, payload: bytes) -> None:
    """Pass a worker's log record or warning on; what is broken about it is dropped."""
    try:
        content = loads(payload)
    except Exception:
        return
    try:
        if kind == LOG:
            _log(content)
        else:
            _warn(*content)
    except Exception:
        # A handler or filter of the program's failed; the answers behind this must still come.
        _logger.exception("could not pass on a record or warning of a worker")


def _log(fields: dict[str, Any]) -> None:
    record = logging.makeLogRecord(fields)
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def _warn(message: str, category: Any, filename: str, lineno: int) -> None:
    try:
        warnings.warn_explicit(message, category, filename, lineno)
    except Warning as error:
        # A filter here says "error", but the code that would be interrupted is elsewhere.
        _logger.warning(
            "in a worker: %s", warnings.formatwarning(str(error), category, filename, lineno)
        )


def set_progress(call: Any, payload: bytes) -> None:
    try:
        done, total, message = loads(payload)
    except Exception:
        return
    try:
        call.future._set_progress(Progress(done, total, message))
    except Exception:
        _logger.exception("a progress callback of %s failed", call.name)
