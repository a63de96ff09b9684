"""`python tests/benchmarks`: put `tests/` on the path, so that `benchmarks` is one package.

Run as a folder, this file is a top-level script; workers that are started by spawning import the
work by name, so it must have one name everywhere: `benchmarks.work`.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from benchmarks.cli import main

    sys.exit(main())
