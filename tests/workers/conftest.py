"""What every test of workers, ports and shared memory has."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Workers import `targets` by this path, as the tests do.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

from contract_fixtures import kind, libuv_has_its_pipe, nothing_is_left, own_memory

__all__ = ["kind", "libuv_has_its_pipe", "nothing_is_left", "own_memory"]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param
