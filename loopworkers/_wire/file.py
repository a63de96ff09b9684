"""A descriptor that belongs to an object, and is closed when that goes."""

from __future__ import annotations

from _io import FileIO

from .shield import unbroken


class File(FileIO):
    """Without the warning when it is dropped: here that is how it ends."""

    @unbroken
    def __init__(self, file: int | str) -> None:
        super().__init__(file, "r+")

    # In C: a stop of an isolate raises in all Python code, and would leave it open for ever.
    __del__ = FileIO.close
