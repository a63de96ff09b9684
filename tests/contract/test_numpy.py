"""NumPy arrays and pandas frames, on the kinds that can load them."""

from __future__ import annotations

from typing import Any

import contract_work as work
import pytest
from contract_help import KindParams, no_isolates, on_two_loops

from loopworkers import IsolateUnsupported, WorkerPool

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")

pytestmark = [pytest.mark.anyio, on_two_loops]
loads_numpy = pytest.mark.parametrize("kind", KindParams("process", "thread"))


@loads_numpy
async def test_arrays_keep_type_shape_order_and_content(kind: str) -> None:
    arrays: list[Any] = [
        np.arange(size).astype(dtype)
        for size in (0, 5, 200_000)
        for dtype in ("u1", "i2", ">i4", "f4", "f8", "c16", "M8[s]")
    ]
    grid = np.arange(60_000, dtype="f8").reshape(200, 300)
    arrays += [
        np.array(3.5), grid, np.asfortranarray(grid), grid[::2, 5:], grid.T, grid[::-1],
        np.array([1, "a", None], dtype=object), np.array(["a", "bc"] * 10_000),
        np.zeros(4_000, dtype=[("a", "i4"), ("b", "f8", (2,))]),
    ]  # fmt: skip
    async with WorkerPool(kind, max_workers=1) as pool:
        for value in arrays:
            back = await pool.run(work.echo, value)
            assert (back.dtype, back.shape) == (value.dtype, value.shape)
            assert back.flags.f_contiguous == value.flags.f_contiguous or not value.flags.contiguous
            assert np.array_equal(back, value)


@loads_numpy
async def test_arrays_are_writable_where_they_were(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        for size in (10, 4_000, 500_000):
            value = np.zeros(size)
            back = await pool.run(work.fill, value)
            back[1] = 8
            assert back[:2].tolist() == [7, 8]
            value = np.zeros(size)
            value.flags.writeable = False
            with pytest.raises(ValueError, match="read-only"):
                await pool.run(work.fill, value)


@loads_numpy
async def test_array_results_are_not_changed_by_later_calls(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        results = [await pool.run(np.full, 100_000, number) for number in range(4)]
        assert [(int(r[0]), int(r[-1])) for r in results] == [(n, n) for n in range(4)]


async def test_changing_an_array_after_the_call_changes_nothing() -> None:
    async with WorkerPool("process", max_workers=1) as pool:
        for size in (10, 4_000, 500_000):
            value = np.ones(size)
            future = pool.run(np.sum, value)
            value[:] = 0
            assert await future == size


@loads_numpy
async def test_frames_come_back_equal(kind: str) -> None:
    frame = pd.DataFrame(
        {
            "number": np.arange(50_000),
            "real": np.linspace(0, 1, 50_000),
            "text": ["a", "b"] * 25_000,
            "when": pd.date_range("2024-01-01", periods=50_000, freq="s"),
            "kind": pd.Categorical(["x", "y"] * 25_000),
        }
    )
    async with WorkerPool(kind, max_workers=1) as pool:
        for value in (frame, frame[::7], frame.set_index("when")["real"], frame.iloc[:0]):
            back = await pool.run(work.echo, value)
            assert type(back) is type(value)
            assert back.equals(value)
        back = await pool.run(work.echo, frame)
        back.loc[0, "number"] = 99
        assert back["number"][0] == 99


@no_isolates
async def test_an_isolate_says_which_module_it_cannot_load() -> None:
    async with WorkerPool("isolate", max_workers=1) as pool:
        with pytest.raises(IsolateUnsupported, match=r"numpy.*process") as caught:
            await pool.run(work.echo, np.ones(3))
        assert caught.value.name.startswith("numpy.")
        assert await pool.run(work.echo, 1) == 1
