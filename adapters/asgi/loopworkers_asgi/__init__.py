"""loopworkers in ASGI applications, whatever their framework.

    workers = Workers(max_workers=4, max_pending=100)
    app = with_workers(app, workers)

    ... await workers.run(fn, *args) ...

`with_workers` puts together what is also there alone: `Lifespan`, `CancelOnDisconnect`,
`ErrorResponses` and `Endpoints` are ASGI middleware, `error_response`, `endpoints` and `Page` what
an adapter of a framework builds on.
"""

from ._calls import Calls, Values
from ._disconnect import CancelOnDisconnect
from ._endpoints import Endpoints, endpoints
from ._errors import ERRORS, ErrorResponse, ErrorResponses, error_response
from ._iterations import CloseIterations
from ._lifespan import Lifespan
from ._page import Page
from ._workers import Readiness, Workers
from ._wrap import with_workers

__all__ = [
    "ERRORS",
    "Calls",
    "CancelOnDisconnect",
    "CloseIterations",
    "Endpoints",
    "ErrorResponse",
    "ErrorResponses",
    "Lifespan",
    "Page",
    "Readiness",
    "Values",
    "Workers",
    "endpoints",
    "error_response",
    "with_workers",
]
