"""Imports an installed adapter, and says by what versions of others it is there."""

import sys
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path

name = sys.argv[1]
adapter = import_module(name)
assert adapter.__file__ is not None
package = Path(adapter.__file__).parent
assert package.is_relative_to(sys.prefix), package
assert (package / "py.typed").exists()
for public in adapter.__all__:
    getattr(adapter, public)
others = sorted(f"{d.name} {d.version}" for d in distributions())
print(f"{name} on Python {sys.version.split()[0]}: {', '.join(others)}")
