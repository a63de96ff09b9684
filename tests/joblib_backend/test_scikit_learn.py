"""scikit-learn gives the same on these workers as on loky, in a program of its own.

loky's workers and joblib's resource tracker stay as long as the program that made them.
"""

from __future__ import annotations

import json

import pytest

from .helpers import run_script

PROGRAM = """
import json
import warnings

import joblib
import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC

import loopworkers.joblib

warnings.simplefilter("ignore")  # of fits that do not converge

X, y = make_classification(300, 20, n_informative=6, class_sep=0.7, random_state=1)


def grid_search():
    grid = {"C": [0.1, 1.0, 10.0], "kernel": ["rbf", "linear"]}
    search = GridSearchCV(SVC(max_iter=200, random_state=1), grid, cv=3).fit(X, y)
    scores = [search.cv_results_[f"split{n}_test_score"].tolist() for n in range(3)]
    return [*scores, search.best_params_, search.best_estimator_.dual_coef_.tolist()]


def cross_validation():
    halved = FunctionTransformer(lambda X: X / 2)  # which only cloudpickle can send
    return cross_val_score(make_pipeline(halved, LogisticRegression()), X, y, cv=5).tolist()


def forest_inside():
    # It asks for threads of its own inside the workers.
    model = RandomForestClassifier(20, n_jobs=2, random_state=1)
    return cross_val_score(model, X, y, cv=3).tolist()


results = {}
for backend in ("loky", "loopworkers"):
    # By max_nbytes workers map X.
    with joblib.parallel_config(backend, n_jobs=2, max_nbytes="10K"):
        results[backend] = [grid_search(), cross_validation(), forest_inside()]
with joblib.parallel_backend("loopworkers", kind="thread", n_jobs=2):
    results["threads"] = [grid_search(), cross_validation(), forest_inside()]
print(json.dumps(results))
"""


@pytest.mark.timeout(300)  # others run beside it
def test_the_same_scores_as_with_loky() -> None:
    results = json.loads(run_script(PROGRAM, timeout=280))
    assert results["loopworkers"] == results["loky"] == results["threads"]
    (first, *_), (score, *_), forest = results["loopworkers"]
    assert 0.5 < first[0] <= 1
    assert 0.5 < score <= 1
    assert len(forest) == 3
