"""What every contract test has: the kinds of workers, a gate, and a look at what is left behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The helpers are plain modules: workers import `contract_work` by this path, as the parent does.
sys.path.insert(0, str(Path(__file__).parent))

from typing import TYPE_CHECKING

from contract_help import Gate, KindParams, Surroundings, eventually_sync

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=KindParams("process", "isolate", "thread"))
def kind(request: pytest.FixtureRequest) -> str:
    """Every kind of worker."""
    return request.param


@pytest.fixture(params=KindParams("process", "isolate"))
def own_memory(request: pytest.FixtureRequest) -> str:
    """The kinds whose workers have memory of their own, and can be stopped."""
    return request.param


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """Holds calls until it is opened, which it is at the latest when the test ends."""
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()


@pytest.fixture(scope="session")
def libuv_has_its_pipe() -> None:
    # Made with a program's first uvloop, and kept by libuv for its signals until the program ends.
    try:
        import uvloop
    except ImportError:
        return
    uvloop.new_event_loop().close()


@pytest.fixture(autouse=True)
def nothing_is_left(libuv_has_its_pipe: None) -> Iterator[None]:
    """After the test: no new child process, thread, descriptor or file in /dev/shm."""
    before = Surroundings.now()
    yield
    left = "?"

    def is_clean() -> bool:
        nonlocal left
        left = Surroundings.now().beyond(before)
        return not left

    assert eventually_sync(is_clean, 15), f"left behind by the test: {left}"
