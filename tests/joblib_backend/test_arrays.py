"""Large arrays are written once and mapped, not pickled for each task."""

from __future__ import annotations

import os
import resource
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from joblib import Parallel, delayed, parallel_config

from loopworkers.joblib import shutdown_workers

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs /proc")


@pytest.fixture(autouse=True)
def backend() -> Iterator[None]:
    with parallel_config("loopworkers", n_jobs=2):
        yield


def describe(array: Any, index: Any = ...) -> dict[str, Any]:
    """What a worker sees of an argument."""
    array = np.asarray(array[index]) if index is not ... else array
    return {
        "type": type(array).__name__,
        "writeable": array.flags.writeable,
        "bytes": array.tobytes(),
        "file": mapped_file(array),
    }


def mapped_file(array: Any) -> str | None:
    """Device, inode and name of the file in which this process has the array's first element."""
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, _, _, device, inode, *name = line.split(maxsplit=5)
        begin, end = (int(number, 16) for number in place.split("-"))
        if begin <= address < end:
            return f"{device} {inode} {name[0]}" if name and inode != "0" else None
    return None


def memory_files() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:  # that of the folder
            continue
    return [name for name in found if "memfd:loopworkers" in name]


cube = np.arange(200_000, dtype="<i8").reshape(100, 50, 40)
SHAPES = {
    "C": cube,
    "Fortran": np.asfortranarray(cube),
    "every other": cube[:, ::2],
    "backwards": cube[::-1],
    "turned": cube.transpose(1, 0, 2),
    "big endian": cube.astype(">f8"),
    "dates": cube.astype("M8[s]"),
    "records": np.rec.array([(1, 2.0)] * 100_000, dtype=[("a", "i4"), ("b", "f8")]).view(
        np.ndarray
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_large_array_is_mapped_read_only(shape: str) -> None:
    array = SHAPES[shape]
    # And arrays inside of other things as well.
    tasks = [delayed(describe)(array), delayed(describe)({"in a dict": array}, "in a dict")]
    seen = Parallel(max_nbytes="100K")(tasks)
    assert seen[0]["type"] == "memmap"
    for each in seen:
        assert each["bytes"] == array.tobytes()
        assert not each["writeable"]
        assert "memfd:loopworkers" in each["file"]


def test_it_is_written_once_for_all_tasks() -> None:
    array = np.ones(500_000)
    for batch_size in (1, 5):
        seen = Parallel(batch_size=batch_size)(delayed(describe)(array) for _ in range(40))
        assert len({each["file"] for each in seen}) == 1
    shutdown_workers()  # each has one of its own
    assert memory_files() == []


def test_a_small_array_is_the_workers_own() -> None:
    for array in (np.ones(5), np.ones(100_000), np.array([{}] * 300_000)):
        for each in Parallel()(delayed(describe_kind)(array) for _ in range(2)):
            assert each == ("ndarray", True)


def describe_kind(array: Any) -> tuple[str, bool]:
    return type(array).__name__, array.flags.writeable


def test_options_of_joblib(tmp_path: Path) -> None:
    array = np.ones(200_000)
    for options in ({"max_nbytes": None}, {"mmap_mode": None}, {"max_nbytes": 2_000_000}):
        for each in Parallel(**options)(delayed(describe_kind)(array) for _ in range(2)):
            assert each == ("ndarray", True)
    for mode in ("c", "r+", "w+"):
        for value in Parallel(mmap_mode=mode)(delayed(double)(array) for _ in range(1)):
            assert value == 2
    assert array[0] == 1
    seen = Parallel(temp_folder=str(tmp_path))(delayed(describe)(array) for _ in range(3))
    assert all(str(tmp_path) in each["file"] for each in seen)
    assert not list(tmp_path.iterdir())


def test_the_folder_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", str(tmp_path))
    seen = Parallel()(delayed(describe)(np.ones(200_000)) for _ in range(2))
    assert all(str(tmp_path) in each["file"] for each in seen)


def double(array: Any) -> float:
    array *= 2
    return float(array[-1])


def test_a_folder_that_takes_nothing() -> None:
    array = np.ones(200_000)
    seen = Parallel(temp_folder="/proc")(delayed(describe_kind)(array) for _ in range(2))
    assert seen == [("ndarray", True)] * 2


def first_and_back(array: Any) -> Any:
    return array[:1000], array


def test_what_was_mapped_comes_back_as_a_plain_array() -> None:
    array = np.arange(200_000)
    for part, whole in Parallel()(delayed(first_and_back)(array) for _ in range(2)):
        for result, expected in ((part, array[:1000]), (whole, array)):
            assert type(result) is np.ndarray
            assert result.flags.writeable
            assert (result == expected).all()


def test_a_memmap_of_the_users_is_opened_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    numbers = np.memmap(path, "i4", "w+", shape=(300, 100))
    numbers[:] = np.arange(30_000).reshape(300, 100)
    numbers.flush()
    views = [numbers, numbers[10:20], numbers[:, 5], numbers[::-3, ::7], numbers.T, numbers[:0]]
    views += [np.asarray(numbers)[100:]]
    every = Parallel()(delayed(describe)(view) for view in views)
    for view, seen in zip(views, every, strict=True):
        assert seen["bytes"] == view.tobytes()
        if view.size:
            assert str(path) in seen["file"]
    # There and back, and nobody has read it.
    for part, whole in Parallel()(delayed(first_and_back)(numbers) for _ in range(2)):
        assert part.filename == whole.filename == str(path)
        assert (whole == numbers).all()


def total(arrays: Any) -> float:
    return float(sum(array.sum() for array in arrays))


def test_more_arrays_than_descriptors() -> None:
    arrays = [np.full(2_000, n, "f8") for n in range(300)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        one_each = Parallel(max_nbytes=1000)(delayed(total)([array]) for array in arrays)
        assert one_each == [2_000.0 * n for n in range(300)]
        for result in Parallel(max_nbytes=1000)(delayed(total)(arrays) for _ in range(4)):
            assert result == sum(one_each)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_arrays_made_for_one_task_are_let_go() -> None:
    made: list[weakref.ref[Any]] = []

    def make() -> Any:
        assert sum(ref() is not None for ref in made) < 20
        array = np.ones(200_000)
        made.append(weakref.ref(array))
        return array

    results = Parallel(batch_size=1)(delayed(np.sum)(make()) for _ in range(100))
    assert results == [200_000.0] * 100
    shutdown_workers()
    assert memory_files() == []


def test_a_table() -> None:
    table = pd.DataFrame({"a": np.arange(300_000), "b": np.ones(300_000), "c": ["x"] * 300_000})
    for result in Parallel()(delayed(table.__class__.sum)(table[["a", "b"]]) for _ in range(2)):
        assert result.to_dict() == {"a": sum(range(300_000)), "b": 300_000.0}
