"""What goes wrong in a task, on the way to it, or with its worker."""

from __future__ import annotations

import os
import signal
import threading
from operator import neg
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from joblib import Parallel, delayed

from loopworkers import NotTransferable, WorkerDied
from loopworkers.errors import RemoteTraceback

from .helpers import begun, eventually, hold, worker

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def the_next_call_works() -> Iterator[None]:
    yield
    assert Parallel(n_jobs=2, backend="loopworkers")(delayed(neg)(n) for n in (1, 2)) == [-1, -2]


def run(tasks: Any, **options: Any) -> Any:
    return Parallel(n_jobs=2, backend="loopworkers", **options)(tasks)


class Refused(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.why = "odd"


def refuse(number: int) -> int:
    if number == 7:
        raise Refused(number) from KeyError("cause")
    return number


def test_the_exception_of_a_task() -> None:
    with pytest.raises(Refused) as caught:
        run(delayed(refuse)(n) for n in range(20))
    assert caught.value.args == (7,)
    assert caught.value.why == "odd"
    assert isinstance(caught.value.__cause__, KeyError)
    cause = caught.value.__cause__.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert "in refuse" in str(cause)


def test_tasks_beside_one_that_fails_are_stopped(tmp_path: Path) -> None:
    def fail_when_the_other_runs() -> None:
        eventually(lambda: begun(tmp_path), "the other runs")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run([delayed(hold)(str(tmp_path)), delayed(fail_when_the_other_runs)()])
    (pid,) = begun(tmp_path)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_managed_parallel_goes_on_after_an_exception() -> None:
    with Parallel(n_jobs=2, backend="loopworkers") as parallel:
        before = set(parallel(delayed(worker)(n) for n in range(10)))
        assert set(parallel(delayed(worker)(n) for n in range(10))) <= before
        with pytest.raises(Refused):
            # So few that all are submitted: joblib gives what is not to the next call.
            parallel(delayed(refuse)(n) for n in (7, 7))
        assert parallel(delayed(neg)(n) for n in range(5)) == [0, -1, -2, -3, -4]


def interrupt() -> None:
    raise KeyboardInterrupt


def test_keyboard_interrupt_of_a_task() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(delayed(interrupt)() for _ in range(4))


def die(_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies() -> None:
    with pytest.raises(WorkerDied, match=r"SIGKILL .* while it ran .*test_errors\.die") as caught:
        run(delayed(die)(n) for n in range(4))
    assert caught.value.signal == signal.SIGKILL


def die_once(folder: str, number: int) -> int:
    first = Path(folder, str(number))
    if not first.exists():
        first.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_task_is_repeated_if_asked_for(tmp_path: Path) -> None:
    tasks = [delayed(die_once)(str(tmp_path), n) for n in range(3)]
    assert run(tasks, retries=3, batch_size=1) == [0, 1, 2]


@pytest.mark.parametrize("at", [0, 50], ids=["first", "submitted by the loop's thread"])
def test_an_argument_that_cannot_be_sent(at: int) -> None:
    arguments: list[Any] = [1] * 100
    arguments[at] = {"lock": threading.Lock()}
    with pytest.raises(NotTransferable, match=r"call of builtins\.id .*\['lock'\] \(_thread\.lock"):
        run((delayed(id)(argument) for argument in arguments), batch_size=1)


class Unreadable:
    def __reduce__(self) -> Any:
        return int, ("not a number",)


def test_an_argument_that_cannot_be_read() -> None:
    with pytest.raises(ValueError, match="not a number"):
        run(delayed(id)(Unreadable()) for _ in range(4))


def test_a_result_that_cannot_be_sent() -> None:
    with pytest.raises(NotTransferable, match=r"result\[0\] \(_thread\.lock\)"):
        run(delayed(threading.Lock)() for _ in range(4))


@pytest.mark.parametrize("at", [0, 50], ids=["first", "in the loop's thread"])
def test_an_exception_of_the_tasks_iterator(at: int) -> None:
    def tasks() -> Iterator[Any]:
        for number in range(100):
            if number == at:
                raise LookupError("no more")
            yield delayed(neg)(number)

    with pytest.raises(LookupError, match="no more"):
        run(tasks())


def test_an_initializer_that_fails() -> None:
    with pytest.raises(Refused):
        run((delayed(neg)(n) for n in range(4)), initializer=refuse, initargs=(7,))
