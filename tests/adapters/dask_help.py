"""A Dask scheduler and workers as processes of their own, on loopback, and what runs there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract_gate import note
from contract_help import eventually, eventually_sync

from loopworkers import report_progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from loopworkers import WorkerPool

HERE = Path(__file__).parent
PATH = (str(HERE), str(HERE.parent / "contract"))


class DaskCluster:
    """Workers have one thread each; the first has a resource, ``GPU``."""

    def __init__(
        self, folder: Path, workers: int = 2, *, path: Sequence[str] = (), tls: Sequence[str] = ()
    ) -> None:
        self._folder = folder
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, *PATH])}
        self._tls = list(tls)
        self._file = folder / "scheduler.json"
        self.workers: list[subprocess.Popen[bytes]] = []
        self._logs: list[Path] = []
        protocol = "tls" if tls else "tcp"
        self.scheduler = self._start(
            "scheduler", "--host", f"{protocol}://127.0.0.1", "--port", "0", "--no-show",
            "--scheduler-file", str(self._file), log=folder / "scheduler.log",
        )  # fmt: skip
        for _ in range(workers):
            self.add_worker()
        for worker, log in zip(self.workers, self._logs, strict=True):
            assert eventually_sync(
                lambda log=log, worker=worker: (
                    "Registered to" in log.read_text() or worker.poll() is not None
                ),
                60,
            )
            assert worker.poll() is None, log.read_text()
        address = eventually_sync(self._find_address, 60)
        assert address, (folder / "scheduler.log").read_text()
        self.address: str = address

    def _find_address(self) -> str | None:
        try:
            address: str = json.loads(self._file.read_text())["address"]
        except (OSError, ValueError):  # it has not been written, or not to its end
            return None
        return address

    def add_worker(self) -> None:
        name = f"worker-{len(self.workers)}"
        resources = ["--resources", "GPU=1"] if not self.workers else []
        log = self._folder / f"{name}.log"
        self._logs.append(log)
        self.workers.append(
            self._start(
                *("worker", "--scheduler-file", str(self._file), "--host", "127.0.0.1"),
                *("--name", name, "--nthreads", "1", "--no-nanny"),
                *("--local-directory", str(self._folder / name)),
                *resources,
                log=log,
            )
        )

    def _start(self, *command: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *command, "--no-dashboard", *self._tls],
                env=self._environment,
                cwd=self._folder,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def kill(self, pid: int) -> None:
        """Kill the worker that is this process."""
        (worker,) = (worker for worker in self.workers if worker.pid == pid)
        worker.kill()

    def __enter__(self) -> DaskCluster:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


# --- what runs there -----------------------------------------------------------------------------


def hold_and_tell(folder: str, value: Any = None) -> Any:
    """As `contract_gate.hold`, reporting progress all the while."""
    note(folder, "begun")
    try:
        while not os.path.exists(os.path.join(folder, "open")):
            report_progress(1, 2, "holding")
            time.sleep(0.002)
    finally:
        note(folder, "left")
    return value


def tell_pid_and_hold(folder: str) -> None:
    with open(os.path.join(folder, "pids"), "a") as file:
        file.write(f"{os.getpid()}\n")
    while not os.path.exists(os.path.join(folder, "open")):
        time.sleep(0.002)


def pids_in(folder: Path) -> list[int]:
    try:
        return [int(line) for line in (folder / "pids").read_text().splitlines()]
    except FileNotFoundError:
        return []


def report_thrice() -> str:
    for done in (1, 2, 3):
        report_progress(done, 3, "thrice")
        time.sleep(0.05)
    return "done"


async def ended(pool: WorkerPool) -> None:
    """Wait until no body runs that nobody waits for."""
    await eventually(lambda: not pool._runner.lingering, "bodies without callers have ended")
