"""The live page: what it is made of, and who may see it."""

from .page import Page

__all__ = ["Page"]
