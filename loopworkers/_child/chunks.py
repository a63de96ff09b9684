"""What a worker runs for several items that make one call."""

from __future__ import annotations

from .serve import COROUTINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


def run_chunk(fn: Callable[..., Any], chunk: list[tuple[Any, ...]]) -> Any:
    """The results of one chunk, or a coroutine for them, which the worker runs as any other."""
    results: list[Any] = []
    items = iter(chunk)
    for args in items:
        result = fn(*args)
        # Only now is it known: a lambda may return one, or an object's `async def __call__`.
        if type(result) is COROUTINE:
            return _rest_of_chunk(fn, items, results, result)
        results.append(result)
    return results


async def _rest_of_chunk(
    fn: Callable[..., Any], items: Iterator[tuple[Any, ...]], results: list[Any], result: Any
) -> list[Any]:
    results.append(await result)
    for args in items:
        result = fn(*args)
        results.append(await result if type(result) is COROUTINE else result)
    return results
