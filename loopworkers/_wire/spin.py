"""Looks for the next packet a little before going to sleep.

Waking a sleeping worker costs about 25 us, more than a short call itself. Right after an answer
the next call is often only the loop's reaction away, so a worker that keeps looking for that
long answers a chain of calls twice as fast. It must not burn what others need: it looks only
while that has been paying off, gives its core up to whoever is waiting for it, and stops at the
first sign that somebody was.
"""

from __future__ import annotations

import os
from time import perf_counter

from .frames import PACKET_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# The loop's reaction to an answer takes 20 to 40 us; beyond that it has other things to do.
_WINDOW = 60e-6
# A look takes about 2 us; when one took this long, another program had the core meanwhile.
_PREEMPTED = 15e-6
_MOST_SKIPPED = 256

_yield_core: Callable[[], None] = getattr(os, "sched_yield", lambda: None)


class Spinner:
    """Receives from a socket by looking first and sleeping then."""

    def __init__(self, receive: Callable[..., bytes], dontwait: int) -> None:
        self._receive = receive
        self._dontwait = dontwait
        self._misses = 0
        self._skip = 0 if dontwait and _more_than_one_core() else -1

    def receive(self) -> bytes:
        receive, dontwait = self._receive, self._dontwait
        if self._skip:
            if self._skip > 0:
                self._skip -= 1
            return receive(PACKET_MAX)
        now = perf_counter()
        end = now + _WINDOW
        while now < end:
            try:
                packet = receive(PACKET_MAX, dontwait)
            except BlockingIOError:
                pass
            else:
                self._misses = 0
                return packet
            _yield_core()
            before, now = now, perf_counter()
            if now - before > _PREEMPTED:
                break
        self._misses = min(self._misses + 1, 8)
        if self._misses > 1:
            # Look again only now and then, until it pays off again.
            self._skip = min(1 << self._misses, _MOST_SKIPPED)
        return receive(PACKET_MAX)


def _more_than_one_core() -> bool:
    try:
        return len(os.sched_getaffinity(0)) > 1
    except AttributeError:
        return (os.cpu_count() or 1) > 1
