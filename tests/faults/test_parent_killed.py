"""The program is killed by SIGKILL: its workers, busy as they may be, are gone within a second."""

from __future__ import annotations

import time

import psutil
import pytest

from .helpers import eventually, family, is_gone, killed_at_end, start_script

SCRIPT = """
import anyio, os, sys, time
from loopworkers import WorkerPool

def busy(how):
    print("running", os.getpid(), flush=True)
    if how == "loop":
        while True:
            pass
    elif how == "C code":
        sum(range(10**12))
    elif how == "regex":
        import re
        re.match(r"(a+)+$", "a" * 60 + "b")
    elif how == "sleep":
        time.sleep(1000)
    elif how == "deaf":
        import signal
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        while True:
            time.sleep(1000)
    elif how == "send":
        return bytes(200_000_000)

async def main():
    async with WorkerPool(max_workers=2) as pool:
        for ready in [pool.run(time.sleep, 0.1) for _ in range(2)]:
            await ready
        calls = [pool.run(busy, sys.argv[1]) for _ in range(2)]
        if sys.argv[1] == "send":
            time.sleep(1000)  # nobody reads what the workers send
        await calls[0]

anyio.run(main)
"""


@pytest.mark.parametrize("how", ["loop", "C code", "regex", "sleep", "deaf", "send"])
def test_workers_die_with_the_program(how: str) -> None:
    source = SCRIPT.replace("sys.argv[1]", repr(how))
    with killed_at_end(start_script(source)) as program:
        assert program.stdout is not None
        pids = [int(program.stdout.readline().split()[1]) for _ in range(2)]
        everybody = [each.pid for each in family(program)]
        assert set(pids) < set(everybody), "the workers and a forkserver"
        program.kill()
        killed = time.monotonic()
        eventually(lambda: all(map(is_gone, everybody)), "workers and forkserver gone", 5.0)
        took = time.monotonic() - killed
        assert took < 1.0


def test_workers_die_with_a_program_that_was_forked() -> None:
    # A child that the program forked has copies of its descriptors: they keep nobody alive.
    source = SCRIPT.replace("sys.argv[1]", "'loop'").replace(
        "        await calls[0]",
        """
        while "running" not in open(log).read():
            await anyio.sleep(0.01)
        child = os.fork()
        if child == 0:
            os.close(1); os.close(2)
            time.sleep(30)
            os._exit(0)
        print("child", child, flush=True)
        await calls[0]
        """,
    )
    source = source.replace(
        """print("running", os.getpid(), flush=True)""",
        """
    with open(log, "a") as file:
        file.write("running")""",
    ).replace("def busy", "log = '/dev/null'\n\ndef busy", 1)
    import tempfile

    with tempfile.NamedTemporaryFile() as log:
        source = source.replace("'/dev/null'", repr(log.name))
        with killed_at_end(start_script(source)) as program:
            assert program.stdout is not None
            child = psutil.Process(int(program.stdout.readline().split()[1]))
            try:
                others = [each.pid for each in family(program) if each.pid != child.pid]
                assert len(others) == 3
                program.kill()
                killed = time.monotonic()
                eventually(lambda: all(map(is_gone, others)), "workers and forkserver gone", 5.0)
                assert time.monotonic() - killed < 1.0
                assert not is_gone(child.pid)
            finally:
                child.kill()
