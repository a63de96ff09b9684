"""loopworkers in Starlette and FastAPI.

    workers = Workers(max_workers=4, max_pending=100)
    install(app, workers)

    ... await request.state.workers.run(fn, *args) ...

`install` puts together what is also there alone: `lifespan`, `WorkersMiddleware`,
`exception_handlers`, `routes` and `page_routes`. The dependency for FastAPI is `WorkersDep` in
`loopworkers_starlette.fastapi`.
"""

from loopworkers_asgi import Page, Workers

from ._errors import exception_handlers
from ._install import WorkersMiddleware, install, lifespan, page_routes, routes, workers_of

__all__ = [
    "Page",
    "Workers",
    "WorkersMiddleware",
    "exception_handlers",
    "install",
    "lifespan",
    "page_routes",
    "routes",
    "workers_of",
]
