"""What every test of workers, ports and shared memory has."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Workers import `targets` by this path, as the tests do.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

from typing import TYPE_CHECKING

from contract_help import KindParams, Surroundings, eventually_sync

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=KindParams("process", "isolate", "thread"))
def kind(request: pytest.FixtureRequest) -> str:
    """Every kind of worker."""
    return request.param


@pytest.fixture(params=KindParams("process", "isolate"))
def own_memory(request: pytest.FixtureRequest) -> str:
    """The kinds that can be stopped, and have an environment and output of their own."""
    return request.param


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
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
