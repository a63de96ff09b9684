"""What every test of clusters has."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Workers import `members` by this path, as the tests do.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

from binding_help import opened, short_path
from contract_fixtures import certificate, libuv_has_its_pipe, nothing_is_left
from contract_help import KindParams

__all__ = [
    "anyio_backend",
    "certificate",
    "kind",
    "libuv_has_its_pipe",
    "nothing_is_left",
    "opened",
    "policy",
    "short_path",
]


@pytest.fixture(params=KindParams("process", "isolate"))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["shared", "round_robin", "least_busy", "reuse_port"])
def policy(request: pytest.FixtureRequest) -> str:
    return request.param
