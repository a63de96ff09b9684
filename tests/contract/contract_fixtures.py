"""Fixtures for all tests that start workers."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from contract_help import KindParams, Surroundings, eventually_sync

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


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Files: one for 127.0.0.1 that is its own authority, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes a certificate, is not installed")
    folder = tmp_path_factory.mktemp("tls")
    made = str(folder / "certificate.pem"), str(folder / "key.pem")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test"
    extension = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command.split(), *extension, "-out", made[0], "-keyout", made[1]],
        check=True,
        capture_output=True,
    )
    return made
