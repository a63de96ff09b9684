"""What a request's query says."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from .._types import Scope


def in_query(scope: Scope, wanted: str) -> str | None:
    """The last value by that name, or None if there is none."""
    pairs = parse_qsl(scope.get("query_string", b"").decode("latin-1"))
    return dict(pairs).get(wanted)
