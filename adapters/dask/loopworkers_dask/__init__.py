"""loopworkers on a Dask cluster.

async with WorkerPool(DaskEngine("tcp://scheduler:8786")) as pool:
    value = await pool.run(fn, *args)
"""

from ._engine import DaskEngine

__all__ = ["DaskEngine"]
