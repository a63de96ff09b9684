"""What lives in ``__main__`` works without a main guard, however the program was started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from contract_help import WAYS, KindParams, run_script, succeed

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import asyncio, contextvars, dataclasses, enum, functools, sys
from loopworkers import WorkerPool

FACTOR = 2
RATES = {"a": 1}
variable = contextvars.ContextVar("variable", default="unset")

def helper(n):
    return n * FACTOR

def function(n):
    return helper(n) + 1

@functools.lru_cache(maxsize=10)
def cached(n):
    return n * n

def uses_cached(n):
    return cached(n) + cached(n)

class Base:
    def __init__(self, value):
        self.value = value
    def doubled(self):
        return type(self)(self.value * 2)

class Derived(Base):
    pass

@dataclasses.dataclass
class Data:
    x: int
    y: list = dataclasses.field(default_factory=list)

class Colour(enum.Enum):
    RED = 1

class Failure(Exception):
    pass

def fail(text):
    raise Failure(text)

def is_known(obj):
    return isinstance(obj, Derived), isinstance(obj, Base)

def generate(n):
    for i in range(n):
        yield Derived(i)

async def later(n):
    await asyncio.sleep(0)
    return function(n)

def initialize(n):
    sys.initialized_with = n

async def main(kind):
    global FACTOR
    async with WorkerPool(kind, max_workers=1, initializer=initialize, initargs=(7,)) as pool:
        assert await pool.run(function, 5) == 11
        FACTOR = 3
        assert await pool.run(function, 5) == 16
        assert await pool.run(lambda: FACTOR) == 3
        RATES["b"] = 2
        assert await pool.run(lambda: RATES) == {"a": 1, "b": 2}
        assert await pool.run(cached, 4) == 16
        assert await pool.run(uses_cached, 4) == 32
        back = await pool.run(Derived(4).doubled)
        assert type(back) is Derived and back.value == 8
        assert await pool.run(is_known, Derived(1)) == (True, True)
        assert await pool.run(Data, 1, [2]) == Data(1, [2])
        assert type(await pool.run(dataclasses.replace, Data(1), x=5)) is Data
        assert await pool.run(lambda c: c, Colour.RED) is Colour.RED
        try:
            await pool.run(fail, "text")
        except Failure as error:
            assert error.args == ("text",)
        else:
            raise AssertionError
        async with pool.stream(generate, 3) as stream:
            assert [(type(item), item.value) async for item in stream] == [
                (Derived, 0), (Derived, 1), (Derived, 2)]
        assert [v async for v in pool.map(function, range(4), chunksize=2)] == [1, 4, 7, 10]
        assert await pool.run(later, 2) == 7
        assert await pool.run(lambda: sys.initialized_with) == 7
        variable.set("set")
        assert await pool.run(lambda: variable.get()) == "set"
        assert await pool.run(lambda: sys.modules["__main__"].__name__) == "__main__"
    print("ran", kind)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KindParams("process", "isolate", "thread"))
def test_everything_in_main_works(kind: str, way: str, tmp_path: Path) -> None:
    assert succeed(run_script(SCRIPT, tmp_path, way=way, args=(kind,))) == f"ran {kind}\n"


def test_it_works_on_trio_too(tmp_path: Path) -> None:
    script = SCRIPT.replace("asyncio.run(main(sys.argv[1]))", "trio.run(main, sys.argv[1])")
    done = run_script("import trio\n" + script, tmp_path, args=("process",))
    assert succeed(done) == "ran process\n"


def test_a_worker_does_not_run_the_main_module(tmp_path: Path) -> None:
    script = """
print("once")
import asyncio
from loopworkers import run_in_worker
async def main():
    return await run_in_worker(lambda: 5)
print(asyncio.run(main()))
"""
    assert succeed(run_script(script, tmp_path)) == "once\n5\n"


def test_the_default_pool_needs_no_closing(tmp_path: Path) -> None:
    script = """
import asyncio, os, trio
from loopworkers import current_pool, run_in_worker
async def main():
    pids = {await run_in_worker(os.getpid) for _ in range(3)}
    return len(pids), current_pool().kind
for _ in range(2):
    print(asyncio.run(main()), trio.run(main))
"""
    line = "(1, 'process') (1, 'process')\n"
    assert succeed(run_script(script, tmp_path)) == line * 2


def test_a_repl_function_works(tmp_path: Path) -> None:
    script = """
import asyncio, code
from loopworkers import run_in_worker
console = code.InteractiveConsole({"__name__": "__main__", "run_in_worker": run_in_worker})
for line in ("import asyncio", "def f(n): return n + 1", "",
             "async def main(): print(await run_in_worker(f, 4))", "", "asyncio.run(main())"):
    console.push(line)
"""
    assert succeed(run_script(script, tmp_path)) == "5\n"
