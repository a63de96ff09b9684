"""loopworkers in aiohttp servers.

    setup(app, Workers(max_workers=4, max_pending=100))

    ... await request.app[WORKERS].run(fn, *args) ...

`setup` puts together what is also there alone: `lifetime`, `cancel_on_disconnect`,
`error_responses`, `routes` and `page_routes`.
"""

from loopworkers_asgi import Page, Workers

from ._disconnect import cancel_on_disconnect
from ._errors import error_responses
from ._routes import page_routes, routes
from ._setup import WORKERS, lifetime, setup

__all__ = [
    "WORKERS",
    "Page",
    "Workers",
    "cancel_on_disconnect",
    "error_responses",
    "lifetime",
    "page_routes",
    "routes",
    "setup",
]
