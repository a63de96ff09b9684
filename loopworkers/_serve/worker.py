"""What runs in each worker of `loopworkers serve`."""

from __future__ import annotations

import logging
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .._cluster.member import Member

_FORMAT = "%(levelname)s: %(message)s"


async def serve(member: Member, name: str, options: dict[str, Any]) -> None:
    """Load the application and serve it until the worker is to finish."""
    from .application import Watched, load

    logging.basicConfig(format=_FORMAT, level=options["log_level"].upper(), stream=sys.stderr)
    loaded = load(name, factory=options["factory"])
    app = Watched(loaded, member, needs_lifespan=options["lifespan"] == "on")
    if options["server"] == "uvicorn":
        from . import with_uvicorn as server
    else:
        from . import with_hypercorn as server  # type: ignore[no-redef]
    await server.serve(member, app, options)


def find_server(wanted: str | None) -> Literal["uvicorn", "hypercorn"]:
    """The server to use; raises LookupError with what to do when there is none."""
    names: tuple[Literal["uvicorn"], Literal["hypercorn"]] = ("uvicorn", "hypercorn")
    for name in names:
        if wanted in (None, name) and find_spec(name) is not None:
            return name
    what = " or ".join(names) if wanted is None else wanted
    raise LookupError(
        f"{what} is not installed, and serves the application: "
        f"pip install 'loopworkers[{wanted or 'uvicorn'}]'"
    )
