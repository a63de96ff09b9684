"""How long workers live, and that nothing is left of them."""

from __future__ import annotations

import os
import signal
import threading
from operator import neg
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from joblib import Parallel, delayed, parallel_config

from loopworkers import WorkerDied
from loopworkers.joblib import shutdown_workers

from .helpers import begun, eventually, run_script, start_script, worker

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")


def pids(**options: Any) -> set[int]:
    with parallel_config("loopworkers", n_jobs=2, **options):
        return set(Parallel()(delayed(worker)(n) for n in range(10)))


def is_there(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_the_next_call_has_the_same_workers() -> None:
    first = pids()
    assert pids() | pids() <= first
    assert all(map(is_there, first))


def test_other_settings_are_other_workers() -> None:
    first = pids()
    second = pids(inner_max_num_threads=1 + os.cpu_count())  # type: ignore[operator]
    assert first.isdisjoint(second)
    assert not any(map(is_there, first))  # they have made room


def test_workers_without_work_end() -> None:
    used = pids(idle_timeout=0.1)
    eventually(lambda: not any(map(is_there, used)), "idle workers end")
    assert pids(idle_timeout=0.1).isdisjoint(used)


def test_calls_in_many_threads_leave_few_workers_for_the_next() -> None:
    all_work = threading.Barrier(5)

    def call() -> None:
        with parallel_config("loopworkers", n_jobs=2):
            results = Parallel(return_as="generator")(delayed(worker)(n) for n in range(4))
            all_work.wait(60)  # none has ended yet
            used.update(results)

    used: set[int] = set()
    threads = [threading.Thread(target=call) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    eventually(lambda: sum(map(is_there, used)) <= 4, "those of two calls are kept")


def processes() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def everything() -> tuple[Any, ...]:
    return (
        processes(),
        threading.active_count(),
        len(os.listdir("/proc/self/fd")),
        sorted(name for name in os.listdir("/dev/shm") if "joblib" in name or "loop" in name),
    )


def fail(_: Any) -> None:
    raise ZeroDivisionError


def kill(_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def use() -> None:
    array = np.ones(200_000)
    assert Parallel()(delayed(np.sum)(array) for _ in range(10)) == [200_000] * 10
    for task in (fail, kill):
        with pytest.raises((ZeroDivisionError, WorkerDied)):
            Parallel()(delayed(task)(array) for _ in range(10))
    results: Any = Parallel(return_as="generator")(delayed(worker)(array) for _ in range(500))
    next(results)
    with pytest.warns(UserWarning, match="tasks"):
        results.close()


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_nothing_is_left(kind: str, tmp_path: Path) -> None:
    with parallel_config("loopworkers", n_jobs=2, kind=kind, temp_folder=str(tmp_path)):
        if kind == "process":
            use()
        shutdown_workers()
        before = everything()
        if kind == "process":
            use()
        assert Parallel()(delayed(neg)(n) for n in range(3)) == [0, -1, -2]
    shutdown_workers()
    assert everything() == before
    assert not list(tmp_path.iterdir())


def test_a_program_that_just_ends() -> None:
    out = run_script(
        """
        import loopworkers.joblib
        from joblib import Parallel, delayed

        print(Parallel(n_jobs=2, backend="loopworkers")(delayed(abs)(-n) for n in range(3)))
        """
    )
    assert out == "[0, 1, 2]\n"


def test_a_program_that_is_killed(tmp_path: Path) -> None:
    program = start_script(
        """
        import sys
        import numpy as np
        import loopworkers.joblib
        from joblib import Parallel, delayed
        from joblib_backend.helpers import hold

        def task(array, folder):
            return hold(folder)

        folder, temp_folder = sys.argv[1:]
        array = np.ones(1_000_000)
        Parallel(n_jobs=2, backend="loopworkers", temp_folder=temp_folder)(
            delayed(task)(array, folder) for _ in range(2)
        )
        """.replace(
            "import sys", f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})"
        ),
        str(tmp_path),
        str(tmp_path),
    )
    with program:
        workers = eventually(lambda: len(found := begun(tmp_path)) == 2 and found, "both tasks run")
        program.kill()
        program.communicate()
    eventually(lambda: not any(map(is_there, workers)), "its workers are gone")
    assert {path.name.split("-")[0] for path in tmp_path.iterdir()} == {"begun"}


def test_a_fork_makes_workers_of_its_own() -> None:
    out = run_script(
        """
        import os, sys, warnings
        import loopworkers.joblib
        from joblib import Parallel, delayed, parallel_config

        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads

        def call():
            return set(Parallel()(delayed(os.getppid)() for _ in range(20)))

        with parallel_config("loopworkers", n_jobs=2):
            ours = call()
            sys.stdout.flush()
            if os.fork() == 0:
                print(call().isdisjoint(ours), flush=True)
                loopworkers.joblib.shutdown_workers()
                os._exit(0)
            os.wait()
            print(call() == ours)
        """
    )
    assert out == "True\nTrue\n"


def test_calls_in_many_threads() -> None:
    results: list[Any] = []

    def call(number: int) -> None:
        with parallel_config("loopworkers", n_jobs=2):
            for _ in range(3):
                results.append(Parallel()(delayed(neg)(n) for n in range(number)))

    threads = [threading.Thread(target=call, args=(number,)) for number in (3, 30, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, results)) == [3, 3, 3, 30, 30, 30, 300, 300, 300]
    assert all(result == [-n for n in range(len(result))] for result in results)
