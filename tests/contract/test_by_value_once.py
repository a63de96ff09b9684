"""A function that travels by value does so once for each worker, not with each call."""

from __future__ import annotations

import contract_work as work
import pytest
from contract_help import on_two_loops

from loopworkers import WorkerPool
from loopworkers._workers.channel import Channel

pytestmark = [pytest.mark.anyio, on_two_loops]

LARGE = "x" * 20_000  # makes a definition stand out from among the calls


class Traffic:
    """Counts the bytes that go to the workers, which no public figure tells."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent = 0
        send = Channel.send

        def counting(channel: Channel, *packet: bytes) -> None:
            self.sent += sum(map(len, packet))
            send(channel, *packet)

        monkeypatch.setattr(Channel, "send", counting)


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> Traffic:
    return Traffic(monkeypatch)


async def test_a_function_is_shipped_once(own_memory: str, traffic: Traffic) -> None:
    large = LARGE

    async with WorkerPool(own_memory, max_workers=1) as pool:
        call = lambda n: len(large) + n  # noqa: E731
        for n in range(30):
            assert await pool.run(call, n) == 20_000 + n
        futures = [pool.run(call, n) for n in range(30)]
        assert [await future for future in futures] == [20_000 + n for n in range(30)]
        assert traffic.sent < 2 * len(LARGE)


async def test_a_class_is_shipped_once_and_instances_come_home(
    own_memory: str, traffic: Traffic
) -> None:
    class Local:
        large = LARGE

    async with WorkerPool(own_memory, max_workers=1) as pool:
        for _ in range(30):
            assert type(await pool.run(work.echo, Local())) is Local
        assert traffic.sent < 2 * len(LARGE)


async def test_a_closure_over_a_list_is_shipped_again_only_when_the_list_changes(
    own_memory: str, traffic: Traffic
) -> None:
    values = [LARGE]

    async with WorkerPool(own_memory, max_workers=1) as pool:
        call = lambda: len(values)  # noqa: E731
        for _ in range(30):
            assert await pool.run(call) == 1
        assert traffic.sent < 2 * len(LARGE)
        values.append("")
        assert await pool.run(call) == 2


async def test_each_worker_and_each_replacement_gets_the_function(
    own_memory: str, traffic: Traffic
) -> None:
    large = LARGE
    async with WorkerPool(own_memory, max_workers=2, max_tasks_per_worker=10) as pool:
        call = lambda n: len(large) + n  # noqa: E731
        futures = [pool.run(call, n) for n in range(60)]
        assert [await future for future in futures] == [20_000 + n for n in range(60)]
        assert pool.stats().started >= 6


async def test_more_functions_than_a_worker_remembers(own_memory: str) -> None:
    def make(n: int):
        return lambda: n

    calls = [make(n) for n in range(300)]
    async with WorkerPool(own_memory, max_workers=1) as pool:
        for _ in range(2):
            futures = [pool.run(call) for call in calls]
            assert [await future for future in futures] == list(range(300))


async def test_short_lived_functions_do_not_pile_up_here(own_memory: str) -> None:
    import gc
    import weakref

    async with WorkerPool(own_memory, max_workers=1) as pool:
        refs = []
        for n in range(20):
            call = lambda n=n: n  # noqa: E731
            refs.append(weakref.ref(call))
            assert await pool.run(call) == n
        del call
        gc.collect()
        alive = sum(ref() is not None for ref in refs)
        assert alive <= 1  # the latest may still be at hand
