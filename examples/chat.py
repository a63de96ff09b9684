"""Workers talk to each other: everybody hears everybody, and anybody can be asked by number."""

import asyncio

from loopworkers import BlockingPort, Broadcast, Worker, on_request, request

NAMES = ["ann", "bob", "cid"]


def talk(port: BlockingPort, name: str):
    """Join the room, say one thing, and tell what the others have said."""
    on_request(lambda question, asker: f"{name} has heard worker {asker} ask {question!r}")
    with Broadcast("room") as room:
        port.send("joined")
        port.receive()  # until all are there
        room.send(f"{name}: hello")
        heard = sorted(room.receive() for _ in NAMES)
        port.send(heard)
        port.receive()


async def main():
    async with (
        Broadcast("room") as room,
        Worker(talk, "ann") as ann,
        Worker(talk, "bob") as bob,
        Worker(talk, "cid", kind="thread") as cid,
    ):
        workers = [ann, bob, cid]
        for worker in workers:
            await worker.receive()
        for worker in workers:
            await worker.send("speak")
        for _ in NAMES:
            print("heard here:", await room.receive())
        await room.send("the program: good evening")
        for name, worker in zip(NAMES, workers, strict=True):
            print(name, "heard", await worker.receive())
        print(await request(bob.id, "how are you?"))
        for worker in workers:
            await worker.send("bye")


asyncio.run(main())
