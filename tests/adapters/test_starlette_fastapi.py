"""FastAPI: the dependency, and what its own dependencies, forms and errors make of it."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import contract_work as work
import pytest
from contract_help import Gate, eventually
from web_help import GENERATORS_ARE_DROPPED, connected, get, serving

pytest.importorskip("fastapi")
from fastapi import Depends, FastAPI, Request, UploadFile
from fastapi.responses import StreamingResponse
from loopworkers_starlette import Workers, install
from loopworkers_starlette.fastapi import WorkersDep, get_workers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = [
    pytest.mark.anyio,
    *GENERATORS_ARE_DROPPED,
    # What it shares with Starlette is tested there, on all servers.
    pytest.mark.parametrize("server", ["uvicorn-asyncio", "hypercorn-trio"]),
]


class Shop:
    def __init__(self, gate: Gate, **options: Any) -> None:
        self.gate = gate
        self.workers = Workers(**{"max_workers": 1, **options})
        self.events: list[str] = []
        self.app = FastAPI(lifespan=self.lifespan)
        install(self.app, self.workers)
        add_routes(self.app, self)

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncGenerator[dict[str, str], None]:
        self.events.append(await self.workers.run(work.echo, "start"))
        yield {"own": "state"}
        self.events.append(await self.workers.run(work.echo, "stop"))

    def is_free(self) -> bool:
        return self.workers.stats().running == 0


def add_routes(app: FastAPI, shop: Shop) -> None:
    async def session() -> AsyncGenerator[str, None]:
        try:
            yield "session"
        finally:
            shop.events.append("session closed")

    # Annotations are looked up in the module: what is local here is given as a default.
    @app.get("/double/{number}")
    async def double(number: int, request: Request, workers: WorkersDep) -> int:
        assert request.state.own == "state"
        return await workers.run(work.echo, number * 2)

    @app.get("/busy")
    async def busy(workers: WorkersDep, session: str = Depends(session)) -> None:
        await workers.run(work.busy, str(shop.gate))

    @app.get("/late")
    async def late(workers: WorkersDep) -> None:
        await workers.options(timeout=0.05).run(work.busy, str(shop.gate))

    @app.post("/upload")
    async def upload(file: UploadFile, workers: WorkersDep) -> str:
        return await workers.run(work.digest, await file.read())

    @app.get("/rows")
    async def rows(workers: WorkersDep) -> StreamingResponse:
        async def made() -> AsyncGenerator[str, None]:
            async for number in workers.stream(work.numbers, 10**9):
                yield f"{number}\n"

        return StreamingResponse(made())


async def test_the_dependency(gate: Gate, server: str) -> None:
    shop = Shop(gate)
    async with serving(shop.app, server) as port:
        assert (await get(port, "/double/21")).body == b"42"
        assert (await get(port, "/health/ready")).body == b"ready\n"
        assert b"loopworkers_loop_delay_seconds" in (await get(port, "/metrics")).body
        schema = json.loads((await get(port, "/openapi.json")).body)
        assert set(schema["paths"]) == {"/double/{number}", "/busy", "/late", "/upload", "/rows"}
        parameters = schema["paths"]["/double/{number}"]["get"]["parameters"]
        assert [parameter["name"] for parameter in parameters] == ["number"]
    assert shop.events == ["start", "stop"]


async def test_a_disconnect_frees_the_worker_and_closes_dependencies(
    gate: Gate, server: str
) -> None:
    shop = Shop(gate)
    async with serving(shop.app, server) as port:
        async with connected(port) as client:
            await client.send("GET", "/busy")
            await gate.begun()
            await client.leave()
        await eventually(lambda: shop.is_free() and "session closed" in shop.events)
        assert (await get(port, "/double/2")).body == b"4"


async def test_a_streamed_response_is_stopped(gate: Gate, server: str) -> None:
    shop = Shop(gate)
    async with serving(shop.app, server) as port:
        async with connected(port) as client:
            await client.send("GET", "/rows")
            for _ in range(3):
                await client.event()
            await client.leave()
        await eventually(shop.is_free)


async def test_an_uploaded_file(gate: Gate, server: str) -> None:
    content = bytes(range(256)) * 8000
    form = (
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        + content
        + b"\r\n--edge--\r\n"
    )
    async with serving(Shop(gate).app, server) as port, connected(port) as client:
        kind = "multipart/form-data; boundary=edge"
        answer = await client.ask("POST", "/upload", form, content_type=kind)
        assert json.loads(answer.body) == work.digest(content)


async def test_errors_are_json(gate: Gate, server: str) -> None:
    shop = Shop(gate, max_pending=0)
    async with serving(shop.app, server) as port:
        late = await get(port, "/late")
        assert (late.status, json.loads(late.body)) == (504, {"detail": "the work took too long"})
        async with connected(port) as client:
            began = gate.count("begun")
            await client.send("GET", "/busy")
            await gate.begun(began + 1)
            full = await get(port, "/double/3")
            assert (full.status, full.headers["retry-after"]) == (503, "1")
            assert full.headers["content-type"] == "application/json"


async def test_each_of_two_applications_gets_its_own(gate: Gate, server: str) -> None:
    """One of them mounted in the other, too."""
    outer, inner = Shop(gate, name="outer"), Shop(gate, name="inner")

    async def name(workers: Annotated[Workers, Depends(get_workers)]) -> str:
        return workers.name

    mounted = FastAPI()
    for app in (outer.app, inner.app, mounted):
        app.get("/name")(name)
    outer.app.mount("/mounted", mounted)
    async with serving(outer.app, server) as one, serving(inner.app, server) as two:
        assert (await get(one, "/name")).body == b'"outer"'
        assert (await get(two, "/name")).body == b'"inner"'
        assert (await get(one, "/mounted/name")).body == b'"outer"'


async def test_without_install_it_says_so(server: str, caplog: Any) -> None:
    app = FastAPI()

    @app.get("/")
    async def handler(workers: WorkersDep) -> None: ...

    async with serving(app, server) as port:
        assert (await get(port, "/")).status == 500
