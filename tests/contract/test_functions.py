"""Every sort of callable can be called in a worker."""

from __future__ import annotations

import functools
import math
import operator
import os
import sys
import types
from typing import TYPE_CHECKING

import contract_work as work
import pytest
from contract_help import on_two_loops

from loopworkers import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.anyio, on_two_loops]

FACTOR = 2


async def test_builtins_and_methods_of_builtins(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        assert await pool.run(len, [1, 2]) == 2
        assert await pool.run(int, "12", base=16) == 18
        assert await pool.run(math.factorial, 5) == 120
        assert await pool.run("a,b".split, ",") == ["a", "b"]
        assert await pool.run(dict.fromkeys, "ab", 1) == {"a": 1, "b": 1}
        assert await pool.run(str.upper, "abc") == "ABC"
        assert await pool.run(operator.itemgetter(1), "xyz") == "y"
        assert await pool.run(os.path.join, "a", "b") == os.path.join("a", "b")
        assert await pool.run([1, 2].__len__) == 2


async def test_partials_also_of_partials_lambdas_and_methods(kind: str) -> None:
    partial = functools.partial
    async with WorkerPool(kind, max_workers=1) as pool:
        assert await pool.run(partial(int, base=2), "101") == 5
        assert await pool.run(partial(partial(work.echo_all, 1, a=2), 3), 4, b=5) == (
            (1, 3, 4),
            {"a": 2, "b": 5},
        )
        assert await pool.run(partial(work.echo_all, a=1), a=2) == ((), {"a": 2})
        assert await pool.run(partial(lambda a, b: a - b, 10), 3) == 7
        assert (await pool.run(partial(work.Point(1).moved, 4))).x == 5
        # as an argument, too
        assert (await pool.run(work.echo, partial(int, base=2)))("11") == 3


@pytest.mark.skipif(sys.version_info < (3, 14), reason="new in Python 3.14")
async def test_partials_with_placeholders(kind: str) -> None:
    partial, placeholder = functools.partial, functools.Placeholder  # type: ignore[attr-defined]
    async with WorkerPool(kind, max_workers=1) as pool:
        assert await pool.run(partial(work.echo_all, placeholder, 2, a=3), 1, b=4) == (
            (1, 2),
            {"a": 3, "b": 4},
        )
        assert await pool.run(partial(lambda a, b: a - b, placeholder, 3), 10) == 7
        results = pool.map(partial(divmod, placeholder, 2), [4, 5], chunksize=2)
        assert [r async for r in results] == [(2, 0), (2, 1)]


async def test_methods_and_callable_objects(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        assert await pool.run(work.Point(1, "y").moved, 2) == work.Point(3, "y")
        assert await pool.run(work.Point.at, 4) == work.Point(4)
        assert await pool.run(work.Point.zero) == 0
        assert await pool.run(work.Point, 1, y=2) == work.Point(1, 2)
        assert await pool.run(work.Adder(5), 6) == 11


async def test_lambdas_closures_and_recursive_functions(kind: str) -> None:
    offset = 10

    def factorial(n: int) -> int:
        return n * factorial(n - 1) if n else 1

    def outer(n: int, *, extra: int = 3) -> int:
        return (lambda m: m + offset + extra)(n)

    async with WorkerPool(kind, max_workers=1) as pool:
        assert await pool.run(lambda: offset + FACTOR) == 12
        assert await pool.run(factorial, 6) == 720
        assert await pool.run(outer, 1, extra=5) == 16
        assert await pool.run(lambda f, n: f(n), factorial, 4) == 24
        made: Callable[[], int] = await pool.run(lambda n: lambda: n + 1, 5)
        assert made() == 6


async def test_instances_of_local_classes_come_back_as_such(kind: str) -> None:
    class Base:
        def name(self) -> str:
            return "base"

    class Local(Base):
        def __init__(self, value: int) -> None:
            self.value = value

        def name(self) -> str:
            return super().name() + "d"

    async with WorkerPool(kind, max_workers=1) as pool:
        for _ in range(2):
            back = await pool.run(work.echo, Local(3))
            assert type(back) is Local
            assert (back.value, back.name()) == (3, "based")
        back = await pool.run(lambda: Local(4))
        assert type(back) is Local
        assert await pool.run(Local(5).name) == "based"
        assert await pool.run(work.echo, Local) is Local


async def test_local_cached_functions(kind: str) -> None:
    @functools.lru_cache(maxsize=7)
    def squared(n: int) -> int:
        return n * n

    async with WorkerPool(kind, max_workers=1) as pool:
        assert await pool.run(squared, 3) == 9
        assert await pool.run(lambda n: squared(n) + 1, 3) == 10


async def test_a_global_changed_between_two_calls_is_seen(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = lambda: (lambda: FACTOR)()  # noqa: E731 - also in a function inside
    async with WorkerPool(kind, max_workers=1) as pool:
        assert await pool.run(call) == 2
        monkeypatch.setitem(globals(), "FACTOR", 3)
        assert await pool.run(call) == 3
        monkeypatch.setitem(globals(), "FACTOR", [4])
        assert await pool.run(call) == [4]
        FACTOR.append(5)  # type: ignore[attr-defined]
        assert await pool.run(call) == [4, 5]


async def test_a_closure_variable_changed_between_two_calls_is_seen(kind: str) -> None:
    count = 1
    seen = [1]
    async with WorkerPool(kind, max_workers=1) as pool:
        call = lambda: (count, seen, call.mark)  # noqa: E731
        call.mark = "a"  # type: ignore[attr-defined]
        assert await pool.run(call) == (1, [1], "a")
        count = 2
        seen.append(2)
        call.mark = "b"  # type: ignore[attr-defined]
        assert await pool.run(call) == (2, [1, 2], "b")


async def test_what_a_function_imports_itself_is_imported_there(kind: str) -> None:
    def imports() -> float:
        import statistics

        return statistics.mean([1, 2, 3])

    async with WorkerPool(kind, max_workers=1) as pool:
        assert await pool.run(imports) == 2


async def test_functions_of_a_module_made_at_run_time(kind: str) -> None:
    module = types.ModuleType("contract_made_at_run_time")
    exec("def helper(): return 'helped'\ndef call(): return helper()", module.__dict__)
    sys.modules[module.__name__] = module
    try:
        async with WorkerPool(kind, max_workers=1) as pool:
            assert await pool.run(module.call) == "helped"
    finally:
        del sys.modules[module.__name__]


async def test_a_module_whose_folder_was_added_after_the_pool_had_opened(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"contract_late_{kind}_{tmp_path.name.replace('-', '_').replace('.', '_')}"
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "deep.py").write_text("class C:\n    def get(self): return __name__\n")
    async with WorkerPool(kind, max_workers=1) as pool:
        await pool.run(work.echo, 1)
        monkeypatch.syspath_prepend(tmp_path)
        module = __import__(f"{name}.deep").deep
        assert await pool.run(module.C().get) == f"{name}.deep"
        back = await pool.run(work.echo, module.C())
        assert type(back) is module.C
    for imported in (name, f"{name}.deep"):
        del sys.modules[imported]


async def test_the_working_folder_is_that_of_the_call(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        for folder in (tmp_path, tmp_path / "b", tmp_path):
            folder.mkdir(exist_ok=True)
            monkeypatch.chdir(folder)
            assert await pool.run(os.getcwd) == str(folder)


async def test_what_is_not_callable_is_refused_at_the_call(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        with pytest.raises(TypeError, match="callable"):
            pool.run(3, 4)  # type: ignore[call-overload]
        assert pool.stats().running == 0


async def test_wrong_arguments_fail_as_in_a_plain_call(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        with pytest.raises(TypeError, match="echo"):
            await pool.run(work.echo)
        assert await pool.run(work.echo, 1) == 1


async def test_async_functions_run_to_their_end_on_one_loop_a_worker(kind: str) -> None:
    async def local(n: int) -> int:
        return await work.double_later(n) + 1

    async with WorkerPool(kind, max_workers=1) as pool:
        assert await pool.run(work.double_later, 4) == 8
        assert await pool.run(local, 4) == 9
        assert await pool.run(functools.partial(work.double_later, 5)) == 10
        assert await pool.run(work.AsyncAdder(3), 4) == 7
        assert await pool.run(work.Point(6).later) == 6
        assert await pool.run(lambda n: work.double_later(n), 7) == 14
        assert await pool.run(work.sum_in_tasks, 1, 2, 3) == 12
        assert await pool.run(work.loop_id) == await pool.run(work.loop_id)
        with pytest.raises(LookupError, match="later"):
            await pool.run(work.fail_later)
