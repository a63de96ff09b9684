"""WorkerExecutor: the same workers for code that is not async."""

from concurrent.futures import as_completed

from loopworkers import WorkerDied, WorkerExecutor


def collatz(start):
    steps, n = 0, start
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


def crash():
    import os

    os._exit(3)


# No `if __name__ == "__main__"` guard: workers never import the main program.
with WorkerExecutor("process", max_workers=2) as executor:
    futures = {executor.submit(collatz, n): n for n in (27, 97, 871)}
    for future in as_completed(futures):
        print(f"collatz({futures[future]}) takes {future.result()} steps")

    longest = max(executor.map(collatz, range(1, 20_000), chunksize=1000))
    print("longest below 20000:", longest)

    # A worker that dies fails its own call; the executor goes on.
    try:
        executor.submit(crash).result()
    except WorkerDied as error:
        print("WorkerDied:", error)
    print("still working:", executor.submit(collatz, 6).result())
