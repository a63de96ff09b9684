"""Functions of ``__main__`` share their globals in a worker, as they do in the program."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import asyncio, sys
from loopworkers import WorkerPool

model = None
cache = {}
factor = 2
count = 0

def load(value):
    global model
    model = value
    cache["loaded"] = value

def helper():
    return model

def predict(x):
    return helper(), model, cache.get("loaded"), x * factor

def bump():
    global count
    count += 1
    return count

class Thing:
    def seen(self):
        return model, factor

async def main(kind):
    global factor
    async with WorkerPool(kind, max_workers=1, initializer=load, initargs=("L",)) as pool:
        print(await pool.run(predict, 1), await pool.run(Thing().seen))
        print(await pool.run(bump), await pool.run(bump), count)
        factor = 3
        print(await pool.run(predict, 1), await pool.run(Thing().seen))
        factor = 2
        print(await pool.run(predict, 1), await pool.run(lambda: (factor, model)))

asyncio.run(main(sys.argv[1]))
"""

EXPECTED = """\
('L', 'L', 'L', 2) ('L', 2)
1 2 0
('L', 'L', 'L', 3) ('L', 3)
('L', 'L', 'L', 2) (2, 'L')
"""

REDEFINED = """
import asyncio, sys
from loopworkers import WorkerPool

cache = {}  # can change in place: what uses it is pickled at each call, and keeps nothing alive

def call():
    return cache, step(), Step.number

async def main(kind):
    async with WorkerPool(kind, max_workers=1) as pool:
        for number in range(30):
            # The old ones go first, so the new ones are made where those were.
            for name in ("step", "Step"):
                globals().pop(name, None)
            exec(f"def step(): return {number}\\nclass Step: number = {number}", globals())
            assert await pool.run(call) == ({}, number, number), number

asyncio.run(main(sys.argv[1]))
"""

LARGE = """
import asyncio, sys
from loopworkers import WorkerPool

large, several = 10**5000, range(10**5000, 10**5000 + 2)  # their repr() raises
model = None

def load():
    global model
    model = "loaded"

def call():
    return model, large % 7, len(several)

async def main(kind):
    global large
    async with WorkerPool(kind, max_workers=1, initializer=load) as pool:
        assert await pool.run(call) == ("loaded", 10**5000 % 7, 2)
        large += 1
        assert await pool.run(call) == ("loaded", (10**5000 + 1) % 7, 2)

asyncio.run(main(sys.argv[1]))
"""

needs_isolates = pytest.mark.skipif(sys.version_info < (3, 14), reason="isolates need 3.14")


@pytest.mark.parametrize("kind", ["process", pytest.param("isolate", marks=needs_isolates)])
@pytest.mark.parametrize(
    ("text", "expected"),
    [(SCRIPT, EXPECTED), (REDEFINED, ""), (LARGE, "")],
    ids=["set by an initializer", "defined again", "large"],
)
def test_what_an_initializer_sets_is_seen_and_what_the_program_changes_too(
    kind: str, text: str, expected: str, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(text)
    done = subprocess.run(
        [sys.executable, str(script), kind], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == (expected, "")
