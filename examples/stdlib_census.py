"""Measure every module of the standard library: on the loop, in processes, in isolates.

    python stdlib_census.py [--trio] [--limit N]

Real files, really parsed. While the work is done, a timer of one millisecond goes on ticking
on the event loop; how late it fires is how late everything else in an async program would be.
The three ways must find the same figures: if they do not, the exit code is 1.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
import sysconfig
import warnings
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from loopworkers import IsolateUnsupported, WorkerPool

# --- the work: one file in, its figures out -----------------------------------------------------

BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def measure(path: str) -> dict[str, Any]:
    source = Path(path).read_bytes()
    figures: dict[str, Any] = {"path": path, "files": 1, "lines": len(source.splitlines())}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes and the like: not what is asked here
            tree = ast.parse(source, path)
    except (SyntaxError, ValueError):
        return figures | {"invalid": 1}  # there are some among the data of the tests

    figures |= dict.fromkeys(("functions", "classes", "branches", "complexity", "imports"), 0)
    complexity: dict[Any, int] = {}  # of each function; None: code outside of them
    todo: list[tuple[ast.AST, Any]] = [(tree, None)]
    while todo:
        node, function = todo.pop()  # the node, and the function it belongs to
        branches = 0
        if isinstance(node, FUNCTIONS):
            function = node
            complexity[function] = 1
        elif isinstance(node, ast.ClassDef):
            figures["classes"] += 1
        elif isinstance(node, ast.Import | ast.ImportFrom):
            figures["imports"] += len(node.names)
        elif isinstance(node, BRANCHES):
            branches = 1
        elif isinstance(node, ast.BoolOp):
            branches = len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            branches = 1 + len(node.ifs)
        figures["branches"] += branches
        complexity[function] = complexity.get(function, 0) + branches
        todo.extend((child, function) for child in ast.iter_child_nodes(node))

    del complexity[None]
    functions = [
        (score, node.end_lineno - node.lineno + 1, node.lineno, getattr(node, "name", "<lambda>"))
        for node, score in complexity.items()
    ]
    figures["functions"] = len(functions)
    figures["complexity"] = sum(complexity.values())
    figures["longest function"] = max((lines for _, lines, *_ in functions), default=0)
    figures["most complex"] = sorted(functions, reverse=True)[:10]
    return figures


def standard_library(limit: int | None) -> list[str]:
    """The paths of its modules; ``limit`` of them, evenly spread, if one is given."""
    root = Path(sysconfig.get_path("stdlib"))
    others = {"site-packages", "dist-packages", "__pycache__"}
    paths = sorted(
        str(path)
        for path in root.rglob("*.py")
        if path.is_file() and others.isdisjoint(path.relative_to(root).parts)
    )
    if limit is None or limit >= len(paths):
        return paths
    return [paths[i * len(paths) // limit] for i in range(limit)]


# --- the three ways -----------------------------------------------------------------------------


async def inline(paths: list[str]) -> list[dict[str, Any]]:
    modules = []
    for path in paths:
        modules.append(measure(path))
        await checkpoint()  # the loop gets its turn after each file: as kind as inline can be
    return modules


async def in_workers(pool: WorkerPool, paths: list[str]) -> list[dict[str, Any]]:
    # chunksize stays 1: parsing a file takes some hundred times as long as a call costs, and
    # whole files keep all workers busy to the end.
    async with pool:
        return [module async for module in pool.map(measure, paths, progress=True)]


# --- the measuring ------------------------------------------------------------------------------


@dataclass
class Run:
    way: str
    seconds: float
    delays: list[float]  # in milliseconds, sorted
    modules: list[dict[str, Any]]

    def delay(self, share: float) -> float:
        return self.delays[min(int(share * len(self.delays)), len(self.delays) - 1)]


async def timed(way: str, work: Any, *args: Any) -> Run:
    """Run ``await work(*args)`` beside the timer."""
    if sys.stderr.isatty():
        print(f"{way} ...", file=sys.stderr)
    delays: list[float] = []

    async def tick() -> None:
        while True:
            due = perf_counter() + 0.001
            await anyio.sleep(0.001)
            delays.append((perf_counter() - due) * 1000)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await anyio.sleep(0.01)
        delays.clear()
        started = perf_counter()
        modules = await work(*args)
        seconds = perf_counter() - started
        await anyio.sleep(0.01)  # the last tick is on its way, and may be the latest
        tasks.cancel_scope.cancel()
    return Run(way, seconds, sorted(delays), modules)


def difference(expected: Run, run: Run) -> str | None:
    """Where two runs disagree, or None."""
    nothing: dict[str, Any] = {}
    for wanted, got in zip_longest(expected.modules, run.modules, fillvalue=nothing):
        for name in sorted(wanted.keys() | got.keys()):
            if wanted.get(name) != got.get(name):
                return (
                    f"{name!r} of {wanted.get('path')} is {wanted.get(name)} {expected.way}, "
                    f"but {got.get(name)} in {run.way}"
                )
    return None


# --- the program --------------------------------------------------------------------------------


async def main(limit: int | None) -> int:
    paths = standard_library(limit)
    runs = [await timed("inline on the loop", inline, paths)]
    no_isolates = None
    for kind in ("process", "isolate"):
        try:
            pool = WorkerPool(kind)
        except IsolateUnsupported as error:
            no_isolates = error
            continue
        way = f"{pool.max_workers} {kind} workers"
        runs.append(await timed(way, in_workers, pool, paths))

    report_totals(runs[0].modules)
    report_times(runs)
    if no_isolates is not None:
        print(f"(no isolates: {no_isolates})")
    report_most_complex(runs[0].modules)

    differences = [text for run in runs[1:] if (text := difference(runs[0], run))]
    for text in differences:
        print(f"THE WAYS DISAGREE: {text}", file=sys.stderr)
    if not differences:
        print(f"\nAll {len(runs)} ways agree.")
    return 1 if differences else 0


def report_totals(modules: list[dict[str, Any]]) -> None:
    print(f"The standard library of Python {sys.version.split()[0]}:")
    names = "files", "lines", "functions", "classes", "branches", "complexity", "imports"
    for name in names:
        print(f"{sum(module.get(name, 0) for module in modules):>11,} {name}")
    longest = max(module.get("longest function", 0) for module in modules)
    print(f"{longest:>11,} lines in the longest function")
    invalid = sum(module.get("invalid", 0) for module in modules)
    print(f"{invalid:>11,} files that are not valid Python")


def report_times(runs: list[Run]) -> None:
    print("\n                       seconds   speed-up   loop delay in ms:  p50      p99      max")
    for run in runs:
        print(
            f"{run.way:<20} {run.seconds:>9.2f} {runs[0].seconds / run.seconds:>9.2f}x"
            f"{run.delay(0.5):>24.2f} {run.delay(0.99):>8.2f} {run.delays[-1]:>8.2f}"
        )
    print("(seconds include starting and ending the workers)")


def report_most_complex(modules: list[dict[str, Any]]) -> None:
    print("\ncomplexity   lines   the ten most complex functions")
    root = sysconfig.get_path("stdlib")
    found = [
        (*function, os.path.relpath(module["path"], root))
        for module in modules
        for function in module.get("most complex", ())
    ]
    for complexity, lines, line, name, path in sorted(found, reverse=True)[:10]:
        print(f"{complexity:>10} {lines:>7}   {path}:{line} {name}")


parser = argparse.ArgumentParser(description="Measure every module of the standard library.")
parser.add_argument("--trio", action="store_true", help="run on trio instead of asyncio")
parser.add_argument("--limit", type=int, metavar="N", help="measure only N files")
if __name__ == "__main__":
    options = parser.parse_args()
    sys.exit(anyio.run(main, options.limit, backend="trio" if options.trio else "asyncio"))
