"""Serve an ASGI application by several workers that share its listening sockets."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import TYPE_CHECKING

from .._cluster.options import Recycle
from ..errors import IsolateUnsupported

if TYPE_CHECKING:
    from collections.abc import Sequence

# What the worker's side reads of them.
_FOR_WORKERS = (
    "factory",
    "lifespan",
    "http",
    "access_log",
    "proxy_headers",
    "forwarded_allow_ips",
    "root_path",
    "keep_alive",
    "certfile",
    "keyfile",
    "backlog",
    "grace",
    "log_level",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("app", metavar="module:app", help="the ASGI application; :app may be left out")
    add(
        "--bind",
        action="append",
        metavar="ADDRESS",
        help="host:port, [v6]:port, unix:path, fd://N or systemd; may be given several times "
        "(127.0.0.1:8000)",
    )
    add("--workers", type=int, metavar="N", help="how many (as many as there are cores)")
    add("--kind", choices=["process", "isolate"], default="process")
    add(
        "--policy",
        choices=["shared", "round_robin", "least_busy", "reuse_port"],
        default="shared",
        help="who gets the next connection (%(default)s)",
    )
    add("--server", choices=["uvicorn", "hypercorn"], help="(the first that is installed)")
    add("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="(%(default)s)")
    add("--http", choices=["auto", "h11", "httptools"], default="auto", help="uvicorn's parser")
    add("--lifespan", choices=["auto", "on", "off"], default="auto", help="for uvicorn")
    add("--factory", action="store_true", help="module:app is a function that returns it")
    add("--reload", action="store_true", help="when a source file changes; for development")
    add("--reload-dir", action="append", metavar="DIR", help="watched instead of the current one")
    add("--max-requests", type=int, metavar="N", help="replace a worker after so many")
    add("--max-requests-jitter", type=float, default=0.1, metavar="SHARE", help="(%(default)s)")
    add("--max-age", type=float, metavar="SECONDS", help="replace a worker after so long")
    add("--max-memory", type=int, metavar="MIB", help="replace a process that holds more")
    add("--max-connections", type=int, metavar="N", help="open ones of a worker")
    add("--grace", type=float, default=30.0, metavar="SECONDS", help="to finish (%(default)s)")
    add(
        "--unresponsive",
        type=float,
        metavar="SECONDS",
        help="kill a worker whose event loop does not answer for so long (never)",
    )
    add("--keep-alive", type=int, default=5, metavar="SECONDS", help="(%(default)s)")
    add("--backlog", type=int, default=2048, metavar="N", help="(%(default)s)")
    add("--certfile", metavar="FILE", help="serve TLS with this certificate")
    add("--keyfile", metavar="FILE")
    add("--root-path", default="", metavar="PATH")
    add(
        "--proxy-headers",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="uvicorn: believe proxies",
    )
    add("--forwarded-allow-ips", metavar="LIST", help="uvicorn: which ones")
    add("--access-log", action="store_true")
    add("--log-level", choices=["debug", "info", "warning", "error"], default="info")


def run(options: argparse.Namespace) -> int:
    """The program's exit code."""
    import anyio

    from .._serve import command
    from .._serve.worker import find_server

    logging.basicConfig(
        format="%(levelname)s: %(message)s", level=options.log_level.upper(), stream=sys.stderr
    )
    sys.path.insert(0, os.getcwd())
    watched = options.reload_dir or ["."]
    bind = options.bind or ["127.0.0.1:8000"]
    try:
        _check(options, watched, bind)
        recycle = Recycle(
            requests=options.max_requests,
            jitter=options.max_requests_jitter,
            age=options.max_age,
            memory=None if options.max_memory is None else options.max_memory << 20,
        )
        given = {name: getattr(options, name) for name in _FOR_WORKERS}
        given["server"] = find_server(options.server)
        return anyio.run(
            lambda: command.serve(
                options.app,
                given,
                bind=bind,
                workers=options.workers,
                kind=options.kind,
                policy=options.policy,
                backend=options.loop,
                recycle=recycle,
                max_connections=options.max_connections,
                unresponsive=options.unresponsive,
                reload_on=watched if options.reload else [],
            )
        )
    except (LookupError, OSError, ValueError, IsolateUnsupported) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _check(options: argparse.Namespace, watched: Sequence[str], bind: Sequence[str]) -> None:
    """What would fail in each worker alone, or not at all."""
    if options.reload_dir and not options.reload:
        raise ValueError("--reload-dir needs --reload")
    for folder in watched:
        if not os.path.isdir(folder):
            raise ValueError(f"--reload-dir {folder}: there is no such folder")
    for address in bind:
        if address.startswith("udp:"):
            raise ValueError(f"--bind {address}: an application is served by TCP or a Unix socket")
    _check_certificate(options.certfile, options.keyfile)


def _check_certificate(certfile: str | None, keyfile: str | None) -> None:
    if certfile is None:
        if keyfile is not None:
            raise ValueError("--keyfile needs --certfile")
        return
    import ssl

    key = keyfile or certfile
    for file in (certfile, key):
        open(file, "rb").close()  # its error has the name, that of ssl has not
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certfile, key, password="")  # workers cannot ask for one
    except ssl.SSLError as error:
        raise ValueError(f"{certfile} is no certificate whose key is in {key}: {error}") from None
