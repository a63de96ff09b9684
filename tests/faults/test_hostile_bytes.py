"""What arrives on a worker's channel need not be what a worker should send."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import stat
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopworkers import LoopworkersError, WorkerPool
from loopworkers._wire.failures import decode_failure, encode_failure
from loopworkers._wire.frames import (
    HEADER,
    PACKET_MAX,
    TO_LOOP,
    Frame,
    FrameReader,
    ProtocolError,
    pack,
    unpack_packet,
)

from .helpers import BACKENDS, nothing_left

if TYPE_CHECKING:
    from collections.abc import Callable

messages = st.tuples(
    st.sampled_from(sorted(TO_LOOP)),
    st.integers(0, 255),  # flags
    st.integers(0, 2**32 - 1),  # extra
    st.integers(0, 2**64 - 1),  # id
    st.binary(max_size=300),
).map(Frame)


def packed(frames: list[Frame]) -> bytes:
    return b"".join(pack(f.kind, f.id, f.payload, f.flags, f.extra) for f in frames)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(st.lists(messages), st.lists(st.integers(0)))
def test_frames_arrive_however_the_stream_is_cut(frames: list[Frame], cuts: list[int]) -> None:
    reader = FrameReader(TO_LOOP)
    arrived = [frame for piece in split(packed(frames), cuts) for frame in reader.feed(piece)]
    assert arrived == frames
    assert unpack_packet(packed(frames)) == frames


@given(st.lists(messages, min_size=1), st.data())
def test_a_frame_is_not_seen_before_its_last_byte(frames: list[Frame], data: Any) -> None:
    whole = packed(frames)
    length = data.draw(st.integers(0, len(whole) - 1))
    arrived = FrameReader(TO_LOOP).feed(whole[:length])
    assert len(arrived) < len(frames)
    assert arrived == frames[: len(arrived)]


@given(st.lists(st.binary(max_size=200)))
def test_garbage_gives_frames_or_a_protocol_error(pieces: list[bytes]) -> None:
    reader = FrameReader(TO_LOOP)
    with contextlib.suppress(ProtocolError):
        for piece in pieces:
            for frame in reader.feed(piece):
                assert frame.kind in TO_LOOP
    with contextlib.suppress(ProtocolError):
        unpack_packet(b"".join(pieces))


@given(st.lists(messages, min_size=1), st.integers(0), st.integers(0, 255))
def test_one_wrong_byte_gives_frames_or_a_protocol_error(
    frames: list[Frame], place: int, value: int
) -> None:
    data = bytearray(packed(frames))
    data[place % len(data)] = value
    with contextlib.suppress(ProtocolError):
        FrameReader(TO_LOOP).feed(bytes(data))
    with contextlib.suppress(ProtocolError):
        unpack_packet(bytes(data))


@given(st.integers(PACKET_MAX + 1, 2**32 - 1), st.sampled_from(sorted(TO_LOOP)))
def test_a_length_is_no_reason_to_allocate(length: int, kind: int) -> None:
    header = HEADER.pack(kind, 0, length, 0, 1)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            FrameReader(TO_LOOP).feed(header)
        with pytest.raises(ProtocolError):
            unpack_packet(header)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@settings(max_examples=300)
@given(st.binary(max_size=100))
def test_a_failure_that_cannot_be_read_is_an_exception_all_the_same(payload: bytes) -> None:
    assert isinstance(decode_failure(payload), Exception)


@given(st.integers(0), st.integers(0, 255))
def test_a_damaged_failure_is_an_exception_all_the_same(place: int, value: int) -> None:
    payload = bytearray(encode_failure(ValueError("what was wrong")))
    payload[place % len(payload)] = value
    assert isinstance(decode_failure(bytes(payload)), Exception)


# --- a whole worker -------------------------------------------------------------------------

GARBAGE: dict[str, bytes] = {
    "noise": random.Random(5).randbytes(5000),
    "zeros": bytes(100_000),
    "text": b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100,
    "a length of 4 GiB": HEADER.pack(17, 0, 2**32 - 1, 0, 1),
    "half a header": pack(17, 1)[:7],
    "a result of noise": pack(17, 10**9, b"\x80\x05noise"),
    "results for calls of others": b"".join(pack(17, id, b"\x80\x05N.") for id in range(100, 200)),
    "a size in shared memory that is none": pack(17, 2, b"abc", 2),
    "a size beyond the shared memory": pack(17, 2, b"\xff" * 8, 2),
    "buffers that are none": pack(17, 2, b"\xff" * 40, 1),
    "a failure that is none": pack(18, 2, b"\x80\x05K\x01."),
    "a set-up failure that is none": pack(23, 0, b"\x80\x05K\x01."),
    "an exit that is none": pack(24, 0, b"", 2, 77),
    "logs and warnings that are none": pack(21, 0, b"junk") + pack(22, 0, b"\x80\x05K\x01."),
    "progress that is none": pack(20, 2, b"\x80\x05K\x01."),
    "an item of no stream": pack(19, 2, b"\x80\x05K\x01."),
    "ready, twice": pack(16) * 2,
}


NO_MESSAGES = (
    "noise",
    "zeros",
    "text",
    "a length of 4 GiB",
    "a size in shared memory that is none",
    "an exit that is none",
)


def make_spoiler() -> Callable[[bytes, bool], str]:
    def spoil(garbage: bytes, stay: bool) -> str:
        # Whatever socket of this process takes it: the worker's own end is one of them.
        for fd in range(3, 64):
            try:
                if stat.S_ISSOCK(os.fstat(fd).st_mode):
                    os.write(fd, garbage)
            except OSError:
                continue
        # What it did after that could not be told any more: it is to be stopped in this call.
        while stay:
            time.sleep(1)
        return "survived"

    return spoil


@pytest.mark.parametrize("name", GARBAGE)
@pytest.mark.parametrize("backend", BACKENDS)
def test_garbage_from_a_worker_costs_its_call_at_most(backend: str, name: str) -> None:
    async def main() -> None:
        with anyio.fail_after(20):
            async with WorkerPool(max_workers=2) as pool:
                await pool.run(abs, -1)
                spoiled = pool.run(make_spoiler(), GARBAGE[name], name in NO_MESSAGES)
                neighbours = [pool.run(abs, -number) for number in range(50)]
                with contextlib.suppress(LoopworkersError, EOFError, ValueError):
                    # It may even have answered itself, with what the garbage says.
                    await spoiled
                if name in NO_MESSAGES:
                    with pytest.raises(LoopworkersError, match="no message"):
                        spoiled.result()
                if name != "a set-up failure that is none":  # that one speaks for all who wait
                    assert [await each for each in neighbours] == list(range(50))
                for each in neighbours:
                    with contextlib.suppress(LoopworkersError):
                        await each
                assert await pool.run(bytes, 1_000_000) == bytes(1_000_000)
                stats = pool.stats()
                assert (stats.running, stats.waiting) == (0, 0)

    with nothing_left():
        anyio.run(main, backend=backend)
