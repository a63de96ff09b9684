"""TLS, over connections that a worker has accepted and over those that were handed to it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import anyio
import members
import pytest
from clients import Client, skip_without
from contract_help import LONG
from serving import APP, Served, get

from loopworkers import Cluster

ENDED = (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError)
LOCAL = "127.0.0.1:0"


@pytest.fixture
def trusting(certificate: tuple[str, str]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate[0])


@pytest.mark.anyio
@pytest.mark.parametrize("backend", ["asyncio", "uvloop"])
async def test_a_member_serves_tls(
    kind: Any,
    policy: Any,
    backend: Any,
    certificate: tuple[str, str],
    trusting: ssl.SSLContext,
    caplog: Any,
) -> None:
    skip_without(backend, kind)
    async with Cluster(
        members.serve_tls,
        *certificate,
        workers=2,
        kind=kind,
        listen=LOCAL,
        policy=policy,
        backend=backend,
    ) as cluster:
        await cluster.ready()
        for _ in range(3):
            async with await Client.connect(cluster, trusting) as client:
                assert (await client.ask(b"hello"))[1] == b"hello"
        async with await Client.connect(cluster) as plain:  # a failed handshake stops nobody
            await plain.send(b"not TLS " * 100)
            with pytest.raises(
                (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError)
            ):
                await plain.answer()
        async with await Client.connect(cluster, trusting) as client:
            assert (await client.ask(b"again"))[1] == b"again"
    assert not [record for record in caplog.records if "never retrieved" in record.message]


@pytest.mark.parametrize("in_one_file", [False, True])
@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
def test_serve_with_tls(
    server: str,
    kind: str,
    in_one_file: bool,
    tmp_path: Path,
    certificate: tuple[str, str],
    trusting: ssl.SSLContext,
) -> None:
    pytest.importorskip(server)
    import http.client

    (tmp_path / "app.py").write_text(APP)
    options = ["--certfile", certificate[0], "--keyfile", certificate[1]]
    if in_one_file:
        both = tmp_path / "both.pem"
        both.write_text("".join(Path(file).read_text() for file in certificate))
        options = ["--certfile", str(both)]
    policy = "round_robin" if in_one_file else "shared"
    with Served(
        tmp_path, "--server", server, "--kind", kind, "--policy", policy, *options
    ) as served:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", served.port, timeout=LONG, context=trusting
        )
        assert get(connection) == "hello 1"
        connection.close()
        assert "https://127.0.0.1" in served.said()
