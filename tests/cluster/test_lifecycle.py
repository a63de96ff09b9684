"""How a cluster starts, and what becomes of one that cannot."""

from __future__ import annotations

import errno
import gc
import re
import socket
import sys
import threading
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import members
import pytest
from clients import Client, ask, port_of, spread
from contract_help import LONG, ROOT, on_asyncio

from loopworkers import (
    Cluster,
    ClusterFailed,
    ClusterStopped,
    IsolateUnsupported,
    Recycle,
    Restart,
    WorkerExited,
)
from loopworkers._cluster import binding

# ruff: noqa: PT012  (a cluster raises when its block is left)
pytestmark = pytest.mark.anyio
LOCAL = "127.0.0.1:0"


async def test_every_worker_serves_on_one_port(kind: Any, policy: Any) -> None:
    async with Cluster(members.serve, workers=2, kind=kind, listen=LOCAL, policy=policy) as cluster:
        await cluster.ready()
        seen: set[int] = set()
        with anyio.fail_after(LONG):
            while seen != set(cluster.workers):
                assert (await ask(cluster, b"kind"))[1] == kind.encode()
                async with anyio.create_task_group() as group:

                    async def look() -> None:
                        seen.add((await ask(cluster, b"burn 0.01"))[0])

                    for _ in range(8):
                        group.start_soon(look)


async def test_completion_offers_what_is_documented_of_a_worker() -> None:
    reference = Path(ROOT, "docs/reference/cluster.md").read_text()  # noqa: ASYNC240
    section = reference.partition("\n## ClusterWorker\n")[2].partition("\n## ")[0]
    async with Cluster(members.serve, workers=1) as cluster:
        (worker,) = cluster.workers.values()
        for name in dir(worker):
            assert name.startswith("_") or re.search(rf"`(await )?{name}\b", section), name


async def test_a_plain_function_serves_as_well(kind: Any, policy: Any) -> None:
    start = members.serve_blocking
    async with Cluster(start, workers=2, kind=kind, listen=LOCAL, policy=policy) as cluster:
        await cluster.ready()
        assert sum((await spread(cluster, 6)).values()) == 6


async def test_a_lambda_and_a_closure_can_be_the_target(kind: Any) -> None:
    serve = members.serve
    async with Cluster(lambda member: serve(member), workers=1, kind=kind, listen=LOCAL) as cluster:
        await cluster.ready()
        assert (await ask(cluster))[1] == b"hello"


@on_asyncio
@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
async def test_the_members_loop_can_be_another(backend: Any, policy: Any) -> None:
    if backend == "uvloop":
        pytest.importorskip("uvloop")
    cluster = Cluster(members.serve, workers=2, listen=LOCAL, policy=policy, backend=backend)
    async with cluster:
        await cluster.ready()
        assert sum((await spread(cluster, 10)).values()) == 10
        await cluster.reload()
        assert sum((await spread(cluster, 10)).values()) == 10


async def test_several_addresses(kind: Any, policy: Any) -> None:
    listen = [LOCAL, LOCAL]
    async with Cluster(members.serve, workers=2, kind=kind, listen=listen, policy=policy) as both:
        await both.ready()
        for url in both.addresses:
            stream = await anyio.connect_tcp("127.0.0.1", int(url.rpartition(":")[2]))
            async with Client(stream) as client:
                assert (await client.ask(b"hello"))[1] == b"hello"


async def test_a_port_in_use_raises_at_once(policy: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="in use") as raised:
            async with Cluster(members.serve, listen=listen, policy=policy):
                raise AssertionError("it was entered")
        assert listen in str(raised.value)


async def test_the_port_is_free_after_the_end(kind: Any, policy: Any) -> None:
    async with Cluster(members.serve, workers=2, kind=kind, listen=LOCAL, policy=policy) as cluster:
        await cluster.ready()
        port = port_of(cluster)
    with pytest.raises(OSError, match=r"."):
        await anyio.connect_tcp("127.0.0.1", port)
    listen = f"127.0.0.1:{port}"
    async with Cluster(members.serve, workers=1, kind=kind, listen=listen, policy=policy) as again:
        await again.ready()
        await ask(again)


# --- those that do not start ---------------------------------------------------------------------


async def test_a_worker_that_fails_at_its_start_stops_the_cluster(kind: Any) -> None:
    with pytest.raises(ClusterFailed, match="on purpose") as raised:
        async with Cluster(members.fail_at_start, workers=2, kind=kind) as cluster:
            events = cluster.events()
            await cluster.ready()
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    *_, last = [event async for event in events]
    assert last == ClusterStopped(raised.value)


