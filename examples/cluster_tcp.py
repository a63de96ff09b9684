"""A TCP service in two workers: who answers, a reload while clients are there, a drain."""

import asyncio

from loopworkers import Cluster, WorkerDraining, WorkerExited, WorkerReady


async def serve(member, greeting):
    """What each worker runs."""

    async def on_connection(reader, writer):
        while line := await reader.readline():
            writer.write(b"worker %d: %s, %s" % (member.id, greeting.encode(), line))
            await writer.drain()
        writer.close()

    servers = [await asyncio.start_server(on_connection, sock=each) for each in member.listeners]
    await member.ready()
    await member.stopping.wait()
    for server in servers:
        server.close()
    await member.drained()  # those who are connected stay until they go


class Client:
    async def connect(self, port):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        return self

    async def ask(self, name):
        self.writer.write(name.encode() + b"\n")
        return (await self.reader.readline()).decode().strip()

    async def close(self):
        self.writer.close()
        await self.writer.wait_closed()


async def ask(port, name):
    client = await Client().connect(port)
    answer = await client.ask(name)
    await client.close()
    return answer


async def report(events):
    """Print who comes and goes, to the end of the cluster."""
    async for event in events:
        if isinstance(event, WorkerReady):
            print(f"    worker {event.worker.id} serves")
        elif isinstance(event, WorkerExited):
            print(f"    worker {event.worker.id} has ended with code {event.exitcode}")


async def main():
    cluster = Cluster(serve, "hello", workers=2, listen="127.0.0.1:0", policy="round_robin")
    async with cluster:
        reporting = asyncio.create_task(report(cluster.events()))
        await cluster.ready()
        port = int(cluster.addresses[0].rpartition(":")[2])
        for name in ("ann", "bob", "cid", "dan"):
            print(await ask(port, name))

        print("a reload, with a client that stays:")
        eve = await Client().connect(port)
        await eve.ask("eve")
        cluster.configure("good evening")
        events = cluster.events()
        reloading = asyncio.create_task(cluster.reload())
        while not isinstance(await anext(events), WorkerDraining):
            pass
        print(await eve.ask("eve, still the old one"))
        await eve.close()
        await reloading
        print(await ask(port, "fay"))
        print("drain:")
    await reporting
    print("all have ended")


asyncio.run(main())
