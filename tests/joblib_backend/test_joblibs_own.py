"""joblib's own tests of Parallel, from where it is installed, with our backend in loky's place.

These are the tests of `joblib.test.test_parallel` whose backend is loky or the default; what is
left out of them, and why, is in in_place_of_loky/selection.py. joblib's other test modules are of
loky's and multiprocessing's insides, or of other things than backends.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import joblib.test
import pytest

HERE = Path(__file__).parent
PARTS = 30  # so that none takes long, and several run at a time


VERSION = ".".join(map(str, sys.version_info[:2]))
IS_FOR = [line.rpartition(" ")[2] for line in metadata("joblib").get_all("Classifier") or ()]


@pytest.mark.skipif(VERSION not in IS_FOR, reason=f"joblib is not yet for Python {VERSION}")
@pytest.mark.timeout(300)  # others run beside it
@pytest.mark.parametrize("part", range(PARTS))
def test_part(part: int, tmp_path: Path) -> None:
    tests = Path(joblib.test.__file__).with_name("test_parallel.py")
    root = str(HERE.parents[1])
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "selection", "-p", "no:cacheprovider"),
            *("-c", os.devnull, "--rootdir", str(tmp_path), "--timeout", "120", str(tests)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
        cwd=tmp_path,
        env={
            **{name: v for name, v in os.environ.items() if not name.startswith("PYTEST_")},
            "PYTHONPATH": os.pathsep.join((str(HERE / "in_place_of_loky"), root)),
            "JOBLIB_TESTS_PART": f"{part}/{PARTS}",
        },
    )
    assert ended.returncode == 0, ended.stdout
    summary = ended.stdout.splitlines()[-1]
    passed = re.search(r"(\d+) passed", summary)
    assert passed is not None, summary
    assert int(passed[1]) > 4, summary  # that it does not pass for want of tests
