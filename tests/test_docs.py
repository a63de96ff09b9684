"""The programs in READMEs and docs/: those marked are run, and print what the page says.

A block is marked by ``<!-- run -->`` on the line before it. A block marked ``<!-- output -->``
that follows is what it prints.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import loopworkers

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "adapters").glob("**/README.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

_PROGRAM = re.compile(
    r"^<!-- run -->\n```python\n(?P<program>.*?)^```\n"
    r"(?:\n<!-- output -->\n```text\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]*)?\)")


class Program(NamedTuple):
    page: str
    line: int
    text: str
    output: str | None


def programs() -> list[Program]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _PROGRAM.finditer(text):
            line = text.count("\n", 0, match.start()) + 3
            name = page.relative_to(ROOT).as_posix()
            found.append(Program(name, line, match["program"], match["output"]))
        assert len(_PROGRAM.findall(text)) == text.count("<!-- run -->\n"), page
    return found


@pytest.mark.parametrize("program", programs(), ids=lambda program: f"{program[0]}:{program[1]}")
def test_program(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(program.text, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(loopworkers.__file__).parents[1])}
    environment.pop("PYTHONUNBUFFERED", None)
    ended = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    if program.output is not None:
        assert ended.stdout == program.output


def test_readme_shows_the_first_example() -> None:
    (program,) = (program for program in programs() if program.page == "README.md")
    assert program.text == (ROOT / "examples/hello.py").read_text()


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    kept = "".join(c for c in heading.lower() if c.isalnum() or c in " -_")
    return "#" + kept.strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links(page: Path) -> None:
    for target, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name} links to {target}{anchor}"


def test_tests_that_pages_name_are_there() -> None:
    there = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for page in PAGES:
        for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8")):
            assert f"def {name}(" in there, f"{page.name} names {name}"
