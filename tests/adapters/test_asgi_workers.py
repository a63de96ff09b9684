"""One pool for an application's lifetime."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import current_thread
from typing import Any

import anyio
import contract_work as work
import pytest
from contract_help import Gate, eventually
from loopworkers_asgi import Lifespan, Workers, with_workers
from web_help import answer, get, serving

from loopworkers import EngineUnsupported, ExecutorEngine, PoolClosed

pytestmark = pytest.mark.anyio

on_two_loops = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


@on_two_loops
async def test_calls() -> None:
    async with Workers(max_workers=2) as workers:
        assert await workers.run(work.echo, 5) == 5
        assert [n async for n in workers.map(work.echo, [1, 2], chunksize=2)] == [1, 2]
        assert [n async for n in workers.stream(work.numbers, 3)] == [0, 1, 2]
        with pytest.raises(TimeoutError):
            await workers.options(timeout=0.05).options(retries=1).run(work.sleep_in_c, "/tmp", 9)
        assert workers.stats().timed_out == 1


@on_two_loops
async def test_outside_of_its_lifetime_it_says_how_to_open_it() -> None:
    workers = Workers()
    for _ in range(2):
        with pytest.raises(PoolClosed, match=r"not open.*with_workers"):
            workers.run(work.echo, 5)
        with pytest.raises(PoolClosed):
            workers.metrics()
        assert workers.readiness() == (False, "not open")
        async with workers:  # again, as a test client does
            assert await workers.run(work.echo, 5) == 5


@on_two_loops
async def test_it_is_opened_once_at_a_time() -> None:
    async with Workers() as workers:
        with pytest.raises(RuntimeError, match="open already"):
            await workers.__aenter__()
        assert await workers.run(work.echo, 5) == 5


async def test_an_engine_has_workers_of_its_own(server: str) -> None:
    with ThreadPoolExecutor(2, "elsewhere") as executor:
        with pytest.raises(EngineUnsupported, match="min_workers"):
            Workers(ExecutorEngine(executor), min_workers=2)
        workers = Workers(ExecutorEngine(executor))

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                name = await workers.run(lambda: current_thread().name)
                await answer(send, name.encode())

        async with serving(with_workers(app, workers), server) as port:
            assert (await get(port, "/health/ready")).body == b"ready\n"
            assert (await get(port, "/")).body.startswith(b"elsewhere")
            completed = b'{pool="workers",kind="ThreadPoolExecutor",outcome="completed"} 1'
            assert completed in (await get(port, "/metrics")).body


@pytest.mark.parametrize(
    ("options", "error"),
    [({"max_worker": 3}, TypeError), ({"kind": "fibre"}, ValueError), ({"timeout": 0}, ValueError)],
)
def test_wrong_options_are_refused_where_they_are_written(options: Any, error: Any) -> None:
    with pytest.raises(error):
        Workers(**options)


@on_two_loops
async def test_the_end_waits_for_calls_within_its_grace(gate: Gate) -> None:
    async with Workers(grace=30) as workers:
        call = workers.run(work.hold, str(gate), "done")
        await gate.begun()
        gate.open()
    assert call.result() == "done"

    async with Workers(grace=0.1) as workers:
        call = workers.run(work.busy, str(gate))
        await gate.begun(2)
    assert call.cancelled()


# --- as the lifespan of an application -----------------------------------------------------------


async def plain(workers: Workers, send: Any) -> None:
    await answer(send, str(await workers.run(os.getpid)).encode())


async def test_an_application_without_a_lifespan(server: str) -> None:
    workers = Workers(max_workers=1)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise ValueError("as Django")
        await plain(workers, send)

    async with serving(Lifespan(app, workers), server) as port:
        first = (await get(port, "/")).body
        assert first == (await get(port, "/")).body != b"%d" % os.getpid()
    assert workers.readiness() == (False, "not open")


async def test_it_is_open_during_the_applications_own_lifespan(server: str) -> None:
    workers, told = Workers(max_workers=1), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await plain(workers, send)
            return
        assert (await receive())["type"] == "lifespan.startup"
        told.append(await workers.run(work.echo, "start"))
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        told.append(await workers.run(work.echo, "stop"))
        await send({"type": "lifespan.shutdown.complete"})
        told.append(workers.readiness().why)

    async with serving(Lifespan(app, workers), server) as port:
        assert (await get(port, "/")).status == 200
    assert told == ["start", "stop", "not open"]


@on_two_loops
@pytest.mark.parametrize("failure", ["pool", "application", "told"])
async def test_a_start_that_fails(failure: str) -> None:
    """The server is told, and nothing stays open."""
    workers, sent = Workers(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if failure == "application":
            raise LookupError("no database")
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append((message["type"], message["message"]))

    resource = Failing() if failure == "pool" else workers
    wrapped = Lifespan(app, resource)({"type": "lifespan"}, receive, send)
    if failure == "told":
        await wrapped
    else:
        with pytest.raises(LookupError):
            await wrapped
    assert workers.readiness() == (False, "not open")
    message = {"pool": "LookupError: no room", "told": "no database"}.get(failure)
    assert sent == ([("lifespan.startup.failed", message)] if message else [])


class Failing:
    async def __aenter__(self) -> None:
        raise LookupError("no room")

    async def __aexit__(self, *_: object) -> None:
        raise AssertionError("it was not entered")


async def test_two_applications_in_one_process(gate: Gate, server: str) -> None:
    apps = []
    for number in range(2):
        workers = Workers(max_workers=1, name=f"app {number}")

        async def app(scope: Any, receive: Any, send: Any, workers: Workers = workers) -> None:
            if scope["type"] != "http":
                return
            if scope["path"] == "/hold":
                await workers.run(work.hold, str(gate))
            await plain(workers, send)

        apps.append((with_workers(app, workers), workers))
    async with serving(apps[0][0], server) as one, serving(apps[1][0], server) as two:
        async with anyio.create_task_group() as group:
            group.start_soon(get, one, "/hold")
            await gate.begun()
            pid = (await get(two, "/")).body
            assert apps[0][1].stats().running == 1
            gate.open()
        assert (await get(one, "/")).body != pid == (await get(two, "/")).body
        assert b'pool="app 0"' in (await get(one, "/metrics")).body
        assert b'pool="app 1"' in (await get(two, "/metrics")).body


# --- health and metrics ---------------------------------------------------------------------------


async def test_readiness_waits_for_the_workers(gate: Gate, server: str) -> None:
    workers = Workers(
        max_workers=2, min_workers=2, initializer=work.hold, initargs=(str(gate),), grace=0
    )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await answer(send, b"the application")

    async with serving(with_workers(app, workers), server) as port:
        assert (await get(port, "/health/live")).body == b"alive\n"
        cold = await get(port, "/health/ready")
        assert (cold.status, cold.body) == (503, b"0 of 2 workers have started\n")
        gate.open()
        await eventually(lambda: workers.readiness().is_ready)
        assert (await get(port, "/health/ready")).body == b"ready\n"
        assert (await get(port, "/other")).body == b"the application"
        workers.drain()
        draining = await get(port, "/health/ready")
        assert (draining.status, draining.body) == (503, b"draining\n")
        assert (await get(port, "/health/live")).status == 200
        assert await workers.run(work.echo, 5) == 5


async def test_endpoints_answer_get_and_head() -> None:
    workers, sent = Workers(), []

    async def receive() -> Any:
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    wrapped = with_workers(receive, workers)  # type: ignore[arg-type]
    for method, path in [("HEAD", "/health/live"), ("POST", "/health/live")]:
        scope = {"type": "http", "method": method, "path": f"/sub{path}", "root_path": "/sub"}
        await wrapped(scope, receive, send)
    head, nothing, refused, _ = sent
    assert (head["status"], nothing["body"], refused["status"]) == (200, b"", 405)
    assert (b"content-length", b"6") in head["headers"]
    assert (b"allow", b"GET, HEAD") in refused["headers"]


async def test_metrics(server: str) -> None:
    workers = Workers(max_workers=1, name='the "shop"')

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await workers.run(work.sleep_in_c, "/tmp", 0.02)
        with pytest.raises(ValueError, match="seven"):
            await workers.run(int, "seven")
        await answer(send)

    async with serving(with_workers(app, workers), server) as port:
        await get(port, "/")
        looked = 'loopworkers_loop_delay_seconds_count{pool="the \\"shop\\"",kind="process"}'
        await eventually(lambda: parsed(workers.metrics())[looked] >= 1)
        response = await get(port, "/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = parsed(response.body.decode())
    label = r'pool="the \"shop\"",kind="process"'

    def sample(name: str, more: str = "") -> float:
        return samples[f"{name}{{{label}{more}}}"]

    for outcome, count in {"completed": 1, "failed": 1, "cancelled": 0, "refused": 0}.items():
        assert sample("loopworkers_calls_total", f',outcome="{outcome}"') == count
    assert sample("loopworkers_call_run_seconds_count") == 2
    assert 0.02 <= sample("loopworkers_call_run_seconds_sum") < 10
    assert sample("loopworkers_call_run_seconds_bucket", ',le="0.01"') <= 1
    assert sample("loopworkers_call_run_seconds_bucket", ',le="+Inf"') == 2
    assert sample("loopworkers_call_wait_seconds_count") == 2
    assert sample("loopworkers_workers") == sample("loopworkers_workers_started_total") == 1
    assert sample("loopworkers_workers_died_total") == 0
    assert sample("loopworkers_workers_busy_seconds_total") >= 0.02
    assert sample("loopworkers_ready") == 1
    assert sample("loopworkers_loop_delay_seconds_count") >= 1
    assert sample("loopworkers_loop_delay_seconds", ',quantile="0.99"') >= 0


def parsed(text: str) -> dict[str, float]:
    """Samples by name and labels; fails where the text is not what Prometheus reads."""
    samples: dict[str, float] = {}
    family = kind = ""
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# HELP "):
            family = line.split(" ")[2]
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family
            assert not any(sample.startswith(f"{name}{{") for sample in samples), "told twice"
        else:
            sample, value = line.rsplit(" ", 1)
            suffix = sample.partition("{")[0].removeprefix(family)
            allowed = {
                "histogram": {"_bucket", "_sum", "_count"},
                "summary": {"", "_sum", "_count"},
            }
            assert suffix in allowed.get(kind, {""}), line
            assert kind != "counter" or family.endswith("_total")
            assert sample not in samples
            samples[sample] = float(value)
    return samples
