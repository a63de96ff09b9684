"""Calls on a Dask cluster: a real scheduler and two real workers, over TCP on loopback."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio
import contract_work as work
import pytest
from contract_help import Gate, eventually, on_asyncio

pytest.importorskip("distributed", reason="distributed is not installed, or not for this Python")

import dask
import dask_help as there
from dask_help import DaskCluster, ended
from distributed import Client, Security, get_worker
from loopworkers_asgi import Workers
from loopworkers_dask import DaskEngine

from loopworkers import (
    CallTimeout,
    EngineFailed,
    EngineUnsupported,
    PoolFull,
    WorkerDied,
    WorkerPool,
    current_pool,
    run_in_worker,
)
from loopworkers.errors import RemoteTraceback

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loopworkers import CallEnd, Progress

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

variable: ContextVar[str] = ContextVar("variable", default="unset")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """For the tests that leave it as it was."""
    with DaskCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[DaskCluster]:
    """For those in which somebody dies."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    with DaskCluster(folder) as cluster:
        yield cluster


def pool_on(cluster: DaskCluster, **options: Any) -> WorkerPool:
    return WorkerPool(DaskEngine(cluster.address, timeout=30), **options)


class Unpicklable:
    def __reduce__(self) -> Any:
        raise AssertionError("it was pickled")


# --- values ---


async def test_calls_of_every_sort_come_back(cluster: DaskCluster) -> None:
    factor = 3
    async with pool_on(cluster) as pool:
        assert await pool.run(work.echo, 1) == 1
        assert await pool.run(lambda x: factor * x, 2) == 6
        assert await pool.run(work.double_later, 4) == 8
        assert [x async for x in pool.map(work.echo, range(50))] == [*range(50)]
        assert [x async for x in pool.map(work.echo, range(50), chunksize=7)] == [*range(50)]
        variable.set("mine")
        assert await pool.run(variable.get) == "mine"
        pids = {pid async for pid, _ in pool.map(lambda _: work.where(), range(20))}
        assert pids <= {worker.pid for worker in cluster.workers}
        stats = pool.stats()
        assert (stats.kind, stats.workers, stats.failed) == ("dask", 2, 0)
        assert pool.max_workers == 2


async def test_calls_alike_are_calls_of_their_own(cluster: DaskCluster, gate: Gate) -> None:
    async with pool_on(cluster) as pool:
        await pool.run(work.mark, str(gate))
        await pool.run(work.mark, str(gate))
    assert gate.count("begun") == 2


async def test_an_exception_arrives_as_itself_with_its_traceback(cluster: DaskCluster) -> None:
    async with pool_on(cluster) as pool:
        with pytest.raises(ZeroDivisionError) as caught:
            await pool.run(divmod, 1, 0)
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        with pytest.raises(LookupError, match="gone"):
            await pool.run(work.throw, LookupError("gone"))
        assert await pool.run(work.echo, "still there") == "still there"


async def test_large_arguments_and_results(cluster: DaskCluster) -> None:
    data = os.urandom(3_000_000)
    async with pool_on(cluster) as pool:
        futures = [pool.run(work.echo, data) for _ in range(4)]
        assert [await future for future in futures] == [data] * 4
        assert await pool.run(len, data) == len(data)


async def test_a_thousand_calls_in_flight(cluster: DaskCluster) -> None:
    ends: list[CallEnd] = []
    async with pool_on(cluster) as pool:
        pool.observe(ends.append)
        futures = [pool.run(work.echo, n) for n in range(1000)]
        assert [await future for future in futures] == [*range(1000)]
    assert {end.outcome for end in ends} == {"completed"}
    assert len(ends) == 1000


@on_asyncio
async def test_a_future_is_one_of_asyncio(cluster: DaskCluster) -> None:
    async with pool_on(cluster) as pool:
        futures = [pool.run(work.echo, n) for n in range(5)]
        assert isinstance(futures[0], asyncio.Future)
        assert await asyncio.gather(*futures) == [0, 1, 2, 3, 4]


async def test_it_is_found_by_name(cluster: DaskCluster) -> None:
    with dask.config.set({"scheduler-address": cluster.address}):
        async with WorkerPool("dask") as pool:
            assert current_pool("dask") is pool
            assert await run_in_worker(work.echo, 1) == 1
        default = current_pool("dask")
        assert await default.run(work.echo, 2) == 2
        await default.aclose()


# --- options ---


async def test_resources(cluster: DaskCluster) -> None:
    async with pool_on(cluster) as pool:
        with_gpu = pool.options(resources={"GPU": 1})
        names = {name async for name in with_gpu.map(lambda _: get_worker().name, range(10))}
        assert names == {"worker-0"}


