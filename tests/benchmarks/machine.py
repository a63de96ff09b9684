"""The header: on what, and with which versions, the figures came out."""

from __future__ import annotations

import multiprocessing
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from . import nodejs
from .contenders import BY_KEY


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _versions() -> str:
    found = []
    for name in [contender.distribution for contender in BY_KEY.values() if not contender.node]:
        if name is not None:
            try:
                found.append(f"{name} {version(name)}")
            except PackageNotFoundError:
                # Ours is on the path without having been installed.
                found.append(f"{name} from the checkout" if name == "loopworkers" else f"{name} -")
    return ", ".join(found)


def header(quick: bool) -> list[tuple[str, str]]:
    """Names and values, in order."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    # It decides what ProcessPoolExecutor's first result costs.
    start_method = multiprocessing.get_start_method()
    load = f", load average {os.getloadavg()[0]:.1f} at the start" if _has_load() else ""
    return [
        ("machine", f"{_cpu()}, {cores()} cores{load}"),
        ("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        ("python", f"{python}, where multiprocessing starts by {start_method}"),
        ("versions", _versions()),
        ("node", nodejs.versions()),
        ("run", "quick: fewer and shorter rounds" if quick else "full"),
    ]


def _has_load() -> bool:
    return hasattr(os, "getloadavg")
