"""How a `Worker` starts, what it knows about itself, and what keeps it from starting."""

from __future__ import annotations

import os
import shutil
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import targets
import targets_ends

from loopworkers import PIPE, NotTransferable, Worker, WorkerDied, WorkerPool, current_worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Path]:
    """The file of a module that this test alone can import, by the name of the file."""
    path = tmp_path / f"module_{uuid4().hex}.py"
    path.write_text("def target(port):\n    port.send('here')\n")
    sys.path.insert(0, str(tmp_path))
    yield path
    sys.path.remove(str(tmp_path))
    sys.modules.pop(path.stem, None)


@pytest.mark.parametrize(
    ("becomes", "error"),
    [
        ("import not_to_be_found_anywhere\n", ModuleNotFoundError),
        ("def target(port) ...\n", SyntaxError),
        ("raise LookupError('while it is imported')\n", LookupError),
        ("", AttributeError),
    ],
    ids=["missing import", "syntax error", "failing", "without the function"],
)
async def test_a_module_that_does_not_load_rejects_ready_with_the_cause(
    own_memory: Any, module: Any, becomes: str, error: type[Exception]
) -> None:
    target = import_module(module.stem).target
    module.write_text(becomes)
    shutil.rmtree(module.with_name("__pycache__"), ignore_errors=True)
    with pytest.raises(error):
        async with Worker(target, kind=own_memory) as worker:
            await worker.ready()
    assert worker.exitcode == 1


async def test_a_module_that_is_gone_is_not_missed(kind: Any, module: Any) -> None:
    target = import_module(module.stem).target
    module.unlink()
    async with Worker(target, kind=kind) as worker:
        assert await worker.receive() == "here"


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
