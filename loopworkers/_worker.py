"""`Worker`: one long-lived worker with a port, as Node's `worker_threads.Worker`."""

from __future__ import annotations

import os
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from itertools import count
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, overload

from . import _figures
from ._call import Call, CallOptions, encode_call, name_of
from ._child import resident
from ._hub import WORKERS_OF_ONE, hub_here
from ._kept import keep
from ._loop import Loop, current
from ._loop.gate import Gate
from ._ports import idle
from ._ports.output import OutputStream, open_pipe
from ._ports.port import channel
from ._registry import register, unregister
from ._shared.buffer import SharedBuffer
from ._wire.frames import ERROR, Frame
from ._wire.values import find_culprit
from ._workers.base import Exit, Listener
from ._workers.base import Worker as Host
from ._workers.identity import Identity, check
from ._workers.kinds import worker_type
from ._workers.settings import Settings
from .errors import NotTransferable, PortClosed, WorkerDied

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from types import TracebackType

    from ._figures import Utilization
    from ._pool import Kind
    from ._ports.port import BlockingPort, MessagePort

P = ParamSpec("P")

_numbers = count(1)


class Worker(Listener):
    """A worker that runs ``target(port, *args)``, from entering an ``async with`` on.

    Args:
        target: a function, ``def`` or ``async def``, lambdas and closures included. Its port is
            connected with this object. In a plain function the port blocks, in ``async def`` it
            is awaited; either way ``for`` iterates over messages until this side closes.
        args: sent along; ports, shared memory and sockets among them.
        kind: "process", "isolate" or "thread".
        name: also shown by the system as name of the process or thread, cut to 15 bytes.
        env: its environment variables instead of a copy of this process's.
        argv: its ``sys.argv[1:]``.
        stdout, stderr: None to share this program's, `PIPE` for a stream in the attribute of
            that name.
        limits: of a process: ``memory`` (bytes of address space), ``cpu_seconds``,
            ``open_files``. Enforced by the system: an allocation beyond the limit raises
            MemoryError in the worker.

    A thread shares everything with the program, and an isolate its memory and descriptors: what
    cannot be kept apart is refused with a ValueError.

    Leaving the block closes the port, which ends the iteration in the worker, and waits for it to
    end; an exception that nobody was told of is raised then. Leaving it by an exception or
    cancellation terminates the worker.
    """

    if TYPE_CHECKING:

        @overload
        def __init__(
            self,
            target: Callable[Concatenate[MessagePort, P], Coroutine[Any, Any, object]],
            /,
            *args: Any,
            kind: Kind = "process",
            name: str | None = None,
            env: dict[str, str] | None = None,
            argv: Sequence[str] = (),
            stdout: int | None = None,
            stderr: int | None = None,
            limits: dict[str, int] | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self,
            target: Callable[Concatenate[BlockingPort, P], object],
            /,
            *args: Any,
            kind: Kind = "process",
            name: str | None = None,
            env: dict[str, str] | None = None,
            argv: Sequence[str] = (),
            stdout: int | None = None,
            stderr: int | None = None,
            limits: dict[str, int] | None = None,
        ) -> None: ...

    def __init__(
        self,
        target: Callable[..., Any],
        /,
        *args: Any,
        kind: Kind = "process",
        name: str | None = None,
        env: dict[str, str] | None = None,
        argv: Sequence[str] = (),
        stdout: int | None = None,
        stderr: int | None = None,
        limits: dict[str, int] | None = None,
    ) -> None:
        self._type = worker_type(kind)
        if not callable(target):
            raise TypeError(f"the first argument must be callable, not {target!r}")
        if isgeneratorfunction(target) or isasyncgenfunction(target):
            raise TypeError(f"a worker runs a function, and {target!r} makes a generator")
        parent = resident.current_worker()
        self.id = (parent.id if parent is not None else 0) * WORKERS_OF_ONE + next(_numbers)
        self.name = name if name is not None else f"worker {self.id}"
        self.kind: Literal["process", "isolate", "thread"] = kind
        self._target = target
        self._args = args
        piped = {"stdout": stdout, "stderr": stderr}
        self._identity = Identity(
            id=self.id,
            name=self.name,
            kind=kind,
            is_async=iscoroutinefunction(target),
            env=None if env is None else dict(env),
            argv=list(argv),
            limits=check(kind, env, argv, piped, limits),
            streams={},
        )
        self._piped = [stream for stream, given in piped.items() if given is not None]
        #: The worker's output where `PIPE` was asked for, else None.
        self.stdout: OutputStream | None = None
        self.stderr: OutputStream | None = None
        self._state: Literal["new", "running", "ended"] = "new"
        self._pid = os.getpid()
        self._exit: Exit | None = None
        self._error: Exception | None = None
        self._error_was_told = False
        self._terminated = False
        self._is_online = False
        self._loop: Loop
        self._host: Host
        self._port: MessagePort
        self._theirs: MessagePort
        self._post: MessagePort
        self._their_post: MessagePort
        self._clock: SharedBuffer
        self._online: Gate
        self._ended: Gate

    def __repr__(self) -> str:
        return f"<Worker {self.id} {self.name!r}, {self.kind}, {self._state}>"

    # --- starting ------------------------------------------------------------------------

    async def __aenter__(self) -> Worker:
        if self._state != "new":
            raise RuntimeError(f"{self!r} cannot be started a second time; make a new one")
        self._loop = current()
        if self._identity.env is None and self.kind != "thread":
            # Told even to a process: what it would inherit is not what an isolate around here has.
            self._identity.env = dict(os.environ)
        settings = Settings(
            kind=self.kind,
            initializer=None,
            initargs=(),
            preload=(),
            memory_limit=None,
            identity=self._identity,
        )
        keep(self._loop, self._type, settings)
        self._online, self._ended = Gate(self._loop), Gate(self._loop)
        self._clock = SharedBuffer(idle.SIZE)
        self._port, self._theirs = channel()
        self._post, self._their_post = channel()
        self._write_ends: list[int] = []
        try:
            call = self._first_call(self._theirs, settings)
            for stream in self._piped:
                output, write_end = open_pipe()
                setattr(self, stream, output)
                self._identity.streams[stream] = write_end
                self._write_ends.append(write_end)
            self._host = self._type(self._loop, self.id, settings, self)
            try:
                self._host.start()
            except Exception:
                self._host.discard()
                raise
        except BaseException:
            self._close_write_ends()
            for each in (self._port, self._theirs, self._post, self._their_post, self._clock):
                each.close()
            raise
        self._state = "running"
        register(self._loop, self)
        self._host.send(call)
        hub_here().add_worker(self.id, self._post)
        return self

    def _first_call(self, port: MessagePort, settings: Settings) -> Call:
        thread = (self.id, self.name) if self.kind == "thread" else None
        args = (self._target, port, self._their_post, self._args, self._clock, thread)
        if thread is not None:
            from ._call import direct_call

            body: Any = direct_call(resident.run, args, {})
        else:
            try:
                body = encode_call(resident.run, args, {})
            except NotTransferable as error:
                culprit = find_culprit((self._target, *self._args), "(target, *args)")
                raise NotTransferable(
                    f"cannot start the worker {self.name!r}: {culprit} cannot be sent: "
                    f"{error.__cause__!r}"
                ) from error.__cause__
        call = Call(self, 1, self._target, body, CallOptions())
        call.surroundings = settings.surroundings()
        self._target_name = name_of(self._target)
        return call

    async def ready(self) -> None:
        """Return when the worker is about to run its function.

        Raises what kept it from that: the import of the function's module failed, or the worker
        died (`WorkerDied`).
        """
        self._must_have_started()
        await self._online.wait()
        if not self._is_online:
            self._error_was_told = True
            if self._terminated:
                raise PortClosed(f"{self!r} was terminated before it ran its function")
            raise self._error or self._death("ended before it ran its function")

    # --- messages ------------------------------------------------------------------------

    async def send(self, value: Any, *, transfer: Sequence[Any] = ()) -> None:
        """Send a message to the worker's port; see `MessagePort.send`."""
        try:
            await self._messages().send(value, transfer=transfer)
        except PortClosed as closed:
            raise closed from self._error

    async def receive(self, timeout: float | None = None) -> Any:
        """The next message from the worker's port; see `MessagePort.receive`."""
        try:
            return await self._messages().receive(timeout)
        except PortClosed as closed:
            raise closed from self._error  # which may be why

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._messages().receive()
        except PortClosed:
            raise StopAsyncIteration from None

    def _messages(self) -> MessagePort:
        self._must_have_started()
        return self._port

    def _must_have_started(self) -> None:
        if self._state == "new":
            raise RuntimeError(f"{self!r} has not been started: use `async with Worker(...)`")

    # --- the end -------------------------------------------------------------------------

    async def wait(self) -> int:
        """Wait for the worker's end; its exit code, or raises what its function raised.

        The code is 0 after the function has returned, n after ``sys.exit(n)``, 1 after an
        exception or `terminate`, and the negative number of the signal that ended a process.
        Cancelling it leaves the worker alone.
        """
        self._must_have_started()
        await self._ended.wait()
        if self._error is not None and not self._terminated:
            self._error_was_told = True
            raise self._error
        assert self.exitcode is not None
        return self.exitcode

    async def terminate(self) -> int:
        """Stop the worker, whatever it does, and its own workers; its exit code.

        Returns within about a second: a process gets SIGTERM, and SIGKILL half a second later;
        an isolate is stopped in two stages, and written off if it sits in C code; a thread cannot
        be stopped: its port is closed and it is left to itself. Calling it again, or after the
        end, only waits for the end. What waits for the worker's messages gets `PortClosed`.
        """
        if self._state == "new":
            self._state = "ended"
            self._exit = Exit(code=1)
        if self._state == "running":
            import anyio

            self._terminated = True
            self._host.stop()
            with anyio.CancelScope(shield=True):  # it is bounded
                await self._ended.wait()
        assert self.exitcode is not None
        return self.exitcode

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._port.close()
        try:
            if exc_type is not None:
                await self.terminate()
                return
            try:
                await self._ended.wait()
            except BaseException:
                await self.terminate()
                raise
        finally:
            self._abort()
            for output in (self.stdout, self.stderr):
                if output is not None:
                    output.close()
        # That the port was closed under it is our doing.
        if self._error is not None and not (
            self._error_was_told or self._terminated or isinstance(self._error, PortClosed)
        ):
            raise self._error

    def _abort(self) -> None:
        """Also called when the loop has ended."""
        if self._state == "running":
            self._finish(Exit(code=1))
            if self._pid == os.getpid():
                self._host.kill_now()

    def _finish(self, exit: Exit) -> None:
        self._exit = exit
        self._state = "ended"
        unregister(self._loop, self)
        self._close_write_ends()
        self._post.close()
        if not (exit.stuck and self.kind == "thread"):  # that one goes on writing to this object
            self._clock.close()
        for gate in (self._online, self._ended):
            try:
                gate.open()
            except RuntimeError:
                pass  # the loop has been closed, and with it who waits

    def _close_write_ends(self) -> None:
        ends, self._write_ends = self._write_ends, []
        for end in ends:
            os.close(end)

    # --- what the worker's side tells ------------------------------------------------------

    def on_ready(self, worker: Host) -> None:
        self._close_write_ends()

    def on_begun(self, worker: Host) -> None:
        self._is_online = True
        self._online.open()

    def on_answer(self, worker: Host, call: Call, frame: Frame, body: Any) -> None:
        if frame.kind == ERROR:
            self._error = worker.failure(body)
        if not worker.leaving:
            worker.leave()

    def on_setup_failed(self, worker: Host, error: Exception) -> None:
        self._error = error
        worker.leaving = True
        worker.calls.clear()

    def on_gone(self, worker: Host, exit: Exit, untouched: list[Call]) -> None:
        if exit.stuck:
            self._port.close()  # it lives on and keeps its end
        # Of a thread, whose exception may refer to it; others have moved them.
        self._theirs.close()
        self._their_post.close()
        hub_here().hear(self.id)
        self._finish(exit)
        if self._error is None and not self._terminated:
            if exit.reason and exit.code is None:
                self._error = self._death(exit.reason)
            elif not self._is_online and (self.exitcode or exit.reason is None):
                self._error = self._death("ended before it ran its function")
        worker.calls.clear()

    def _death(self, reason: str) -> WorkerDied:
        exit = self._exit or Exit()
        return WorkerDied(
            self._target_name,
            kind=self.kind,
            exitcode=exit.code,
            signal=exit.signal,
            ran_for=0.0,
            reason=exit.reason or reason,
        )

    # --- figures -------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._state == "running"

    @property
    def pid(self) -> int | None:
        """Of a process that has started; else None."""
        return getattr(self._host, "pid", None) if self._state == "running" else None

    @property
    def exitcode(self) -> int | None:
        """See `wait`; None before the end."""
        exit = self._exit
        if exit is None:
            return None
        if exit.signal is not None:
            return -exit.signal
        if self._error is not None or exit.stuck or (self._terminated and not exit.code):
            return 1
        return exit.code or 0

    def utilization(self, since: Utilization | None = None) -> Utilization:
        """How busy the worker has been; read from memory, without asking it.

        Args:
            since: an earlier value, for the time between the two.
        """
        if self._state != "running":
            return _figures.NOTHING
        return _figures.utilization(self._clock, since)

    async def cpu_time(self) -> float:
        """Seconds of processor time it has used; of an isolate or thread, its own thread's.

        Raises PortClosed after its end, and LoopworkersError where the system does not tell.
        """
        return _figures.cpu_time(await self._online_host())

    async def _online_host(self) -> Host:
        if self._state == "running":
            await self._online.wait()
        if self._state != "running":
            raise PortClosed(f"{self!r} does not run, and so uses neither processor nor memory")
        return self._host

    async def memory(self) -> int:
        """Resident bytes of a process.

        Raises PortClosed after its end, and LoopworkersError for other kinds: isolates and threads
        have no memory of their own that could be measured.
        """
        return _figures.memory(await self._online_host())
