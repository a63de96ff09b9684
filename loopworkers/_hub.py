"""Passes on what workers have for each other: broadcasts to a name, requests to an id.

There is one hub for each event loop that has workers or members. A worker reaches its parent's hub
through a port of its own, its post; a hub inside a worker is a member of its parent's hub for every
name it knows. So a name reaches the whole family, and nothing else. An id tells the way to its
worker: see `WORKERS_OF_ONE`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ._child.resident import current_worker, post_to_parent
from ._loop import Loop, current
from ._ports.port import channel
from ._registry import register, unregister
from ._wire.handles import Handles
from .errors import NotTransferable, PortClosed

if TYPE_CHECKING:
    from ._loop import Timer
    from ._ports.port import MessagePort
    from ._wire.file import File

# A worker's id is its parent's times this, plus its number there; 0 is the program.
WORKERS_OF_ONE = 1 << 20
NO_WORKER, NO_HANDLER, NO_ROOM = "no worker", "no handler", "no room"
# So many messages to one member may wait for room: a large one is under way for some turns.
_MOST_UNSENT = 16

_hubs: WeakKeyDictionary[Any, Hub] = WeakKeyDictionary()


class Hub:
    """The hub of one event loop; it is there while it has anything to pass on."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._members: dict[str, dict[MessagePort, None]] = {}
        self._tasks: dict[MessagePort, Timer] = {}
        self._missed: dict[MessagePort, int] = {}
        self._above: dict[str, MessagePort] = {}  # the members that stand for the parent's hub
        self._workers: dict[int, MessagePort] = {}
        self._handling: set[int] = set()
        self._answer: Any = None  # of requests to this very place
        self._post_above: MessagePort | None = None  # the worker's, which outlives this loop
        register(loop, self)

    # --- workers -----------------------------------------------------------------------------

    def add_worker(self, id: int, post: MessagePort) -> None:
        """Listen to what a worker wants, until it ends."""
        self._workers[id] = post

        async def serve(post: MessagePort) -> None:
            try:
                await self._serve(id, post)
            finally:
                del self._workers[id]
                self._handling.discard(id)

        self._spawn(post, serve)
        self._listen_above()

    async def _serve(self, id: int, post: MessagePort) -> None:
        async for message in post:
            self._heard(id, *message)

    def _heard(self, id: int, what: str, *content: Any) -> None:
        if what == "join":
            self.join(*content)
        elif what == "ask":
            self.route(*content)
        elif what == "handles":
            self._handling.add(id)

    def _catch_up(self) -> None:
        """Hear what the workers have said up to now, so that it counts for what comes next."""
        for id in list(self._workers):
            self.hear(id)

    def hear(self, id: int) -> None:
        """Hear what this worker has said up to now, the last of it if it has just ended."""
        post = self._workers.get(id)
        try:
            while post is not None:
                self._heard(id, *post.receive_nowait())
        except (BlockingIOError, PortClosed):
            pass

    # --- requests ----------------------------------------------------------------------------

    def route(self, to: int, source: int, port: MessagePort) -> None:
        """Pass a request on, one step on its way; or refuse it."""
        here = current_worker()
        if to in self._workers and to not in self._handling:
            self._catch_up()
        if to == (0 if here is None else here.id):
            self._answer_or_refuse(port, source)
            return
        step = to
        while step > 0 and step not in self._workers:
            step //= WORKERS_OF_ONE
        if step > 0:
            if step == to and to not in self._handling:
                refuse(port, NO_HANDLER)
                return
            post = self._workers[step]
        elif here is None or source == here.id or _is_below(to, here.id):
            refuse(port, NO_WORKER)
            return
        else:
            post = here.post
        try:
            post._post(("ask", to, source, port), optional=True)
        except PortClosed:  # it has just ended, and its end was not heard of yet
            refuse(port, NO_WORKER)
        except (OSError, NotTransferable):  # no descriptor is left for it
            refuse(port, NO_ROOM)

    def _answer_or_refuse(self, port: MessagePort, source: int) -> None:
        if self._answer is None:
            refuse(port, NO_HANDLER)
        else:
            self._spawn(port, partial(self._answer, source))

    def answer_requests(self, answer: Any) -> None:
        self._answer = answer
        self._listen_above()

    def _listen_above(self) -> None:
        """In a worker: hear what its parent passes on."""
        post = post_to_parent()
        if post is not None and post not in self._tasks:
            self._post_above = post
            self._spawn(post, partial(self._serve, 0))

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
                post._post(("join", name, theirs))
                self._above[name] = above
                self._add(name, above)
        self._add(name, member)

    def _add(self, name: str, member: MessagePort) -> None:
        members = self._members[name]
        members[member] = None
        member._loop_side()

        async def pump(member: MessagePort) -> None:
            try:
                await self._pump(member, members)
            finally:
                members.pop(member, None)
                self._missed.pop(member, None)
                self._forget_if_left(name, members)

        self._spawn(member, pump)

    def _forget_if_left(self, name: str, members: dict[MessagePort, None]) -> None:
        """When the last member has left, leave the name above as well."""
        above = self._above.get(name)
        if above in members and len(members) == 1 and not above._pipe.is_sending:
            del self._above[name]
            members.clear()
            above.close()
        if not members and self._members.get(name) is members:
            del self._members[name]

    async def _pump(self, member: MessagePort, members: dict[MessagePort, None]) -> None:
        side = member._loop_side()
        while True:
            flags, body, files = await side.receive()
            self._catch_up()
            # What another hub left out on the way here is missed by all here.
            missed, member._pipe.missed = member._pipe.missed, 0
            for other in list(members):
                if other is not member:
                    if missed:
                        self._missed[other] = self._missed.get(other, 0) + missed
                    self._pass_on(other, flags, body, files)
            for file in files:
                file.close()

    def _pass_on(self, member: MessagePort, flags: int, body: Any, files: list[File]) -> None:
        pipe = member._pipe
        missed = self._missed.pop(member, 0)
        try:
            # It does not read. The others must not wait for it, nor memory grow.
            if pipe.unsent >= (1 if files else _MOST_UNSENT):
                raise BlockingIOError
            handles = Handles() if files else None
            for file in files:
                assert handles is not None
                handles.add(file.fileno())
            if pipe.send(flags, [body], handles, missed) is not None:
                assert member._side is not None
                member._side.flush_later()
        except BrokenPipeError:
            pass  # it has just left
        except OSError:  # also when there are too many descriptors, here or under way
            self._missed[member] = missed + 1

    # --- tasks -------------------------------------------------------------------------------

    def _spawn(self, port: MessagePort, job: Any) -> None:
        async def run() -> None:
            try:
                await job(port)
            except PortClosed:
                pass
            finally:
                if port is not self._post_above:
                    port.close()
                self._tasks.pop(port, None)
                self._leave_if_empty()

        self._tasks[port] = self._loop.spawn(run)

    def _leave_if_empty(self) -> None:
        if not self._tasks and self._answer is None:
            unregister(self._loop, self)
            _hubs.pop(self._loop.key, None)

    def _abort(self) -> None:
        """The loop has ended."""
        _hubs.pop(self._loop.key, None)
        for port in list(self._tasks):
            if port is not self._post_above:
                port.close()


def refuse(port: MessagePort, reason: str) -> None:
    with port:
        try:
            port._post((reason, None))
        except PortClosed:
            pass  # who asked waits no more


def _is_below(id: int, ancestor: int) -> bool:
    while id > ancestor:
        id //= WORKERS_OF_ONE
    return id == ancestor


def hub_here() -> Hub:
    """The hub of the event loop that runs here."""
    loop = current()
    hub = _hubs.get(loop.key)
    if hub is None:
        hub = _hubs[loop.key] = Hub(loop)
    return hub
