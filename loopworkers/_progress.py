"""A progress bar on stderr, for `map`; silent where stderr is no terminal."""

from __future__ import annotations

import shutil
import sys
from time import monotonic

_INTERVAL = 0.1


class Bar:
    def __init__(self, total: int | None) -> None:
        self._total = total
        self._done = 0
        self._started = monotonic()
        self._drawn_at = 0.0
        stream = sys.stderr
        self._on = stream is not None and stream.isatty()

    def advance(self) -> None:
        self._done += 1
        if self._on:
            now = monotonic()
            if now - self._drawn_at >= _INTERVAL or self._done == self._total:
                self._drawn_at = now
                self._draw(now)

    def _draw(self, now: float) -> None:
        rate = self._done / max(now - self._started, 1e-9)
        if self._total:
            share = min(self._done / self._total, 1.0)
            tail = f" {self._done}/{self._total}  {rate:,.0f}/s"
            width = max(shutil.get_terminal_size().columns - len(tail) - 8, 5)
            filled = int(share * width)
            line = f"{share:4.0%} [{'#' * filled}{'.' * (width - filled)}]{tail}"
        else:
            line = f"{self._done} done  {rate:,.0f}/s"
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()

    def finish(self) -> None:
        if self._on and self._drawn_at:
            self._draw(monotonic())
            sys.stderr.write("\n")
            sys.stderr.flush()
