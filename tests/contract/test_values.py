"""What is sent arrives equal and of its type, whatever its size."""

from __future__ import annotations

import datetime
import decimal
import os
from array import array
from collections import OrderedDict, defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import contract_work as work
import pytest
from contract_help import on_two_loops

from loopworkers import WorkerPool

pytestmark = [pytest.mark.anyio, on_two_loops]

SMALL: list[Any] = [
    None, True, False, 0, -1, 2**31, 2**64, -(2**200), 1.5, float("inf"), 2 + 3j, "", "text",
    "\N{SNOWMAN}\U0001f40d", "nul\0inside", "\ud800 alone", b"", b"\0\xff", (), (1,), [], [[[]]],
    {}, {"a": {"b": [1, (2, {3})]}}, {1: 2, (3, 4): 5, None: 6}, set(), {1, 2}, frozenset((1, "a")),
    range(3, 10, 2), slice(1, None, 2), ..., NotImplemented, int, dict, ValueError, len, os.getpid,
    Path("/some/where"), decimal.Decimal("1.10"), Fraction(1, 3), UUID(int=5),
    datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC), datetime.timedelta(days=-1),
    OrderedDict(b=1, a=2), defaultdict(list, {"a": [1]}), bytearray(b""), bytearray(b"abc"),
    array("d", [1.5, -2.5]), array("H"), work.Point(1, "y"), work.Point(1, work.Point(2)),
    work.Pair(1, 2), work.Colour.RED, [work.Colour],
]  # fmt: skip


async def test_small_values_come_back_equal_and_of_their_type(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        for value in SMALL:
            back = await pool.run(work.echo, value)
            assert (type(back), back) == (type(value), value)


async def test_positional_and_keyword_arguments_arrive_as_given(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        assert await pool.run(work.echo_all) == ((), {})
        # Named like the parameters of what calls it on the way.
        names = ("fn", "pool", "self", "function", "report", "server", "frame", "args", "kwargs")
        named = {name: number for number, name in enumerate(names)}
        assert await pool.run(work.echo_all, 1, **named) == ((1,), named)
        assert [v async for v in pool.stream(work.echo_all, **named)] == [(), named]


async def test_an_object_sent_twice_in_one_call_is_one_object_there_too(kind: str) -> None:
    shared = [1]
    cycle: list[Any] = [shared, shared]
    cycle.append(cycle)
    async with WorkerPool(kind, max_workers=1) as pool:
        back = await pool.run(work.echo, cycle)
        assert back[0] is back[1]
        assert back[2] is back


KIB = 1024
# Either side of what fits into a message, into a packet, and into a pipe's usual buffer.
SIZES = [
    8 * KIB - 1, 8 * KIB, *range(48 * KIB - 400, 48 * KIB + 50, 37), 48 * KIB, 60 * KIB - 1,
    60 * KIB, 60 * KIB + 1, 64 * KIB - 30, 64 * KIB, 64 * KIB + 1, 120 * KIB, 212_992, KIB * KIB,
    KIB * KIB + 1, 5_000_001,
]  # fmt: skip


@pytest.mark.parametrize("of", ["bytes", "bytearray", "str", "list of bytes", "list of int"])
async def test_values_of_every_size_come_back_equal(kind: str, of: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        for size in SIZES:
            raw = os.urandom(KIB) * (size // KIB) + bytes(size % KIB)
            value: Any = {
                "bytes": raw,
                "bytearray": bytearray(raw),
                "str": raw.decode("latin-1"),
                "list of bytes": [raw[: size // 2], raw[size // 2 :]],
                "list of int": list(raw[:60_000]),
            }[of]
            back = await pool.run(work.echo, value)
            assert type(back) is type(value)
            assert back == value, size


async def test_large_values_cross_while_others_are_under_way(kind: str) -> None:
    data = [os.urandom(300 * KIB + n) for n in range(12)]
    async with WorkerPool(kind, max_workers=2) as pool:
        futures = [pool.run(work.echo, item) for item in data]
        small = [pool.run(work.echo, n) for n in range(50)]
        assert [await future for future in futures] == data
        assert [await future for future in small] == list(range(50))


async def test_more_than_64_mebibytes_cross(own_memory: str) -> None:
    data = os.urandom(KIB) * (66 * KIB)
    async with WorkerPool(own_memory, max_workers=1) as pool:
        assert await pool.run(len, data) == len(data)
        assert await pool.run(work.make, "bytes", len(data), 7) == b"\7" * len(data)
        assert await pool.run(work.echo, 1) == 1  # and the worker is as good as before


async def test_arrays_of_every_type_come_back_equal(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        for code in "bBhHiIlLqQfd":
            for length in (0, 3, 20_000):
                value = array(code, range(min(length, 100))) * max(1, length // 100)
                back = await pool.run(work.echo, value)
                assert (back.typecode, back) == (code, value)


async def test_memoryviews_keep_format_shape_and_content(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        for size in (24, 24 * KIB):
            raw = os.urandom(size)
            for obj in (raw, bytearray(raw)):
                plain = memoryview(obj)
                for view in (
                    plain, plain[8:], plain[::-1], plain.cast("H"), plain.cast("f"),
                    plain.cast("b"), plain.cast("c"), plain.cast("?"),
                    plain.cast("B", (4, size // 4)), plain.cast("d", (3, size // 24)),
                ):  # fmt: skip
                    back = await pool.run(work.echo, view)
                    assert type(back) is memoryview
                    assert (back.format, back.shape) == (view.format, view.shape)
                    assert back.tobytes() == view.tobytes()


async def test_empty_memoryviews_keep_format_and_shape(kind: str) -> None:
    rows = memoryview(bytes(24)).cast("H", (3, 4))
    async with WorkerPool(kind, max_workers=1) as pool:
        for view in (
            memoryview(b""), memoryview(bytearray()), memoryview(array("d")), rows[:0],
            memoryview(bytearray(24)).cast("d", (3, 1))[:0], memoryview(array("i", [1]))[1:],
        ):  # fmt: skip
            back = await pool.run(work.echo, view)
            assert (back.format, back.shape, back.readonly) == (
                view.format, view.shape, view.readonly,
            )  # fmt: skip
            assert back.tolist() == []


async def test_a_view_with_gaps_and_a_format_comes_back_equal(kind: str) -> None:
    view = memoryview(array("i", range(10)))[::3]
    async with WorkerPool(kind, max_workers=1) as pool:
        back = await pool.run(work.echo, view)
        assert back.tolist() == view.tolist()
        assert back.format == "i"
