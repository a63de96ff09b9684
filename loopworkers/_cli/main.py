"""The command line: each command is a module with `add_arguments` and `run`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from . import doctor, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMANDS = {
    "serve": (serve, "serve an ASGI application by several workers"),
    "doctor": (doctor, "tell whether an application can run in isolates"),
}


def main(argv: Sequence[str] | None = None) -> int:
    # By its name, or `python -m loopworkers` would call itself __main__.py.
    parser = argparse.ArgumentParser(prog="loopworkers")
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, (module, purpose) in _COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args(argv)
    code: int = options.run(options)
    return code
