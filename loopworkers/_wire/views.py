"""Who else uses the memory of a memoryview: told without releasing it, which is for ever.

Python has no question for that, but answers it: in what it says of a release that it refuses, and
in the references to what all slices of one memoryview have in common.
"""

from __future__ import annotations

import gc
import sys
from _pickle import PickleBuffer


def is_exported(view: memoryview) -> bool:
    """Whether its memory is lent to something that is no memoryview, so that it must stay.

    Raises ValueError if it was released.
    """
    ours = PickleBuffer(view)  # because of which it cannot be released
    try:
        view.release()
    except BufferError as error:
        return "has 1 exported" not in str(error)
    finally:
        ours.release()
    raise AssertionError("a memoryview was released while it was in use")


def has_slices(view: memoryview) -> bool:
    """Whether there are other memoryviews that were made of it, such as those of numpy arrays."""
    return _references(view) > _references(memoryview(b""))


def _references(view: memoryview) -> int:
    return sys.getrefcount(gc.get_referents(view)[0])
