"""The measured code: one round each, the same lines for every contender. Times in seconds."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from . import work
from .memory import resident

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .backends import Backend
    from .peers import Side
    from .player import Stage

Params = dict[str, Any]
Figures = dict[str, Any]
clock = time.perf_counter


def spread(samples: list[float]) -> Figures:
    """p50, p99 and maximum."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    return {
        "p50": ordered[last // 2],
        "p99": ordered[min(last, math.ceil(last * 0.99))],
        "max": ordered[last],
    }


async def warm_up(backend: Backend, side: Side, workers: int) -> None:
    """Have every worker started, and awake, before a clock runs."""
    async with backend.group() as start:
        for _ in range(workers * 2):
            start(side.run, work.pause, 0.002)


async def first(stage: Stage, params: Params) -> Figures:
    """From building a pool to its first result, in a process that has done nothing else."""
    start = clock()
    async with stage.fresh(params["workers"]) as side:
        await side.call(work.nothing)
        took = clock() - start
    return {"took": took}


async def round_trip(stage: Stage, params: Params) -> Figures:
    """One no-op after the other."""
    call, function = (await stage.side(params["workers"])).call, work.nothing
    for _ in range(20):
        await call(function)
    samples = []
    for _ in range(params["calls"]):
        start = clock()
        await call(function)
        samples.append(clock() - start)
    return spread(samples)


async def throughput(stage: Stage, params: Params) -> Figures:
    """No-ops with so many in flight, for a while."""
    call, function = (await stage.side(params["workers"])).call, work.nothing
    done = 0

    async def keep_one_in_flight(end: float) -> None:
        nonlocal done
        while clock() < end:
            await call(function)
            done += 1

    # First a moment untimed: threads and the like that come with the first such crowd.
    for seconds in (params["seconds"] / 5, params["seconds"]):
        begin, done = clock(), 0
        async with stage.backend.group() as start:
            for _ in range(params["in_flight"]):
                start(keep_one_in_flight, begin + seconds)
        took = clock() - begin
    return {"rate": done / took}


async def burst(stage: Stage, params: Params) -> Figures:
    """So many no-ops, all of them on their way at a time."""
    side = await stage.side(params["workers"])
    begin = clock()
    await side.burst(work.nothing, params["calls"])
    return {"rate": params["calls"] / (clock() - begin)}


async def payload(stage: Stage, params: Params) -> Figures:
    """A large argument; either it comes back, or its size does."""
    side = await stage.side(params["workers"])
    back = params["back"]
    # Not the same object time after time: nobody gains from remembering the last one.
    data: list[Any] = [bytes([n]) * params["size"] for n in range(1, 4)]
    if params.get("memoryview"):
        data = [memoryview(item) for item in data]
    samples = []
    for turn in range(params["calls"] + 1):
        item = data[turn % len(data)]
        start = clock()
        result = await side.call(work.same if back else work.size, item)
        samples.append(clock() - start)
        if (result != item) if back else (result != params["size"]):
            raise ValueError("the result is not what was sent")
    return spread(samples[1:])  # the first call of a round may still lay out memory


async def batch(stage: Stage, params: Params) -> Figures:
    """Many equal calls at once: how long until all are done, and how busy the workers were."""
    side = await stage.side(params["workers"])
    function = work.loops if params["loops"] else work.pause
    argument = params["loops"] or params["pause"]
    inside = 0.0

    async def one() -> None:
        nonlocal inside
        seconds = await side.call(function, argument)  # in one line, the others' sums were lost
        inside += seconds

    begin = clock()
    async with stage.backend.group() as start:
        for _ in range(params["calls"]):
            start(one)
    took = clock() - begin
    return {"took": took, "busy": inside / params["workers"] / took}


async def beside_a_long_call(stage: Stage, params: Params) -> Figures:
    """One long call, and pairs of short ones that keep coming at their own pace.

    The delay of a short call counts from the moment at which it was due, so a loop that falls
    behind cannot hide it. Pairs, because the second of two is the one that a pool may put behind
    the long call.
    """
    side, backend = await stage.side(params["workers"]), stage.backend
    seconds, short, every = params["seconds"], params["short"], params["every"]
    delays: list[float] = []
    async with backend.group() as start:
        long_call_from = clock()
        start(side.run, work.spin, seconds)
        await backend.sleep(0.02)  # the long call must be running by now

        async def one(due: float) -> None:
            await side.call(work.spin, short)
            delays.append(clock() - due)

        due = clock()
        # Stop early enough that the last short call is still beside the long one.
        while due < long_call_from + seconds - 0.05:
            await backend.sleep(max(0.0, due - clock()))
            start(one, due)
            start(one, due)
            due += every
    return spread(delays)


async def measure_lateness(backend: Backend, seconds: float) -> Figures:
    """How late a timer of 1 ms fires."""
    late = []
    end = clock() + seconds
    while (now := clock()) < end:
        await backend.sleep(0.001)
        late.append(clock() - now - 0.001)
    return spread(late)


async def loop_delay(stage: Stage, params: Params) -> Figures:
    """Lateness of the loop's timers while all workers are busy in pure Python."""
    side, backend = await stage.side(params["workers"]), stage.backend
    async with backend.group() as start:
        for _ in range(params["workers"]):
            start(side.run, work.spin, params["seconds"] + 0.15)
        await backend.sleep(0.1)
        return await measure_lateness(backend, params["seconds"])


async def long_map(stage: Stage, params: Params) -> Figures:
    """A long `map`: rate, and how far resident memory grows over what it was once warm."""
    calls, end = params["calls"], clock() + params["limit"]

    def numbers() -> Iterator[int]:
        for number in range(calls):
            if number % 1024 == 0 and clock() > end:
                return
            yield number

    async with stage.fresh(params["workers"]) as side:
        assert side.map is not None
        async for _ in side.map(work.same, range(calls // 20)):
            pass
        before = resident()
        peak_main, peak_workers = before
        begin, done, total = clock(), 0, 0
        async for value in side.map(work.same, numbers()):
            total += value
            done += 1
            if done % max(1, calls // 40) == 0:
                main, workers = resident()
                peak_main, peak_workers = max(peak_main, main), max(peak_workers, workers)
        took = clock() - begin
        after = resident()
    if total != done * (done - 1) // 2:
        raise ValueError("results are missing or doubled")
    return {
        "done": done,
        "rate": done / took,
        "grown_main": max(peak_main, after[0]) - before[0],
        "grown_workers": max(peak_workers, after[1]) - before[1],
    }


ROUNDS = {
    "first": first,
    "round_trip": round_trip,
    "throughput": throughput,
    "burst": burst,
    "payload": payload,
    "batch": batch,
    "beside_a_long_call": beside_a_long_call,
    "loop_delay": loop_delay,
    "long_map": long_map,
}
