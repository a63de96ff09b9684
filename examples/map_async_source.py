"""map() over an endless asynchronous source, in bounded memory."""

import asyncio
import hashlib

from loopworkers import WorkerPool


async def messages():
    """Stands for a socket or a queue: it never ends."""
    number = 0
    while True:
        await asyncio.sleep(0)
        yield f"message {number}".encode()
        number += 1


def work(message):
    return message, hashlib.pbkdf2_hmac("sha256", message, b"salt", 2_000).hex()


async def main():
    async with WorkerPool() as pool:
        # At most 8 messages have been taken from the source whose results were not taken here.
        async with pool.map(work, messages(), in_flight=8) as results:
            done = 0
            async for message, digest in results:
                done += 1
                if done % 50 == 0:
                    print(message.decode(), digest[:16])
                if done == 200:
                    break  # the calls that are on their way are stopped
        print(done, "messages done")


asyncio.run(main())
