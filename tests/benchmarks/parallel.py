"""Rounds through joblib: the same `Parallel`, on the backend that the parameters name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import work
from .rounds import clock

if TYPE_CHECKING:
    from .player import Stage
    from .rounds import Figures, Params


def _load(backend: str) -> None:
    if backend == "loopworkers":
        import loopworkers.joblib  # noqa: F401 - registers it


async def calls(stage: Stage, params: Params) -> Figures:
    """No-ops, as many to a batch as joblib thinks fit or as the parameters say."""
    _load(params["backend"])
    from joblib import Parallel, delayed

    def run(calls: int) -> None:
        parallel = Parallel(
            n_jobs=params["workers"], backend=params["backend"], batch_size=params["batch_size"]
        )
        parallel(delayed(work.same)(number) for number in range(calls))

    run(100)
    start = clock()
    run(params["calls"])
    return {"rate": params["calls"] / (clock() - start)}


async def search(stage: Stage, params: Params) -> Figures:
    """A grid search of 80 short fits; the first one, or one after others."""
    _load(params["backend"])
    from joblib import parallel_config
    from sklearn.datasets import make_classification
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    rows, labels = make_classification(400, 20, random_state=0)
    grid = {"C": [0.1, 1, 10, 100], "gamma": [0.001, 0.01, 0.1, 1]}

    def run() -> float:
        start = clock()
        with parallel_config(params["backend"], n_jobs=params["workers"]):
            GridSearchCV(SVC(random_state=0), grid, cv=5).fit(rows, labels)
        return clock() - start

    return {"first": run(), "took": run()}


ROUNDS = {"joblib_calls": calls, "joblib_search": search}
