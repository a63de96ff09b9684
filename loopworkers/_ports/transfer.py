"""What `send(..., transfer=...)` hands over: checked before the message goes, ended after."""

from __future__ import annotations

from .._wire.shield import unbroken
from .._wire.values import encode, find_culprit, in_place, traveller
from .._wire.views import is_exported
from ..errors import NotTransferable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .._wire.values import Encoded


def encode_message(value: Any, transfer: Sequence[Any], may_move: bool) -> Encoded:
    """The message; all or nothing. When it has been sent, `hand_over` must follow.

    Raises NotTransferable, naming the part of ``value`` that cannot be sent.
    """
    for number, obj in enumerate(transfer):
        _check(obj, f"transfer[{number}]", transfer)
    try:
        encoded = encode(value, in_place)
    except Exception as error:
        raise NotTransferable(
            f"the message was not sent: {find_culprit(value, 'message')} cannot be pickled: "
            f"{error!r}"
        ) from error
    # A view that is handed over could not be released while a part of the message refers to it.
    encoded.chunks = [c if type(c) is bytes else bytes(c) for c in encoded.chunks]
    if encoded.handles is not None and encoded.handles.moves and not may_move:
        raise NotTransferable("the message was not sent: a port or socket cannot move to many")
    return encoded


def hand_over(transfer: Sequence[Any]) -> None:
    """They are the sender's no longer; the message is on its way."""
    for obj in transfer:
        if type(obj) is bytearray:
            obj.clear()
        elif type(obj) is memoryview:
            obj.release()
        else:
            obj.close()


def _check(obj: Any, path: str, transfer: Sequence[Any]) -> None:
    if sum(obj is other for other in transfer) > 1:
        raise ValueError(f"{path} ({type(obj).__qualname__}) is in the list twice")
    if type(obj) is bytearray:
        try:
            _resize(obj)
        except BufferError:
            raise NotTransferable(
                f"{path} (bytearray) cannot be handed over while a memoryview of it exists"
            ) from None
    elif hasattr(obj, "check_unused"):
        try:
            obj.check_unused()
        except (BufferError, ValueError) as error:
            raise NotTransferable(f"{path} (SharedBuffer) cannot be handed over: {error}") from None
    elif type(obj) is memoryview:
        try:
            exported = is_exported(obj)
        except ValueError:
            raise NotTransferable(f"{path} (memoryview) was released already") from None
        if exported:
            raise NotTransferable(f"{path} (memoryview) cannot be handed over while it is in use")
    elif traveller(obj.__class__) is None:
        raise NotTransferable(
            f"{path} ({type(obj).__module__}.{type(obj).__qualname__}) cannot be handed over: "
            "ports, shared buffers, sockets, bytearrays and memoryviews can"
        )


@unbroken
def _resize(data: bytearray) -> None:
    """Change its size and change it back, which raises BufferError while it is in use."""
    if data:
        data.append(data.pop())  # never larger than it was, which would move all of it
    else:
        data.append(0)
        data.pop()
