"""Uses the installed wheel as any program would, where none of the optional packages is."""

import asyncio
import math
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import loopworkers


async def main() -> None:
    package = Path(loopworkers.__file__).parent
    assert package.is_relative_to(sys.prefix), package
    assert (package / "py.typed").exists()
    assert find_spec("trio") is None

    assert await loopworkers.run_in_worker(math.factorial, 20) == math.factorial(20)
    assert await loopworkers.run_in_worker(lambda: os.getpid()) != os.getpid()
    kinds = ["process"]

    if sys.version_info >= (3, 14):
        async with loopworkers.WorkerPool("isolate") as pool:
            assert await pool.run(math.factorial, 20) == math.factorial(20)
            assert await pool.run(lambda: os.getpid()) == os.getpid()
        kinds.append("isolate")

    print(f"the wheel works on Python {sys.version.split()[0]}: {', '.join(kinds)}")


asyncio.run(main())
