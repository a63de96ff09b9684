"""What every test of engines has: two loops, a gate, and a look at what is left behind."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Workers import `contract_work` by this path, as the tests do.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

from contract_fixtures import libuv_has_its_pipe, nothing_is_left
from contract_help import Gate

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["libuv_has_its_pipe", "nothing_is_left"]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """Holds calls until it is opened, which it is at the latest when the test ends."""
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()
