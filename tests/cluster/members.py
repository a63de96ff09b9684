"""What the workers of the tests' clusters run: a protocol of lines, on asyncio and on trio.

A client sends one line and gets one back: ``<worker's id> <answer>``.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import ssl
import sys
import time
from typing import Any

import anyio

from loopworkers import current_worker


def answer(member: Any, line: bytes) -> bytes:
    """May take its time, or end the worker."""
    what = line.split()
    if what[:1] == [b"burn"]:
        end = time.monotonic() + float(what[1])
        while time.monotonic() < end:
            pass
    elif what[:1] == [b"spin"]:  # for ever, and a file tells that it has begun
        open(what[1], "w").close()
        while True:
            pass
    elif what[:1] == [b"hold"]:  # until the file is gone, and another tells that it has begun
        open(what[1] + b".%d" % member.id, "w").close()
        while os.path.exists(what[1]):
            time.sleep(0.005)
    elif what == [b"kind"]:
        line = member.kind.encode()
    elif what == [b"environment"]:
        line = os.environ.get("LOOPWORKERS_TEST", "-").encode()
    elif what == [b"die"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return b"%d %s\n" % (member.id, line.strip())


async def serve(member: Any, *_: Any) -> None:
    """On the loop that runs here."""
    if "trio" in sys.modules and sys.modules["trio"].lowlevel.in_trio_run():
        await _serve_on_trio(member)
    else:
        await _serve_on_asyncio(member)


async def serve_without_collector(member: Any) -> None:
    gc.disable()
    await serve(member)


async def serve_with_few_descriptors(member: Any, number: int) -> None:
    """So many more than it has when it starts."""
    next_free = os.dup(0)
    os.close(next_free)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_free + 10 + number, most))
    await serve(member)


async def tell_imports(member: Any) -> None:
    """What is loaded after it has said that it serves."""
    await member.ready()
    before = set(sys.modules)
    await member.stopping.wait(0.001)
    await member.drained()
    loaded = sorted(set(sys.modules) - before)
    await member.port.send(loaded)
    await member.stopping.wait()


async def serve_tls(member: Any, *files: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    await _serve_on_asyncio(member, ssl=context)


async def _serve_on_asyncio(member: Any, **options: Any) -> None:
    async def on_connection(reader: Any, writer: Any) -> None:
        try:
            while line := await reader.readline():
                if line.startswith(b"wait "):
                    await asyncio.sleep(float(line.split()[1]))
                writer.write(answer(member, line))
                await writer.drain()
                member.served()
        except ConnectionError:
            pass
        finally:
            writer.close()

    servers = [
        await asyncio.start_server(on_connection, sock=each, **options) for each in member.listeners
    ]
    await member.ready()
    await member.stopping.wait()
    for server in servers:
        server.close()
    await member.drained()


async def _serve_on_trio(member: Any) -> None:
    import trio

    async def on_connection(stream: Any) -> None:
        buffer = b""
        try:
            async with stream:
                async for data in stream:
                    buffer += data
                    while b"\n" in buffer:
                        line, _, buffer = buffer.partition(b"\n")
                        if line.startswith(b"wait "):
                            await trio.sleep(float(line.split()[1]))
                        await stream.send_all(answer(member, line))
                        member.served()
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as connections, trio.open_nursery() as listening:
        for listener in member.trio_listeners():

            async def serve(listener: Any = listener) -> None:
                await trio.serve_listeners(on_connection, [listener], handler_nursery=connections)

            listening.start_soon(serve)
        await member.ready()
        await member.stopping.wait()
        listening.cancel_scope.cancel()


def serve_blocking(member: Any) -> None:
    """A plain function, one connection after the other."""
    (listener,) = member.listeners
    listener.settimeout(0.05)
    member.ready()
    while not member.stopping.is_set():
        try:
            connection, _ = listener.accept()
        except (TimeoutError, BlockingIOError):  # another worker was faster
            continue
        connection.settimeout(None)
        with connection, connection.makefile("rwb") as file:
            for line in file:
                file.write(answer(member, line))
                file.flush()


async def serve_unless_held(member: Any, seat: int, path: str) -> None:
    """In that seat not as long as the file exists."""
    if current_worker().name == f"member {seat}":
        while os.path.exists(path):  # noqa: ASYNC110, ASYNC240
            await anyio.sleep(0.005)
    await serve(member)


# --- those that do not get so far ---------------------------------------------------------------


async def fail_at_start(member: Any) -> None:
    raise ZeroDivisionError("on purpose")


async def fail_in_seat(member: Any, seat: int) -> None:
    """Others never come so far as to serve."""
    if current_worker().name != f"member {seat}":
        await member.stopping.wait()
    raise ZeroDivisionError("on purpose")


async def return_at_start(member: Any) -> None:
    pass


async def never_ready(member: Any) -> None:
    await member.stopping.wait()


async def fail_if_there_is(member: Any, path: str) -> None:
    if os.path.exists(path):  # noqa: ASYNC240
        raise ZeroDivisionError("there it is")
    await serve(member)


async def fail_when_told(member: Any) -> None:
    await member.ready()
    await member.port.receive()
    raise ZeroDivisionError("as told")


async def return_when_told(member: Any) -> None:
    await member.ready()
    await member.port.receive()


async def exit_when_told(member: Any) -> None:
    await member.ready()
    sys.exit(await member.port.receive())


# --- those that do not end -----------------------------------------------------------------------


async def spin_when_told(member: Any) -> None:
    await member.ready()
    await member.port.send("ready")
    await member.port.receive()
    while True:
        pass


async def ignore_stopping(member: Any) -> None:
    await member.ready()
    while True:
        try:
            await asyncio.sleep(3600)
        except BaseException:
            pass


# --- messages ------------------------------------------------------------------------------------


async def echo(member: Any) -> None:
    await member.ready()
    async for message in member.port:
        await member.port.send(message)


async def count_when_told(member: Any) -> None:
    """Sends numbers, and ends."""
    await member.ready()
    for number in range(await member.port.receive()):
        await member.port.send(number)


async def tell_socket(member: Any) -> None:
    """The number that the kernel gives its socket, in whatever process it is."""
    await member.ready()
    await member.port.send(os.fstat(member.listeners[0].fileno()).st_ino)
    await member.stopping.wait()


async def write_to_sockets(member: Any) -> None:
    await member.ready()
    async for text, connection in member.port:
        with connection:
            connection.setblocking(True)
            connection.sendall(text)


async def serve_udp(member: Any) -> None:
    loop = asyncio.get_running_loop()

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, peer: Any) -> None:
            self.transport.sendto(answer(member, data), peer)

    transport, _ = await loop.create_datagram_endpoint(Echo, sock=member.listeners[0])
    await member.ready()
    await member.stopping.wait()
    transport.close()


async def write_rubbish(member: Any, which: str) -> None:
    """When told, where only whole frames should be."""

    async def when_told() -> None:
        await member.port.receive()
        port = member.port if which == "port" else member._control
        os.write(port._pipe.socket.fileno(), b"\xff" * 1000)

    telling = asyncio.create_task(when_told())
    await serve(member)
    telling.cancel()
