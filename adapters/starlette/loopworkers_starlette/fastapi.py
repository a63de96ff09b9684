"""For FastAPI: the application's workers as a dependency."""

from typing import Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection
from loopworkers_asgi import Workers

from ._install import workers_of


def get_workers(connection: HTTPConnection) -> Workers:
    """The dependency itself, to be overridden in tests by ``app.dependency_overrides``."""
    return workers_of(connection)


#: ``async def handler(workers: WorkersDep)`` is given the application's workers.
WorkersDep = Annotated[Workers, Depends(get_workers)]

__all__ = ["WorkersDep", "get_workers"]
