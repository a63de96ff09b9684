"""An ASGI application that computes: /ping stays quick while /heavy runs.

Run as a program it serves itself and asks. To serve it: `loopworkers serve asgi_service:app`.
"""

import asyncio
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

from loopworkers import run_in_worker

LIMIT = 300_000


def count_primes(limit):
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, limit))


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    if scope["path"] == "/ping":
        await answer(send, 200, "pong")
    elif scope["path"] == "/heavy":
        # Not here: the event loop would answer nobody in the meantime.
        await answer(send, 200, str(await run_in_worker(count_primes, LIMIT)))
    else:
        await answer(send, 404, "there are /ping and /heavy")


async def live(receive, send):
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await run_in_worker(count_primes, 10)  # the first call starts the workers
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def answer(send, status, text):
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


# --- as a program -------------------------------------------------------------------------------


def ask(url):
    """The answer, and how many seconds it took."""
    started = time.perf_counter()
    with urllib.request.urlopen(url, timeout=30) as response:
        return response.read().decode(), time.perf_counter() - started


async def main():
    command = ["serve", "asgi_service:app", "--bind", "127.0.0.1:0", "--workers", "1"]
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loopworkers", *command),
        cwd=Path(__file__).parent,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async for line in server.stderr:
            if b" on http://" in line:
                break
        else:
            sys.exit("the server did not start")
        url = line.split()[-1].decode()
        heavy = asyncio.create_task(asyncio.to_thread(ask, f"{url}/heavy"))
        pings = []
        while not heavy.done():
            pings.append(await asyncio.to_thread(ask, f"{url}/ping"))
            await asyncio.sleep(0.01)
        primes, took = await heavy
        slowest = max(seconds for _, seconds in pings)
        print(f"/heavy: {primes} primes below {LIMIT} in {took:.2f} s")
        print(f"/ping: {len(pings)} answers beside it, the slowest after {slowest * 1000:.0f} ms")
        print("quick enough" if slowest < took / 2 else "THE LOOP WAS BLOCKED")
    finally:
        server.terminate()  # it finishes what it has
        await server.communicate()
    print("the server ended with code", server.returncode)


if __name__ == "__main__":
    if find_spec("uvicorn") is None and find_spec("hypercorn") is None:
        print("skipped: no server is installed, pip install 'loopworkers[uvicorn]'")
    else:
        asyncio.run(main())
