"""loopworkers in Litestar.

    @get("/")
    async def handler(workers: WorkersDep) -> int:
        return await workers.run(fn, *args)

    app = Litestar([handler], plugins=[WorkersPlugin(Workers(max_pending=100))])

`WorkersPlugin` adds what belongs to it. `Workers`, `Page` and `CancelOnDisconnect` are those of
`loopworkers_asgi`.
"""

from loopworkers_asgi import CancelOnDisconnect, Page, Workers

from ._dependency import WorkersDep
from ._plugin import WorkersPlugin

__all__ = ["CancelOnDisconnect", "Page", "Workers", "WorkersDep", "WorkersPlugin"]
