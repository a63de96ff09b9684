"""Health and metrics: ``path("", include("loopworkers_django.urls"))``.

``health/live``, ``health/ready`` and ``metrics``, named ``loopworkers:live``,
``loopworkers:ready`` and ``loopworkers:metrics``; see `loopworkers_asgi.endpoints`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpResponse
from django.urls import path
from loopworkers_asgi import endpoints

from ._workers import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


def _view_of(app: Any) -> Callable[[Any], Coroutine[Any, Any, Any]]:
    """A view that answers as ``app``, an ASGI application that reads nothing, does."""

    async def view(request: Any) -> Any:
        told: dict[str, Any] = {}

        async def send(message: Any) -> None:
            told.update(message)

        await app({"type": "http", "method": request.method}, None, send)
        headers = {name.decode(): value.decode() for name, value in told["headers"]}
        return HttpResponse(told["body"], status=told["status"], headers=headers)

    return view


app_name = "loopworkers"
urlpatterns = [
    path(place[1:], _view_of(app), name=place.rpartition("/")[2])
    for place, app in endpoints(workers).items()
]
