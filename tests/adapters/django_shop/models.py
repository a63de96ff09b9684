"""A model, for functions that use one."""

from django.db import models


class Item(models.Model):
    name = models.TextField()


def label() -> str:
    return Item._meta.label
