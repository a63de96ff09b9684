"""Makes live-page.png: the page of an application under load, in headless Chromium.

python docs/images/make.py [--dark] [--phone] [FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import sys
import time
from pathlib import Path
from types import ModuleType

import uvicorn
from loopworkers_asgi import Page, Workers, with_workers

HERE = Path(__file__).resolve().parent
SECONDS = 115  # of load before the picture is taken


# The application's work. Compiled like this its tracebacks show no folders of this machine.
shop = ModuleType("shop")
exec(compile((HERE / "shop.py").read_text(), "shop.py", "exec"), vars(shop))


async def load(workers: Workers) -> None:
    """Calls that come in waves, a few of which fail."""
    began, calls = time.monotonic(), set()
    while True:
        passed = time.monotonic() - began
        wave = 0.5 + 0.5 * abs(math.sin(passed / 14))
        for _ in range(18 if random.random() < 0.004 else 1):  # now and then many at a time
            call = asyncio.create_task(one(workers, random.random()))
            calls.add(call)
            call.add_done_callback(calls.discard)
        await asyncio.sleep(random.expovariate(28 * wave))


async def one(workers: Workers, kind: float) -> None:
    try:
        if kind < 0.002:
            await workers.run(shop.parse_invoice, "12,5O")
        elif kind < 0.003:
            await workers.run(shop.index_document, "a")
        elif kind < 0.2:
            await workers.run(shop.parse_invoice, "4711")
        elif kind < 0.28:
            await workers.options(timeout=1.1).run(shop.build_report, 1)
        else:
            await workers.run(shop.render_thumbnail, 1)
    except Exception:
        pass  # it is on the page


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=HERE / "live-page.png")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--phone", action="store_true")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args()

    workers = Workers(max_workers=4, min_workers=4, max_pending=100, name="image service", grace=0)
    app = with_workers(nothing_else, workers, page=Page())
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="on"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it has no event for that
        await asyncio.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    loading = asyncio.create_task(load(workers))
    picture = await asyncio.to_thread(photograph, f"http://127.0.0.1:{port}/loopworkers", options)
    options.file.write_bytes(picture)
    loading.cancel()
    server.should_exit = True
    await serving


async def nothing_else(scope: object, receive: object, send: object) -> None: ...


def photograph(url: str, options: argparse.Namespace) -> bytes:
    sys.path.insert(0, str(HERE.parents[1] / "tests/adapters"))
    from browser import Browser

    with Browser(400 if options.phone else 1200, 800) as browser:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if options.dark else "light"}
        browser.devtools("Emulation.setEmulatedMedia", features=[scheme])
        browser.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=390 if options.phone else 1200,
            height=1500 if options.phone else 800,
            deviceScaleFactor=1,
            mobile=options.phone,
        )
        browser.open(url)
        time.sleep(options.seconds)
        # One that the function itself raised.
        browser.run(
            "for (const item of document.querySelectorAll('#failures details')) {"
            "  if (item.textContent.includes('ValueError')) { item.open = true; break; } }"
        )
        return browser.screenshot()


if __name__ == "__main__":
    asyncio.run(main())
