"""The event loops that every test marked `pytest.mark.anyio` runs on."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

needs_uvloop = pytest.mark.skipif(
    find_spec("uvloop") is None, reason="uvloop has no wheel for this platform or Python"
)


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop", marks=needs_uvloop),
        pytest.param(("trio", {}), id="trio"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return request.param
