"""One worker of a `Cluster`, as the primary sees it."""

from __future__ import annotations

from collections import deque
from random import random
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

import anyio

from .._ports.port import channel
from .._worker import Worker
from ..errors import PortClosed
from . import member
from .handover import Handover
from .ledger import Ledger

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Sequence

    from .._figures import Utilization
    from .events import KillReason


class ClusterWorker:
    """A worker of a cluster; made by the cluster alone.

    Attributes:
        id: its number, never used again.
        seat: which of the cluster's places it fills, from 0 on; its successor has the same.
        state: "starting", "ready", "draining" or "ended".
        voluntary: whether the cluster asked it to finish.
    """

    def __init__(
        self,
        seat: int,
        target: Callable[..., Any],
        args: tuple[Any, ...],
        *,
        kind: Literal["process", "isolate"],
        name: str,
        env: dict[str, str] | None,
        backend: str,
        listeners: Sequence[tuple[socket.socket, bool]],
    ) -> None:
        self.seat = seat
        self.kind: Literal["process", "isolate"] = kind
        self.state: Literal["starting", "ready", "draining", "ended"] = "starting"
        self.voluntary = False
        self._is_late = False
        self._is_recycled = False
        self._asked_for = (target, *args)
        self._killed_for: KillReason | None = None
        self._luck = random()  # see `Recycle.jitter`
        self._ledger = Ledger()
        self._handovers: list[Handover] = []
        self._error: Exception | None = None
        self._started_at = monotonic()
        self._ready_at: float | None = None
        self._served_as: int | None = None  # `pid`, which is none of its own after the end
        self._runs = False
        self._begun = anyio.Event()  # whether it runs
        self._settled = anyio.Event()  # whether it serves
        self._ended = anyio.Event()
        self._last_words: deque[Any] = deque()
        self._control, theirs = channel()
        self._wrote_stacks = anyio.Event()
        self._pinged_at: float | None = None
        self._loop_delay = 0.0
        self._sent: list[Any] = [theirs]  # moved to the worker when it starts
        sockets: list[Any] = []
        try:
            for listener, is_handed_over in listeners:
                sockets.append(self._end_for_worker(listener, is_handed_over))
        except BaseException:
            self._let_go()
            raise
        self._worker = Worker(
            member.run,
            target,
            args,
            backend,
            sockets,
            theirs,
            self._ledger,
            kind=kind,
            name=name,
            env=env,
        )
        self.id = self._worker.id

    def _end_for_worker(self, listener: socket.socket, is_handed_over: bool) -> Any:
        if not is_handed_over:
            self._sent.append(listener.dup())
            return self._sent[-1]
        self._handovers.append(Handover(listener, self._ledger))
        ends = self._handovers[-1].ends_for_worker()
        self._sent.append(ends[0])
        return ends

    def __repr__(self) -> str:
        return f"<ClusterWorker {self.id} in seat {self.seat}, {self.kind}, {self.state}>"

    # --- messages --------------------------------------------------------------------------

    async def send(self, value: Any, *, transfer: Sequence[Any] = ()) -> None:
        """Send a message to its `Member.port`; see `Worker.send`."""
        await self._must_have_begun()
        await self._worker.send(value, transfer=transfer)

    async def receive(self, timeout: float | None = None) -> Any:
        """The next message from its `Member.port`; see `Worker.receive`."""
        await self._must_have_begun()
        try:
            return await self._worker.receive(timeout)
        except PortClosed:
            if self._last_words:
                return self._last_words.popleft()
            raise

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except PortClosed:
            raise StopAsyncIteration from None

    async def _must_have_begun(self) -> None:
        """Whoever has it from `Cluster.workers` may be faster than the start."""
        await self._begun.wait()
        if not self._runs:
            raise PortClosed(f"{self!r} was ended before it began")

    # --- figures ---------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._worker.name

    @property
    def pid(self) -> int | None:
        """Of a process that has started; else None."""
        return self._worker.pid

    @property
    def exitcode(self) -> int | None:
        """As `Worker.exitcode`; None before its end."""
        return self._worker.exitcode

    @property
    def connections(self) -> int:
        """Open connections, of those that were handed over to it."""
        return self._ledger.open

    @property
    def untaken(self) -> int:
        """Connections handed over to it that it has not accepted yet."""
        if not self._handovers:  # what it takes was not given by us
            return 0
        return self._ledger.untaken

    @property
    def requests(self) -> int:
        """What it has told by `Member.served`, else the connections it has accepted."""
        return self._ledger.served or self._ledger.taken

    @property
    def loop_delay(self) -> float:
        """Seconds by which its event loop answered late when it was last asked, or is late now."""
        return max(self._loop_delay, self._silent_for)

    @property
    def _silent_for(self) -> float:
        """Seconds for which its event loop owes an answer."""
        return 0.0 if self._pinged_at is None else monotonic() - self._pinged_at

    def utilization(self, since: Utilization | None = None) -> Utilization:
        """See `Worker.utilization`."""
        return self._worker.utilization(since)

    async def memory(self) -> int:
        """See `Worker.memory`."""
        return await self._worker.memory()

    async def cpu_time(self) -> float:
        """See `Worker.cpu_time`."""
        return await self._worker.cpu_time()

    # --- what the cluster asks of it -------------------------------------------------------

    def _begin(self) -> None:
        self._runs = True
        self._begun.set()

    def _keep_last_words(self) -> None:
        """What it has sent and nobody has received yet, before its port is closed."""
        try:
            while True:
                self._last_words.append(self._worker._port.receive_nowait())
        except Exception:  # there are no more, or none that can be read
            pass

    def _ask(self, what: str) -> None:
        try:
            self._control._send_now(what, ())
        except PortClosed:
            pass  # it is about to end

    def _ping(self) -> None:
        if self._pinged_at is None and self.state != "ended":
            self._pinged_at = monotonic()
            self._ask("ping")

    def _find_late(self) -> None:
        """It gets connections after all others until its loop answers."""
        self._is_late = True
        self._ping()

    async def _hear(self, on_ready: Callable[[], None], on_punctual: Callable[[], None]) -> None:
        """Listen to what it tells of itself, to its end."""
        async for (what,) in self._control:
            if what == "ready" and self.state == "starting":
                self.state = "ready"
                self._ready_at = monotonic()
                self._served_as = self.pid
                self._settled.set()
                on_ready()
            elif what == "pong" and self._pinged_at is not None:
                self._loop_delay = monotonic() - self._pinged_at
                self._pinged_at = None
                if self._is_late:
                    self._is_late = False
                    on_punctual()
            elif what == "stacks":
                self._wrote_stacks.set()

    async def _write_stacks(self, patience: float) -> None:
        """Have it write the stacks of its threads to its stderr, if it still can."""
        self._ask("stacks")
        with anyio.move_on_after(patience):
            await self._wrote_stacks.wait()

    async def _terminate(self) -> None:
        """End it by force."""
        self._ledger.over = True
        await self._worker.terminate()

    def _end(self) -> None:
        self.state = "ended"
        for event in (self._begun, self._settled, self._ended):
            try:
                event.set()
            except RuntimeError:
                pass  # the loop has been closed, and with it who waits
        self._let_go()

    def _let_go(self) -> None:
        if self._runs:
            self._worker._port.close()
        self._control.close()
        for each in (*self._handovers, *self._sent):
            each.close()
        self._ledger.close()
