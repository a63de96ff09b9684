"""WebSockets that stick: whoever comes from one address is always served by the same worker.

So a worker may keep what it knows of a client in a plain dictionary.
"""

import asyncio
import zlib
from collections import Counter
from importlib.util import find_spec

from loopworkers import Cluster


def sticky(peer, workers):
    """The policy: the same worker for the same host, as long as there are as many of them."""
    return workers[zlib.crc32(peer[0].encode()) % len(workers)]


async def serve(member):
    from wsproto import ConnectionType, WSConnection
    from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage

    visits = Counter()

    async def on_connection(reader, writer):
        host = writer.get_extra_info("peername")[0]
        socket = WSConnection(ConnectionType.SERVER)
        while data := await reader.read(65536):
            socket.receive_data(data)
            for event in socket.events():
                answer = b""
                if isinstance(event, Request):
                    visits[host] += 1
                    answer = socket.send(AcceptConnection())
                elif isinstance(event, TextMessage):
                    text = f"worker {member.id} has seen {host} {visits[host]} times"
                    answer = socket.send(TextMessage(text))
                elif isinstance(event, Ping | CloseConnection):
                    answer = socket.send(event.response())
                writer.write(answer)
                await writer.drain()
        writer.close()

    (listener,) = member.listeners
    server = await asyncio.start_server(on_connection, sock=listener)
    await member.ready()
    await member.stopping.wait()
    server.close()
    await member.drained()


async def ask(port, host):
    """By a connection of its own, from this address."""
    from wsproto import ConnectionType, WSConnection
    from wsproto.events import AcceptConnection, CloseConnection, Request, TextMessage

    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(host, 0))
    socket = WSConnection(ConnectionType.CLIENT)
    writer.write(socket.send(Request(host="localhost", target="/")))
    text = None
    while data := await reader.read(65536):
        socket.receive_data(data)
        for event in socket.events():
            if isinstance(event, AcceptConnection):
                writer.write(socket.send(TextMessage("who are you?")))
            elif isinstance(event, TextMessage):
                text = event.data
                writer.write(socket.send(CloseConnection(code=1000)))
            elif isinstance(event, CloseConnection):
                writer.close()
    await writer.wait_closed()
    return text


async def main():
    async with Cluster(serve, workers=3, listen="127.0.0.1:0", policy=sticky) as cluster:
        await cluster.ready()
        port = int(cluster.addresses[0].rpartition(":")[2])
        # All of 127.0.0.0/8 is this machine, on Linux.
        for _ in range(3):
            for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
                print(await ask(port, host))


if find_spec("wsproto") is None:
    print("skipped: wsproto is not installed, pip install 'loopworkers[hypercorn]' brings it")
else:
    asyncio.run(main())
