"""What to use instead of packages that are known to be refused in an isolate."""

from __future__ import annotations

_IN_PROCESS = 'kind="process" for what needs it'
_NUMBERS = f"{_IN_PROCESS}; in the isolate array, memoryview and SharedBuffer"
_IN_MAIN = "nothing: it belongs into the main program, import it only there"

# By the first part of a module's name.
_INSTEAD = {
    "PIL": _IN_PROCESS,
    "_cffi_backend": f"ctypes, or {_IN_PROCESS}",
    "_curses": _IN_MAIN,
    "_polars_runtime_32": _IN_PROCESS,
    "_psutil_linux": f"os and /proc, or {_IN_PROCESS}",
    "_regex": f"re, or {_IN_PROCESS}",
    "argon2": f"hashlib.scrypt, or {_IN_PROCESS}",
    "_argon2_cffi_bindings": f"hashlib.scrypt, or {_IN_PROCESS}",
    "bcrypt": f"hashlib.scrypt, or {_IN_PROCESS}",
    "cryptography": f"hashlib, hmac, secrets and ssl, or {_IN_PROCESS}",
    "duckdb": f"sqlite3, or {_IN_PROCESS}",
    "faulthandler": _IN_MAIN,
    "greenlet": f"asyncio or threads, or {_IN_PROCESS}",
    "httptools": "h11 (uvicorn: --http h11)",
    "lxml": f"xml.etree.ElementTree, or {_IN_PROCESS}",
    "msgspec": f"json and dataclasses, or {_IN_PROCESS}",
    "numpy": _NUMBERS,
    "orjson": f"json, or {_IN_PROCESS}",
    "pandas": _NUMBERS,
    "polars": _IN_PROCESS,
    "pydantic_core": f"dataclasses (Starlette without FastAPI), or {_IN_PROCESS}",
    "readline": _IN_MAIN,
    "regex": f"re, or {_IN_PROCESS}",
    "scipy": _NUMBERS,
    "sqlalchemy": f"sqlite3 or asyncpg, or {_IN_PROCESS}",
    "tracemalloc": _IN_MAIN,
    "ujson": f"json, or {_IN_PROCESS}",
    "uvloop": "the event loop of asyncio",
    "zstandard": "compression.zstd",
}
# They can be imported without the part that does the work, and fail when they are used.
_HOLLOW = {"PIL": ("PIL._imaging",), "polars": ("_polars_runtime", "polars._plr")}
_OTHERS = f"{_IN_PROCESS}, or import it only in the routes or calls that need it"
_RAISES = 'kind="process", or do in a function called later what raises at import'


def instead_of(module: str, *, raises: bool = False) -> str:
    top = module.partition(".")[0]
    return _INSTEAD.get(top) or (_RAISES if raises else _OTHERS)


def cannot_do_without(package: str, module: str) -> bool:
    """Whether ``package`` is of no use without ``module``, whose ImportError it has caught."""
    return module.startswith(_HOLLOW.get(package.partition(".")[0], ()))
