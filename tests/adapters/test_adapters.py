"""What every adapter keeps to."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

import loopworkers
import loopworkers.engines

ADAPTERS = Path(__file__).resolve().parents[2] / "adapters"
NAMES = sorted(path.parent.name for path in ADAPTERS.glob("*/pyproject.toml"))
PUBLIC = {
    *loopworkers.__all__,
    *(f"engines.{name}" for name in loopworkers.engines.__all__),
    "errors.RemoteTraceback",
}


@pytest.mark.parametrize("name", NAMES)
def test_it_uses_public_names_only(name: str) -> None:
    others = [f"loopworkers_{other}" for other in NAMES if other != name]
    for path in (ADAPTERS / name / f"loopworkers_{name}").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            imported = []
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported = [f"{node.module}.{alias.name}" for alias in node.names]
            for module in imported:
                package, _, inside = module.partition(".")
                if package == "loopworkers":
                    assert inside in PUBLIC, f"{path}: {module}"
                elif package in others:
                    assert "._" not in module, f"{path}: {module}"


@pytest.mark.parametrize("name", NAMES)
def test_it_is_packaged_as_all_are(name: str) -> None:
    project = tomllib.loads((ADAPTERS / name / "pyproject.toml").read_text())["project"]
    assert project["name"] == f"loopworkers-{name}"
    assert project["requires-python"] == ">=3.11"
    assert (ADAPTERS / name / f"loopworkers_{name}" / "py.typed").exists()
    assert not (ADAPTERS / "__init__.py").exists()
    assert not (ADAPTERS / name / "__init__.py").exists()
    # One screen, which begins with what a user writes.
    lines = (ADAPTERS / name / "README.md").read_text().splitlines()
    assert len(lines) <= 60
    assert "```python" in lines[:8]
