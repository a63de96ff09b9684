"""Accepts connections in the primary and deals them to workers.

The primary reads nothing of a connection: it accepts, chooses and passes on, a few system calls
each. What no worker has room for stays in the kernel's queue of the listening socket.
"""

from __future__ import annotations

import logging
import os
from errno import EMFILE, ENFILE
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from .listeners import arrivals

if TYPE_CHECKING:
    import socket

    from .._loop import Loop, Timer
    from .handover import Handover
    from .policies import Choose
    from .worker import ClusterWorker

_logger = logging.getLogger("loopworkers")

# Connections accepted in one turn of the loop, so that it does other things as well.
_BURST = 64
# How long a worker may leave a connection untaken while others could. An idle one takes it within
# a millisecond; one that computes is late by as long as that lasts.
_PATIENCE = 0.02
# Before it is tried again where the primary has no descriptor left to accept with.
_NO_DESCRIPTOR_PAUSE = 0.1


class Dealer:
    """Of one cluster; used from its loop."""

    def __init__(
        self, loop: Loop, listeners: list[socket.socket], choose: Choose, *, may_move: bool
    ) -> None:
        self._loop = loop
        self._listeners = listeners
        self._arrived = [arrivals(listener) for listener in listeners]
        self._choose = choose
        # Whether a connection may go to another worker than it was dealt to, if that is late.
        self._may_move = may_move
        # In the order of their turns; and what each had taken at the last look.
        self._workers: dict[ClusterWorker, int] = {}
        self._accepting = False
        self._undealt: list[tuple[int, int, Any]] = []  # the listener, the descriptor, the peer
        self._watch: Timer | None = None
        self._taking = anyio.Event()  # of `let_take`: look again

    # --- who there is ----------------------------------------------------------------------

    def add(self, worker: ClusterWorker) -> None:
        """It is ready."""
        self._workers[worker] = 0
        for handover in worker._handovers:
            self._loop.add_reader(handover.fileno(), partial(self._on_told, handover))
        self.go_on()

    def remove(self, worker: ClusterWorker) -> None:
        """It gets no more, and what it has not taken is dealt to others."""
        if self._workers.pop(worker, None) is None:
            return
        for handover in worker._handovers:
            self._loop.remove_reader(handover.fileno())
        self._take_back(worker)
        self._let_look()
        if not self._workers:
            self._pause()

    def stop_accepting(self) -> None:
        """What has been accepted is still dealt."""
        self._pause()
        self._listeners = []

    async def let_take(self, worker: ClusterWorker) -> None:
        """Return when it has taken what it was dealt, and may be late for nobody else's."""
        while worker in self._workers and self._is_due(worker):
            if self._taking.is_set():
                self._taking = anyio.Event()
            for each in self._workers:
                each._ledger.wanted = True
            self._watch_soon()  # a worker that takes just now may not have seen that it is wanted
            await self._taking.wait()

    def _let_look(self) -> None:
        try:
            self._taking.set()
        except RuntimeError:
            pass  # the loop has been closed, and with it who waits

    def _is_due(self, worker: ClusterWorker) -> bool:
        # What a late one has not taken goes to those that are still here.
        concerned = self._workers if self._may_move else (worker,)
        return any(each.untaken for each in concerned)

    def close(self) -> None:
        for worker in list(self._workers):
            self.remove(worker)
        self._pause()
        if self._watch is not None:
            self._watch.cancel()
        for _, fd, _ in self._undealt:
            os.close(fd)
        self._undealt.clear()

    # --- dealing ---------------------------------------------------------------------------

    def go_on(self) -> None:
        """A worker may have room again."""
        undealt, self._undealt = self._undealt, []
        for each in undealt:
            self._deal(*each)
        if not self._undealt and self._workers and not self._accepting:
            self._accepting = True
            for number, listener in enumerate(self._listeners):
                self._loop.add_reader(listener.fileno(), partial(self._accept, number))

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            for listener in self._listeners:
                self._loop.remove_reader(listener.fileno())

    def _accept(self, number: int) -> None:
        unknown_to_typeshed: Any = self._listeners[number]
        # What `accept` calls, without an object that would live for microseconds.
        accept, arrived = unknown_to_typeshed._accept, self._arrived[number]
        for _ in range(_BURST):
            try:
                fd, peer = accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in (EMFILE, ENFILE):
                    _logger.error("cannot accept a connection: %s", error)
                    self._pause()
                    self._loop.call_later(_NO_DESCRIPTOR_PAUSE, self.go_on)
                return
            self._deal(number, fd, peer)
            if not self._accepting or not arrived():
                return

    def _deal(self, number: int, fd: int, peer: Any) -> None:
        worker = self._choose(peer, self._workers)
        if worker is None or not worker._handovers[number].give(fd, peer):
            # At most one burst waits here: nothing more is accepted before it is dealt.
            self._undealt.append((number, fd, peer))
            self._pause()
            for each in self._workers:
                each._ledger.wanted = True
        else:
            self._workers[worker] = self._workers.pop(worker)  # the last in turn
        self._watch_soon()

    def _on_told(self, handover: Handover) -> None:
        handover.heard()
        self._let_look()
        self.go_on()

    # --- those that are late ---------------------------------------------------------------

    def _watch_soon(self) -> None:
        if self._watch is None:
            self._watch = self._loop.call_later(_PATIENCE, self._look)

    def _look(self) -> None:
        self._watch = None
        self._let_look()
        for worker in list(self._workers):  # dealing anew changes their order
            taken = worker._ledger.taken
            if worker.untaken:
                self._watch_soon()
                if taken == self._workers[worker]:
                    self._on_late(worker)
            self._workers[worker] = taken
        if self._undealt:
            self._watch_soon()
            self.go_on()

    def _on_late(self, worker: ClusterWorker) -> None:
        if not self._may_move or all(w._is_late for w in self._workers if w is not worker):
            return
        worker._find_late()  # until it answers
        self._take_back(worker)

    def _take_back(self, worker: ClusterWorker) -> None:
        for number, handover in enumerate(worker._handovers):
            for fd, peer in handover.take_back():
                self._deal(number, fd, peer)
