"""Applications of every adapter that show the page, or do not."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from loopworkers_asgi import Workers
from web_help import answer, serving, serving_aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from loopworkers_asgi import Page


@asynccontextmanager
async def mounted(
    adapter: str, server: str, page: Page | None, **options: Any
) -> AsyncIterator[tuple[int, Workers]]:
    """Serve an application of ``adapter``; given are its port and its workers."""
    pytest.importorskip(adapter if adapter != "asgi" else "uvicorn")
    options = {"max_workers": 1, **options}
    if adapter == "aiohttp":
        workers = Workers(**options)
        serve = serving_aiohttp(_aiohttp(workers, page), shutdown_timeout=30)
    elif adapter == "quart":
        app, workers = _quart(server, page, options)
        serve = serving(app, server)
    else:
        workers = Workers(**options)
        serve = serving(globals()[f"_{adapter}"](workers, page), server)
    async with serve as port:
        yield port, workers


def _asgi(workers: Workers, page: Page | None) -> Any:
    from loopworkers_asgi import with_workers

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, status=404)

    return with_workers(app, workers, page=page)


def _starlette(workers: Workers, page: Page | None) -> Any:
    from loopworkers_starlette import install
    from starlette.applications import Starlette

    app = Starlette()
    install(app, workers, page=page)
    return app


def _fastapi(workers: Workers, page: Page | None) -> Any:
    from fastapi import FastAPI
    from loopworkers_starlette import install

    app = FastAPI()
    install(app, workers, page=page)
    return app


def _litestar(workers: Workers, page: Page | None) -> Any:
    from litestar import Litestar
    from loopworkers_litestar import WorkersPlugin

    plugin = WorkersPlugin(workers, page=page)
    # Its usual logging keeps a thread.
    return Litestar([], plugins=[plugin], openapi_config=None, logging_config=None)


def _quart(server: str, page: Page | None, options: Any) -> tuple[Any, Workers]:
    from loopworkers_quart import QuartWorkers
    from quart import Quart

    quart: Any = Quart
    if server.endswith("trio"):
        quart = pytest.importorskip("quart_trio").QuartTrio
    app = quart(__name__)
    return app, QuartWorkers(app, page=page, **options)


def _aiohttp(workers: Workers, page: Page | None) -> Any:
    from aiohttp import web
    from loopworkers_aiohttp import setup

    app = web.Application()
    setup(app, workers, page=page)
    return app
