"""`loop_delay`: how late the loop is, and who is to blame."""

from __future__ import annotations

import logging
import statistics
import threading
import time

import anyio
import pytest
from contract_help import eventually

from loopworkers import LoopDelay, loop_delay
from loopworkers._loop_delay import _bucket, _upper_end

pytestmark = pytest.mark.anyio


def hold_up_the_loop(event: threading.Event) -> None:
    """Block until the watcher has told, which is what the test waits for."""
    assert event.wait(30)


async def test_a_blocked_loop_shows_in_the_histogram() -> None:
    with loop_delay(resolution=0.001) as delay:
        await eventually(lambda: delay.count >= 20)
        assert delay.percentile(50) < 0.1
        time.sleep(0.2)  # noqa: ASYNC251 - the very thing that is to be seen
        before = delay.count
        await eventually(lambda: delay.count > before)
    assert delay.max > 0.15
    assert delay.percentile(100) == delay.max
    assert delay.min <= delay.percentile(1) <= delay.mean <= delay.max
    assert delay.stddev > 0
    count = delay.count
    await anyio.sleep(0.01)  # stopped, it looks no more
    assert delay.count == count
    delay.reset()
    assert (delay.count, delay.max, delay.mean, delay.stddev) == (0, 0, 0, 0)
    assert delay.percentile(99) == 0


async def test_percentiles_are_told_to_3_percent() -> None:
    delay = loop_delay()
    values = [n * n * 1000 for n in range(1, 2000)]
    for value in values:
        delay._record(value)
    for percent in (1, 10, 50, 90, 99, 99.9, 100):
        exact = sorted(values)[max(0, -int(-len(values) * percent // 100) - 1)] / 1e9
        assert exact <= delay.percentile(percent) <= exact * 1.04
    assert delay.mean == pytest.approx(statistics.mean(values) / 1e9)
    assert delay.stddev == pytest.approx(statistics.pstdev(values) / 1e9)


async def test_buckets_hold_every_value_once() -> None:
    for value in [*range(5000), *(1 << n for n in range(60)), *((1 << n) - 1 for n in range(60))]:
        bucket = _bucket(value)
        assert value <= _upper_end(bucket)
        assert bucket == 0 or _upper_end(bucket - 1) < value


async def test_the_blocking_call_is_named_once_and_while_it_blocks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = threading.Event()

    class Tell(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.set()

    handler = Tell()
    logging.getLogger("loopworkers").addHandler(handler)
    try:
        with loop_delay(resolution=0.001, warn_after=0.05) as delay:
            await eventually(lambda: delay.count > 2)
            hold_up_the_loop(told)
            before = delay.count
            await eventually(lambda: delay.count > before)
    finally:
        logging.getLogger("loopworkers").removeHandler(handler)
    (record,) = [r for r in caplog.records if r.name == "loopworkers"]
    assert "hold_up_the_loop" in record.getMessage()
    assert "run_in_worker" in record.getMessage()


async def test_what_is_left_running_ends_with_its_loop() -> None:
    loop_delay(warn_after=1).start()


async def test_it_can_be_started_again_at_once() -> None:
    delay = loop_delay(resolution=0.001, warn_after=1)
    for _ in range(3):
        delay.start()
        delay.stop()
    delay.start()
    await eventually(lambda: delay.count > 3)
    delay.stop()


def test_it_can_be_started_on_the_next_loop_and_nowhere_else() -> None:
    delay = loop_delay(resolution=0.001)

    async def main() -> None:
        before = delay.count
        delay.start()
        await eventually(lambda: delay.count > before)

    for _ in range(2):
        anyio.run(main)
    with pytest.raises(RuntimeError, match="no event loop"):
        loop_delay(warn_after=1).start()


async def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="resolution"):
        loop_delay(0)
    with pytest.raises(ValueError, match="warn_after"):
        loop_delay(warn_after=-1)
    delay = loop_delay()
    assert isinstance(delay, LoopDelay)
    with pytest.raises(ValueError, match="percentile"):
        delay.percentile(0)
