"""The setting ``LOOPWORKERS``."""

from __future__ import annotations

import os
from typing import Any

from django.conf import ENVIRONMENT_VARIABLE, settings


def retry_after() -> int:
    value: int = _given().get("retry_after", 1)
    return value


def options() -> dict[str, Any]:
    """What `loopworkers_asgi.Workers` is made with."""
    options = _given()
    options.pop("retry_after", None)
    # An engine's workers are started by others.
    started_here = options.get("kind", "process") in ("process", "isolate", "thread")
    # Workers find the settings by their environment: not those that settings.configure() was given.
    if options.pop("load_apps", started_here) and ENVIRONMENT_VARIABLE in os.environ:
        preload = options.get("preload", ())
        given = (preload,) if isinstance(preload, str) else tuple(preload)
        options["preload"] = ("loopworkers_django._apps", *given)
    return options


def _given() -> dict[str, Any]:
    return dict(getattr(settings, "LOOPWORKERS", {}))
