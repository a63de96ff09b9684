"""Large NumPy arrays, written to a file once and mapped by every worker that gets them.

The files have no names: workers get descriptors. So nobody else can open them, and each is gone
when its last user has closed it, or died.
"""

from __future__ import annotations

import copyreg
import os
import weakref
from collections import OrderedDict
from mmap import mmap
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from .._shared.guard import anonymous_file
from .._wire.file import File
from .._wire.handles import take_file

if TYPE_CHECKING:
    from .._wire.handles import Handles

    Array = np.ndarray[Any, Any]

# Each takes a descriptor, of which a program has a thousand or so for everything. Arrays beyond
# these travel as small ones do.
_MOST_FILES = 64
_MOST_IN_A_MESSAGE = 32


class Arrays:
    """How the arrays of one Parallel call travel.

    Args:
        max_nbytes: arrays of more bytes are mapped.
        mode: how workers map them: "r", "r+" or "c", as `numpy.memmap` has it.
        folder: where the files are; None is memory.
    """

    def __init__(self, max_nbytes: int, mode: str, folder: str | None) -> None:
        self._max_nbytes = max_nbytes
        self._mode = "r+" if mode == "w+" else mode  # which would clear them
        self._folder = folder
        self._files: OrderedDict[int, tuple[weakref.ref[Array], File]] = OrderedDict()

    def reducers(self) -> dict[type[Any], Any]:
        """Of types, how their values travel. Whoever has this keeps the files open."""
        return {np.ndarray: self._reduce, np.memmap: self._reduce}

    def _reduce(self, array: Array, handles: Handles) -> Any:
        mapped = _mapped_file(array)
        if mapped is not None and array.nbytes:
            return _reduce_view(array, mapped)
        if array.nbytes <= self._max_nbytes or array.dtype.hasobject:
            return NotImplemented
        if len(handles.files) >= _MOST_IN_A_MESSAGE:
            return NotImplemented
        try:
            number = handles.add(self._file_of(array).fileno())
        except OSError:  # no room, or no descriptor left: there may be for a copy on the way
            return NotImplemented
        order = _order_of(array)
        return _open_copy, (number, self._mode, array.dtype, array.shape, order)

    def _file_of(self, array: Array) -> File:
        key = id(array)
        known = self._files.get(key)
        if known is not None and known[0]() is array:
            self._files.move_to_end(key)
            return known[1]
        file = _new_file(self._folder)
        _write(file, array)
        # Weakly, both: the array may have been made for one task, and the files are to be closed
        # when the call ends, not when the garbage is collected.
        here = weakref.ref(self)
        self._files[key] = weakref.ref(array, lambda gone: _forget(here(), key, gone)), file
        if len(self._files) > _MOST_FILES:
            self._files.popitem(last=False)
        return file

    def forget(self, key: int, gone: Any) -> None:
        entry = self._files.pop(key, None)
        if entry is not None and entry[0] is not gone:
            self._files[key] = entry  # of another array, at the same address


def _forget(arrays: Arrays | None, key: int, gone: Any) -> None:
    if arrays is not None:
        arrays.forget(key, gone)


def _order_of(array: Array) -> Any:
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def _new_file(folder: str | None) -> File:
    if folder is None:
        return anonymous_file()
    with TemporaryFile(dir=folder, buffering=0) as file:
        return File(os.dup(file.fileno()))


def _write(file: File, array: Array) -> None:
    flat: Any = array.ravel(order=_order_of(array)).view(np.uint8)
    data = memoryview(flat)
    while data:
        data = data[file.write(data) :]  # it takes 2 GiB at a time


def _mapped_file(array: Any) -> Any:
    """The `numpy.memmap` of a named file that this is a view of, or None."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and isinstance(array.base, mmap):
            return array if array.filename is not None else None
        array = array.base
    return None


def _reduce_view(array: Array, mapped: Any) -> Any:
    low, high = byte_bounds(array)
    first: int = array.__array_interface__["data"][0]
    begin = mapped.offset + low - byte_bounds(mapped)[0]
    place = (str(mapped.filename), mapped.mode, begin, high - low, first - low)
    return _open_view, (*place, array.dtype, array.shape, array.strides)


# --- in the worker -------------------------------------------------------------------------


def _open_copy(number: int, mode: Any, dtype: Any, shape: Any, order: Any) -> Any:
    copyreg.pickle(np.memmap, _reduce_result)
    return np.memmap(take_file(number), dtype, mode, shape=shape, order=order)


def _open_view(
    path: str, mode: Any, begin: int, size: int, first: int, dtype: Any, shape: Any, strides: Any
) -> Any:
    copyreg.pickle(np.memmap, _reduce_result)
    if mode == "w+":
        mode = "r+"
    part = np.memmap(path, np.uint8, mode, offset=begin, shape=(size,))
    view: Any = np.ndarray.__new__(np.memmap, shape, dtype, part, first, strides)
    view.__array_finalize__(part)  # it knows its file, as any view of a memmap does
    return view


def _reduce_result(array: Any) -> Any:
    """Of a file that will be gone the values travel back, of one with a name the place."""
    mapped = _mapped_file(array)
    if mapped is not None and array.nbytes:
        return _reduce_view(array, mapped)
    return np.asarray, (np.array(array),)
