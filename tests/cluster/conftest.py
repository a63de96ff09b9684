"""What every test of clusters has."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Workers import `members` by this path, as the tests do.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

from contract_help import KindParams, Surroundings, eventually_sync

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=KindParams("process", "isolate"))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["shared", "round_robin", "least_busy", "reuse_port"])
def policy(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """After the test: no new child process, thread, descriptor or file in /dev/shm."""
    before = Surroundings.now()
    yield
    left = "?"

    def is_clean() -> bool:
        nonlocal left
        left = Surroundings.now().beyond(before)
        return not left

    assert eventually_sync(is_clean, 15), f"left behind by the test: {left}"
