"""What a function raises arrives as itself, with the worker's traceback."""

from __future__ import annotations

import builtins
import io
import pickle
import sys
import traceback
from typing import TYPE_CHECKING, Any

import contract_work as work
import pytest
from contract_help import on_two_loops

from loopworkers import NotTransferable, RemoteError, WorkerDied, WorkerPool

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, on_two_loops]


async def failure(pool: WorkerPool, fn: Any, *args: Any) -> BaseException:
    try:
        await pool.run(fn, *args)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def chain_of(error: BaseException | None) -> list[BaseException]:
    links = []
    while error is not None:
        links.append(error)
        error = error.__cause__ or error.__context__
    return links


async def test_type_arguments_and_attributes_arrive(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        for name, args in (
            ("ValueError", ("a", 2)), ("KeyError", ("missing",)), ("OSError", (2, "no", "/file")),
            ("UnicodeDecodeError", ("utf-8", b"\xff", 0, 1, "bad")), ("Custom", (1, "two")),
            ("ExceptionGroup", ("several", [ValueError(1), TypeError(2)])), ("MemoryError", ()),
            ("TimeoutError", ("own",)), ("AssertionError", ()),
        ):  # fmt: skip
            error = await failure(pool, work.throw_named, name, *args)
            expected = (getattr(work, name, None) or getattr(builtins, name))(*args)
            assert type(error) is type(expected)
            assert str(error) == str(expected)
            assert repr(error.args) == repr(expected.args)
        error = await failure(pool, work.throw_named, "Custom", 1, "two")
        assert error.extra == [1, "two"]  # type: ignore[attr-defined]
        error = await failure(pool, work.throw_named, "OSError", 2, "no", "/file")
        assert (error.errno, error.filename) == (2, "/file")  # type: ignore[attr-defined]


async def test_cause_notes_and_attributes_arrive(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        error = await failure(pool, work.throw_chain)
        assert type(error) is work.Custom
        assert error.__notes__ == ["a note"]
        assert error.attribute == {"deep": [1]}  # type: ignore[attr-defined]
        cause = error.__cause__
        assert type(cause) is ValueError
        assert cause.__notes__ == ["a note on the cause"]
        assert type(cause.__cause__) is KeyError


async def test_context_arrives_unless_it_was_suppressed(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        error = await failure(pool, work.throw_in_context)
        assert type(error.__context__) is FileNotFoundError
        assert error.__context__.args == (2, "first")
        error = await failure(pool, work.throw_from_none)
        assert "hidden" not in "".join(traceback.format_exception(error))


async def test_the_printed_traceback_shows_the_workers_lines(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        for fn in (work.throw_chain, work.throw_in_context):
            error = await failure(pool, fn)
            text = "".join(traceback.format_exception(error))
            assert f"in {fn.__name__}" in text
            assert "contract_work.py" in text
        assert "the cause" in "".join(traceback.format_exception(await failure(
            pool, work.throw_chain)))  # fmt: skip


async def test_the_traceback_does_not_show_the_library_on_the_workers_side(
    own_memory: str,
) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        error = await failure(pool, work.throw_named, "ValueError")
        last: Any = error
        while last.__cause__ is not None:
            last = last.__cause__
        assert "throw_named" in str(last)
        assert "serve.py" not in str(last)


async def test_an_error_can_be_pickled_on_again(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        error = await failure(pool, work.throw_named, "Custom", 1, "two")
        assert type(pickle.loads(pickle.dumps(error))) is work.Custom


@pytest.mark.parametrize("name", ["BadReduce", "HoldsLock"])
async def test_an_exception_that_cannot_be_pickled_arrives_as_a_named_error(
    own_memory: str, name: str
) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        error = await failure(pool, work.throw_named, name, "text")
        assert type(error) is RemoteError
        assert error.type_name == f"contract_work.{name}"
        assert "throw_named" in error.traceback_text
        assert "throw_named" in "".join(traceback.format_exception(error))
        assert await pool.run(work.echo, 1) == 1


async def test_an_exception_that_cannot_be_built_again_arrives_as_a_named_error(
    own_memory: str,
) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        error = await failure(pool, work.throw_named, "BadInit", 1, 2)
        assert type(error) is RemoteError
        assert error.type_name.endswith("BadInit")
        assert "1 and 2" in str(error)
        assert "throw_named" in error.traceback_text
        assert await pool.run(work.echo, 1) == 1


@pytest.mark.parametrize("name", ["RecursionError", "ExceptionGroup", "Custom"])
async def test_where_tblib_has_exceptions_take_their_tracebacks_along(
    own_memory: str, name: str
) -> None:
    """As it does once Dask was imported; and such a traceback may be too deep for pickle."""
    pytest.importorskip("tblib")
    async with WorkerPool(own_memory, max_workers=1) as pool:
        error = await failure(pool, work.recurse_with_tblib, name)
        assert type(error).__name__ == name
        inner = error if name == "RecursionError" else error.args[-1]
        assert type(inner[0] if type(inner) is list else inner) is RecursionError
        assert "_recurse" in "".join(traceback.format_exception(error))
        returned = await pool.run(work.caught, work.recurse_with_tblib, name)
        assert type(returned) is type(error)


async def test_a_long_chain_with_tblib_is_no_longer_than_without(own_memory: str) -> None:
    pytest.importorskip("tblib")
    async with WorkerPool(own_memory, max_workers=1) as pool:
        error = await failure(pool, work.chain_with_tblib, 30)
        assert [str(link) for link in chain_of(error)][:30] == [str(n) for n in range(29, -1, -1)]
        assert all(link.__traceback__ is None for link in chain_of(error)[1:])


async def test_an_exception_whose_text_raises(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        error = await failure(pool, work.throw_named, "BadStr", 1)
        assert type(error) is work.BadStr
        assert error.args == (1,)
        assert await pool.run(work.echo, 1) == 1


@pytest.mark.parametrize("name", ["StopIteration", "StopAsyncIteration", "KeyboardInterrupt",
                                  "GeneratorExit", "OddBase"])  # fmt: skip
async def test_what_must_not_be_raised_here_as_itself_is_named(kind: str, name: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        error = await failure(pool, work.throw_named, name, "text")
        assert type(error) is RemoteError
        assert name in error.type_name
        assert "text" in str(error)
        assert await pool.run(work.echo, 1) == 1


@pytest.mark.parametrize("name", ["NotHereOnly", "NotHereGroup"])
async def test_what_an_error_is_named_does_not_depend_on_its_text(
    own_memory: str, name: str
) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        error = await failure(pool, work.throw_not_here, name, "first: line\n  second: line")
        assert type(error) is RemoteError
        assert error.type_name == f"contract_work.{name}"
        assert "first: line\n  second: line" in str(error)
        assert "could not be rebuilt here" in str(error)
        assert "throw_not_here" in error.traceback_text
        cause = error.__cause__
        assert type(cause) is RemoteError  # each link of the chain has a name of its own
        assert cause.type_name == "contract_work.BadInit"
        assert "1 and 2" in str(cause)


@pytest.mark.parametrize("name", ["OddBase", "OddBase.Inner", "KeyboardInterrupt"])
async def test_a_named_error_has_the_qualified_name_and_the_traceback(kind: str, name: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        error = await failure(pool, work.throw_base, name, "text")
        assert type(error) is RemoteError
        assert error.type_name == (name if name == "KeyboardInterrupt" else f"contract_work.{name}")
        assert str(error) == f"{error.type_name}: text"
        assert "in throw_base" in error.traceback_text
        assert "serve.py" not in error.traceback_text
        assert "in throw_base" in "".join(traceback.format_exception(error))


async def test_a_named_error_whose_text_raises(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        error = await failure(pool, work.throw_base, "BadBase", "text")
        assert type(error) is RemoteError
        assert error.type_name == "contract_work.BadBase"
        assert await pool.run(work.echo, 1) == 1


async def test_a_cancelled_error_of_the_worker_does_not_cancel_the_caller(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        future = pool.run(work.throw_cancelled)
        with pytest.raises(RemoteError, match="CancelledError"):
            await future
        assert not future.cancelled()
        assert await pool.run(work.echo, 1) == 1


async def test_an_exception_group_of_base_exceptions_is_named(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        error = await failure(pool, work.throw_group)
        assert type(error) is RemoteError
        assert "BaseExceptionGroup" in error.type_name


@pytest.mark.parametrize(("code", "expected"), [(3, 3), (None, 0), (0, 0), ("text", 1)])
async def test_sys_exit_ends_the_worker_and_its_call(kind: str, code: Any, expected: int) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        first = await pool.run(work.where)
        with pytest.raises(WorkerDied) as caught:
            await pool.run(work.throw_named, "SystemExit", code)
        assert caught.value.exitcode == expected
        assert caught.value.call == "contract_work.throw_named"
        assert str(expected) in str(caught.value).partition("while")[0]
        assert await pool.run(work.where) != first
        assert pool.stats().died == 1


async def test_an_exception_raised_while_arguments_are_rebuilt_fails_the_call(
    own_memory: str,
) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        with pytest.raises(LookupError, match="while loading"):
            await pool.run(work.echo, work.FailsToLoad())
        assert await pool.run(work.echo, 1) == 1


# --- what cannot travel --------------------------------------------------------------------------


async def test_an_argument_that_cannot_travel_is_named_at_the_call(own_memory: str) -> None:
    from threading import Lock

    lock = Lock()
    point = work.Point(1, {"deep": [1, lock]})
    async with WorkerPool(own_memory, max_workers=1) as pool:
        for args, kwargs, path in (
            ((1, lock), {}, r"args\[1\]"),
            (([{"a": (1, lock)}],), {}, r"args\[0\]\[0\]\['a'\]\[1\]"),
            ((), {"value": {"k": lock}}, r"kwargs\['value'\]\['k'\]"),
            ((point,), {}, r"args\[0\]\.y\['deep'\]\[1\]"),
        ):
            with pytest.raises(NotTransferable, match=rf"echo.*{path}.*lock"):
                pool.run(work.echo, *args, **kwargs)
        with pytest.raises(NotTransferable, match="closure variable 'lock'"):
            pool.run(lambda: lock)
        with pytest.raises(TypeError):  # which it is, too
            pool.run(work.echo, (n for n in "ab"))
        assert pool.stats().running + pool.stats().waiting == 0
        assert await pool.run(work.echo, 1) == 1


async def test_an_open_file_cannot_travel_and_its_content_does_not_instead(
    own_memory: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    async with WorkerPool(own_memory, max_workers=1) as pool:
        for mode in ("r", "rb", "r+", "w"):
            with path.open(mode) as file:
                with pytest.raises(NotTransferable, match=r"args\[0\].*file|args\[0\].*_io"):
                    pool.run(work.echo, file)
                with pytest.raises(NotTransferable, match=r"open file|_io"):
                    pool.run(lambda: file.read())
        path.write_text("text")
        with pytest.raises(NotTransferable, match=r"result.*_io"):
            await pool.run(open, str(path))
        for buffer in (io.StringIO("text"), io.BytesIO(b"bytes")):
            assert (await pool.run(work.echo, buffer)).getvalue() == buffer.getvalue()
            assert await pool.run(lambda: buffer.getvalue()) == buffer.getvalue()  # noqa: B023


async def test_the_standard_streams_are_those_of_the_worker(
    own_memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)
    stdout = sys.stdout

    async with WorkerPool(own_memory, max_workers=1) as pool:
        assert await pool.run(lambda: stdout is sys.stdout)


async def test_a_result_that_cannot_travel_is_named(own_memory: str) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        with pytest.raises(NotTransferable, match=r"result\['a'\]\[1\].*lock"):
            await pool.run(work.make_unpicklable)
        with pytest.raises(NotTransferable, match="cannot be rebuilt here"):
            await pool.run(work.make_fails_to_load)
        assert await pool.run(work.echo, 1) == 1


async def test_a_thread_takes_and_gives_what_cannot_be_pickled() -> None:
    from threading import Lock

    lock = Lock()
    async with WorkerPool("thread", max_workers=1) as pool:
        assert await pool.run(work.echo, lock) is lock
