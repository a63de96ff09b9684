"""The live page: what it tells, who may see it, and that it holds nobody up; over real HTTP."""

from __future__ import annotations

import json
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import contract_work as work
import h11
import pytest
from contract_help import Gate, eventually
from loopworkers_asgi import Endpoints, Page, Workers, with_workers
from page_help import mounted
from web_help import Client, Response, answer, connected, get, serving, task_count

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

TOKEN = "correct-horse-battery-staple"
EVERYWHERE = [
    ("asgi", "uvicorn-asyncio"),
    ("asgi", "hypercorn-asyncio"),
    ("asgi", "hypercorn-trio"),
    ("starlette", "uvicorn-asyncio"),
    ("starlette", "hypercorn-trio"),
    ("fastapi", "uvicorn-asyncio"),
    ("litestar", "uvicorn-asyncio"),
    ("litestar", "hypercorn-trio"),
    ("quart", "hypercorn-asyncio"),
    ("quart", "hypercorn-trio"),
    ("aiohttp", "aiohttp"),
]
everywhere = pytest.mark.parametrize(
    ("adapter", "server"), EVERYWHERE, ids=map("-".join, EVERYWHERE), indirect=["server"]
)
# For what no adapter has a part in.
on_two_servers = pytest.mark.parametrize(
    "server", ["uvicorn-asyncio", "hypercorn-trio"], indirect=True
)


