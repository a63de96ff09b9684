"""Views that call workers, and what they have seen."""

from __future__ import annotations

import asyncio
import functools
import os
from typing import TYPE_CHECKING, Any

import contract_work as work
from asgiref.local import Local
from asgiref.sync import async_to_sync, iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from loopworkers_django import workers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ALL: list[Any] = []
events: list[str] = []
kept: list[Any] = []
inside = 0  # views that have not ended
of_request = Local()


def view(function: Any) -> Any:
    """Note who comes, goes, and is cancelled."""

    @functools.wraps(function)
    async def noted(request: HttpRequest) -> Any:
        global inside
        inside += 1
        try:
            return await function(request)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            events.append(f"cancelled {task.cancelling() if task else 0} times")
            raise
        finally:
            inside -= 1

    @functools.wraps(function)
    def noted_sync(request: HttpRequest) -> Any:
        global inside
        inside += 1
        try:
            return function(request)
        except asyncio.CancelledError:
            events.append("cancelled")
            raise
        finally:
            inside -= 1

    ALL.append(noted if iscoroutinefunction(function) else noted_sync)
    return ALL[-1]


def is_free() -> bool:
    stats = workers.stats()
    return (stats.running, stats.waiting, inside) == (0, 0, 0)


class Unpicklable:
    def __reduce__(self) -> Any:
        events.append("pickled")
        raise AssertionError("it was pickled")


@view
async def plain(request: HttpRequest) -> Any:
    return HttpResponse(str(await workers.run(work.echo, 5)))


@view
async def busy(request: HttpRequest) -> Any:
    await workers.run(work.busy, settings.GATE)


@view
async def hold(request: HttpRequest) -> Any:
    return HttpResponse(await workers.run(work.hold, settings.GATE, "held"))


@view
async def upload(request: HttpRequest) -> Any:
    return HttpResponse(await workers.run(work.digest, request.body))


@view
async def begun(request: HttpRequest) -> Any:
    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        await workers.run(work.busy, settings.GATE)

    return StreamingHttpResponse(body())


@view
async def streamed(request: HttpRequest) -> Any:
    return StreamingHttpResponse(workers.stream(work.numbers, int(request.GET["count"])))


@view
async def relayed(request: HttpRequest) -> Any:
    async def rows() -> AsyncIterator[bytes]:
        async for number in workers.stream(work.numbers, int(request.GET["count"])):
            yield b"%d\n" % number

    return StreamingHttpResponse(rows())


@view
async def large(request: HttpRequest) -> Any:
    async def rows() -> AsyncIterator[bytes]:
        async for _, row in workers.stream(work.numbers, 10**9, settings.GATE, 1 << 16):
            yield row

    return StreamingHttpResponse(rows())


@view
async def kept_open(request: HttpRequest) -> Any:
    """Somebody else keeps what it has begun."""
    kept.append(workers.stream(work.numbers, 10**9))
    await anext(kept[-1])
    await asyncio.Event().wait()


@view
async def local(request: HttpRequest) -> Any:
    """What Django keeps for a request, its language say, is in such an object."""
    of_request.value = Unpicklable()
    return HttpResponse(str(await workers.run(work.echo, 5)))


@view
async def shielded(request: HttpRequest) -> Any:
    events.append(await asyncio.shield(workers.run(work.hold, settings.GATE, "shielded")))


@view
def sync(request: HttpRequest) -> Any:
    return HttpResponse(str(workers.run_sync(work.echo, 5)))


@view
def sync_busy(request: HttpRequest) -> Any:
    workers.run_sync(work.busy, settings.GATE)


@view
def sync_many(request: HttpRequest) -> Any:
    @async_to_sync
    async def total() -> int:
        return sum([n async for n in workers.options(timeout=30).map(work.echo, range(5))])

    return HttpResponse(str(total()))


@view
def sync_dead(request: HttpRequest) -> Any:
    workers.run_sync(os._exit, 77)


@view
async def more(request: HttpRequest) -> Any:
    await workers.run(work.echo, Unpicklable())


@view
async def late(request: HttpRequest) -> Any:
    await workers.options(timeout=0.05).run(work.busy, settings.GATE)


@view
async def dead(request: HttpRequest) -> Any:
    await workers.run(os._exit, 77)


@view
async def failing(request: HttpRequest) -> Any:
    await workers.run(int, "secret")
