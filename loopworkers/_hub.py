"""Passes broadcasts on between the members of a name: the program, its workers, and theirs.

There is one hub for each event loop that has workers or members. A worker reaches its parent's hub
through a port of its own, its post; a hub inside a worker is a member of its parent's hub for every
name it knows. So a name reaches the whole family, and nothing else.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ._child.resident import post_to_parent
from ._loop import Loop, current
from ._ports.port import channel
from ._registry import register, unregister
from ._wire.handles import Handles
from .errors import PortClosed

if TYPE_CHECKING:
    from ._loop import Timer
    from ._ports.port import MessagePort

_hubs: WeakKeyDictionary[Any, Hub] = WeakKeyDictionary()


class Hub:
    """The hub of one event loop; it is there while it has anything to pass on."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._members: dict[str, dict[MessagePort, None]] = {}
        self._tasks: dict[MessagePort, Timer] = {}
        self._missed: dict[MessagePort, int] = {}
        register(loop, self)

    # --- workers -----------------------------------------------------------------------------

    def add_worker(self, post: MessagePort) -> None:
        """Listen to what a worker wants, until it ends."""
        self._spawn(post, self._serve)

    async def _serve(self, post: MessagePort) -> None:
        async for name, member in post:
            self.join(name, member)

    # --- members -----------------------------------------------------------------------------

    def join(self, name: str, member: MessagePort) -> None:
        """Pass on what comes from this port to the others of that name, until it closes."""
        others = self._members.get(name)
        if others is None:
            others = self._members[name] = {}
            post = post_to_parent()
            if post is not None:
                # What is said here is heard above, and the other way round.
                above, theirs = channel()
                post._send_now((name, theirs), ())
                self._add(name, above)
        self._add(name, member)

    def _add(self, name: str, member: MessagePort) -> None:
        self._members[name][member] = None
        member._loop_side()

        async def pump(member: MessagePort) -> None:
            try:
                await self._pump(member, self._members[name])
            finally:
                self._members[name].pop(member, None)
                self._missed.pop(member, None)

        self._spawn(member, pump)

    async def _pump(self, member: MessagePort, members: dict[MessagePort, None]) -> None:
        side = member._loop_side()
        while True:
            flags, body, fds = await side.receive()
            for other in list(members):
                if other is not member:
                    self._pass_on(other, flags, body, fds)
            for fd in fds:
                os.close(fd)

    def _pass_on(self, member: MessagePort, flags: int, body: Any, fds: list[int]) -> None:
        pipe = member._pipe
        if pipe.is_sending:
            # It does not read. The others must not wait for it, nor memory grow.
            self._missed[member] = self._missed.get(member, 0) + 1
            return
        handles = Handles() if fds else None
        for fd in fds:
            assert handles is not None
            handles.add(fd)
        try:
            if pipe.send(flags, [body], handles, self._missed.pop(member, 0)) is not None:
                assert member._side is not None
                member._side.flush_later()
        except BrokenPipeError:
            pass  # it has just left

    # --- tasks -------------------------------------------------------------------------------

    def _spawn(self, port: MessagePort, job: Any) -> None:
        async def run() -> None:
            try:
                await job(port)
            except PortClosed:
                pass
            finally:
                port.close()
                self._tasks.pop(port, None)
                self._leave_if_empty()

        self._tasks[port] = self._loop.spawn(run)

    def _leave_if_empty(self) -> None:
        for name, members in list(self._members.items()):
            if not members:
                del self._members[name]
        if not self._tasks:
            unregister(self._loop, self)
            _hubs.pop(self._loop.key, None)

    def _abort(self) -> None:
        """The loop has ended."""
        _hubs.pop(self._loop.key, None)
        for port in list(self._tasks):
            port.close()


def hub_here() -> Hub:
    """The hub of the event loop that runs here."""
    loop = current()
    hub = _hubs.get(loop.key)
    if hub is None:
        hub = _hubs[loop.key] = Hub(loop)
    return hub
