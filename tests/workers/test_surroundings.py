"""A worker's environment, arguments, name and limits."""

from __future__ import annotations

import os
import signal
from typing import Any

import anyio
import pytest
import targets
import targets_ends
import targets_own
from contract_help import LONG, KindParams, no_isolates

from loopworkers import Worker

pytestmark = pytest.mark.anyio


async def test_env_is_a_copy_and_changes_stay_on_their_side(
    own_memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPWORKERS_TEST", "from here")
    names = ("LOOPWORKERS_TEST", "LOOPWORKERS_TEST_2")
    async with Worker(targets.show_environment, *names, kind=own_memory) as worker:
        assert (await worker.receive())["LOOPWORKERS_TEST"] == "from here"
    env = {**os.environ, "LOOPWORKERS_TEST_2": "given"}
    del env["LOOPWORKERS_TEST"]
    async with Worker(targets.show_environment, *names, kind=own_memory, env=env) as worker:
        assert await worker.receive() == dict(zip(names, (None, "given"), strict=True))
    assert "LOOPWORKERS_TEST_SET_THERE" not in os.environ


async def test_argv_is_its_own(own_memory: Any) -> None:
    async with Worker(targets.show_environment, kind=own_memory, argv=["-x", "1"]) as worker:
        await worker.receive()
        assert await worker.receive() == ["-x", "1"]


@pytest.mark.skipif(not os.path.exists("/proc/self/comm"), reason="the system shows no such names")
async def test_its_name_is_seen_by_the_system(own_memory: Any) -> None:
    name = "a-name-that-is-too-long"
    async with Worker(targets.show_name, kind=own_memory, name=name) as worker:
        assert await worker.receive() == name[:15]


async def test_a_memory_limit_fails_that_worker_alone() -> None:
    limits = {"memory": 2 << 30}
    async with Worker(targets.allocate, 4 << 30, limits=limits) as worker:
        assert await worker.receive() == "allocating"
        with pytest.raises(MemoryError):
            await worker.wait()
        assert worker.exitcode == 1


async def test_limits_of_processor_time_and_files_are_the_systems() -> None:
    async with Worker(targets.show_limits, limits={"cpu_seconds": 33, "open_files": 77}) as worker:
        assert await worker.receive() == [33, 77]
    async with Worker(targets_ends.spin, limits={"cpu_seconds": 1}) as worker:
        with anyio.fail_after(LONG):
            assert await worker.wait() == -signal.SIGXCPU


@no_isolates
async def test_limits_that_an_isolate_cannot_promise_are_refused() -> None:
    with pytest.raises(ValueError, match="isolate"):
        Worker(targets.echo, kind="isolate", limits={"memory": 1 << 30})


NAME = "LOOPWORKERS_TEST"


async def test_changes_of_the_environment_after_the_start_are_not_seen_on_the_other_side(
    own_memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, "at the start")
    async with Worker(targets_own.use_environment, kind=own_memory) as worker:
        await worker.ready()
        monkeypatch.setenv(NAME, "later, here")
        await worker.send((NAME, None))
        assert await worker.receive() == "at the start"
        await worker.send((NAME, "later, there"))
        assert await worker.receive() == "later, there"
        assert os.environ[NAME] == "later, here"
        program = await anyio.run_process(f"echo ${NAME}")
        assert program.stdout.strip() == b"later, here"
        async with Worker(targets_own.use_environment, kind=own_memory) as another:
            await another.send((NAME, None))
            assert await another.receive() == "later, here"


@pytest.mark.parametrize("inner_kind", KindParams("process", "isolate", "thread"))
async def test_a_nested_worker_has_the_environment_of_the_outer_one(
    own_memory: Any, inner_kind: Any
) -> None:
    args = targets_own.use_environment, inner_kind
    outer = targets_own.pass_on_to_a_nested_worker
    env = {**os.environ, NAME: "of the outer one"}
    async with Worker(outer, *args, kind=own_memory, env=env) as worker:
        await worker.send((NAME, None))
        assert await worker.receive() == "of the outer one"


async def test_a_thread_shares_the_environment_in_both_directions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(NAME, "at the start")
    async with Worker(targets_own.use_environment, kind="thread") as worker:
        await worker.ready()
        monkeypatch.setenv(NAME, "later, here")
        await worker.send((NAME, None))
        assert await worker.receive() == "later, here"
        await worker.send((NAME, "later, there"))
        await worker.receive()
        assert os.environ[NAME] == "later, there"
