"""Parallel on the backend: options, order, generators, nesting, surroundings."""

from __future__ import annotations

import os
from contextvars import ContextVar, copy_context
from multiprocessing import TimeoutError
from operator import neg
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pytest
import threadpoolctl
from joblib import Parallel, delayed, effective_n_jobs, parallel_backend, parallel_config

from .helpers import active_backend, begun, eventually, hold, run_script, variable, worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["process", "thread"])
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    with parallel_config("loopworkers", kind=request.param, n_jobs=2):
        yield request.param


def test_results_in_order(kind: str) -> None:
    assert Parallel()(delayed(neg)(n) for n in range(500)) == [-n for n in range(500)]
    pids = set(Parallel()(delayed(worker)(n) for n in range(20)))
    assert (pids == {os.getpid()}) == (kind == "thread")


def test_the_three_ways_to_ask_for_it() -> None:
    with parallel_backend("loopworkers"):
        assert Parallel(n_jobs=2)(delayed(neg)(n) for n in range(3)) == [0, -1, -2]
    with parallel_config(backend="loopworkers", n_jobs=2):
        assert Parallel()(delayed(neg)(n) for n in range(3)) == [0, -1, -2]
    assert Parallel(n_jobs=2, backend="loopworkers")(delayed(neg)(n) for n in (3, 4)) == [-3, -4]


def test_the_import_registers_it() -> None:
    out = run_script(
        """
        import loopworkers.joblib
        from joblib import Parallel, delayed, parallel_backend

        def square(n):
            return n * n

        with parallel_backend("loopworkers"):
            print(Parallel(n_jobs=2)(delayed(square)(n) for n in range(4)))
            print(Parallel(n_jobs=2)(delayed(lambda n: n + 1)(n) for n in range(4)))
        """
    )
    assert out == "[0, 1, 4, 9]\n[1, 2, 3, 4]\n"


@pytest.mark.parametrize("n_jobs", [1, 2, 5, -1, -2, -100, None])
def test_as_many_workers_as_with_loky(n_jobs: int | None) -> None:
    counts = []
    for backend in ("loopworkers", "loky"):
        with parallel_config(backend):
            counts.append(effective_n_jobs(n_jobs))
    assert counts[0] == counts[1]


def test_no_workers() -> None:
    with pytest.raises(ValueError, match="n_jobs == 0"):
        Parallel(n_jobs=0, backend="loopworkers")(delayed(neg)(n) for n in range(2))


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_a_generator(kind: str, return_as: str) -> None:
    values = list(Parallel(return_as=return_as)(delayed(neg)(n) for n in range(100)))
    if return_as == "generator":
        assert values == [-n for n in range(100)]
    assert sorted(values, reverse=True) == [-n for n in range(100)]


def test_a_call_while_the_generator_of_another_is_open(tmp_path: Path) -> None:
    with parallel_config("loopworkers", n_jobs=2):
        results = Parallel(return_as="generator")(delayed(hold)(str(tmp_path)) for _ in range(2))
        eventually(lambda: len(begun(tmp_path)) == 2, "both tasks run")
        # Their two workers are busy: these need others.
        pids = set(Parallel()(delayed(worker)(n) for n in range(10)))
        assert pids.isdisjoint(begun(tmp_path))
        (tmp_path / "end").touch()
        assert list(results) == ["held", "held"]


def test_a_generator_that_is_closed_stops_its_tasks(tmp_path: Path) -> None:
    with parallel_config("loopworkers", n_jobs=2):
        results: Any = Parallel(return_as="generator")(
            delayed(hold)(str(tmp_path)) for _ in range(5)
        )
        eventually(lambda: begun(tmp_path), "a task runs")
        with pytest.warns(UserWarning, match="have been cancelled"):
            results.close()
        assert Parallel()(delayed(neg)(n) for n in range(3)) == [0, -1, -2]


def test_timeout(tmp_path: Path) -> None:
    with parallel_config("loopworkers", n_jobs=2):
        with pytest.raises(TimeoutError):
            Parallel(timeout=0.2)(delayed(hold)(str(tmp_path)) for _ in range(4))
        assert Parallel(timeout=60)(delayed(neg)(n) for n in range(3)) == [0, -1, -2]


# --- nesting --------------------------------------------------------------------------------


def inner_backends(_: Any) -> list[Any]:
    """What Parallel uses in a worker, and in a task of a Parallel there."""
    deeper = Parallel(n_jobs=2)(delayed(active_backend)(n) for n in range(2))
    return [active_backend(), *deeper, os.getpid()]


def test_nested_calls_use_threads_then_none(kind: str) -> None:
    for *backends, _ in Parallel()(delayed(inner_backends)(n) for n in range(4)):
        assert backends == ["ThreadingBackend", "SequentialBackend", "SequentialBackend"]


def backends_without_n_jobs(_: Any) -> set[int]:
    return set(Parallel()(delayed(worker)(n) for n in range(3)))


