"""What every contract test has: the kinds of workers, a gate, and a look at what is left behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The helpers are plain modules: workers import `contract_work` by this path, as the parent does.
sys.path.insert(0, str(Path(__file__).parent))

from typing import TYPE_CHECKING

from contract_fixtures import kind, libuv_has_its_pipe, nothing_is_left, own_memory
from contract_help import Gate

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["kind", "libuv_has_its_pipe", "nothing_is_left", "own_memory"]


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """Holds calls until it is opened, which it is at the latest when the test ends."""
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()
