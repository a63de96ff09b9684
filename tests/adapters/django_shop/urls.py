"""A path for each view, and the endpoints."""

from django.urls import include, path

from . import views

urlpatterns = [
    path("", include("loopworkers_django.urls")),
    *(path(view.__name__, view) for view in views.ALL),
]
