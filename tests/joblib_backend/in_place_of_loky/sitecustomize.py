"""Python imports this when it starts: "loky" is then our backend, in scripts of tests as well."""

import sys

# Workers import what they need themselves: NumPy not before its threads are limited.
if not any("loopworkers._child" in argument for argument in sys.orig_argv):
    from joblib import _parallel_backends, parallel

    from loopworkers.joblib import LoopworkersBackend

    class LokyBackend(LoopworkersBackend):
        """joblib's tests look for this name."""

    # joblib.parallel keeps its own reference, by which it does what only loky needs.
    _parallel_backends.LokyBackend = LokyBackend
    parallel.BACKENDS["loky"] = LokyBackend
    del parallel.BACKENDS["loopworkers"]  # that would be each test twice
