"""The functions that workers run. `os` and `time` only: importing this must cost nothing."""

import os
import time


def nothing() -> None:
    """The no-op."""


def same(value):  # type: ignore[no-untyped-def]
    """Give back what came: the way there and back."""
    return value


def size(data) -> int:  # type: ignore[no-untyped-def]
    """Much in, a number back; it looks at both ends, so the bytes must really be there."""
    return int(len(data) + data[0] - data[-1])


def pid_after(seconds: float) -> int:
    """Tell which process ran the call."""
    if seconds:
        time.sleep(seconds)
    return os.getpid()


def pause(seconds: float) -> float:
    """A call that takes its time without using the processor; it tells how long it took."""
    start = time.perf_counter()
    time.sleep(seconds)
    return time.perf_counter() - start


def loops(count: int) -> float:
    """A fixed amount of pure-Python work, calibrated by the caller; tells how long it took."""
    start = time.perf_counter()
    while count:
        count -= 1
    return time.perf_counter() - start


def spin(seconds: float) -> None:
    """Pure-Python work until the clock says stop."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


# --- for a `Worker`: each gets its port ---


def echo(port) -> None:  # type: ignore[no-untyped-def]
    """Send back what comes, until the other side closes."""
    for message in port:
        port.send(message)


def size_of_each(port) -> None:  # type: ignore[no-untyped-def]
    """Answer each large message as `size` does; a `SharedBuffer` is looked at in place."""
    for message in port:
        port.send(size(getattr(message, "view", message)))
        del message  # else it would be let go when the next one comes, which would pay for it


def hello(port) -> None:  # type: ignore[no-untyped-def]
    """The first message, as soon as can be."""
    port.send("hello")
