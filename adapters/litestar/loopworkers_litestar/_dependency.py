"""What a handler's parameter is annotated with."""

from typing import TypeAlias

from litestar.di import NamedDependency
from loopworkers_asgi import Workers

#: ``workers: WorkersDep`` in a handler is the application's `Workers`.
WorkersDep: TypeAlias = NamedDependency[Workers]
