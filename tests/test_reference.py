"""docs/reference: every public name, every option and every error is in it."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest

import loopworkers
from loopworkers import errors

REFERENCE = Path(__file__).resolve().parents[1] / "docs/reference"
API = "".join(
    (REFERENCE / page).read_text(encoding="utf-8")
    for page in ("api.md", "workers.md", "cluster.md")
)


@pytest.mark.parametrize("name", loopworkers.__all__)
def test_name(name: str) -> None:
    value = getattr(loopworkers, name)
    assert (value.__doc__ or "").strip(), f"{name} has no docstring"
    is_error = inspect.isclass(value) and issubclass(value, errors.LoopworkersError)
    assert (f"`{name}`" if is_error else f"\n## {name}\n") in API


@pytest.mark.parametrize("name", ["WorkerPool", "WorkerExecutor"])
def test_methods(name: str) -> None:
    cls = getattr(loopworkers, name)
    for method, function in inspect.getmembers(cls, inspect.isfunction):
        if not method.startswith("_"):
            assert (function.__doc__ or "").strip(), f"{name}.{method} has no docstring"
            assert f".{method}(" in API or f"`{method}(" in API, f"{name}.{method}"


@pytest.mark.parametrize(
    "function",
    [
        loopworkers.WorkerPool.__init__,
        loopworkers.WorkerPool.map,
        loopworkers.WorkerPool.aclose,
        loopworkers.WorkerExecutor.__init__,
        loopworkers.WorkerExecutor.map,
        loopworkers.WorkerExecutor.shutdown,
        loopworkers.report_progress,
        loopworkers.current_pool,
    ],
    ids=lambda function: function.__qualname__,
)
def test_parameters(function: object) -> None:
    for parameter in inspect.signature(function).parameters.values():  # type: ignore[arg-type]
        if parameter.name in ("self", "fn") or parameter.kind is parameter.VAR_KEYWORD:
            continue
        assert f"`{parameter.name}`" in API or f"{parameter.name}=" in API, parameter.name


def test_defaults_of_the_pool() -> None:
    for parameter in inspect.signature(loopworkers.WorkerPool).parameters.values():
        default = repr(parameter.default).replace("'", '"')
        assert f"{parameter.name}={default}" in API


def test_figures() -> None:
    for field in dataclasses.fields(loopworkers.PoolStats):
        assert f"`{field.name}`" in API


def test_errors() -> None:
    page = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    tree = [line.strip() for line in (errors.__doc__ or "").splitlines() if "──" in line]
    assert len(tree) == len(errors.__all__) - 2  # without the base and RemoteTraceback
    for line in tree:
        assert line.replace("``", "`") in page
    for name in errors.__all__:
        assert f"`{name}`" in page or name == "LoopworkersError"
