"""Who takes part: keys, names for the table, and what each of them needs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Contender:
    """One line in a row of the table."""

    key: str
    label: str
    group: str  # "ours", "peer", "dask" or "floor"
    distribution: str | None = None  # whose version goes into the header
    loop: str = "asyncio"  # the event loop it is called from
    node: bool = False


_ALL = [
    Contender("process", "loopworkers process", "ours", "loopworkers"),
    Contender("isolate", "loopworkers isolate", "ours"),
    Contender("thread", "loopworkers thread", "ours"),
    Contender("process-uvloop", "loopworkers process, uvloop", "ours", "uvloop", loop="uvloop"),
    Contender("process-trio", "loopworkers process, trio", "ours", "trio", loop="trio"),
    Contender("isolate-trio", "loopworkers isolate, trio", "ours", loop="trio"),
    Contender("floor", "floor", "floor"),
    Contender("floor-one-core", "floor", "floor"),
    Contender("floor-with-imports", "floor", "floor"),
    Contender("ppe", "ProcessPoolExecutor", "peer"),
    Contender("ipe", "InterpreterPoolExecutor", "peer"),
    Contender("tpe", "ThreadPoolExecutor", "peer"),
    Contender("loky", "loky", "peer", "loky"),
    Contender("anyio-process", "anyio.to_process", "peer", "anyio"),
    Contender("anyio-isolate", "anyio.to_interpreter", "peer"),
    Contender("trio-parallel", "trio-parallel (trio)", "peer", "trio-parallel", loop="trio"),
    Contender("dask-pool", "loopworkers on Dask", "dask", "distributed"),
    Contender("dask-pool-trio", "loopworkers on Dask, trio", "dask", loop="trio"),
    Contender("dask-submit", "Dask's client, submit", "dask"),
    Contender("dask-map", "Dask's client, map", "dask"),
    Contender("piscina", "piscina (Node)", "peer", "piscina", loop="node", node=True),
    Contender("tinypool", "tinypool (Node)", "peer", "tinypool", loop="node", node=True),
    Contender("worker-threads", "worker_threads (Node)", "peer", loop="node", node=True),
]

BY_KEY = {contender.key: contender for contender in _ALL}

OURS = ["process", "isolate", "thread"]
OTHER_LOOPS = ["process-uvloop", "process-trio", "isolate-trio"]
PEERS = ["ppe", "ipe", "loky", "anyio-process", "anyio-isolate", "trio-parallel"]
NODE = ["piscina", "tinypool"]
