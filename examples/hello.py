import asyncio

from loopworkers import run_in_worker


def count_primes(limit):
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, limit))


async def main():
    calls = [run_in_worker(count_primes, limit) for limit in (20_000, 40_000, 60_000)]
    print("the calls run in worker processes, the loop is free")
    print("primes:", *await asyncio.gather(*calls))


asyncio.run(main())
