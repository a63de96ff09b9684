"""The lines that a project has."""

import os

from django.core.asgi import get_asgi_application
from loopworkers_django import workers_asgi

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_shop.settings")
application = workers_asgi(get_asgi_application())
