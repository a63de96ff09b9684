"""Statistics of uploads, thumbnails, and a report, in aiohttp.

To serve it, from the folder above: python -m service_aiohttp.app
"""

import argparse
from contextlib import suppress

from aiohttp import web
from aiohttp.http import HttpProcessingError
from loopworkers_aiohttp import WORKERS, Workers, setup
from service_work.work import STATISTICS, BadInput, report, thumbnail

MAX_UPLOAD = 10_000_000  # bytes

routes = web.RouteTableDef()


@routes.get("/ping")
async def ping(request):
    return web.Response(text="pong")


@routes.post("/statistics")
async def statistics(request):
    function, data = await upload_for_statistics(request)
    return web.json_response(await request.app[WORKERS].run(function, data))


@routes.post("/thumbnail")
async def make_thumbnail(request):
    size = number(request, "size", 200, 16, 1024)
    _, data = await uploaded(request)
    image = await request.app[WORKERS].run(thumbnail, data, size)
    return web.Response(body=image, content_type="image/png")


@routes.get("/report", allow_head=False)  # a HEAD would make all of it
async def stream_report(request):
    days = number(request, "days", 365, 1, 100_000)
    seed = number(request, "seed", 0, 0, 2**32)
    # A worker makes each line when it can be sent, and stops when the client has left. It is the
    # client that takes the time.
    workers = request.app[WORKERS].options(timeout=300)
    async with workers.stream(report, days, seed) as lines:
        response = web.StreamResponse(headers={"Content-Type": "text/csv; charset=utf-8"})
        await response.prepare(request)
        with suppress(ConnectionResetError):  # it left while a line was written
            async for line in lines:
                await response.write(line.encode())
    return response


@routes.post("/naive/statistics")
async def naive_statistics(request):
    """Not to be copied: while it computes the event loop answers nobody. See load.py."""
    function, data = await upload_for_statistics(request)
    return web.json_response(function(data))


async def upload_for_statistics(request):
    content_type, data = await uploaded(request)
    if content_type not in STATISTICS:
        raise web.HTTPUnsupportedMediaType(text=f"wanted: {', '.join(STATISTICS)}")
    return STATISTICS[content_type], data


async def uploaded(request):
    """The type and the content of the form's field ``file``."""
    if request.content_type != "multipart/form-data":
        raise web.HTTPUnsupportedMediaType(text="wanted: a form (multipart/form-data)")
    try:
        async for part in await request.multipart():
            if part.name == "file":
                content_type = part.headers.get("Content-Type", "")
                return content_type.split(";")[0], await part.read()
    except (ValueError, HttpProcessingError) as error:
        raise web.HTTPBadRequest(text=f"not a form: {error}") from None
    raise web.HTTPBadRequest(text="wanted: a form with a file named 'file'")


def number(request, name, default, least, most):
    """An integer from the query."""
    try:
        given = int(request.query.get(name, default))
    except ValueError:
        given = None
    if given is None or not least <= given <= most:
        raise web.HTTPBadRequest(text=f"{name} must be a number from {least} to {most}")
    return given


@web.middleware
async def bad_input(request, handler):
    try:
        return await handler(request)
    except BadInput as error:
        raise web.HTTPUnprocessableEntity(text=str(error)) from None


def make_app():
    app = web.Application(client_max_size=MAX_UPLOAD, middlewares=[bad_input])
    app.add_routes(routes)
    # At most two requests compute and sixteen wait; those after them are answered 503.
    setup(app, Workers(max_workers=2, max_pending=16, timeout=30, preload=["service_work.work"]))
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000)
    web.run_app(make_app(), host="127.0.0.1", port=parser.parse_args().port)
