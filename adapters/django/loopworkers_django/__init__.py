"""loopworkers in Django.

    application = workers_asgi(get_asgi_application())

    ... await workers.run(fn, *args) ...

Their options are the setting ``LOOPWORKERS``. The middleware
``"loopworkers_django.WorkersMiddleware"`` answers for errors of calls, and
``loopworkers_django.urls`` has health and metrics.
"""

from loopworkers_asgi import Page

from ._asgi import workers_asgi
from ._middleware import WorkersMiddleware
from ._workers import DjangoWorkers, workers

__all__ = ["DjangoWorkers", "Page", "WorkersMiddleware", "workers", "workers_asgi"]
