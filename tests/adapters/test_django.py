"""A Django project with workers, on the servers that serve it."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anyio
import contract_work as work
import pytest
from contract_help import Gate, KindParams, eventually, run_script, succeed
from web_help import come_and_go, connected, get, needs_uvloop, serving, task_count
from web_socket import Socket

pytest.importorskip("django")

import django
from asgiref.sync import ThreadSensitiveContext
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured
from django.test import AsyncClient
from django.test.utils import override_settings
from loopworkers_django import Page, workers, workers_asgi

from loopworkers import ExecutorEngine, PoolClosed, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

FREE_WITHIN = 2.0  # seconds; 0.1 is the aim, and other tests run beside this one


@pytest.fixture(
    params=[
        "uvicorn-asyncio",
        pytest.param("uvicorn-uvloop", marks=needs_uvloop),
        "hypercorn-asyncio",
    ]
)
def server(request: pytest.FixtureRequest) -> str:
    """Django is asyncio's alone."""
    return request.param


@pytest.fixture(scope="module", autouse=True)
def project() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_SETTINGS_MODULE", "django_shop.settings")
        django.setup()
        yield


# For what does not differ between servers.
on_one_server = pytest.mark.parametrize("server", ["uvicorn-asyncio"], indirect=True)


class Shop:
    """The project, with workers of these options."""

    def __init__(self, gate: Gate) -> None:
        from django_shop import views

        self.views = views
        self.gate = gate
        self.django = get_asgi_application()
        self.asgi = workers_asgi(self.django)
        self.events = views.events
        self.is_free = views.is_free


def configured(**options: Any) -> Any:
    from django_shop.settings import LOOPWORKERS

    return override_settings(LOOPWORKERS={**LOOPWORKERS, **options})


@pytest.fixture
def shop(gate: Gate) -> Iterator[Shop]:
    with override_settings(GATE=str(gate)):
        shop = Shop(gate)
        yield shop
        shop.events.clear()
        shop.views.kept.clear()


def run_beside_project(script: str, folder: Path) -> list[str]:
    """What it prints, in a process of its own; it must end well and silently."""
    begin = f"import sys\nsys.path[:0] = {sys.path!r}\n"
    return succeed(run_script(begin + script, folder)).splitlines()


# --- lifetime ------------------------------------------------------------------------------------


async def test_workers_live_as_long_as_the_project_is_served(shop: Shop, server: str) -> None:
    assert workers.readiness().why == "not open"
    for _ in range(2):
        async with serving(shop.asgi, server) as port:
            assert workers.stats().workers == 1
            assert (await get(port, "/plain")).body == b"5"
        with pytest.raises(PoolClosed, match="workers"):
            workers.run(work.echo, 5)


@on_one_server
async def test_the_setting_is_read_when_they_open(shop: Shop, server: str) -> None:
    with configured(name="shop"):
        async with serving(shop.asgi, server):
            assert workers.pool.name == "shop"
    async with serving(shop.asgi, server):
        assert workers.pool.name == "workers"


@pytest.mark.parametrize("kind", KindParams("process", "isolate", "thread"))
async def test_functions_may_use_models(shop: Shop, kind: str) -> None:
    from django_shop.models import label

    with configured(kind=kind, load_apps=True, preload="django_shop.models"):
        async with workers:
            assert await workers.run(label) == "django_shop.Item"


async def test_an_engine_loads_no_apps(shop: Shop) -> None:
    with ThreadPoolExecutor(1) as executor:
        elsewhere = {"kind": ExecutorEngine(executor), "measure_loop": False}
        with override_settings(LOOPWORKERS=elsewhere):
            async with workers:
                assert await workers.run(work.echo, 5) == 5
        loading = override_settings(LOOPWORKERS={**elsewhere, "load_apps": True})
        with loading, pytest.raises(ImproperlyConfigured, match="preload"):
            await workers.__aenter__()


async def test_they_can_be_opened_without_a_server(shop: Shop) -> None:
    """As a project's own tests do."""
    async with workers:
        async with ThreadSensitiveContext():  # else asgiref keeps a thread until the program ends
            assert (await AsyncClient().get("/plain")).content == b"5"
        with pytest.raises(RuntimeError, match="open already"):
            await workers.__aenter__()
    assert not workers.is_open


async def test_asgi_py_may_be_imported_while_they_are_open(shop: Shop) -> None:
    async with workers:
        workers_asgi(shop.django)
        assert workers.stats().workers == 1
        assert await workers.run(work.echo, 5) == 5
    assert not workers.is_open


