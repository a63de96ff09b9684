"""loopworkers in Quart and Quart-Trio.

workers = QuartWorkers(max_workers=4, max_pending=100)
workers.init_app(app)

... await workers.run(fn, *args) ...
"""

from loopworkers_asgi import Page

from ._extension import QuartWorkers

__all__ = ["Page", "QuartWorkers"]
