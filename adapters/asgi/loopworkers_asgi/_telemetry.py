"""OpenTelemetry: a span for each call, and its context in the worker.

Only where opentelemetry-api is installed. Where nothing is traced nothing is added to a call.
"""

from __future__ import annotations

from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from opentelemetry import context, propagate, trace

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator


def run_traced(
    view: Any, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """``view.run(fn, *args, **kwargs)`` in a span that ends with the future."""
    name = _name_of(fn)
    tracer = trace.get_tracer("loopworkers_asgi")
    span = tracer.start_span(f"run {name}", attributes={"code.function.name": name})
    try:
        future = view.run(_traced(fn, trace.set_span_in_context(span)), *args, **kwargs)
    except BaseException as error:
        _end(span, error)
        raise
    if span.is_recording():
        future.add_done_callback(partial(_on_done, span))
    return future


def traced(fn: Callable[..., Any]) -> Callable[..., Any]:
    """``fn``, to be run in the context that is current now."""
    return _traced(fn, context.get_current())


def _traced(fn: Callable[..., Any], within: Any) -> Callable[..., Any]:
    carrier: dict[str, str] = {}
    propagate.inject(carrier, within)
    return Traced(fn, carrier) if carrier else fn


def _on_done(span: Any, future: Any) -> None:
    if future.cancelled():
        span.set_status(trace.StatusCode.ERROR, "cancelled")
        span.end()
    else:
        _end(span, future.exception())


def _end(span: Any, error: BaseException | None) -> None:
    if error is not None:
        span.record_exception(error)
        span.set_status(trace.StatusCode.ERROR, type(error).__name__)
    span.end()


def _name_of(fn: Callable[..., Any]) -> str:
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    return f"{getattr(fn, '__module__', None) or type(fn).__module__}.{name}"


class Traced:
    """A function as it goes to the worker: with the caller's context, as text."""

    def __init__(self, fn: Callable[..., Any], carrier: dict[str, str]) -> None:
        self._fn = fn
        self._carrier = carrier
        # By which errors and statistics name the call.
        self.__module__, _, self.__qualname__ = _name_of(fn).rpartition(".")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with _Attached(self._carrier):
            made: Any = self._fn(*args, **kwargs)
        # What these do, they do later.
        kind: type[Any] = type(made)
        later: Any = {
            CoroutineType: self._awaited,
            GeneratorType: self._iterated,
            AsyncGeneratorType: self._iterated_async,
        }.get(kind)
        return made if later is None else later(made)

    async def _awaited(self, made: Coroutine[Any, Any, Any]) -> Any:
        with _Attached(self._carrier):
            return await made

    def _iterated(self, made: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        with _Attached(self._carrier):
            yield from made

    async def _iterated_async(self, made: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
        with _Attached(self._carrier):
            async for value in made:
                yield value


class _Attached:
    def __init__(self, carrier: dict[str, str]) -> None:
        self._carrier = carrier

    def __enter__(self) -> None:
        self._token = context.attach(propagate.extract(self._carrier))

    def __exit__(self, *_: object) -> None:
        context.detach(self._token)
