"""What a call prints, logs, warns of and reports reaches the parent."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import contract_work as work
import pytest
from contract_help import Gate, KindParams, eventually, on_two_loops, run_script, succeed

from loopworkers import Progress, WorkerPool, report_progress

if TYPE_CHECKING:
    from pathlib import Path

each_kind = pytest.mark.parametrize("kind", KindParams("process", "isolate", "thread"))

PRINTS = """
import asyncio, os, sys
from loopworkers import WorkerPool

def say(n):
    print("worker", n)
    sys.stdout.write("half ")
    print("line", n)
    return n

def complain():
    print("to stderr", file=sys.stderr)

async def main(kind):
    async with WorkerPool(kind, max_workers=1) as pool:
        for n in range(3):
            print("before", n, flush=True)
            await pool.run(say, n)
            print("after", n, flush=True)
        print("no newline ", end="", flush=True)
        await pool.run(print, "at all", end="")
        print(" is lost", flush=True)
        await pool.run(complain)

asyncio.run(main(sys.argv[1]))
"""


@each_kind
def test_prints_come_in_order_and_before_the_result(kind: str, tmp_path: Path) -> None:
    done = run_script(PRINTS, tmp_path, args=(kind,))
    assert done.returncode == 0, done.stderr
    lines = [f"before {n}\nworker {n}\nhalf line {n}\nafter {n}\n" for n in range(3)]
    assert done.stdout == "".join(lines) + "no newline at all is lost\n"
    assert done.stderr == "to stderr\n"


def test_what_a_killed_worker_had_printed_is_there(tmp_path: Path) -> None:
    script = """
import asyncio, os
from loopworkers import WorkerPool, WorkerDied
def last_words():
    print("last words")
    os._exit(1)
async def main():
    async with WorkerPool(max_workers=1) as pool:
        try:
            await pool.run(last_words)
        except WorkerDied:
            print("died")
asyncio.run(main())
"""
    assert succeed(run_script(script, tmp_path)) == "last words\ndied\n"


def test_redirected_output_goes_where_it_went_when_the_worker_started(tmp_path: Path) -> None:
    script = """
import asyncio, os
from loopworkers import run_in_worker
os.dup2(os.open("out.txt", os.O_CREAT | os.O_WRONLY), 1)
async def main():
    await run_in_worker(print, "to the file")
asyncio.run(main())
"""
    assert succeed(run_script(script, tmp_path)) == ""
    assert (tmp_path / "out.txt").read_text() == "to the file\n"


# --- logs and warnings ---------------------------------------------------------------------------


@pytest.mark.anyio
@on_two_loops
async def test_log_records_reach_the_parents_loggers(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="contract.inner")
    async with WorkerPool(kind, max_workers=1) as pool:
        await pool.run(work.log, "contract.inner", logging.DEBUG, "found %d of %s", 3, {"a": 1})
        records = [r for r in caplog.records if r.name == "contract.inner"]
        assert [r.getMessage() for r in records] == ["found 3 of {'a': 1}"]
        assert records[0].levelno == logging.DEBUG
        assert records[0].funcName == "log"
        caplog.clear()
        await pool.run(work.log_exception, "contract.inner")
        assert "LookupError: logged" in caplog.text
        assert caplog.records[-1].colour == "red"


@pytest.mark.anyio
@on_two_loops
async def test_records_below_the_parents_levels_are_dropped(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="contract")
    async with WorkerPool(kind, max_workers=1) as pool:
        await pool.run(work.log, "contract.quiet", logging.INFO, "not this")
        await pool.run(work.log, "contract.quiet", logging.ERROR, "but this")
        found = [r.getMessage() for r in caplog.records if r.name == "contract.quiet"]
        assert found == ["but this"]


@pytest.mark.anyio
@on_two_loops
async def test_records_that_cannot_be_pickled_or_formatted_arrive_all_the_same(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        await pool.run(work.log_odd, "contract.odd")
        found = [r for r in caplog.records if r.name == "contract.odd"]
        assert "unpicklable" in found[0].getMessage()
        assert found[1].getMessage().startswith("x" * 1000)


@pytest.mark.anyio
@on_two_loops
async def test_warnings_are_shown_by_the_parent(own_memory: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with WorkerPool(own_memory, max_workers=1) as pool:
            assert await pool.run(work.warn, "careful") == "warned"
    assert [(w.category, str(w.message)) for w in caught] == [(UserWarning, "careful")]
    assert caught[0].filename.endswith("contract_tasks.py")


@pytest.mark.anyio
@on_two_loops
async def test_a_warning_that_is_an_error_here_does_not_fail_the_call(
    own_memory: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        assert await pool.run(work.warn, "careful") == "warned"  # pytest's filter is "error"
        assert await pool.run(work.echo, 1) == 1


# --- progress ------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_progress_is_seen_while_the_call_runs(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        future = pool.run(work.report_and_hold, str(gate))
        assert future.progress is None
        seen: list[Progress] = []
        future.add_progress_callback(seen.append)
        await eventually(lambda: future.progress)
        assert future.progress == Progress(1, 3, "first")
        assert not future.done()
        gate.open()
        assert await future == "done"
        assert future.progress == Progress(3, 3, None)  # the last is never left out
        assert seen[0] == Progress(1, 3, "first")
        assert seen[-1] == Progress(3, 3, None)
        assert [progress.done for progress in seen] == sorted(p.done for p in seen)


@pytest.mark.anyio
@on_two_loops
async def test_progress_of_async_functions_and_of_each_call_alone(kind: str) -> None:
    async with WorkerPool(kind, max_workers=2) as pool:
        futures = [pool.run(work.report_later, n) for n in range(1, 9)]
        assert [await future for future in futures] == list(range(1, 9))
        assert [future.progress.done for future in futures if future.progress] == [
            n * 100 for n in range(1, 9)
        ]


@pytest.mark.anyio
@on_two_loops
async def test_very_many_reports_cost_little_and_arrive_thinned_out(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        future = pool.run(work.report_often, 20_000)
        seen: list[Progress] = []
        future.add_progress_callback(seen.append)
        await future
        assert future.progress == Progress(20_000, 20_000, None)
        assert len(seen) < 5_000


def test_reporting_outside_of_a_worker_does_nothing() -> None:
    report_progress(1, 2, "three")
