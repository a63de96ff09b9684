"""OpenTelemetry: the worker is in the caller's trace, and a span marks the call."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import anyio
import contract_work as work
import pytest
from contract_help import Gate, eventually, run_script, succeed
from loopworkers_asgi import Workers

from loopworkers import NotTransferable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("opentelemetry.sdk")
import anyio.lowlevel
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])]


def where(*_: object) -> tuple[int, int, Any]:
    """The trace and the span that a worker finds itself in, and its baggage."""
    from opentelemetry import baggage, trace

    found = trace.get_current_span().get_span_context()
    return found.trace_id, found.span_id, baggage.get_baggage("user")


async def where_async() -> tuple[int, int, Any]:
    await anyio.lowlevel.checkpoint()
    return where()


def where_twice() -> Iterator[tuple[int, int, Any]]:
    yield where()
    yield where()


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)  # once in a process
    return exporter


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> InMemorySpanExporter:
    exporter.clear()
    return exporter


async def test_the_context_travels_and_a_span_marks_the_call(spans: InMemorySpanExporter) -> None:
    tracer = trace.get_tracer("tests")
    async with Workers(max_workers=1) as workers:
        with tracer.start_as_current_span("request") as request:
            token = context.attach(baggage.set_baggage("user", "ann"))
            inside = await workers.run(where)
            inside_async = await workers.run(where_async)
            context.detach(token)
            mapped = [found async for found in workers.map(where, [1])]
            streamed = [found async for found in workers.stream(where_twice)]
        outside = await workers.run(work.echo, 5)
        await eventually(lambda: len(spans.get_finished_spans()) == 4)
    mine = request.get_span_context()
    by_name = {span.name: span for span in spans.get_finished_spans()}
    call = by_name[f"run {__name__}.where"]
    assert call.parent is not None
    assert call.parent.span_id == mine.span_id
    assert call.context is not None
    assert inside == (mine.trace_id, call.context.span_id, "ann")
    assert call.end_time is not None
    assert call.status.status_code is trace.StatusCode.UNSET
    async_call = by_name[f"run {__name__}.where_async"]
    assert async_call.context is not None
    assert inside_async == (mine.trace_id, async_call.context.span_id, "ann")
    assert mapped == [(mine.trace_id, mine.span_id, None)]
    assert streamed == mapped * 2
    assert outside == 5
    assert by_name["run contract_work.echo"].parent is None


async def test_how_a_call_ended_is_in_its_span(spans: InMemorySpanExporter, gate: Gate) -> None:
    async with Workers(max_workers=1) as workers:
        with pytest.raises(ValueError, match="seven"):
            await workers.run(int, "seven")
        with anyio.move_on_after(0.2):
            await workers.run(work.busy, str(gate))
        await eventually(lambda: len(spans.get_finished_spans()) == 2)
    failed, cancelled = spans.get_finished_spans()
    assert (failed.name, failed.status.description) == ("run builtins.int", "ValueError")
    assert failed.events[0].name == "exception"
    assert (cancelled.name, cancelled.status.description) == ("run contract_gate.busy", "cancelled")


async def test_the_call_has_the_name_of_its_function(spans: InMemorySpanExporter) -> None:
    async with Workers(max_workers=1) as workers:
        with pytest.raises(NotTransferable, match=r"contract_work\.echo"):
            await workers.run(work.echo, threading.Lock())
    (span,) = spans.get_finished_spans()
    assert span.status.description == "NotTransferable"


def test_without_opentelemetry_it_is_done_without(anyio_backend: str, tmp_path: Path) -> None:
    script = f"""
import sys
sys.modules["opentelemetry"] = None
import anyio
from loopworkers_asgi import Workers

async def main():
    async with Workers(max_workers=1) as workers:
        print(await workers.run(abs, -5), [n async for n in workers.map(abs, [-1])])
    assert "loopworkers_asgi._telemetry" not in sys.modules

anyio.run(main, backend={anyio_backend!r})
"""
    assert succeed(run_script(script, tmp_path)) == "5 [1]\n"
    assert "opentelemetry" in sys.modules
