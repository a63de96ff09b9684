"""The calls of a pool on an engine: what it has, what waits, and how its answers come back.

An engine works in threads of its own, where its futures become done; or in this one, if they are
done at once. Either way what there is to know goes into `_news`, and the loop is woken for it once,
however much has come meanwhile.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from concurrent.futures import BrokenExecutor, CancelledError
from functools import partial
from threading import Lock, Thread
from time import perf_counter
from typing import TYPE_CHECKING, Any

import anyio

from .._backing import Figures, Runner
from .._child.job import unpack_answer
from .._wire.values import decode
from .._workers.base import Exit
from .._workers.reports import set_progress
from ..errors import EngineFailed
from .engine import Job, JobLost

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from .._call import Call
    from .._loop import Loop
    from .._settle import Settler
    from .._wire.frames import Frame
    from .engine import Engine

_logger = logging.getLogger("loopworkers")


class EngineRunner(Runner):
    """All on the loop's thread but what says otherwise."""

    def __init__(
        self, loop: Loop, settler: Settler, engine: Engine, max_workers: int | None
    ) -> None:
        self._loop = loop
        self._settler = settler
        self._engine = engine
        self._most = max_workers
        self._queue: OrderedDict[int, Call] = OrderedDict()  # by call; none that has ended
        self._held: dict[int, Future[bytes]] = {}  # by call; what the engine has of us
        self._given_up: set[int] = set()  # calls that have ended, while their bodies have not
        self._news: deque[Callable[[], None]] = deque()
        self._woken = False
        self._connection = _Connection(engine, partial(self._tell, self._on_connection))
        self._opened = anyio.Event()
        self._ending = False

    # --- the connection ----------------------------------------------------------------------

    async def opened(self) -> None:
        await self._opened.wait()
        if self._connection.error is not None:
            raise self._connection.error

    def _on_connection(self) -> None:
        self._connection.join()
        self._opened.set()
        if self._connection.error is not None:
            waiting, self._queue = self._queue, OrderedDict()
            for call in waiting.values():
                self._settler.fail(call, self._connection.error)
        self._feed()
        self._tell_of_end()

    # --- calls -------------------------------------------------------------------------------

    @property
    def lingering(self) -> int:  # type: ignore[override]
        return len(self._given_up)

    def place(self, call: Call) -> None:
        error = self._connection.error
        if error is not None:
            self._settler.fail(call, error)
        elif self._has_room():
            self._submit(call)
        else:
            self._queue[call.id] = call

    def _has_room(self) -> bool:
        return self._connection.is_open and (self._most is None or len(self._held) < self._most)

    def _feed(self) -> None:
        while self._queue and self._has_room():
            self._submit(self._queue.popitem(last=False)[1])

    def _submit(self, call: Call) -> None:
        call.sent_at = perf_counter()
        job = Job(call.name, call.body, call.options.resources, partial(self._tell_progress, call))
        try:
            future = self._engine.submit(job)
        except Exception as error:
            call.sent_at = 0.0  # it has not begun
            self._settle_failure(call, error)
            return
        self._held[call.id] = future
        future.add_done_callback(partial(self._tell_done, call))

    def withdraw(self, call: Call) -> Future[bytes] | None:
        self._hear_news()  # its answer may have come
        # A body that never ends must not have the calls behind it pile up that were given up.
        self._queue.pop(call.id, None)
        return self._held.get(call.id)

    def give_up(self, call: Call, running_on: Future[bytes], *, stop: bool) -> None:
        self._given_up.add(call.id)
        if not stop:
            return
        if self._engine.capabilities.kills_running:
            self._settler.counters.killed += 1
        self._engine.stop(running_on)

    # --- any thread ----------------------------------------------------------------------------

    def _tell_done(self, call: Call, future: Future[bytes]) -> None:
        self._tell(partial(self._on_done, call, future))

    def _tell_progress(self, call: Call, progress: bytes) -> None:
        self._tell(partial(self._on_progress, call, progress))

    def _tell(self, news: Callable[[], None]) -> None:
        self._news.append(news)
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._hear_news)
            except RuntimeError:  # the loop has ended, and the pool with it
                pass

    # --- what the engine told --------------------------------------------------------------------

    def _hear_news(self) -> None:
        # Before it looks: what comes from now on wakes the loop again.
        self._woken = False
        while self._news:
            self._news.popleft()()

    def _on_progress(self, call: Call, progress: bytes) -> None:
        if call.id in self._settler.unsettled:
            call.progress = progress
            set_progress(call, progress)

    def _on_done(self, call: Call, future: Future[bytes]) -> None:
        if self._held.get(call.id) is future:
            del self._held[call.id]
        if call.id in self._given_up:
            self._given_up.remove(call.id)
            self._settler.room_was_made()
        elif call.id in self._settler.unsettled:
            self._settle(call, future)
        self._feed()
        self._tell_of_end()

    def _settle(self, call: Call, future: Future[bytes]) -> None:
        error = CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            self._settle_failure(call, error)
            return
        try:
            frame, progress = unpack_answer(future.result())
        except Exception as broken:  # the workers have another version of this, say
            self._settle_failure(call, _no_answer(broken))
            return
        if progress and progress != call.progress:
            set_progress(call, progress)
        self._settler.answer(self, call, frame, frame.payload)

    def value(self, frame: Frame, body: Any) -> Any:
        return decode(body, frame.flags)

    def failure(self, body: Any) -> Exception:
        from .._wire.failures import decode_failure

        return decode_failure(bytes(body))

    def _settle_failure(self, call: Call, error: BaseException) -> None:
        """The engine could not tell how the body ended, or did not run it."""
        # A foreign CancelledError must not be raised here: it would cancel who waits.
        if isinstance(error, (JobLost, BrokenExecutor, CancelledError)):
            reason = _reason(error)
        elif isinstance(error, Exception):
            error.add_note(f"raised by engine {self._engine.name}, not by {call.name}")
            _note_earlier(call, error)
            self._settler.fail(call, error)
            return
        else:
            reason = f"was ended by {error!r}"
        if call.retries > 0 and not self._ending:
            call.retries -= 1
            self._settler.counters.retried += 1
            self._queue[call.id] = call
            call.lost_before = reason
            # In the loop's next turn: an engine that fails at once must not keep it here.
            self._loop.call_soon(self._feed)
            return
        death = self._settler.death(call, Exit(reason=reason))
        death.__cause__ = error
        _note_earlier(call, death)
        self._settler.fail(call, death)

    # --- the end ---------------------------------------------------------------------------------

    def is_busy(self) -> bool:
        return bool(self._held)

    def end(self) -> None:
        self._ending = True
        self._tell_of_end()

    def _tell_of_end(self) -> None:
        if self._ending and not self._held:
            self._connection.close()
        if self.on_worker_gone is not None:
            self.on_worker_gone()

    def stop_all(self) -> None:
        if self._held:
            _logger.warning(
                "engine %s has %d calls left that nobody waits for, and goes on with them",
                self._engine.name,
                len(self._held),
            )
        self._held.clear()
        self._given_up.clear()
        self._tell_of_end()

    def is_gone(self) -> bool:
        return self._connection.is_closed

    def kill_now(self) -> None:
        self._held.clear()
        self._queue.clear()
        self._connection.close_here()

    def figures(self) -> Figures:
        size = self._engine.size() if self._connection.is_open else 0
        return Figures(
            workers=size,
            ready=size,
            idle=max(size - len(self._held), 0),
            waiting=len(self._queue),
        )


