"""Type checkers infer what a call gives."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from contract_help import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("mypy", reason="mypy is in the group of the type checkers")

TYPED = """
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import assert_type

from loopworkers import PoolStats, WorkerFuture, WorkerPool, current_pool, run_in_worker


def plain(a: int, *, b: str = "") -> bytes: ...
async def later(a: int) -> list[str]: ...
def numbers(n: int) -> Iterator[int]: ...
async def numbers_later(n: int) -> AsyncIterator[float]:
    yield 1.0


class C:
    def method(self, x: int) -> "C": ...
    async def method_later(self) -> dict[str, int]: ...
    @classmethod
    def make(cls) -> "C": ...
    def __call__(self, n: int) -> float: ...


async def main() -> None:
    assert_type(run_in_worker(plain, 1, b="x"), WorkerFuture[bytes])
    assert_type(await run_in_worker(plain, 1), bytes)
    assert_type(await run_in_worker(later, 1), list[str])
    assert_type(await run_in_worker(C().method, 1), C)
    assert_type(await run_in_worker(C().method_later), dict[str, int])
    assert_type(await run_in_worker(C.make), C)
    assert_type(await run_in_worker(C), C)
    assert_type(await run_in_worker(C(), 3), float)
    assert_type(await run_in_worker(len, "abc"), int)
    assert_type(await run_in_worker(partial(plain, 1)), bytes)
    assert_type(await run_in_worker(lambda: 1), int)
    assert_type(current_pool("thread"), WorkerPool)
    async with WorkerPool("process", max_workers=1) as pool:
        assert_type(pool, WorkerPool)
        assert_type(await pool.run(plain, 1), bytes)
        assert_type(await pool.run(later, 1), list[str])
        assert_type(await pool.options(timeout=1).run(plain, 1), bytes)
        assert_type([r async for r in pool.map(plain, [1, 2])], list[bytes])
        assert_type([r async for r in pool.map(later, [1, 2])], list[list[str]])
        assert_type([r async for r in pool.stream(numbers, 1)], list[int])
        assert_type([r async for r in pool.stream(numbers_later, 1)], list[float])
        assert_type(pool.stats(), PoolStats)
"""

WRONG = {
    'run_in_worker(plain, "x")': "arg-type",
    "run_in_worker(plain)": "call-arg",
    "run_in_worker(plain, 1, c=2)": "call-arg",
    "run_in_worker(3)": "arg-type",
    'WorkerPool("fibre")': "arg-type",
}


def check(text: str, folder: Path) -> str:
    (folder / "typed.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--disable-error-code=empty-body",
         "--cache-dir", str(folder / "cache"), "typed.py"],
        cwd=folder, env={"MYPYPATH": ROOT, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.timeout(300)  # mypy reads asyncio's types first
def test_values_are_inferred_and_wrong_arguments_found(tmp_path: Path) -> None:
    wrong = "".join(f"    {call}\n" for call in WRONG)
    found = check(f"{TYPED}\n\nasync def wrong() -> None:\n{wrong}", tmp_path)
    first = TYPED.count("\n") + 4
    errors = [line for line in found.splitlines() if ": error: " in line]
    assert not [line for line in errors if int(line.split(":")[1]) < first], found
    for number, (call, code) in enumerate(WRONG.items(), first):
        here = [line for line in errors if line.startswith(f"typed.py:{number}:")]
        assert here, f"{call} was taken: {found}"
        assert code in here[0] or "call-overload" in here[0]
