"""How a `Worker` starts, what it knows about itself, and what keeps it from starting."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
import targets
import targets_ends

from loopworkers import PIPE, NotTransferable, Worker, WorkerDied, WorkerPool, current_worker

pytestmark = pytest.mark.anyio


async def test_it_knows_its_id_name_and_kind(kind: Any) -> None:
    async with Worker(targets.introduce_itself, kind=kind, name="the one") as worker:
        await worker.ready()
        assert await worker.receive() == (worker.id, "the one", kind, await here_or_there(worker))
    assert current_worker() is None


async def here_or_there(worker: Worker) -> Any:
    class Same:
        def __eq__(self, pid: object) -> bool:
            return (pid == os.getpid()) == (worker.kind != "process")

        __hash__ = None  # type: ignore[assignment]

    return Same()


async def test_ids_are_never_used_twice(kind: Any) -> None:
    async with Worker(targets.echo, kind=kind) as first, Worker(targets.echo, kind=kind) as second:
        assert first.id != second.id


async def test_it_is_alive_between_its_start_and_its_end(kind: Any) -> None:
    worker = Worker(targets.echo, kind=kind)
    assert (worker.alive, worker.exitcode) == (False, None)
    async with worker:
        assert (worker.alive, worker.exitcode) == (True, None)
    assert (worker.alive, worker.exitcode) == (False, 0)
    with pytest.raises(RuntimeError, match="second time"):
        await worker.__aenter__()


async def test_before_its_start_it_has_no_messages(kind: Any) -> None:
    worker = Worker(targets.echo, kind=kind)
    for use in (worker.receive(), worker.ready(), worker.wait(), worker.send(1)):
        with pytest.raises(RuntimeError, match="async with"):
            await use
    assert await worker.terminate() == 1


async def test_a_pools_calls_are_in_no_worker(kind: Any) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        assert await pool.run(current_worker) is None


async def test_a_missing_module_rejects_ready_with_the_cause(
    own_memory: Any, tmp_path: Any
) -> None:
    module = tmp_path / "not_there_later.py"
    module.write_text("def target(port): ...\n")
    sys.path.insert(0, str(tmp_path))
    try:
        import not_there_later  # type: ignore[import-not-found]

        module.write_text("def target(port) ...\n")
        for cached in (tmp_path / "__pycache__").glob("*"):
            cached.unlink()
        with pytest.raises(SyntaxError):
            async with Worker(not_there_later.target, kind=own_memory) as worker:
                await worker.ready()
        assert worker.exitcode == 1
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("not_there_later", None)


async def test_arguments_that_cannot_be_sent_raise_at_the_start(own_memory: Any) -> None:
    from threading import Lock

    with pytest.raises(NotTransferable, match=r"\(target, \*args\)\[2\]\['deep'\]"):
        async with Worker(targets.echo, 1, {"deep": Lock()}, kind=own_memory):
            raise AssertionError("it must not start")


async def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="callable"):
        Worker(3)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="kind"):
        Worker(targets.echo, kind="fiber")  # type: ignore[arg-type]
    for generator in (lambda port: (yield), async_generator):
        with pytest.raises(TypeError, match="generator"):
            Worker(generator)  # type: ignore[call-overload]
    for env in ({"A=": "b"}, {"": "b"}, {"A": "b\0"}):
        with pytest.raises(ValueError, match="no environment variable"):
            Worker(targets.echo, env=env)
    with pytest.raises(ValueError, match="unknown limits"):
        Worker(targets.echo, limits={"patience": 3})
    for options in (
        {"env": {"A": "b"}},
        {"argv": ["x"]},
        {"stdout": PIPE},
        {"limits": {"memory": 1}},
    ):
        with pytest.raises(ValueError, match="a thread shares"):
            Worker(targets.echo, kind="thread", **options)  # type: ignore[call-overload]


async def async_generator(port: Any) -> Any:
    yield


async def test_a_worker_that_ends_before_it_runs_is_an_error() -> None:
    with pytest.raises(WorkerDied):
        async with Worker(targets.echo, targets_ends.Exits()) as worker:
            await worker.wait()
    with pytest.raises((WorkerDied, MemoryError)):  # how far it gets is Python's affair
        async with Worker(targets.echo, limits={"memory": 1}) as worker:
            await worker.wait()