async def test_progress_arrives_while_it_runs(cluster: DaskCluster, gate: Gate) -> None:
    seen: list[Progress] = []
    async with pool_on(cluster) as pool:
        future = pool.run(there.report_thrice)
        future.add_progress_callback(seen.append)
        held = pool.run(there.hold_and_tell, str(gate))
        await eventually(lambda: held.progress is not None, "a report of a call that runs")
        assert held.progress == (1, 2, "holding")
        gate.open()
        assert await future == "done"
        assert future.progress == seen[-1] == (3, 3, "thrice")
        await held


async def test_options_it_cannot_honour_are_refused(cluster: DaskCluster) -> None:
    with pytest.raises(EngineUnsupported, match="kill"):
        pool_on(cluster, on_cancel="kill")
    with pytest.raises(EngineUnsupported, match="initializer"):
        pool_on(cluster, initializer=int)
    async with pool_on(cluster) as pool:
        with pytest.raises(EngineUnsupported, match="stream"):
            pool.stream(range, 3)


async def test_a_full_pool_pickles_nothing(cluster: DaskCluster, gate: Gate) -> None:
    async with pool_on(cluster, max_pending=1) as pool:
        futures = [pool.run(work.hold, str(gate), n) for n in range(3)]
        with pytest.raises(PoolFull):
            pool.run(work.echo, Unpicklable())
        gate.open()
        assert [await future for future in futures] == [0, 1, 2]


# --- stopping ---


async def test_a_call_that_waits_there_is_dropped(cluster: DaskCluster, gate: Gate) -> None:
    async with pool_on(cluster) as pool:
        running = [pool.run(work.hold, str(gate)) for _ in range(2)]
        await gate.begun(2)
        waiting = [pool.run(work.hold, str(gate)) for _ in range(20)]
        for future in waiting:
            future.cancel()
        await ended(pool)  # while those before them still run
        gate.open()
        for future in running:
            await future
        assert await pool.run(work.echo, 1) == 1
    assert gate.count("begun") == 2


async def test_a_body_that_reports_is_stopped(cluster: DaskCluster, gate: Gate) -> None:
    async with pool_on(cluster) as pool:
        future = pool.run(there.hold_and_tell, str(gate))
        await gate.begun()
        assert future.cancel()
        await ended(pool)
        assert gate.count("left") == 1
        assert pool.stats().cancelled == 1


async def test_a_timeout_stops_it_too(cluster: DaskCluster, gate: Gate) -> None:
    async with pool_on(cluster) as pool:
        future = pool.options(timeout=0.5).run(there.hold_and_tell, str(gate))
        with pytest.raises(CallTimeout):
            await future
        await ended(pool)
        assert gate.count("left") == gate.count("begun")


async def test_a_body_that_does_not_report_has_its_place_until_it_ends(
    cluster: DaskCluster, gate: Gate
) -> None:
    async with pool_on(cluster, max_pending=0) as pool:
        bodies = [pool.run(work.hold, str(gate)) for _ in range(2)]
        await gate.begun(2)
        for future in bodies:
            future.cancel()
        # Dask has forgotten the tasks by now, whose bodies go on: not so the pool.
        await anyio.sleep(0.3)
        assert gate.count("left") == 0
        with pytest.raises(PoolFull):
            pool.run(work.echo, Unpicklable())
        gate.open()
        await ended(pool)
        assert gate.count("ended") == 2
        assert await pool.run(work.echo, 1) == 1


async def test_abandoned_bodies_are_not_asked_to_stop(cluster: DaskCluster, gate: Gate) -> None:
    async with pool_on(cluster, on_cancel="abandon") as pool:
        pool.run(work.hold, str(gate)).cancel()
        await gate.begun()
        gate.open()
    assert gate.count("ended") == 1


async def test_leaving_by_an_exception_stops_what_reports(cluster: DaskCluster, gate: Gate) -> None:
    pool = pool_on(cluster)
    await pool.__aenter__()
    future = pool.run(there.hold_and_tell, str(gate))
    await gate.begun()
    await pool.__aexit__(KeyError, KeyError(), None)
    assert future.cancelled()
    await eventually(lambda: gate.count("left") == 1)


async def test_cancelling_soon_and_often(cluster: DaskCluster) -> None:
    async with pool_on(cluster) as pool:
        for turn in range(10):
            futures = [pool.run(work.echo, n) for n in range(20)]
            await anyio.sleep(0.003 * turn)
            for future in futures[::2]:
                future.cancel()
            assert [await future for future in futures[1::2]] == [*range(1, 20, 2)]
        await ended(pool)
        stats = pool.stats()
        assert stats.completed + stats.cancelled == 200


# --- death ---


async def pid_of_body(gate: Gate, bodies: int = 1) -> int:
    pids = await eventually(lambda: there.pids_in(gate.folder)[bodies - 1 :])
    return int(pids[0])