UNDER_WSGI = """
import logging

import django
from django.test import Client

from loopworkers import PoolClosed

django.setup()
logging.disable()
for path in ("/plain", "/sync"):
    try:
        Client().get(path)
    except PoolClosed as error:
        print("ASGI server" in str(error))
print(Client().get("/health/live").content, Client().get("/health/ready").status_code)
"""


def test_under_wsgi_a_call_says_what_to_do(tmp_path: Path) -> None:
    assert run_beside_project(UNDER_WSGI, tmp_path) == ["True", "True", "b'alive\\n' 503"]


@pytest.mark.parametrize("wrong", [{"max_worker": 1}, {"max_workers": 0}, {"kind": "fibre"}])
def test_a_wrong_setting_is_told(project: None, wrong: Any) -> None:
    with (
        override_settings(LOOPWORKERS=wrong),
        pytest.raises(ImproperlyConfigured, match=r"^LOOPWORKERS: "),
    ):
        workers_asgi(None)


NO_LIFESPAN = """
import asyncio
import logging
import sys
from urllib.request import urlopen

import uvicorn
from django_shop.asgi import application
from loopworkers_django import workers

logging.basicConfig(stream=sys.stdout, level="INFO", format="%(message)s")


async def main():
    config = uvicorn.Config(application, port=0, lifespan="off", log_level="warning")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    print("open:", workers.is_open)
    answers = await asyncio.gather(
        *(asyncio.to_thread(urlopen, f"http://127.0.0.1:{port}/plain") for _ in range(3))
    )
    print([answer.read() for answer in answers], "by", workers.stats().workers)
    server.should_exit = True
    await serving


asyncio.run(main())
"""


def test_without_a_lifespan_they_open_at_the_first_request(tmp_path: Path) -> None:
    """And end with the loop: the script would hang, or a worker would be left."""
    assert run_beside_project(NO_LIFESPAN, tmp_path) == [
        "open: False",
        "this server has no ASGI lifespan: workers end with its event loop",
        "[b'5', b'5', b'5'] by 1",
    ]


def test_an_opening_that_failed_is_tried_again_by_the_next_request() -> None:
    from loopworkers_django._asgi import _OpenAtFirstRequest

    class Flaky:
        openings = 0

        async def __aenter__(self) -> None:
            self.openings += 1
            if self.openings == 1:
                raise OSError("too many open files")

    answered: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        answered.append(scope)

    async def main() -> None:
        flaky: Any = Flaky()
        opened = _OpenAtFirstRequest(app, flaky)
        with pytest.raises(OSError, match="too many"):
            await opened({"type": "http"}, None, None)
        await opened({"type": "http"}, None, None)
        await opened({"type": "http"}, None, None)
        assert (len(answered), flaky.openings) == (2, 2)

    asyncio.run(main())


# --- client gone ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "event"), [("/busy", "cancelled 1 times"), ("/sync_busy", "cancelled")]
)
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_disconnect_frees_the_worker(
    shop: Shop, server: str, path: str, event: str, reset: bool, record_property: Any
) -> None:
    async with serving(shop.asgi, server) as port:
        async with connected(port) as client:
            await client.send("GET", path)
            await shop.gate.begun()
            left_at = time.perf_counter()
            await client.leave(reset=reset)
        await eventually(shop.is_free, within=FREE_WITHIN)
        record_property("freed_after_ms", round(1000 * (time.perf_counter() - left_at), 1))
        assert shop.events == [event]
        assert (await get(port, "/plain")).body == b"5"
        assert workers.stats().cancelled == 1


async def test_a_disconnect_drops_a_waiting_call(shop: Shop, server: str) -> None:
    async with serving(shop.asgi, server) as port:
        async with connected(port) as first, connected(port) as second:
            await first.send("GET", "/busy")
            await shop.gate.begun()
            await second.send("GET", "/busy")
            await eventually(lambda: workers.stats().waiting == 1)
            await second.leave()
            await eventually(lambda: shop.views.inside == 1)
            stats = workers.stats()
            assert (stats.waiting, stats.running, stats.killed) == (0, 1, 0)
            await first.leave()
        await eventually(shop.is_free)


