"""`Cluster`: workers that share listening sockets, kept going from one event loop."""

from __future__ import annotations

from inspect import isasyncgenfunction, isgeneratorfunction
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec
from weakref import WeakSet

import anyio

from .._loop import current
from .._registry import register, unregister
from .._workers.kinds import worker_type
from .binding import open_sockets
from .dealer import Dealer
from .events import ClusterStopped, EventStream
from .options import Recycle, Restart, not_negative, positive
from .policies import POLICIES, chooser
from .supervisor import Supervisor
from .surroundings import BACKENDS, backend_here, usable_cores
from .worker import ClusterWorker

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from .._loop import Loop
    from ..errors import ClusterFailed
    from .binding import Address, Bound
    from .events import ClusterEvent, Reason
    from .member import Member
    from .policies import Policy

P = ParamSpec("P")


class Cluster:
    """Workers that share listening sockets, from entering an ``async with`` on.

    Args:
        target: a function, ``def`` or ``async def``; runs as ``target(member, *args)`` in every
            worker, serves ``member.listeners``, calls ``member.ready()`` when it does, and returns
            when ``member.stopping`` is set and its connections have ended.
        args: sent along.
        workers: how many; None for as many as this process may use cores.
        kind: "process" or "isolate".
        listen: addresses, bound once, here: ``"host:port"``, ``8000``, ``"[::1]:0"``,
            ``"unix:path"``, ``"udp://host:port"``, ``"fd://3"``, ``"systemd"`` or a socket.
        policy: who gets a connection. "shared": all accept from the same socket. "reuse_port": each
            has a socket of its own and the kernel spreads. "round_robin", "least_busy" or
            ``function(peer, workers)``: the primary accepts and hands over.
        restart: how workers that end by accident are replaced.
        recycle: when workers that work are replaced.
        env: their environment variables instead of a copy of this process's.
        backend: the event loop that runs an ``async def`` target: "asyncio", "uvloop" or "trio";
            None for the one that runs here.
        max_connections: a worker gets no more open connections than this (handed over ones only).
        grace: seconds that a worker may take to finish before it is ended by force.
        start_timeout: seconds within which it must call ``member.ready()``.
        unresponsive: seconds after which a worker whose event loop does not answer is killed, its
            stacks written out before; None: never, for it may just be busy.
        backlog: length of the kernel's queues of connections that nobody has accepted.

    Leaving the block drains the cluster, by an exception or cancellation it ends it at once.

    Entering it raises OSError when an address cannot be had.
    """

    def __init__(
        self,
        target: Callable[Concatenate[Member, P], Any],
        /,
        *args: Any,
        workers: int | None = None,
        kind: Literal["process", "isolate"] = "process",
        listen: Address | Sequence[Address] = (),
        policy: Policy = "shared",
        restart: Restart | None = None,
        recycle: Recycle | None = None,
        env: Mapping[str, str] | None = None,
        backend: Literal["asyncio", "uvloop", "trio"] | None = None,
        max_connections: int | None = None,
        grace: float = 30.0,
        start_timeout: float = 60.0,
        unresponsive: float | None = None,
        backlog: int = 2048,
    ) -> None:
        if not callable(target):
            raise TypeError(f"the first argument must be callable, not {target!r}")
        if isgeneratorfunction(target) or isasyncgenfunction(target):
            raise TypeError(f"a worker runs a function, and {target!r} makes a generator")
        if kind not in ("process", "isolate"):
            raise ValueError(f'kind must be "process" or "isolate", not {kind!r}')
        worker_type(kind)  # raises IsolateUnsupported
        if not callable(policy) and policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)} or a function")
        if backend not in (None, *BACKENDS):
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
        if backend == "uvloop" and kind == "isolate":
            raise ValueError('uvloop does not load in isolates; leave it to kind="process"')
        self._hands_over = policy not in ("shared", "reuse_port")
        if max_connections is not None and not self._hands_over:
            raise ValueError(
                f"max_connections needs a policy that hands connections over, {policy!r} lets the "
                "workers accept by themselves"
            )
        if recycle is not None and recycle.memory is not None and kind != "process":
            raise ValueError("the memory of one isolate cannot be measured, nor can it be a limit")
        positive(
            max_connections=max_connections, start_timeout=start_timeout, unresponsive=unresponsive
        )
        not_negative(grace=grace, backlog=backlog)
        self._size = _positive(workers if workers is not None else usable_cores())
        self._target = target
        self._args = args
        self._kind: Literal["process", "isolate"] = kind
        self._listen = listen
        self._policy: Policy = policy
        self._restart = restart or Restart()
        self._recycle = recycle
        self._env = None if env is None else dict(env)
        self._backend = backend
        self._max_connections = max_connections
        self._grace = grace
        self._start_timeout = start_timeout
        self._unresponsive = unresponsive
        self._backlog = backlog
        self._state: Literal["new", "running", "draining", "ended"] = "new"
        self._error: ClusterFailed | None = None
        self._error_was_told = False
        self._own_sockets: dict[int, list[socket.socket]] = {}  # with "reuse_port", of each seat
        self._bound: list[Bound] = []
        self._streams: WeakSet[EventStream] = WeakSet()
        self._loop: Loop
        self._dealer: Dealer
        self._supervisor: Supervisor
        self._ended: anyio.Event
        self._change: anyio.Event
        self._lock: anyio.Lock

    def __repr__(self) -> str:
        return f"<Cluster of {self._size}, {self._kind}, {self._state}>"

    # --- the block -------------------------------------------------------------------------

    async def __aenter__(self) -> Cluster:
        if self._state != "new":
            raise RuntimeError(f"{self!r} cannot be started a second time; make a new one")
        self._loop = current()
        self._ended, self._change, self._lock = anyio.Event(), anyio.Event(), anyio.Lock()
        if self._backend is None:
            self._backend = backend_here(self._kind)
        self._bound = open_sockets(
            self._listen, backlog=self._backlog, reuse_port=self._policy == "reuse_port"
        )
        dealt = [b.socket for b in self._bound if b.is_stream] if self._hands_over else []
        self._dealer = Dealer(
            self._loop,
            dealt,
            chooser(self._policy, self._max_connections),
            may_move=not callable(self._policy),
        )
        self._supervisor = Supervisor(
            self._loop,
            self._make,
            self._dealer,
            self._tell,
            self._fail,
            restart=self._restart,
            recycle=self._recycle,
            start_timeout=self._start_timeout,
            unresponsive=self._unresponsive,
            grace=self._grace,
        )
        self._state = "running"
        register(self._loop, self)
        try:
            for seat in range(self._size):
                self._supervisor.fill(seat)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.drain(0)
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            if exc_type is None:
                await self.drain()
        finally:
            with anyio.CancelScope(shield=True):  # it is bounded
                await self.drain(0)
        if exc_type is None and not self._error_was_told:
            self._raise_if_failed()

    # --- what is going on ------------------------------------------------------------------

    @property
    def addresses(self) -> list[str]:
        """Where it listens, as URLs with the real ports."""
        return [bound.url for bound in self._bound]

    @property
    def size(self) -> int:
        """How many workers it is to have."""
        return self._size

    @property
    def workers(self) -> dict[int, ClusterWorker]:
        """The workers that live, by id; a copy."""
        return {} if self._state == "new" else dict(self._supervisor.workers)

    def events(self) -> EventStream:
        """What happens from now on; each stream sees all. Ends after `ClusterStopped`."""
        stream = EventStream()
        self._streams.add(stream)
        if self._state == "ended":
            stream._put(ClusterStopped(self._error))
        return stream

    async def ready(self) -> None:
        """Return when every place has a worker that serves.

        Raises ClusterFailed, from the worker's error, when one could not be started.
        """
        self._must_have_started()
        while True:
            self._raise_if_failed()
            seats = self._supervisor.seats.values()
            if self._state == "ended" or all(w is not None and w.state == "ready" for w in seats):
                return
            if self._change.is_set():
                self._change = anyio.Event()
            await self._change.wait()

    async def wait(self) -> None:
        """Return when the cluster has ended; raises ClusterFailed when an error has ended it."""
        self._must_have_started()
        await self._ended.wait()
        self._raise_if_failed()

    def _raise_if_failed(self) -> None:
        if self._error is not None:
            self._error_was_told = True
            raise self._error

    def _tell(self, event: ClusterEvent) -> None:
        for stream in self._streams:
            stream._put(event)
        self._change.set()

    # --- what it can be asked --------------------------------------------------------------

    def configure(self, *args: Any, env: Mapping[str, str] | None = None) -> None:
        """Change what workers are started with; those that run keep what they have.

        Args:
            args: the new arguments of the target, if any are given.
            env: as in the constructor; None leaves it.
        """
        if args:
            self._args = args
        if env is not None:
            self._env = dict(env)

    async def scale(self, workers: int) -> None:
        """Have so many workers; returns when the new ones serve and the others have finished.

        Raises ClusterFailed when a new one could not be started: then there are as many as before.

        With policy "reuse_port" connections that the kernel has queued for a worker that goes are
        lost, as with every server that uses SO_REUSEPORT; with the others none are.
        """
        _positive(workers)
        self._must_run()
        async with self._lock:
            self._must_run()
            before = self._size
            if workers > before:
                try:
                    for seat in range(before, workers):
                        # In its place at once, so that it is replaced should it die early.
                        self._supervisor.seats[seat] = await self._supervisor.start(seat)
                except BaseException:
                    with anyio.CancelScope(shield=True):
                        await self._close_seats(range(before, workers), 0)
                    raise
            self._size = workers
            await self._close_seats(range(workers, before), self._grace)

    async def _close_seats(self, seats: Iterable[int], grace: float) -> None:
        leaving = [self._supervisor.seats.pop(seat, None) for seat in seats]
        await self._retire_all([w for w in leaving if w is not None], "scale", grace)
        for seat in seats:
            for each in self._own_sockets.pop(seat, ()):
                each.close()

    async def reload(self) -> None:
        """Replace every worker, one after the other; each successor serves before it finishes.

        Raises ClusterFailed when a successor could not be started: the worker that it was to
        replace, and those after it, go on serving.
        """
        self._must_run()
        async with self._lock:
            self._must_run()
            for seat in sorted(self._supervisor.seats):
                old = await self._supervisor.replace(seat)
                if old is not None:
                    await self._supervisor.retire(old, "reload", self._grace)

    async def kill(self, id: int) -> None:
        """End a worker at once, whatever it does; its place is filled again.

        Raises KeyError when no worker of that number lives.
        """
        self._must_have_started()
        await self._supervisor.kill(self._supervisor.workers[id])

    async def drain(self, grace: float | None = None) -> None:
        """Listen no more, let every worker finish, and end.

        Args:
            grace: seconds before those that have not finished are ended by force; None for the
                cluster's own. Asking again with less shortens it.
        """
        self._must_have_started()
        if self._state == "running":
            self._state = "draining"
            self._stop_listening()
        workers = list(self._supervisor.workers.values())
        await self._retire_all(workers, "drain", self._grace if grace is None else grace)
        self._end()

    async def _retire_all(self, workers: list[ClusterWorker], reason: Reason, grace: float) -> None:
        async with anyio.create_task_group() as group:
            for worker in workers:
                group.start_soon(self._supervisor.retire, worker, reason, grace)

    def _must_have_started(self) -> None:
        if self._state == "new":
            raise RuntimeError(f"{self!r} has not been started: use `async with Cluster(...)`")

    def _must_run(self) -> None:
        self._must_have_started()
        if self._state != "running":
            raise RuntimeError(f"{self!r} does not run")

    # --- its end ---------------------------------------------------------------------------

    def _stop_listening(self) -> None:
        self._supervisor.ending = True
        self._dealer.stop_accepting()
        for bound in self._bound:
            bound.close()
        for sockets in self._own_sockets.values():
            for each in sockets:
                each.close()

    def _end(self) -> None:
        if self._state != "ended":
            self._state = "ended"
            self._dealer.close()
            unregister(self._loop, self)
            self._tell(ClusterStopped(self._error))
            self._ended.set()

    def _fail(self, error: ClusterFailed) -> None:
        if self._state == "running":
            self._error = error
            self._change.set()
            self._loop.spawn(self.drain)

    def _abort(self) -> None:
        """The loop has ended; the workers are told by themselves."""
        self._stop_listening()
        self._dealer.close()
        self._supervisor.abort()
        self._state = "ended"

    # --- workers ---------------------------------------------------------------------------

    def _make(self, seat: int) -> ClusterWorker:
        return ClusterWorker(
            seat,
            self._target,
            self._args,
            kind=self._kind,
            name=f"member {seat}",
            env=self._env,
            backend=self._backend or "asyncio",
            listeners=self._listeners_of(seat),
        )

    def _listeners_of(self, seat: int) -> list[tuple[socket.socket, bool]]:
        if self._policy != "reuse_port":
            return [(bound.socket, self._hands_over and bound.is_stream) for bound in self._bound]
        own = self._own_sockets.get(seat)
        if own is None:
            # Kept here as well: what the kernel has queued for a worker that dies is for its
            # successor. The first seat has those that were bound first, which get their share too.
            own = [b.socket if seat == 0 else b.again() for b in self._bound]
            self._own_sockets[seat] = own
        return [(each, False) for each in own]


def _positive(workers: int) -> int:
    if workers < 1:
        raise ValueError(f"a cluster needs 1 worker or more, not {workers}")
    return workers
