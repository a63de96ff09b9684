"""A pytest plugin for joblib's tests: those that say something about a backend of another's."""

import os

import pytest
from joblib.parallel import BACKENDS

LEFT_OUT = {
    "test_nested_parallel_warnings": "which backends warn, and of what, is their own affair",
    "test_parallel_pickling": "loky's words; ours are in test_errors.py",
    "test_parallel_with_interactively_defined_bound_method_loky": "looks for loky in its log",
    "test_memmapping_leaks": "looks for files with names; ours have none, see test_arrays.py",
    "test_loky_reuse_workers": "asks loky itself; ours are in test_life.py",
}


def _is_ours(backend):
    return backend in (None, "loky") or isinstance(backend, BACKENDS["loky"])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    unknown = LEFT_OUT.keys() - {item.originalname for item in items}
    assert not unknown, f"joblib has no tests {unknown} any more"
    kept = []
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        backends = [value for name, value in params.items() if "backend" in name]
        if item.originalname in LEFT_OUT or (backends and not any(map(_is_ours, backends))):
            continue
        if item.originalname == "test_multiple_generator_call_separated_gc":
            # Whether the second call fails, since loky's workers are shared with the first.
            params["error"] = False
        kept.append(item)
    part, parts = map(int, os.environ["JOBLIB_TESTS_PART"].split("/"))
    chosen = kept[part::parts]  # those of one test, which take as long, are in different parts
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