@pytest.mark.parametrize("size", [768_000, 5_120_000], ids=["in memory", "on disk"])
async def test_who_stays_gets_the_answer(shop: Shop, server: str, size: int) -> None:
    async with serving(shop.asgi, server) as port, connected(port) as client:
        for _ in range(3):  # on one connection
            assert (await client.get("/plain")).body == b"5"
        body = bytes(range(256)) * (size // 256)
        assert (await client.ask("POST", "/upload", body)).body.decode() == work.digest(body)
        assert (await client.get("/plain")).body == b"5"
    assert shop.events == []


async def test_a_disconnect_in_the_middle_of_an_upload(shop: Shop, server: str) -> None:
    async with serving(shop.asgi, server) as port:
        async with connected(port) as client:
            await client.begin("POST", "/upload", 6_000_000)
            for _ in range(4):
                await client.send_data(bytes(1_000_000))
            await client.leave()
        assert (await get(port, "/plain")).body == b"5"
        assert shop.is_free()


@pytest.mark.parametrize(
    "path", ["/begun", "/streamed?count=1000000000", "/relayed?count=1000000000"]
)
async def test_a_response_that_has_begun_is_stopped(shop: Shop, server: str, path: str) -> None:
    async with serving(shop.asgi, server) as port:
        async with connected(port) as client:
            await client.send("GET", path)
            for _ in range(2):
                await client.event()
            await eventually(lambda: workers.stats().running == 1)
        await eventually(shop.is_free, within=FREE_WITHIN)
        assert (await get(port, "/plain")).body == b"5"


async def test_a_client_that_does_not_read_and_leaves_ends_its_stream(
    shop: Shop, server: str
) -> None:
    """Django is cancelled where it waits to send, and not in the iteration."""
    async with serving(shop.asgi, server) as port:
        async with connected(port) as client:
            await client.send("GET", "/large")
            before = -1
            while shop.gate.count("begun") != before:  # until nothing moves any more
                before = shop.gate.count("begun")
                await anyio.sleep(0.3)
        await eventually(shop.is_free, within=FREE_WITHIN)
        assert (await get(port, "/plain")).body == b"5"


@on_one_server
async def test_a_stream_arrives_whole(shop: Shop, server: str) -> None:
    async with serving(shop.asgi, server) as port:
        rows = (await get(port, "/relayed?count=1000")).body.split()
        assert rows == [b"%d" % number for number in range(1000)]
        digits = (await get(port, "/streamed?count=1000")).body
        assert digits == b"".join(rows)


async def test_streams_end_though_somebody_keeps_them(shop: Shop, server: str) -> None:
    async with serving(shop.asgi, server) as port:
        async with connected(port) as client:
            await client.send("GET", "/kept_open")
            await eventually(lambda: workers.stats().running == 1)
        await eventually(shop.is_free)


async def test_a_shield_holds(shop: Shop, server: str) -> None:
    async with serving(shop.asgi, server) as port:
        async with connected(port) as client:
            await client.send("GET", "/shielded")
            await shop.gate.begun()
        await eventually(lambda: shop.events == ["cancelled 1 times"])
        assert workers.stats().running == 1
        shop.gate.open()
        await eventually(shop.is_free)
        assert workers.stats().completed == 1


async def test_many_disconnects_leave_nothing(shop: Shop, server: str) -> None:
    """Descriptors, threads and processes are looked at after every test."""
    paths = ("/busy", "/begun", "/relayed?count=1000000000", "/streamed?count=1000000000")
    count = int(os.environ.get("DISCONNECTS", "200"))
    with configured(max_workers=2):
        async with serving(shop.asgi, server) as port:
            await get(port, "/plain")
            tasks = task_count()
            await come_and_go(port, paths, reset_each=3, count=count)
            await eventually(shop.is_free)
            assert (await get(port, "/plain")).body == b"5"
            stats = workers.stats()
            assert (stats.waiting, stats.running, stats.died) == (0, 0, 0)
            assert stats.workers <= 3  # one may be on its way out
            await eventually(lambda: task_count() <= tasks + 2, "tasks have ended")


@on_one_server
async def test_what_django_keeps_for_a_request_is_not_sent(shop: Shop, server: str) -> None:
    async with serving(shop.asgi, server) as port:
        assert (await get(port, "/local")).body == b"5"
    assert shop.events == []


# --- synchronous views ---------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "body"), [("/sync", b"5"), ("/sync_many", b"10")])
async def test_synchronous_views(shop: Shop, server: str, path: str, body: bytes) -> None:
    async with serving(shop.asgi, server) as port:
        assert (await get(port, path)).body == body


# --- WebSockets ----------------------------------------------------------------------------------


async def test_websockets_go_to_who_serves_them(shop: Shop, server: str) -> None:
    """As with Channels, whose router stands before Django."""

    async def socket(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            text = str(await workers.run(int, message["text"]))
            await send({"type": "websocket.send", "text": text})
        shop.events.append(message["type"])

    async def router(scope: Any, receive: Any, send: Any) -> None:
        app = socket if scope["type"] == "websocket" else shop.django
        await app(scope, receive, send)

    async with serving(workers_asgi(router), server) as port:
        async with connected(port) as client:
            connection = Socket(client)
            await connection.connect("/socket")
            for number in range(3):
                assert await connection.ask(str(number)) == str(number)
        await eventually(lambda: shop.events == ["websocket.disconnect"])
        assert (await get(port, "/plain")).body == b"5"


# --- errors --------------------------------------------------------------------------------------


@on_one_server
async def test_full_is_503_before_anything_is_pickled(shop: Shop, server: str) -> None:
    with configured(max_pending=0, retry_after=7):
        async with serving(shop.asgi, server) as port, connected(port) as client:
            await client.send("GET", "/hold")
            await shop.gate.begun()
            refused = await get(port, "/more")
            assert (refused.status, refused.headers["retry-after"]) == (503, "7")
            assert refused.body == b"all workers are busy, try again later\n"
            shop.gate.open()
            assert (await client.response()).body == b"held"
            assert 'outcome="refused"} 1\n' in workers.metrics()


@on_one_server
async def test_a_timeout_is_504(shop: Shop, server: str) -> None:
    async with serving(shop.asgi, server) as port:
        late = await get(port, "/late")
        assert (late.status, late.body) == (504, b"the work took too long\n")
        await eventually(lambda: workers.stats().running == 0)


@on_one_server
@pytest.mark.parametrize("path", ["/dead", "/sync_dead"])
@pytest.mark.parametrize("debug", [False, True])
async def test_a_dead_worker_is_500_and_told_in_the_log_only(
    shop: Shop, server: str, path: str, debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "loopworkers"), override_settings(DEBUG=debug):
        async with serving(shop.asgi, server) as port:
            dead = await get(port, path)
    assert (dead.status, dead.body) == (500, b"the work failed\n")
    (record,) = [r for r in caplog.records if r.name == "loopworkers"]
    assert "exit code 77" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[0] is WorkerDied


@on_one_server
async def test_what_the_function_raised_is_not_in_the_answer(shop: Shop, server: str) -> None:
    async with serving(shop.asgi, server) as port:
        failed = await get(port, "/failing")
    assert failed.status == 500
    assert b"secret" not in failed.body


# --- the live page -------------------------------------------------------------------------------


@on_one_server
async def test_the_live_page_tells_of_failures(shop: Shop, server: str) -> None:
    async with serving(workers_asgi(shop.django, page=Page()), server) as port:
        assert (await get(port, "/failing")).status == 500
        assert b"<html" in (await get(port, "/loopworkers")).body
        async with connected(port) as client:
            await client.send("GET", "/loopworkers/events")
            assert (await client.event()).status_code == 200
            assert b"ValueError" in bytes((await client.event()).data)


async def test_without_it_the_path_is_the_projects(shop: Shop, server: str) -> None:
    async with serving(shop.asgi, server) as port:
        assert (await get(port, "/loopworkers")).status == 404


# --- health and metrics --------------------------------------------------------------------------


@on_one_server
async def test_health_and_metrics(shop: Shop, server: str) -> None:
    with configured(name="shop", measure_loop=True):
        async with serving(shop.asgi, server) as port:
            assert (await get(port, "/health/live")).body == b"alive\n"
            await eventually(lambda: workers.stats().ready)
            assert (await get(port, "/health/ready")).body == b"ready\n"
            await get(port, "/plain")
            metrics = await get(port, "/metrics")
            assert metrics.headers["content-type"].startswith("text/plain; version=")
            line = b'loopworkers_call_run_seconds_count{pool="shop",kind="process"} 1\n'
            assert line in metrics.body
            assert b"loopworkers_loop_delay_seconds" in metrics.body
            async with connected(port) as client:
                assert (await client.ask("POST", "/metrics")).status == 405
            workers.drain()
            not_ready = await get(port, "/health/ready")
            assert (not_ready.status, not_ready.body) == (503, b"draining\n")


def test_endpoints_have_names(project: None) -> None:
    from django.urls import reverse

    assert reverse("loopworkers:ready") == "/health/ready"
