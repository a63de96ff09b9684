"""An exception to bytes in the worker, and back to an exception on the loop's side.

What arrives has the type, arguments, attributes and notes it was raised with, and its chain
of causes and contexts; the worker's traceback text hangs at the end of the chain of causes.
Whatever part of the chain cannot make the journey arrives as a `RemoteError` with its text.
"""

from __future__ import annotations

from ..errors import IsolateUnsupported, RemoteError, RemoteTraceback
from .frames import BUFFERS
from .values import decode, encode, loads
from .values import dumps as _dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Raised on the loop's side these would act on the caller rather than inform it: cancel it,
# end its program, end an iteration. A future refuses StopIteration outright.
_NOT_RAISABLE = (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration)
_LONGEST_CHAIN = 32


def _is_raisable(error: BaseException) -> bool:
    return isinstance(error, Exception) and not isinstance(error, _NOT_RAISABLE)


def encode_failure(error: BaseException, skip_frames: int = 0) -> bytes:
    """Never raises: at worst the answer is a plain text."""
    text = _format(error, skip_frames)
    links: list[tuple[bytes | None, int, str, str, bool]] = []
    current: BaseException | None = error
    while current is not None and len(links) < _LONGEST_CHAIN:
        body, flags = _encode_one(current)
        # Its name and message go along in any case: whether the body can be rebuilt shows there.
        links.append((body, flags, *_describe(current), current.__cause__ is not None))
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )
    return _dumps((text, links), 5)


def _encode_one(error: BaseException) -> tuple[bytes | None, int]:
    """One exception without its chain, and its flags; None if it does not travel as itself."""
    if _is_raisable(error):
        try:
            encoded = encode(error)
            return b"".join(encoded.chunks), encoded.flags
        except BaseException:  # hooks of user classes run here and may do anything
            pass
    return None, 0


def _describe(error: BaseException) -> tuple[str, str]:
    """The qualified name of its type, and its message."""
    try:
        message = str(error)
    except BaseException:
        message = "<exception str() failed>"
    kind = type(error)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."), message


def raisable(error: BaseException, skip_frames: int = 0) -> Exception:
    """What to raise for an exception that is here as itself, from a thread."""
    if isinstance(error, Exception) and _is_raisable(error):
        return error
    text = _format(error, skip_frames)
    remote = RemoteError(*_describe(error), text)
    remote.__cause__ = RemoteTraceback(text)
    return remote


def decode_failure(payload: bytes) -> Exception:
    """The exception, ready to be raised; never raises itself."""
    try:
        text, links = loads(payload)
        errors = [_decode_one(link, text) for link in links]
        name = links[0][2]
    except BaseException as broken:  # not what `encode_failure` makes: the worker is broken
        return RemoteError("unknown", f"an exception that cannot be read: {broken!r}")
    try:
        _link(links, errors, RemoteTraceback(text))
    except Exception as refused:  # a class of the user's that lets nothing be set
        return RemoteError(name, f"it cannot be raised here as itself: {refused!r}", text)
    return _as_isolate_error(errors)


def _link(links: Any, errors: list[Exception], remote: RemoteTraceback) -> None:
    for (*_, is_cause), error, after in zip(links, errors, errors[1:], strict=False):
        if after is error:
            continue  # two of a chain can be rebuilt as one object
        if is_cause:
            error.__cause__ = after
        else:
            error.__context__ = after
    last: BaseException = errors[0]
    seen = {id(last)}
    while last.__cause__ is not None and id(last.__cause__) not in seen:
        last = last.__cause__
        seen.add(id(last))
    context = last.__context__
    last.__cause__ = remote
    last.__context__ = context


def _decode_one(link: Any, text: str) -> Exception:
    body, flags, name, message, _ = link
    if body is None:
        return RemoteError(name, message, text)
    try:
        error = decode(body, flags & BUFFERS)
    except BaseException as broken:
        return RemoteError(name, f"{message} (it could not be rebuilt here: {broken!r})", text)
    if isinstance(error, Exception):
        return error
    return RemoteError(name, f"{message} (what was rebuilt here is no exception)", text)


_REFUSAL = " does not support loading in subinterpreters"


def _as_isolate_error(errors: list[Exception]) -> Exception:
    # Packages wrap the refusal in errors of their own (numpy, polars), some in a page of advice,
    # so look at the chain, and for the name at the word that the refusal follows.
    for error in errors:
        # Not str(error): a class of the user's may raise there.
        if not isinstance(error, ImportError) or not isinstance(error.msg, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            continue
        before, refusal, _ = error.msg.partition(_REFUSAL)
        words = before.split()
        if refusal and words:
            module = words[-1]
            unsupported = IsolateUnsupported(
                f"module {module}{refusal}, which is what an isolate is; "
                'run this call with kind="process", where every package works',
                name=module,
            )
            unsupported.__cause__ = errors[0]
            return unsupported
    return errors[0]


def _format(error: BaseException, skip_frames: int) -> str:
    import traceback  # only a failing call pays for it

    tb: Any = error.__traceback__
    for _ in range(skip_frames):
        if tb is not None and tb.tb_next is not None:
            tb = tb.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, tb))
    except BaseException as broken:  # a traceback that cannot be formatted is still a failure
        return f"{type(error).__qualname__} (its traceback could not be formatted: {broken!r})"
