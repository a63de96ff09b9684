"""Statistics of uploads, thumbnails, and a report, in FastAPI.

To serve it, from the folder above: uvicorn service_fastapi.app:app
"""

from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request, Response, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from loopworkers_starlette import Workers, install
from loopworkers_starlette.fastapi import WorkersDep
from service_work.work import STATISTICS, BadInput, report, thumbnail

MAX_UPLOAD = 10_000_000  # bytes

app = FastAPI(title="An example of loopworkers")


@app.get("/ping", response_class=PlainTextResponse)
async def ping() -> str:
    return "pong"


@app.post("/statistics")
async def statistics(file: UploadFile, workers: WorkersDep) -> dict:
    return await workers.run(statistics_for(file), await file.read())


@app.post("/thumbnail", response_class=Response)
async def make_thumbnail(
    file: UploadFile, workers: WorkersDep, size: Annotated[int, Query(ge=16, le=1024)] = 200
) -> Response:
    image = await workers.run(thumbnail, await file.read(), size)
    return Response(image, media_type="image/png")


@app.get("/report", response_class=StreamingResponse)
async def stream_report(
    workers: WorkersDep, days: Annotated[int, Query(ge=1, le=100_000)] = 365, seed: int = 0
) -> StreamingResponse:
    # A worker makes each line when it can be sent, and stops when the client has left. It is the
    # client that takes the time.
    lines = workers.options(timeout=300).stream(report, days, seed)
    return StreamingResponse(lines, media_type="text/csv")


@app.post("/naive/statistics", include_in_schema=False)
async def naive_statistics(file: UploadFile) -> dict:
    """Not to be copied: while it computes the event loop answers nobody. See load.py."""
    return statistics_for(file)(await file.read())


def statistics_for(file: UploadFile):
    try:
        return STATISTICS[(file.content_type or "").split(";")[0]]
    except KeyError:
        raise HTTPException(415, f"wanted: {', '.join(STATISTICS)}") from None


@app.exception_handler(BadInput)
async def on_bad_input(request: Request, error: BadInput) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 422)


class UploadLimit:
    """Middleware: reads no more of a request than is allowed. FastAPI has no limit of its own."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        read = 0

        async def limited():
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > MAX_UPLOAD:
                raise HTTPException(413, f"at most {MAX_UPLOAD} bytes")
            return message

        await self.app(scope, limited, send)


app.add_middleware(UploadLimit)
# At most two requests compute and sixteen wait; those after them are answered 503.
install(app, Workers(max_workers=2, max_pending=16, timeout=30, preload=["service_work.work"]))