def test_nested_calls_that_ask_for_nothing_make_no_workers() -> None:
    for pids in Parallel(n_jobs=2, backend="loopworkers")(
        delayed(backends_without_n_jobs)(n) for n in range(2)
    ):
        assert len(pids) == 1


def nested_by_name(depth: int) -> tuple[int, list[Any]]:
    every = effective_n_jobs_here()
    if depth == 0:
        return every, []
    return every, Parallel(n_jobs=2, backend="loopworkers")(
        delayed(nested_by_name)(depth - 1) for _ in range(2)
    )


def effective_n_jobs_here() -> int:
    with parallel_config("loopworkers"):
        return int(effective_n_jobs(-1))


def test_nested_calls_that_ask_for_the_backend_get_it() -> None:
    results = Parallel(n_jobs=2, backend="loopworkers")(delayed(nested_by_name)(3) for _ in "ab")
    while results:
        # All processors are in use by then.
        assert [every for every, _ in results] == [1, 1]
        results = results[0][1]


# --- what a worker has of its parent ---------------------------------------------------------


def threads_of_libraries(_: Any) -> set[int]:
    (np.ones((50, 50)) @ np.ones((50, 50))).sum()
    return {library["num_threads"] for library in threadpoolctl.threadpool_info()}


def test_threads_of_blas() -> None:
    tasks = [delayed(threads_of_libraries)(n) for n in range(4)]
    with parallel_config("loopworkers", n_jobs=2, inner_max_num_threads=3):
        assert Parallel()(delayed(variable)("OMP_NUM_THREADS") for _ in range(2)) == ["3", "3"]
        assert all(threads <= {1, 2, 3} for threads in Parallel()(tasks))
    with parallel_config("loopworkers", n_jobs=joblib.cpu_count() + 1):
        assert Parallel()(tasks) == [{1}] * 4
    with pytest.raises(AssertionError, match="inner_max_num_threads"):
        parallel_config("loopworkers", kind="thread", inner_max_num_threads=2)


def test_a_value_from_the_environment_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    with parallel_config("loopworkers", n_jobs=2):
        assert Parallel()(delayed(variable)("MKL_NUM_THREADS") for _ in range(2)) == ["7", "7"]


def initialize(value: str) -> None:
    os.environ["INITIALIZED_WITH"] = value


def test_initializer() -> None:
    with parallel_config("loopworkers", n_jobs=2, initializer=initialize, initargs=("x",)):
        results = Parallel()(delayed(variable)("INITIALIZED_WITH") for _ in range(8))
    assert results == ["x"] * 8


def test_proxies_of_a_manager() -> None:
    # In a program of its own: multiprocessing's helpers stay for as long as that.
    out = run_script(
        """
        import loopworkers.joblib
        from joblib import Parallel, delayed
        from multiprocessing import Manager

        with Manager() as manager:
            squares = manager.dict()

            def put(squares, n):
                squares[n] = n * n

            Parallel(n_jobs=2, backend="loopworkers")(delayed(put)(squares, n) for n in range(4))
            print(sorted(squares.items()))
        """
    )
    assert out == "[(0, 0), (1, 1), (2, 4), (3, 9)]\n"


def test_context_variables(kind: str) -> None:
    user: ContextVar[str] = ContextVar("user")

    def get_user(_: Any) -> str:
        return user.get("nobody")

    def call() -> set[str]:
        # Most of them are submitted by the thread in which others end.
        return set(Parallel()(delayed(get_user)(n) for n in range(200)))

    context = copy_context()
    context.run(user.set, "somebody")
    assert context.run(call) == {"somebody"}
    assert call() == {"nobody"}


# --- options --------------------------------------------------------------------------------


def test_shared_memory_is_what_threads_have() -> None:
    found: list[int] = []
    with parallel_config("loopworkers", kind="thread", n_jobs=2):
        Parallel(require="sharedmem")(delayed(found.append)(n) for n in range(4))
    assert sorted(found) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="does not support shared memory"):
        Parallel(n_jobs=2, backend="loopworkers", require="sharedmem")


def test_options_are_checked() -> None:
    with pytest.raises(TypeError, match=r"no option max_pending.*max_worker_memory"):
        parallel_config("loopworkers", max_pending=3)
    with pytest.raises(ValueError, match="joblib does not load in an isolate"):
        parallel_config("loopworkers", kind="isolate")
    with pytest.raises(TypeError, match="no option flavour"):
        Parallel(n_jobs=2, backend="loopworkers", flavour="mild")(delayed(neg)(n) for n in (1, 2))


def test_workers_that_are_replaced_after_some_calls() -> None:
    with parallel_config("loopworkers", n_jobs=2, max_tasks_per_worker=1):
        pids = Parallel(batch_size=1)(delayed(worker)(n) for n in range(4))
    assert len(set(pids)) == 4
