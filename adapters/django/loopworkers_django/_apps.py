"""Loads the project's apps where it is imported, so that functions may use models.

Worker processes are forked from one that has imported it. To do it in each of them would take
longer than all else, and each client that leaves a call costs a worker. It is what django.setup()
does but for logging: what workers log goes to the server's handlers.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings

registry: Any = apps
registry.populate(settings.INSTALLED_APPS)
