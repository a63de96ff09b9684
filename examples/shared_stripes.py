"""Two isolates and two processes work on one picture, each on the rows that are next."""

import asyncio
import sys

from loopworkers import AtomicInt64, BlockingPort, SharedBuffer, Worker

WIDTH, HEIGHT = 96, 64


def draw(port: BlockingPort, picture: SharedBuffer, counter: SharedBuffer):
    """Take the next row that nobody has, until there is none: no row twice, no row left out."""
    next_row = AtomicInt64(counter)
    rows = 0
    while (y := next_row.add(1)) < HEIGHT:
        for x in range(WIDTH):
            c = complex(3 * x / WIDTH - 2.2, 2.4 * y / HEIGHT - 1.2)
            z, steps = 0j, 0
            while abs(z) < 2 and steps < 60:
                z, steps = z * z + c, steps + 1
            picture.view[y * WIDTH + x] = steps
        rows += 1
    port.send(rows)


async def rows_of(worker: Worker) -> int:
    async with worker:
        return await worker.receive()


async def main():
    kinds = ["process", "process", "isolate", "isolate"]
    if sys.version_info < (3, 14):
        kinds = ["process"] * 4
    with SharedBuffer(WIDTH * HEIGHT) as picture, SharedBuffer(8) as counter:
        workers = [Worker(draw, picture, counter, kind=kind) for kind in kinds]
        rows = await asyncio.gather(*map(rows_of, workers))
        for y in range(0, HEIGHT, 4):
            line = picture.view[y * WIDTH : (y + 1) * WIDTH : 2]
            print("".join(" .:-=+*#%@"[min(steps, 59) // 6] for steps in line))
    print("rows by worker:", *rows, "in all:", sum(rows))


asyncio.run(main())
