"""The public names: three lists that must agree, and what importing them costs."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import loopworkers

SOURCE = Path(loopworkers.__file__)
ROOT = SOURCE.parents[1]


CONSTANTS = {"PIPE", "ClusterEvent"}
ALIASES = {"BlockingPort": "MessagePort"}  # for type checkers they are two


def names_for_type_checkers() -> dict[str, str]:
    """Name -> module of the imports under ``if TYPE_CHECKING``."""
    names = {}
    for node in ast.parse(SOURCE.read_text()).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for line in node.body:
                assert isinstance(line, ast.ImportFrom)
                assert line.level == 1
                for alias in line.names:
                    assert alias.asname == alias.name, "re-exports are written `x as x`"
                    names[alias.name] = line.module or ""
    return names


def test_the_lists_agree() -> None:
    assert names_for_type_checkers() == loopworkers._MODULES
    assert list(loopworkers.__all__) == sorted(loopworkers._MODULES)


@pytest.mark.parametrize("name", loopworkers.__all__)
def test_name(name: str) -> None:
    value = getattr(loopworkers, name)
    module = importlib.import_module(f"loopworkers.{loopworkers._MODULES[name]}")
    assert value is getattr(module, name)
    assert name in CONSTANTS or value.__name__ == ALIASES.get(name, name)
    assert name in dir(loopworkers)


def test_every_error_is_a_top_level_name() -> None:
    # But the one that is only seen at the end of a chain of causes.
    assert set(loopworkers.errors.__all__) - {"RemoteTraceback"} <= set(loopworkers.__all__)


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        loopworkers.no_such_name  # noqa: B018
    with pytest.raises(ImportError):
        from loopworkers import no_such_name  # noqa: F401


def test_star_import() -> None:
    namespace: dict[str, object] = {}
    exec("from loopworkers import *", namespace)
    assert set(loopworkers.__all__) <= namespace.keys()


def modules_after(statement: str) -> set[str]:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {statement}; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(ended.stdout.split())


def test_import_is_light() -> None:
    loaded = modules_after("import loopworkers")
    assert loaded.isdisjoint({"asyncio", "trio", "anyio", "cloudpickle", "concurrent.futures"})
    ours = {name for name in loaded if name.startswith("loopworkers")}
    assert ours == {"loopworkers"}


def test_what_workers_import_is_light() -> None:
    loaded = modules_after("import loopworkers._child.process, loopworkers._child.serve")
    assert loaded.isdisjoint({"asyncio", "trio", "anyio", "cloudpickle", "logging", "typing"})


def test_errors_import_nothing_of_ours() -> None:
    ours = {name for name in modules_after("import loopworkers.errors") if "loopworkers" in name}
    assert ours == {"loopworkers", "loopworkers.errors"}