def _note_earlier(call: Call, error: BaseException) -> None:
    if call.lost_before:
        error.add_note(
            f"an earlier attempt may have run: the {call.pool.kind} worker {call.lost_before}"
        )


def _reason(error: BaseException) -> str:
    if isinstance(error, JobLost):
        return str(error)
    if isinstance(error, CancelledError):
        return "was told by somebody else to drop it"
    return f"died, as the executor says ({error})"


def _no_answer(error: Exception) -> EngineFailed:
    failed = EngineFailed(
        f"what came back is not an answer of run_job ({error!r}): have the same version of "
        "loopworkers here and where the workers are"
    )
    failed.__cause__ = error
    return failed


class _Connection:
    """The engine opened and closed, each in a thread: both may take their time.

    ``changed`` is called in those threads.
    """

    def __init__(self, engine: Engine, changed: Callable[[], None]) -> None:
        self.is_open = False
        self.is_closed = False
        self.error: Exception | None = None
        self._engine = engine
        self._changed = changed
        self._lock = Lock()
        self._to_close = False
        self._opening = True
        self._start(self._open)

    def _start(self, job: Callable[[], None]) -> None:
        name = f"loopworkers engine {self._engine.name}"
        self._thread = Thread(target=job, name=name, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Once told of a change, which is the last that its thread does."""
        self._thread.join()

    def _open(self) -> None:
        try:
            self._engine.open()
        except Exception as error:
            self.error = error
        with self._lock:
            self._opening = False
            self.is_open = self.error is None and not self._to_close
            leave = self._to_close
        if leave:
            self._close()
        else:
            self._changed()

    def close(self) -> None:
        """Begin to close it, once."""
        if self._take_close():
            self._start(self._close)

    def close_here(self) -> None:
        """Close it before this returns, unless somebody else is doing so."""
        if self._take_close():
            self._close()

    def _take_close(self) -> bool:
        with self._lock:
            mine = not (self._to_close or self._opening)
            self._to_close = True  # else who opens it will close it
            self.is_open = False
            return mine

    def _close(self) -> None:
        if self.error is None:
            self._engine.close()
        self.is_closed = True
        self._changed()