async def test_a_worker_that_dies_fails_what_it_ran_and_nothing_runs_twice(
    mortal: DaskCluster, gate: Gate
) -> None:
    async with pool_on(mortal) as pool:
        lost = pool.run(there.tell_pid_and_hold, str(gate))
        others = [pool.run(work.hold, str(gate), n) for n in range(8)]
        pid = await pid_of_body(gate)
        await gate.begun()
        mortal.kill(pid)
        with pytest.raises(WorkerDied, match=r"dask worker at tcp://127\.0\.0\.1:\d+ died") as died:
            await lost
        assert died.value.kind == "dask"
        gate.open()
        # Those that had been sent to it and not begun may have shared its fate.
        for n, other in enumerate(others):
            try:
                assert await other == n
            except WorkerDied:
                pass
        assert there.pids_in(gate.folder) == [pid]
        assert await pool.run(work.echo, 1) == 1


async def test_retries_run_it_again_elsewhere(mortal: DaskCluster, gate: Gate) -> None:
    async with pool_on(mortal, retries=1) as pool:
        future = pool.run(there.tell_pid_and_hold, str(gate))
        mortal.kill(await pid_of_body(gate))
        second = await pid_of_body(gate, 2)
        gate.open()
        assert await future is None
        assert pool.stats().retried == 1
        assert second in {worker.pid for worker in mortal.workers}


@on_asyncio
async def test_a_result_that_is_lost_with_its_worker_is_not_made_again(
    mortal: DaskCluster, gate: Gate
) -> None:
    async with pool_on(mortal):  # brings the plugin
        pass
    async with Client(mortal.address, asynchronous=True, set_as_default=False) as client:
        remote = client.submit(work.mark, str(gate), key="contract_work.mark-loopworkers-1")
        assert await remote.exception() is None
        ((where,),) = (await client.who_has([remote])).values()
        pids: Any = await client.run(os.getpid)
        mortal.kill(pids[where])
        assert await remote == b""
        assert gate.count("begun") == 1


@on_asyncio
async def test_without_the_plugin_dask_repeats_what_died(mortal: DaskCluster, gate: Gate) -> None:
    engine = DaskEngine(mortal.address, timeout=30, at_most_once=False)
    assert not engine.capabilities.at_most_once
    async with WorkerPool(engine) as pool:
        future = pool.run(there.tell_pid_and_hold, str(gate))
        mortal.kill(await pid_of_body(gate))
        await pid_of_body(gate, 2)
        gate.open()
        assert await future is None


async def test_a_scheduler_that_dies(mortal: DaskCluster, gate: Gate) -> None:
    pool = WorkerPool(DaskEngine(mortal.address, timeout=5))
    async with pool:
        running = pool.run(work.hold, str(gate))
        await gate.begun()
        mortal.scheduler.kill()
        with anyio.fail_after(60), pytest.raises(WorkerDied, match="out of reach"):
            await running
        gate.open()
        assert pool.stats().ready == 0
        for value in (1, os.urandom(1_000_000)):  # which is scattered
            with (
                anyio.fail_after(60),
                pytest.raises(EngineFailed, match=r"cannot be sent.* new pool"),
            ):
                await pool.options(retries=2).run(work.echo, value)


async def test_calls_while_a_client_gives_its_scheduler_up(
    mortal: DaskCluster, caplog: pytest.LogCaptureFixture
) -> None:
    async with WorkerPool(DaskEngine(mortal.address, timeout=0.3)) as pool:
        mortal.scheduler.kill()
        with anyio.fail_after(60):
            while "closing client" not in caplog.text:
                with pytest.raises((WorkerDied, EngineFailed)):
                    await pool.run(work.echo, 1)
            with pytest.raises(EngineFailed, match="cannot be sent"):
                await pool.run(work.echo, 1)


async def test_what_was_lost_before_it_could_not_be_sent_again_is_told(
    mortal: DaskCluster, gate: Gate
) -> None:
    async with WorkerPool(DaskEngine(mortal.address, timeout=5), retries=1) as pool:
        running = pool.run(work.hold, str(gate))
        await gate.begun()
        mortal.scheduler.kill()
        with anyio.fail_after(60), pytest.raises(EngineFailed, match="cannot be sent") as caught:
            await running
        gate.open()
    assert "an earlier attempt may have run" in "".join(caught.value.__notes__)