class Watcher:
    """Reads the events of one response."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._text = ""
        self._over = False

    async def next(self) -> dict[str, Any]:
        """The next event; `StopAsyncIteration` where the response asks to come again."""
        while "\n\n" not in self._text and not self._over:
            await self._read()
        block, _, self._text = self._text.partition("\n\n")
        if not block.startswith("data: "):
            assert block == "event: again\ndata:"
            raise StopAsyncIteration
        return json.loads(block.removeprefix("data: "))  # type: ignore[no-any-return]

    async def rest(self) -> None:
        """Until the response has ended."""
        while not self._over:
            await self._read()

    async def _read(self) -> None:
        event = await self._client.event()
        if isinstance(event, h11.Data):
            self._text += bytes(event.data).decode()
        else:
            assert isinstance(event, h11.EndOfMessage), event
            self._over = True


async def watch(client: Client, path: str = "/loopworkers/events", **headers: str) -> Watcher:
    await client.send("GET", path, **headers)
    head = await client.event()
    assert isinstance(head, h11.Response), head
    assert head.status_code == 200
    assert dict(head.headers)[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert dict(head.headers)[b"cache-control"] == b"no-store"
    return Watcher(client)


@asynccontextmanager
async def watching(port: int, path: str = "/loopworkers/events") -> AsyncIterator[Watcher]:
    async with connected(port) as client:
        yield await watch(client, path)


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    await answer(send, status=404)


@asynccontextmanager
async def showing(server: str, workers: Workers, page: Page) -> AsyncIterator[int]:
    async with serving(with_workers(nothing, workers, page=page), server) as port:
        yield port


# --- mounted and not -----------------------------------------------------------------------------


@everywhere
async def test_it_is_not_there_unless_asked_for(adapter: str, server: str) -> None:
    async with mounted(adapter, server, None) as (port, _):
        for path in ("/loopworkers", "/loopworkers/events", "/loopworkers/page.js"):
            assert (await get(port, path)).status == 404


@everywhere
async def test_it_is_one_argument_in_each_adapter(adapter: str, server: str) -> None:
    async with mounted(adapter, server, Page()) as (port, _):
        async with connected(port) as client:
            page = await client.get("/loopworkers")
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            for name, kind in {
                "page.css": "text/css; charset=utf-8",
                "page.js": "text/javascript; charset=utf-8",
                "icon.svg": "image/svg+xml",
            }.items():
                assert f'"loopworkers/{name}"' in page.body.decode()
                file = await client.get(f"/loopworkers/{name}")
                assert (file.status, file.headers["content-type"]) == (200, kind)
                assert file.body
        for path in ("/loopworkers", "/loopworkers/events"):
            async with connected(port) as client:
                await client.send("HEAD", path)
                assert (await client.event()).status_code == 200
            async with connected(port) as client:
                assert (await client.ask("POST", path)).status == 405


@everywhere
async def test_it_tells_what_happens(adapter: str, server: str, gate: Gate) -> None:
    options = {"max_pending": 5, "name": "shop", "measure_loop": False}
    async with mounted(adapter, server, Page(), **options) as (port, workers):
        async with watching(port) as watcher:
            first = await watcher.next()
        assert (first["name"], first["kind"], first["max_workers"]) == ("shop", "process", 1)
        assert (first["max_pending"], first["failures"], first["ran"]) == (5, [], None)
        running, waiting = workers.run(work.hold, str(gate)), workers.run(work.echo, "a secret")
        await gate.begun()
        async with watching(port) as watcher:
            busy = await watcher.next()
        (worker,) = busy["workers"]
        assert (worker["state"], worker["call"]) == ("busy", "contract_gate.hold")
        assert busy["counts"]["waiting"] + worker["ahead"] == 1
        gate.open()
        assert await waiting == "a secret"
        await running
        with pytest.raises(ValueError, match="seven"):
            await workers.run(int, "<b>seven</b>")
        async with watching(port) as watcher:
            done = await watcher.next()
            assert (done["counts"]["completed"], done["counts"]["failed"]) == (2, 1)
            assert done["counts"]["busy"] > busy["counts"]["busy"] > 0
            assert done["now"] > busy["now"]
            assert done["ran"]["max"] >= done["ran"]["p50"] > 0
            assert done["waited"]["p99"] > 0
            (failure,) = done["failures"]
            assert (failure["call"], failure["outcome"]) == ("builtins.int", "failed")
            assert failure["error"].startswith("ValueError: invalid literal")
            assert failure["traceback"].startswith("Traceback (most recent call last):\n")
            assert abs(failure["at"] - time.time()) < 60
            assert "a secret" not in json.dumps(done)
            for _ in range(3):
                later = await watcher.next()
                assert later["failures"] == []  # it is told once
                assert 0 <= later["loop_delay"]["p50"] <= later["loop_delay"]["max"]
            with pytest.raises(StopAsyncIteration):
                await watcher.next()
            await watcher.rest()


@everywhere
async def test_a_server_that_stops_does_not_wait_for_those_who_look(
    adapter: str, server: str, record_property: Any
) -> None:
    async with AsyncExitStack() as after:
        async with mounted(adapter, server, Page()) as (port, workers):
            client = await after.enter_async_context(connected(port))
            watcher = await watch(client)
            await watcher.next()
            stopped_at = time.perf_counter()
        took = time.perf_counter() - stopped_at
    record_property("stopped_after_s", round(took, 2))
    assert took < 15  # three seconds, on a machine with nothing else to do
    assert workers.readiness().why == "not open"


# --- what it tells -------------------------------------------------------------------------------


@on_two_servers
async def test_who_reads_on_is_told_what_is_new(server: str) -> None:
    workers = Workers(max_workers=1)

    async def fail() -> None:
        with pytest.raises(ValueError, match="seven"):
            await workers.run(int, "seven")

    async with showing(server, workers, Page()) as port:
        await fail()
        async with watching(port) as watcher:
            first = await watcher.next()
        assert [failure["number"] for failure in first["failures"]] == [1]
        await fail()
        async with watching(port, f"/loopworkers/events?after={first['mark']}") as watcher:
            assert [failure["number"] for failure in (await watcher.next())["failures"]] == [2]
        for mark in ("another-1", f"{first['source']}-x", f"{first['source']}-{'9' * 400}", "-"):
            async with watching(port, f"/loopworkers/events?after={mark}") as watcher:
                told = len((await watcher.next())["failures"])
                assert told == (0 if mark.endswith("9") else 2)


@on_two_servers
async def test_what_is_kept_is_bounded(server: str) -> None:
    workers = Workers("thread", max_workers=2)

    def fail(text: str) -> None:
        raise ValueError(text)

    async with showing(server, workers, Page()) as port:
        for number in range(60):
            with pytest.raises(ValueError, match="x"):
                await workers.run(fail, f"{number} " + "x" * 50_000)
        async with watching(port) as watcher:
            event = await watcher.next()
    assert [failure["number"] for failure in event["failures"]] == list(range(11, 61))
    assert max(len(failure["error"]) for failure in event["failures"]) < 400
    assert max(len(failure["traceback"]) for failure in event["failures"]) < 8100
    assert "characters" in event["failures"][0]["traceback"]


@on_two_servers
async def test_workers_that_are_not_open_are_not_watched(server: str) -> None:
    app = Endpoints(nothing, Page().apps(Workers()))

    async def with_a_lifespan(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)
            return
        for state in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{state}.complete"})

    async with serving(with_a_lifespan, server) as port:
        assert (await get(port, "/loopworkers")).status == 200
        refused = await get(port, "/loopworkers/events")
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")


@on_two_servers
async def test_the_number_of_watchers_is_bounded(server: str) -> None:
    async with showing(server, Workers(max_workers=1), Page(max_watchers=2)) as port:
        tasks = task_count()
        async with watching(port) as one, connected(port) as client:
            await one.next()
            two = await watch(client)
            await two.next()
            refused = await get(port, "/loopworkers/events")
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
            assert refused.body == b"2 are looking, no more are allowed.\n"
            await client.leave(reset=True)
            for _ in range(1000):
                async with connected(port) as another:
                    await another.send("GET", "/loopworkers/events")
                    if (await another.event()).status_code == 200:
                        break
            else:
                raise AssertionError("the place of a watcher that has left is not free")
        await eventually(lambda: task_count() <= tasks, "those who look leave no tasks")


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_it_follows_workers_that_are_opened_again() -> None:
    workers = Workers("thread", max_workers=1)
    events = Page().apps(workers)["/loopworkers/events"]
    for life in (1, 2):
        async with workers:
            with pytest.raises(ValueError, match="seven"):
                await workers.run(int, "seven")
            response = await ask(events, path="/loopworkers/events", until=1)
            event = json.loads(response.body.removeprefix(b"data: "))
            assert len(event["failures"]) == life
            assert event["counts"]["failed"] == 1


# --- who may see it ------------------------------------------------------------------------------


async def ask(app: Any, until: int | None = None, **scope: Any) -> Response:
    """Of an ASGI application; ``until`` so many bodies have come the client is there."""
    import anyio

    sent: list[Any] = []
    gone = anyio.Event()

    async def receive() -> Any:
        if len(sent) > 0:
            await gone.wait()
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)
        if until is not None and len(sent) > until:
            gone.set()

    given = {"type": "http", "method": "GET", "path": "/loopworkers", "query_string": b""}
    local = {"headers": [(b"host", b"localhost:8000")], "client": ("127.0.0.1", 1234)}
    await app({**given, **local, **scope}, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    body = b"".join(message["body"] for message in sent[1:])
    return Response(sent[0]["status"], headers, body)


@everywhere
async def test_a_request_through_a_proxy_needs_the_token(adapter: str, server: str) -> None:
    proxied = [
        {"x_forwarded_for": "203.0.113.7"},
        {"x_forwarded_for": "127.0.0.1"},
        {"x_forwarded_host": "localhost"},
        {"forwarded": "for=127.0.0.1"},
        {"x_real_ip": "127.0.0.1"},
        {"via": "1.1 proxy"},
    ]
    async with mounted(adapter, server, Page()) as (port, _):
        for headers in proxied:
            for path in ("/loopworkers", "/loopworkers/events", "/loopworkers/page.js"):
                async with connected(port) as client:
                    refused = await client.get(path, **headers)
                assert refused.status == 403
                assert b"Page(token=...)" in refused.body
    async with mounted(adapter, server, Page(token=TOKEN)) as (port, _):
        for headers in proxied:
            headers["authorization"] = f"Bearer {TOKEN}"
            async with connected(port) as client:
                assert (await client.get("/loopworkers", **headers)).status == 200


@everywhere
async def test_a_proxy_that_adds_no_header_but_speaks_http_1_0_needs_the_token(
    adapter: str, server: str
) -> None:
    """As nginx does with a `proxy_pass` and nothing else."""
    import anyio

    async def ask_as_nginx(port: int, path: str) -> bytes:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            request = f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
            await stream.send(request.encode())
            received = b""
            with suppress(anyio.EndOfStream):
                while True:
                    received += await stream.receive()
        return received

    async with mounted(adapter, server, Page()) as (port, _):
        refused = await ask_as_nginx(port, "/loopworkers")
        assert b" 403 " in refused.split(b"\r\n")[0]
        assert b"Page(token=...)" in refused
    async with mounted(adapter, server, Page(token=TOKEN)) as (port, _):
        let_in = await ask_as_nginx(port, f"/loopworkers?token={TOKEN}")
        assert b" 200 " in let_in.split(b"\r\n")[0]


@everywhere
async def test_another_name_for_this_machine_is_refused(adapter: str, server: str) -> None:
    """As a web site would use it, whose name's address is changed to this machine's."""
    async with mounted(adapter, server, Page()) as (port, _):
        for host in ("evil.example", f"evil.example:{port}", "localhost.evil.example", "10.0.0.1"):
            async with connected(port) as client:
                refused = await client.get("/loopworkers", host=host)
            assert refused.status == 403
            assert b"under another name" in refused.body
        for host in ("localhost", f"LOCALHOST:{port}", "a.localhost", "127.0.0.1:80", "[::1]:80"):
            async with connected(port) as client:
                assert (await client.get("/loopworkers", host=host)).status == 200


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("client", "status"),
    [
        (("127.0.0.1", 1), 200),
        (("127.8.9.10", 1), 200),
        (("::1", 1), 200),
        (("::ffff:127.0.0.1", 1), 200),
        (("::ffff:10.0.0.1", 1), 403),
        (("10.0.0.1", 1), 403),
        (("fe80::1%eth0", 1), 403),
        (("testclient", 1), 403),
        (("", 1), 403),
        (None, 403),  # of a Unix socket
    ],
)
async def test_only_this_machine_is_let_in(client: Any, status: int) -> None:
    app = Page().apps(Workers())["/loopworkers"]
    assert (await ask(app, client=client)).status == status
    app = Page(token=TOKEN).apps(Workers())["/loopworkers"]
    assert (await ask(app, client=client)).status == 401
    headers = [(b"host", b"x"), (b"authorization", f"bearer {TOKEN}".encode())]
    assert (await ask(app, client=client, headers=headers)).status == 200


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [b""],
        [b"["],
        [b"localhost", b"localhost"],
        [b"localhost@evil.example"],
        [b"evil.example@localhost"],
        [b"localhost/x@evil.example"],
    ],
)
async def test_odd_hosts_are_refused(hosts: list[bytes]) -> None:
    app = Page().apps(Workers())["/loopworkers"]
    assert (await ask(app, headers=[(b"host", host) for host in hosts])).status == 403


@everywhere
async def test_a_browser_is_given_the_token_once(adapter: str, server: str) -> None:
    page = Page("/internal/pool", token=TOKEN)
    async with mounted(adapter, server, page) as (port, _):
        for path in ("/internal/pool", "/internal/pool/events", "/internal/pool?token=wrong"):
            refused = await get(port, path)
            assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        given = await get(port, f"/internal/pool?token={TOKEN}")
        assert (given.status, given.headers["refresh"]) == (200, "0;url=pool")
        cookie, *attributes = given.headers["set-cookie"].split("; ")
        assert attributes == ["HttpOnly", "SameSite=Strict"]
        assert TOKEN not in str(given)
        name, _, value = cookie.partition("=")
        async with connected(port) as client:
            shown = await client.get("/internal/pool", cookie=f"a=b; {cookie}")
            assert shown.status == 200
            assert b'"pool/page.js"' in shown.body
        async with connected(port) as client:
            watcher = await watch(client, "/internal/pool/events", cookie=cookie)
            assert (await watcher.next())["name"] == "workers"
        async with connected(port) as client:
            for wrong in (f"{name}=", f"{name}={value[:-1]}", f"{name}={TOKEN}"):
                assert (await client.get("/internal/pool", cookie=wrong)).status == 401


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_cookie_is_for_one_page_and_for_tls_if_it_came_so() -> None:
    cookies = []
    for token in (TOKEN, TOKEN[::-1]):
        app = Page(token=token).apps(Workers())["/loopworkers"]
        query = f"token={token}".encode()
        response = await ask(app, query_string=query, scheme="https")
        cookies.append(response.headers["set-cookie"])
    assert all(cookie.endswith("; HttpOnly; SameSite=Strict; Secure") for cookie in cookies)
    assert cookies[0].partition("=")[0] != cookies[1].partition("=")[0]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("status", [200, 401, 403, 405, 503])
async def test_no_answer_is_kept_framed_or_lets_a_script_in(status: int) -> None:
    page, scope = Page(), {}
    if status == 401:
        page = Page(token=TOKEN)
    elif status == 403:
        scope = {"client": None}
    elif status == 405:
        scope = {"method": "POST"}
    path = "/loopworkers/events" if status == 503 else "/loopworkers"
    response = await ask(page.apps(Workers())[path], **scope)
    assert response.status == status
    policy = response.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= {*policy}
    assert "unsafe" not in str(policy)
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["cross-origin-resource-policy"] == "same-origin"


def test_wrong_arguments_are_refused_where_they_are_written() -> None:
    for token in ("", "short"):
        with pytest.raises(ValueError, match="needs 16 characters or more"):
            Page(token=token)
    with pytest.raises(ValueError, match="ASCII"):
        Page(token="é" * 20)
    for path in ("", "/", "loopworkers", "/loopworkers/", "/{name}", "/a b", "/<x>", "/é"):
        with pytest.raises(ValueError, match="must be like"):
            Page(path)
    with pytest.raises(ValueError, match="max_watchers"):
        Page(max_watchers=0)
