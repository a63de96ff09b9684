"""Calls that wait at a gate, or never end, for tests of what is done about it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def note(folder: str, what: str) -> None:
    with open(os.path.join(folder, what), "ab") as file:
        file.write(b".")


def hold(folder: str, value: Any = None) -> Any:
    """Begin, wait for the gate to open, end."""
    note(folder, "begun")
    try:
        while not os.path.exists(os.path.join(folder, "open")):
            time.sleep(0.002)
    finally:
        note(folder, "left")
    note(folder, "ended")
    return value


async def hold_async(folder: str, value: Any = None) -> Any:
    note(folder, "begun")
    try:
        while not os.path.exists(os.path.join(folder, "open")):  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.002)
    finally:
        note(folder, "left")
    note(folder, "ended")
    return value


def mark(folder: str) -> None:
    note(folder, "begun")


def busy(folder: str) -> None:
    """Compute for ever, without a system call."""
    note(folder, "begun")
    while True:
        pass


# --- what resists being stopped ------------------------------------------------------------------


def swallow_everything(folder: str) -> None:
    note(folder, "begun")
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


def nested_finally(folder: str) -> None:
    note(folder, "begun")
    while True:
        try:
            try:
                while True:
                    len("")
            finally:
                while True:
                    len("")
        except BaseException:
            continue


def swallow_in_generator(folder: str) -> None:
    def endless() -> Iterator[int]:
        while True:
            try:
                yield 1
            except BaseException:
                pass

    note(folder, "begun")
    while True:
        try:
            for _ in endless():
                pass
        except BaseException:
            pass


def busy_in_thread_too(folder: str) -> None:
    def busy_there() -> None:
        while True:
            pass

    threading.Thread(target=busy_there, daemon=False).start()
    swallow_everything(folder)


def sleep_in_c(folder: str, seconds: float) -> None:
    note(folder, "begun")
    time.sleep(seconds)
