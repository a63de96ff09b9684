"""A small Django project, which is its own app, for test_django.py."""
