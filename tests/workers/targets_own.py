"""What workers have of their own: environment, context, output, descriptors."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from contextvars import ContextVar
from typing import Any

from loopworkers import Worker

deployment: ContextVar[Any] = ContextVar("deployment", default="not set")
kept: list[Any] = []


# --- environment ---------------------------------------------------------------------------------


def use_environment(port: Any) -> None:
    """Set what is asked for, if a value comes along, and tell what it is then."""
    for name, value in port:
        if value is not None:
            os.environ[name] = value
        port.send(os.environ.get(name))


def tell_parent(port: Any) -> None:
    port.send(os.getppid())


async def pass_on_to_a_nested_worker(port: Any, target: Any, kind: Any) -> None:
    """Put a worker between the program and one of that kind."""
    async with Worker(target, kind=kind) as inner:
        async for message in port:
            await inner.send(message)
            await port.send(await inner.receive())


# --- context variables ---------------------------------------------------------------------------


def use_deployment(port: Any) -> None:
    for value in port:
        if value is not None:
            deployment.set(value)
        port.send(deployment.get())


async def use_deployment_async(port: Any) -> None:
    async for value in port:
        if value is not None:
            deployment.set(value)
        await port.send(deployment.get())


# --- output --------------------------------------------------------------------------------------


def print_and_die(port: Any, lines: int) -> None:
    for number in range(lines):
        print("line", number)
    os.kill(os.getpid(), signal.SIGKILL)


def print_and_exit_at_once(port: Any, lines: int) -> None:
    for number in range(lines):
        print("line", number)
    os._exit(3)


def print_for_ever(port: Any) -> None:
    number = 0
    while True:
        print("line", number)
        number += 1


def print_lines(port: Any, name: str, lines: int) -> None:
    for number in range(lines):
        # In one piece, since threads share the stream as well.
        sys.stdout.write(f"{name} {number}\n")


# --- descriptors ---------------------------------------------------------------------------------


def keep_open(port: Any, how: str) -> None:
    """Hold files and sockets when the end comes, and two of them where nobody lets go of them."""
    theirs = port.receive()
    kept.extend((theirs, *socket.socketpair(), open(os.devnull), tempfile.TemporaryFile()))  # noqa: SIM115
    kept.append(kept)
    port.send("open")
    if how == "exit":
        sys.exit(4)
    if how == "failure":
        raise LookupError("with open files")
    while how == "terminate":
        pass


def keep_a_bare_descriptor(port: Any) -> None:
    kept.append(port.receive().detach())
    port.send(kept[-1])
