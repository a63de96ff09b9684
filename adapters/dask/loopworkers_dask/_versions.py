"""Whether the cluster runs what this program runs."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from loopworkers import EngineFailed

_logger = logging.getLogger("loopworkers")

# What travels between here and there is understood by the same version only. Of Dask's own packages
# Dask itself warns.
_PACKAGES = ("loopworkers", "loopworkers-dask")


async def check_versions(client: Any, patience: float) -> None:
    """Raise EngineFailed, with a line for each difference, if it does not."""
    try:
        found = await asyncio.wait_for(client.get_versions(packages=list(_PACKAGES)), patience)
    except TimeoutError:
        # One is stopped, or in C code that keeps the GIL. Its calls fail if its versions differ.
        _logger.warning(
            "some workers of the Dask cluster did not tell within %s s which versions they have",
            patience,
        )
        return
    here = _relevant(found["client"])
    others = {"the scheduler": found["scheduler"]}
    others |= {f"worker {address}": versions for address, versions in found["workers"].items()}
    different = [
        f"{who} has {package} {there or 'not at all'}, {here[package]} is here"
        for who, versions in others.items()
        for package, there in _relevant(versions).items()
        if there != here[package]
    ]
    if different:
        raise EngineFailed(
            "this Dask cluster cannot run calls of this program:\n  "
            + "\n  ".join(different)
            + "\nInstall the same versions everywhere."
        )


def _relevant(versions: dict[str, Any]) -> dict[str, str | None]:
    packages = versions["packages"]
    # By-value functions are bytecode, which another 3.x does not understand.
    python = ".".join(packages["python"].split(".")[:2])
    return {"Python": python, **{name: packages.get(name) for name in _PACKAGES}}