async def test_a_worker_that_does_not_answer(
    mortal: DaskCluster, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    stopped, other = mortal.workers
    os.kill(stopped.pid, signal.SIGSTOP)
    with anyio.fail_after(60):
        async with WorkerPool(DaskEngine(mortal.address, timeout=1)) as pool:
            assert "did not tell within 1 s" in caplog.text
            # Dask gives it its share; of the others one runs, and the rest wait.
            calls = [pool.run(there.tell_pid_and_hold, str(gate)) for _ in range(6)]
            assert await pid_of_body(gate) == other.pid
            for call in calls:
                call.cancel()
            gate.open()
            await eventually(lambda: pool._runner.lingering <= 3)
            os.kill(stopped.pid, signal.SIGCONT)


async def test_workers_that_come_and_go(tmp_path: Path) -> None:
    with DaskCluster(tmp_path, workers=0) as cluster, anyio.fail_after(100):
        async with WorkerPool(DaskEngine(cluster.address, timeout=1)) as pool:
            assert pool.stats().ready == 0
            small, large = pool.run(work.echo, 1), pool.run(len, os.urandom(1_000_000))
            given_up = pool.run(len, os.urandom(1_000_000))
            given_up.cancel()
            await eventually(lambda: pool._runner.lingering == 0)
            cluster.add_worker()
            assert await small == 1
            assert await large == 1_000_000
            await eventually(lambda: pool.stats().ready == 1)
            cluster.workers[0].kill()
            await eventually(lambda: pool.stats().ready == 0)


@pytest.mark.parametrize("resources", [{"GPU": [1]}, [("GPU", 1)], {1: 1}, {"GPU": math.nan}])
async def test_what_are_no_resources(cluster: DaskCluster, resources: Any) -> None:
    async with pool_on(cluster) as pool:
        with pytest.raises(ValueError, match="resources must be a mapping"):
            pool.options(resources=resources)


async def test_in_an_application(mortal: DaskCluster) -> None:
    with dask.config.set({"scheduler-address": mortal.address}):
        workers = Workers("dask")
        for _ in range(2):  # each life has an engine of its own
            async with workers:
                assert workers.readiness().is_ready
                assert await workers.run(work.echo, 1) == 1
        async with workers:
            mortal.scheduler.kill()
            await eventually(lambda: not workers.readiness().is_ready)
            assert "out of reach" in workers.readiness().why


# --- opening ---


async def test_nobody_there() -> None:
    started = time.monotonic()
    with pytest.raises(EngineFailed, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9 "):
        async with WorkerPool(DaskEngine("tcp://127.0.0.1:9", timeout=0.5)):
            raise AssertionError("somebody was there")
    assert time.monotonic() - started < 20


async def test_who_answers_and_says_nothing(silent: int) -> None:
    started = time.monotonic()
    with pytest.raises(EngineFailed, match="says no more"):
        async with WorkerPool(DaskEngine(f"tcp://127.0.0.1:{silent}", timeout=0.5)):
            raise AssertionError("it has said something")
    assert time.monotonic() - started < 30


@pytest.fixture
def silent() -> Iterator[int]:
    """Its port: the kernel takes connections, and nobody reads from them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_no_address() -> None:
    with pytest.raises(EngineFailed, match="DASK_SCHEDULER_ADDRESS"):
        async with WorkerPool("dask"):
            raise AssertionError("somebody was there")


async def test_an_engine_serves_one_pool(cluster: DaskCluster) -> None:
    engine = DaskEngine(cluster.address, timeout=30)
    async with WorkerPool(engine):
        with pytest.raises(EngineFailed, match="one for each pool"):
            async with WorkerPool(engine):
                raise AssertionError("it has two")
    async with pool_on(cluster) as pool:
        assert await pool.run(work.echo, 1) == 1


@on_asyncio
async def test_another_version_is_told(tmp_path: Path) -> None:
    other = tmp_path / "other" / "loopworkers-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: loopworkers\nVersion: 0.0.1\n")
    path = [str(other.parent)]
    with (
        DaskCluster(tmp_path, workers=1, path=path) as cluster,
        pytest.raises(EngineFailed) as caught,
    ):
        async with pool_on(cluster):
            raise AssertionError("they do not fit")
    text = str(caught.value)
    assert "the scheduler has loopworkers 0.0.1" in text
    assert "worker tcp://127.0.0.1:" in text
    assert "Install the same versions everywhere" in text


# --- TLS ---


async def test_tls(certificate: tuple[str, str], tmp_path: Path) -> None:
    file, key = certificate
    options = ["--tls-ca-file", file, "--tls-cert", file, "--tls-key", key]
    security = Security(
        tls_ca_file=file, tls_client_cert=file, tls_client_key=key, require_encryption=True
    )
    with DaskCluster(tmp_path, workers=1, tls=options) as cluster:
        assert cluster.address.startswith("tls://")
        async with WorkerPool(DaskEngine(cluster.address, security=security, timeout=30)) as pool:
            assert await pool.run(work.echo, 1) == 1
        with pytest.raises(EngineFailed, match="TLS"):
            async with WorkerPool(DaskEngine(cluster.address, timeout=1)):
                raise AssertionError("it was let in")
