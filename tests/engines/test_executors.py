"""Executors that start processes or isolates, each in a program of its own: some leave a process
behind that ends with the program only, as loky's and multiprocessing's resource trackers do."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from contract_help import run_script, succeed

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import os
import sys
from functools import partial

import anyio

from loopworkers import ExecutorEngine, WorkerDied, WorkerPool


def square(x):
    return x * x


def report_and_square(x):
    from loopworkers import report_progress
    report_progress(x, 10)
    return x * x


async def main(executor):
    factor = 3
    with executor as executor:
        async with WorkerPool(ExecutorEngine(executor)) as pool:
            print(await pool.run(square, 5), await pool.run(lambda x: factor * x, 5))
            print(sum([x async for x in pool.map(square, range(100), ordered=False)]))
            future = pool.run(report_and_square, 5)
            print(await future, future.progress.done)
            try:
                await pool.run(square, "five")
            except TypeError as error:
                print("in square" in str(error.__cause__))
            print(pool.stats().workers)
            if "{dies}" == "True":
                try:
                    await pool.run(os._exit, 3)
                except WorkerDied as error:
                    print("died")


if __name__ == "__main__":
    from {module} import {name}

    anyio.run(main, {name}(2), backend=sys.argv[1])
"""

no_isolates = pytest.mark.skipif(sys.version_info < (3, 14), reason="isolates need 3.14 or newer")
no_loky = pytest.mark.skipif(find_spec("loky") is None, reason="loky is not installed")


@pytest.mark.parametrize(
    ("module", "name", "dies"),
    [
        ("concurrent.futures", "ThreadPoolExecutor", False),
        ("concurrent.futures", "ProcessPoolExecutor", True),
        pytest.param("concurrent.futures", "InterpreterPoolExecutor", False, marks=no_isolates),
        pytest.param("loky", "ProcessPoolExecutor", True, marks=no_loky),
    ],
)
def test_executor(module: str, name: str, dies: bool, anyio_backend: str, tmp_path: Path) -> None:
    program = (
        PROGRAM.replace("{module}", module).replace("{name}", name).replace("{dies}", str(dies))
    )
    printed = succeed(run_script(program, tmp_path, args=(anyio_backend,)))
    expected = ["25 15", "328350", "25 5", "True", "2"] + ["died"] * dies
    assert printed.splitlines() == expected
