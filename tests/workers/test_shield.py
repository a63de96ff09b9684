"""Wherever the stop of an isolate hits, no descriptor of a message is left behind."""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
from _thread import get_ident
from typing import TYPE_CHECKING, Any

import pytest
from contract_help import no_isolates

from loopworkers import SharedBuffer, SharedEvent, SharedLock, channel
from loopworkers._wire.shield import shielded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType

pytestmark = no_isolates

TOOL = 3
# Not at every event, which takes minutes: what has descriptors as numbers has more than a few.
STEP = 19


class Stopped(BaseException):
    pass


def stop_at(moment: int, again: bool, work: Callable[[], Any]) -> bool:
    """Call ``work`` in a thread, and stop it as `_child/stop.py` does; whether it came so far.

    Args:
        moment: how many events it has before the one at which it is stopped.
        again: stop it at every later event as well, as the second stage does.
    """
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
    events = monitoring.events
    wanted = (events.LINE, events.JUMP, events.PY_START, events.PY_RESUME, events.INSTRUCTION)
    left = moment

    def raise_then(code: CodeType, *_: Any) -> None:
        nonlocal left
        this = get_ident()
        if this != thread.ident or code is outermost or code in shielded or this in shielded:
            return
        left -= 1
        if left == 0 or (again and left < 0):
            raise Stopped

    def run() -> None:
        monitoring.set_events(TOOL, sum(wanted))
        try:
            work()
        except Stopped:
            pass
        monitoring.set_events(TOOL, 0)

    outermost = run.__code__
    # What the thread still refers to when it has been stopped goes with it, as with an isolate.
    thread = threading.Thread(target=run)
    for event in wanted:
        monitoring.register_callback(TOOL, event, raise_then)
    thread.start()
    thread.join()
    return left <= 0


@pytest.fixture(autouse=True)
def tool(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
    # A finalizer that is stopped would tell of it.
    monkeypatch.setattr(sys, "unraisablehook", id)
    monitoring.use_tool_id(TOOL, "tests")
    yield
    monitoring.free_tool_id(TOOL)


def a_buffer() -> Any:
    return SharedBuffer(8)


def a_port_with_messages() -> Any:
    """One that was received and not taken, and one that waits in the socket."""
    ours, theirs = channel()
    for _ in range(2):
        ours.send([SharedEvent()])
    theirs.receive_nowait()
    ours.send([SharedEvent()])
    return theirs


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("again", [False, True], ids=["once", "on and on"])
@pytest.mark.parametrize("make", [a_buffer, SharedEvent, SharedLock, a_port_with_messages])
def test_a_stop_loses_no_descriptor(make: Any, again: bool) -> None:
    def send_and_receive() -> None:
        first, second = channel()
        first.send([make()])
        second.receive()

    send_and_receive()
    before = descriptors()
    moment = 1
    while stop_at(moment, again, send_and_receive):
        moment += STEP
    assert descriptors() == before


@pytest.mark.parametrize("again", [False, True], ids=["once", "on and on"])
def test_a_stop_loses_no_socket(again: bool) -> None:
    def send_and_receive() -> None:
        first, second = channel()
        first.send([ours.pop()])
        second.receive()

    before = descriptors()
    moment, came_so_far = 1 - STEP, True
    while came_so_far:
        moment += STEP
        ours = list(socket.socketpair())
        came_so_far = stop_at(moment, again, send_and_receive)
        for end in ours:
            end.close()
    assert descriptors() == before