async def test_leaving_the_block_raises_what_nobody_was_told(kind: Any) -> None:
    with pytest.raises(ClusterFailed):
        async with Cluster(members.fail_at_start, workers=1, kind=kind) as cluster:
            async for event in cluster.events():
                if isinstance(event, WorkerExited):
                    break


async def test_an_argument_that_cannot_be_sent_is_named_as_it_was_given(kind: Any) -> None:
    args = 1, {"lock": threading.Lock()}
    with pytest.raises(ClusterFailed, match=r"\(target, \*args\)\[2\]\['lock'\].*cannot be sent"):
        async with Cluster(members.serve, *args, workers=1, kind=kind) as cluster:
            await cluster.wait()


async def test_a_worker_that_returns_before_it_is_ready_stops_the_cluster(kind: Any) -> None:
    with pytest.raises(ClusterFailed, match="code 0"):
        async with Cluster(members.return_at_start, workers=1, kind=kind) as cluster:
            await cluster.wait()


async def test_a_worker_that_is_not_ready_in_time_stops_the_cluster(kind: Any) -> None:
    with pytest.raises(ClusterFailed, match=r"ready\(\) within"):
        async with Cluster(members.never_ready, workers=1, kind=kind, start_timeout=0.2) as cluster:
            await cluster.ready()


async def test_what_cannot_be_is_refused() -> None:
    for options in (
        {"workers": 0},
        {"kind": "thread"},
        {"policy": "sometimes"},
        {"max_connections": 3},
        {"max_connections": 0, "policy": "round_robin"},
        {"listen": "nowhere"},
        {"backend": "twisted"},
        {"grace": -1},
        {"start_timeout": 0},
        {"unresponsive": 0},
        {"backlog": -1},
    ):
        with pytest.raises(ValueError, match=r"."):
            async with Cluster(members.serve, **options):
                raise AssertionError("it was entered")
    with pytest.raises(TypeError, match="callable"):
        Cluster(3)  # type: ignore[arg-type]

    async def generate(member: Any) -> Any:
        yield

    with pytest.raises(TypeError, match="makes a generator"):
        Cluster(generate)
    for limits in ({"requests": 0}, {"age": -1}, {"memory": 0}, {"jitter": -1}):
        with pytest.raises(ValueError, match=next(iter(limits))):
            Recycle(**limits)
    for times in ({"delay": -1}, {"longest": -1}, {"stable": float("nan")}, {"failures": 0}):
        with pytest.raises(ValueError, match=next(iter(times))):
            Restart(**times)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there are isolates here")
def test_without_isolates_it_says_so_at_once() -> None:
    with pytest.raises(IsolateUnsupported, match=r"3\.14"):
        Cluster(members.serve, kind="isolate")


async def test_uvloop_in_isolates_is_refused(kind: Any) -> None:
    if kind == "isolate":
        with pytest.raises(ValueError, match="uvloop does not load in isolates"):
            Cluster(members.serve, kind=kind, backend="uvloop")


async def test_what_needs_a_running_cluster_says_so() -> None:
    cluster = Cluster(members.serve, workers=1)
    assert cluster.workers == {}
    for asking in (
        cluster.ready,
        cluster.wait,
        cluster.reload,
        cluster.drain,
        partial(cluster.scale, 2),
        partial(cluster.kill, 1),
    ):
        with pytest.raises(RuntimeError, match="use `async with Cluster"):
            await asking()
    async with cluster:
        pass
    for asking in (cluster.reload, partial(cluster.scale, 2)):
        with pytest.raises(RuntimeError, match="does not run"):
            await asking()
    await cluster.ready()
    await cluster.wait()


async def test_a_start_that_fails_half_way_leaves_nothing(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(bound: Any) -> Any:
        raise OSError(errno.EMFILE, "no descriptor is left")

    monkeypatch.setattr(binding.Bound, "again", fail)
    cluster = Cluster(members.serve, workers=3, kind=kind, listen=LOCAL, policy="reuse_port")
    with pytest.raises(OSError, match="no descriptor"):
        async with cluster:
            raise AssertionError("it was entered")
    assert not cluster.workers
    with pytest.raises(OSError, match=r"."):
        await anyio.connect_tcp("127.0.0.1", port_of(cluster))


async def test_events_that_nobody_can_read_any_more_are_not_kept() -> None:
    async with Cluster(members.serve, workers=1) as cluster:
        given_up = [weakref.ref(cluster.events()) for _ in range(3)]
        gc.collect()
        assert [stream() for stream in given_up] == [None] * 3
