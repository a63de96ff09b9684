"""A generator in a worker; its values arrive as they are made, and it never runs far ahead."""

import asyncio
import csv
import io

from loopworkers import WorkerPool

TABLE = "city,population\n" + "".join(f"city {n},{n * 1000}\n" for n in range(100_000))


def big_cities(text, smallest):
    for row in csv.DictReader(io.StringIO(text)):
        if int(row["population"]) >= smallest:
            yield row["city"], int(row["population"])


async def main():
    async with WorkerPool(max_workers=1) as pool:
        # Leaving the block ends the generator: of the rows only the first few are ever made.
        async with pool.stream(big_cities, TABLE, 5_000_000) as rows:
            async for city, population in rows:
                print(city, population)
                if population >= 5_002_000:
                    break
        print("the worker is free again:", await pool.run(max, 1, 2))


asyncio.run(main())
