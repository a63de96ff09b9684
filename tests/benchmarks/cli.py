"""Arguments, the run, output."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from . import machine, nodejs
from .harness import Harness
from .report import Line, Section, as_data, as_markdown, as_text
from .rows import ROWS


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python tests/benchmarks",
        description="loopworkers, its peers and the floor, side by side in one table.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer, shorter rounds: a minute or so"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=ROWS, help="of " + ", ".join(ROWS)
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write a page fragment")
    return parser.parse_args()


def main() -> int:
    """Run and print; figures are information, so there is no exit code for them."""
    arguments = _arguments()
    begin = time.monotonic()
    node = nodejs.prepare(seconds=20 if arguments.quick else 60)
    harness = Harness(arguments.quick, node, limit=100 if arguments.quick else 480)
    header = machine.header(arguments.quick)
    sections = []
    try:
        for name in arguments.only or ROWS:
            harness.say(f"{time.monotonic() - begin:5.0f} s  {name}")
            sections.append(_section(name, harness))
    except KeyboardInterrupt:
        harness.say("interrupted: the table ends here")
    finally:
        harness.close()
    header.append(("took", f"{time.monotonic() - begin:.0f} s"))
    print(as_text(header, sections))
    if arguments.json:
        arguments.json.write_text(json.dumps(as_data(header, sections), indent=1) + "\n")
    if arguments.markdown:
        arguments.markdown.write_text(as_markdown(header, sections), encoding="utf-8")
    return 0


def _section(name: str, harness: Harness) -> Section:
    if harness.is_late:
        return Section(name, name, [Line("all", reason="out of time")])
    try:
        return ROWS[name](harness)
    except Exception as error:
        # One row's trouble must not cost the others their figures.
        return Section(name, name, [Line("all", reason=f"{type(error).__name__}: {error}")])
