"""What a `Worker` has of its own, where the workers of pools share the program's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: For ``stdout=`` and ``stderr=``, as `subprocess.PIPE`.
PIPE = -1

_LIMITS = {"memory": "RLIMIT_AS", "cpu_seconds": "RLIMIT_CPU", "open_files": "RLIMIT_NOFILE"}


@dataclass
class Identity:
    id: int
    name: str
    kind: str
    is_async: bool  # its function
    env: dict[str, str] | None
    argv: list[str]
    limits: dict[str, int]  # by the names of the resource module
    streams: dict[str, int]  # "stdout", "stderr": descriptors to write to

    def told(self) -> dict[str, Any]:
        told = dict(vars(self))
        if self.kind == "process":
            # It is born with them.
            told |= {"env": None, "streams": {}}
        return told


def check(
    kind: str,
    env: Mapping[str, str] | None,
    argv: Sequence[str],
    piped: Mapping[str, int | None],
    limits: Mapping[str, int] | None,
) -> dict[str, int]:
    """Raise ValueError for what a worker of this kind cannot have; ``limits`` as in `Identity`."""
    if kind == "thread":
        given = {"env": env, "argv": argv, "limits": limits, **piped}
        names = [name for name, value in given.items() if value]
        if names:
            raise ValueError(
                f"a thread shares {', '.join(names)} with the program; use another kind"
            )
    for name, value in piped.items():
        if value not in (None, PIPE):
            raise ValueError(f"{name} must be None or PIPE, not {value!r}")
    for key, text in (env or {}).items():
        if not key or "=" in key or "\0" in key or "\0" in text:
            raise ValueError(f"env has what is no environment variable: {key!r}={text!r}")
    if not limits:
        return {}
    if kind != "process":
        raise ValueError(
            "limits need kind='process': nothing can limit the memory, processor time or "
            "files of an isolate apart from those of its process"
        )
    unknown = sorted(set(limits) - set(_LIMITS))
    if unknown:
        raise ValueError(f"unknown limits {unknown}; known are {sorted(_LIMITS)}")
    return {_LIMITS[key]: value for key, value in limits.items()}
