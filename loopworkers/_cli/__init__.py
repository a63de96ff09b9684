"""The commands of ``loopworkers`` and ``python -m loopworkers``."""
