"""The layers that the docstring of loopworkers/__init__.py states, read from the imports.

Imports inside functions count for the layers as well: late or not, they say who knows whom.
Those under ``if TYPE_CHECKING`` do not: a worker may be told what a call looks like.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import loopworkers

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(loopworkers.__file__).parent

# Each layer may import from itself and from those before it. What is in none of the folders
# belongs to the last.
LAYERS = ["errors", "_wire", "_loop", "_ports", "_shared", "_child", "_workers"]
WORKER_SIDE = ("errors", "_wire", "_ports", "_shared", "_child")
# On 3.11 and 3.12 they do not exist, and what imports them is not used.
STDLIB = {*sys.stdlib_module_names, "_interpreters", "_interpqueues"}
# Loaded only where an event loop runs.
FOR_TASKS = {"_ports/on_loop.py", "_ports/output.py"}
LOOPS = {"asyncio", "trio", "uvloop"}
LOOPS_AT_TOP = {
    "_loop/asyncio.py",
    "_loop/trio.py",
    "_executor.py",
    "_cluster/trio_listener.py",
    "_cluster/uvloop_server.py",
}
# What these files are about, and are only imported for.
OWN_DEPENDENCY = {
    "joblib.py": "joblib",
    "_joblib/arrays.py": "numpy",
    "_joblib/task.py": "joblib",
    "_cluster/uvloop_server.py": "uvloop",
    "_serve/with_uvicorn.py": "uvicorn",
    "_serve/with_hypercorn.py": "hypercorn",
}


class Import(NamedTuple):
    file: str
    line: int
    module: str  # absolute
    at_top: bool  # executed when the file is imported


def imports_of(path: Path, package: Path = PACKAGE) -> Iterator[Import]:
    file = path.relative_to(package).as_posix()
    parts = ["loopworkers", *path.relative_to(package).with_suffix("").parts]
    here = parts[:-1]  # the package the file is in
    todo: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text()), True)]
    while todo:
        node, at_top = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo.extend((child, at_top) for child in node.orelse)
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name, at_top)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                name = f"{module}.{alias.name}"
                yield Import(
                    file, node.lineno, name if is_module(name, package) else module, at_top
                )
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            at_top = False
        todo.extend((child, at_top) for child in ast.iter_child_nodes(node))


def is_module(name: str, package: Path) -> bool:
    path = package.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def layer_of(module: str) -> int:
    """The number of the layer of ``loopworkers.x.y`` or of a file's path."""
    parts = module.removeprefix("loopworkers").lstrip(".").replace("/", ".").split(".")
    return LAYERS.index(parts[0]) if parts[0] in LAYERS else len(LAYERS)


FILES = sorted(PACKAGE.rglob("*.py"))
IMPORTS = [found for path in FILES for found in imports_of(path)]


def describe(imports: list[Import]) -> list[str]:
    return [f"{i.file}:{i.line} imports {i.module}" for i in imports]


def test_the_walk_finds_what_it_should(tmp_path: Path) -> None:
    package = tmp_path / "loopworkers"
    (package / "_child").mkdir(parents=True)
    for name in ("__init__", "_child/__init__", "_child/link", "errors"):
        (package / f"{name}.py").touch()
    path = package / "_child/example.py"
    path.write_text(
        "import os.path\n"
        "from . import link\n"
        "from .link import Link\n"
        "from .. import errors\n"
        "from ..errors import WorkerDied\n"
        "if TYPE_CHECKING:\n"
        "    import trio\n"
        "else:\n"
        "    import json\n"
        "def late():\n"
        "    import asyncio\n"
    )
    assert sorted(i[1:] for i in imports_of(path, package)) == [
        (1, "os.path", True),
        (2, "loopworkers._child.link", True),
        (3, "loopworkers._child.link", True),
        (4, "loopworkers.errors", True),
        (5, "loopworkers.errors", True),
        (9, "json", True),
        (11, "asyncio", False),
    ]


def test_layers_are_those_of_the_docstring() -> None:
    docstring = loopworkers.__doc__ or ""
    lines = ("errors, _wire", "_loop", "_ports, _shared", "_child", "_workers")
    places = [docstring.index(f"    {line}") for line in lines]
    assert places == sorted(places)
    for name in LAYERS:
        assert (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()


@pytest.mark.parametrize("layer", [*LAYERS, "the rest"])
def test_a_layer_imports_only_from_those_before_it(layer: str) -> None:
    number = LAYERS.index(layer) if layer in LAYERS else len(LAYERS)
    upwards = [
        i
        for i in IMPORTS
        if layer_of(i.file.removesuffix(".py")) == number
        and i.module.startswith("loopworkers")
        and layer_of(i.module) > number
    ]
    assert describe(upwards) == []


def test_the_workers_side_imports_the_standard_library_and_itself() -> None:
    foreign = []
    for i in IMPORTS:
        if i.file in FOR_TASKS:
            continue
        if i.file.removesuffix(".py").split("/")[0] in WORKER_SIDE:
            top = i.module.split(".")[0]
            if top == "loopworkers":
                part = i.module.split(".")[1]
                fine = part in WORKER_SIDE or i.module == "loopworkers._loop"
                if i.module.replace(".", "/")[12:] + ".py" in FOR_TASKS:
                    fine = not i.at_top
            elif top == "cloudpickle":
                fine = not i.at_top  # what is shipped by value needs it, when it comes to that
            elif top in LOOPS or top == "anyio":
                fine = top in ("asyncio", "anyio") and not i.at_top  # for `async def` functions
            else:
                fine = top in STDLIB
            if not fine:
                foreign.append(i)
    assert describe(foreign) == []


def test_loops_are_imported_in_few_places() -> None:
    elsewhere = [
        i
        for i in IMPORTS
        if i.at_top and i.module.split(".")[0] in LOOPS and i.file not in LOOPS_AT_TOP
    ]
    assert describe(elsewhere) == []


def test_dependencies_are_the_declared_ones() -> None:
    # trio, and outcome which comes with it, only where trio has been imported by the program.
    allowed = {*STDLIB, "loopworkers", "anyio", "cloudpickle", "trio", "outcome"}
    foreign = [
        i for i in IMPORTS if i.module.split(".")[0] not in {*allowed, OWN_DEPENDENCY.get(i.file)}
    ]
    assert describe(foreign) == []
