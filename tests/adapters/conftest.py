"""What every test of adapters has: servers on the loops they run on, and a look at what is left."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Workers import `contract_work` by this path, as the tests do.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

from contract_fixtures import certificate, libuv_has_its_pipe, nothing_is_left
from contract_help import Gate
from web_help import SERVERS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["certificate", "libuv_has_its_pipe", "nothing_is_left"]


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    """Which server, on which loop."""
    return request.param


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    name = request.getfixturevalue("server") if "server" in request.fixturenames else "asyncio"
    if name.endswith("uvloop"):
        return "asyncio", {"use_uvloop": True}
    return "trio" if name.endswith("trio") else "asyncio"


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """Holds calls until it is opened, which it is at the latest when the test ends."""
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()
