"""A full pool, a timeout and a dead worker, in HTTP."""

from __future__ import annotations

import logging
import os
from typing import Any

import contract_work as work
import h11
import pytest
from contract_help import Gate, eventually
from loopworkers_asgi import ERRORS, Workers, error_response, with_workers
from web_help import answer, connected, get, serving

from loopworkers import CallTimeout, EngineFailed, PoolFull, WorkerDied

pytestmark = pytest.mark.anyio


class Unpicklable:
    def __reduce__(self) -> Any:
        raise AssertionError("it was pickled")


class App:
    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.workers = Workers(max_workers=1, max_pending=0, measure_loop=False)
        self.asgi = with_workers(self, self.workers, retry_after=7)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await getattr(self, scope["path"].strip("/"))(send)

    async def hold(self, send: Any) -> None:
        await answer(send, await self.workers.run(work.hold, str(self.gate), b"held"))

    async def more(self, send: Any) -> None:
        await answer(send, await self.workers.run(work.echo, Unpicklable()))

    async def late(self, send: Any) -> None:
        await self.workers.options(timeout=0.05).run(work.busy, str(self.gate))

    async def dead(self, send: Any) -> None:
        await self.workers.run(os._exit, 77)

    async def late_begun(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await self.late(send)


@pytest.fixture
def app(gate: Gate) -> App:
    return App(gate)


async def test_full_is_503_before_anything_is_pickled(app: App, server: str) -> None:
    async with serving(app.asgi, server) as port, connected(port) as client:
        await client.send("GET", "/hold")
        await app.gate.begun()
        refused = await get(port, "/more")
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) == 7
        assert refused.body == b"all workers are busy, try again later\n"
        app.gate.open()
        assert (await client.response()).body == b"held"
        assert 'outcome="refused"} 1\n' in app.workers.metrics()


async def test_a_timeout_is_504(app: App, server: str) -> None:
    async with serving(app.asgi, server) as port:
        late = await get(port, "/late")
        assert (late.status, late.body) == (504, b"the work took too long\n")
        await eventually(lambda: app.workers.stats().running == 0)


async def test_a_dead_worker_is_500_and_told_in_the_log_only(
    app: App, server: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "loopworkers"):
        async with serving(app.asgi, server) as port:
            dead = await get(port, "/dead")
    assert (dead.status, dead.body) == (500, b"the work failed\n")
    (record,) = [r for r in caplog.records if r.name == "loopworkers"]
    assert "exit code 77" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[0] is WorkerDied


async def test_a_response_that_has_begun_is_cut_off(app: App, server: str) -> None:
    async with serving(app.asgi, server) as port, connected(port) as client:
        await client.send("GET", "/late_begun")
        await client.event()
        assert (await client.event()).data == b"begun"
        with pytest.raises(h11.RemoteProtocolError):
            await client.event()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PoolFull("x"), 503),
        (CallTimeout("x"), 504),
        (WorkerDied("x"), 500),
        (EngineFailed("x"), 503),
    ],
)
def test_nothing_of_the_error_is_in_the_answer(error: Exception, status: int) -> None:
    error = type(error)("secret") if not isinstance(error, WorkerDied) else WorkerDied("secret")
    response = error_response(error)
    assert response is not None
    assert response.status == status
    assert b"secret" not in response.body
    assert dict(response.headers)[b"content-length"] == b"%d" % len(response.body)
    assert isinstance(error, ERRORS)


@pytest.mark.parametrize("error", [ValueError("x"), TimeoutError("not ours"), KeyboardInterrupt()])
def test_other_errors_are_not_ours(error: BaseException) -> None:
    assert error_response(error) is None
