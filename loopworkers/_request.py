"""Requests to a worker, or to the program, by id: Node's ``postMessageToThread``, with an answer.

A request is a channel: its first message is the value, its second the answer. One end is passed on
by the hubs to whom it concerns; the value itself is never unpickled on the way, and an end of the
channel without an answer tells that the one who had it is gone.
"""

from __future__ import annotations

import threading
from contextvars import copy_context
from functools import partial
from operator import index
from typing import TYPE_CHECKING, Any, TypeVar

from ._child.resident import current_worker
from ._hub import NO_HANDLER, NO_ROOM, NO_WORKER, hub_here
from ._loop import is_running
from ._ports.port import channel
from ._ports.waiting import Deadline
from ._wire.failures import decode_failure, encode_failure
from ._workers.thread import may_be_daemon
from .errors import (
    HandlerFailed,
    NoHandler,
    PortClosed,
    RequestError,
    RequestTimeout,
    RequestToSelf,
    UnknownWorker,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._child.resident import CurrentWorker
    from ._ports.port import MessagePort

    Handler = TypeVar("Handler", bound=Callable[[Any, int], Any])


# --- asking ---------------------------------------------------------------------------------


def request(worker_id: int, value: Any, *, timeout: float | None = None) -> Any:
    """Ask the worker with this id, and give the answer of its `on_request` handler.

    Args:
        worker_id: `Worker.id` of any worker of the program, or 0 for the program itself.
        timeout: seconds to wait for the answer.

    When the time is over, a request that is still on its way is dropped, sooner or later. Those
    that have come to the worker, where some hundreds can wait, are answered in vain.

    Awaited where an event loop runs, blocking elsewhere. Raises `UnknownWorker`, `RequestToSelf`,
    `NoHandler`, `HandlerFailed` (what the handler raised is its cause), `RequestTimeout`, and
    `RequestError` when the worker ended before it answered.
    """
    worker_id = index(worker_id)
    me = current_worker()
    source = 0 if me is None else me.id
    if worker_id == source:
        raise RequestToSelf("a worker cannot send a request to itself")
    deadline = Deadline(timeout)
    ours, theirs = channel()
    if me is None:
        hub_here().route(worker_id, source, theirs)
    else:
        try:
            me.post._post(("ask", worker_id, source, theirs), deadline, optional=True)
        except PortClosed:
            raise RequestError("this worker has ended, and reaches no others") from None
        except TimeoutError:
            ours.close()
            raise _late(worker_id, timeout) from None
    if is_running():
        return _ask_on_loop(worker_id, ours, value, timeout)
    with ours:
        try:
            try:
                ours._until_sent(ours._send_now(value, ()), deadline)
            except PortClosed:
                pass  # refused before it was sent: the answer is there
            return _answer_of(worker_id, ours.receive(deadline.left()))
        except TimeoutError:
            raise _late(worker_id, timeout) from None
        except PortClosed:
            raise _gone(worker_id) from None


async def _ask_on_loop(worker_id: int, port: MessagePort, value: Any, timeout: float | None) -> Any:
    from anyio import move_on_after

    with port, move_on_after(timeout):
        try:
            await port.send(value)
        except PortClosed:
            pass  # refused before it was sent: the answer is there
        try:
            answer = await port.receive()
        except PortClosed:
            raise _gone(worker_id) from None
        return _answer_of(worker_id, answer)
    raise _late(worker_id, timeout)


def _answer_of(worker_id: int, answer: tuple[str, Any]) -> Any:
    kind, content = answer
    if kind == "value":
        return content
    if kind == NO_WORKER:
        raise UnknownWorker(f"there is no worker {worker_id}, or it has ended")
    if kind == NO_HANDLER:
        raise NoHandler(f"worker {worker_id} answers no requests: it has no on_request() handler")
    if kind == NO_ROOM:
        raise RequestError(f"too many requests wait for worker {worker_id}, or on the way to it")
    raise HandlerFailed(f"the handler of worker {worker_id} failed") from decode_failure(content)


def _late(worker_id: int, timeout: float | None) -> RequestTimeout:
    return RequestTimeout(f"worker {worker_id} did not answer within {timeout} s")


def _gone(worker_id: int) -> RequestError:
    return RequestError(f"worker {worker_id} ended before it answered")


# --- answering ------------------------------------------------------------------------------


def on_request(handler: Handler) -> Handler:
    """Answer requests to this worker, or to the program, by ``handler(value, source_id)``.

    Where an event loop runs, its tasks call the handler, which may be ``async def``; in a plain
    function of a worker a thread does, beside what the worker is doing. What it returns is the
    answer. A later call replaces the handler. Can be used as a decorator.
    """
    me = current_worker()
    if is_running():
        hub_here().answer_requests(partial(_answer_on_loop, handler))
    elif me is None:
        raise RuntimeError("on_request() was called where neither an event loop nor a worker runs")
    else:
        before, me.handler = me.handler, handler
        if before is None:
            threading.Thread(
                target=copy_context().run,
                args=(_answer_in_thread, me),
                name="loopworkers requests",
                daemon=may_be_daemon(),
            ).start()
    if me is not None:
        me.post._post(("handles",))
    return handler


async def _answer_on_loop(
    handler: Callable[[Any, int], Any], source: int, port: MessagePort
) -> None:
    try:
        answer = handler(await port.receive(), source)
        if hasattr(answer, "__await__"):
            answer = await answer
        await port.send(("value", answer))
    except PortClosed:
        pass  # who asked waits no more
    except (Exception, SystemExit) as error:
        await port.send(("failure", encode_failure(error)))


def _answer_in_thread(me: CurrentWorker) -> None:
    for _, _, source, port in me.post:
        with port:
            try:
                assert me.handler is not None
                port.send(("value", me.handler(port.receive(), source)))
            except PortClosed:
                pass
            except (Exception, SystemExit) as error:
                try:
                    port.send(("failure", encode_failure(error)))
                except PortClosed:
                    pass
