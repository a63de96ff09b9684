"""What becomes of the workers when the primary, or its loop, ends without a word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import members
import psutil
import pytest
from binding_help import needs_linux
from contract_help import HERE, LONG, ROOT, eventually_sync, run_script

PATHS = os.pathsep.join((ROOT, HERE, str(Path(__file__).parent)))

PRIMARY = """if True:
    import anyio, members
    from loopworkers import Cluster

    async def main():
        async with Cluster(
            members.{target}, workers=2, kind={kind!r}, listen="127.0.0.1:{port}", policy={policy!r}
        ) as cluster:
            await cluster.ready()
            pids = [worker.pid for worker in cluster.workers.values() if worker.pid]
            print(cluster.addresses[0].rpartition(":")[2], *pids, flush=True)
            {then}

    if __name__ == "__main__":
        anyio.run(main)
"""


def start_primary(folder: Path, text: str) -> subprocess.Popen[str]:
    (folder / "script.py").write_text(text)
    environ = {**os.environ, "PYTHONPATH": PATHS}
    command = [sys.executable, str(folder / "script.py")]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)


def test_workers_end_with_their_primary(kind: Any, policy: Any, tmp_path: Any) -> None:
    port = 0
    for _ in range(2):  # the port can be had again
        text = PRIMARY.format(
            kind=kind, policy=policy, port=port, target="serve", then="await cluster.wait()"
        )
        with start_primary(tmp_path, text) as primary:
            assert primary.stdout is not None
            port, *_ = map(int, primary.stdout.readline().split())
            family = psutil.Process(primary.pid).children(recursive=True)
            assert bool(family) == (kind == "process")
            primary.kill()
        assert eventually_sync(lambda family=family: not any(p.is_running() for p in family))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_leaving_the_loop_without_the_block_leaves_nothing(
    kind: Any, backend: str, tmp_path: Any
) -> None:
    text = PRIMARY.format(kind=kind, policy="shared", port=0, target="serve", then="pass")
    (tmp_path / "members.py").write_text(Path(members.__file__).read_text())
    # An iterator that is given up where its `async with` has not ended.
    text = text.replace("async def main():", "async def run():")
    text = text.replace("            pass\n", "            yield pids\n")
    text = text.replace(
        '    if __name__ == "__main__":\n        anyio.run(main)',
        "    async def main():\n"
        "        global kept\n"
        "        kept = run()\n"
        "        await anext(kept)\n"
        '    if __name__ == "__main__":\n'
        f'        anyio.run(main, backend="{backend}")',
    )
    done = run_script(text, tmp_path)
    assert done.returncode == 0, done.stderr
    pids = [int(pid) for pid in done.stdout.split()[1:]]
    assert eventually_sync(lambda: not any(psutil.pid_exists(pid) for pid in pids))


CLOSED = """if True:
    import asyncio, os, time
    import members
    from loopworkers import Cluster

    async def start():
        cluster = Cluster(
            members.serve, workers=2, kind={kind!r}, listen="{listen}", policy={policy!r}
        )
        await cluster.__aenter__()
        await cluster.ready()
        return cluster

    if __name__ == "__main__":
        os.chdir({folder!r})
        asyncio.run(asyncio.sleep(0))
        before = set(os.listdir("/proc/self/fd"))
        loop = asyncio.new_event_loop()
        cluster = loop.run_until_complete(start())
        print(*[worker.pid for worker in cluster.workers.values() if worker.pid])
        loop.close()
        assert not cluster.workers
        assert not os.path.exists("socket")
        patience = time.monotonic() + {patience}
        # An isolate closes its ends, which are this process's too, when its thread has stopped.
        while left := set(os.listdir("/proc/self/fd")) - before:
            if time.monotonic() > patience:
                raise AssertionError(left)
            time.sleep(0.01)
"""


@needs_linux
@pytest.mark.parametrize("listen", ["127.0.0.1:0", "unix:socket"])
def test_closing_the_loop_by_hand_leaves_nothing(
    kind: Any, policy: Any, listen: str, tmp_path: Any
) -> None:
    if policy == "reuse_port" and listen.startswith("unix:"):
        pytest.skip("it is for ports only")
    (tmp_path / "members.py").write_text(Path(members.__file__).read_text())
    text = CLOSED.format(
        kind=kind, policy=policy, listen=listen, folder=str(tmp_path), patience=LONG
    )
    done = run_script(text, tmp_path)
    assert done.returncode == 0, done.stderr
    pids = [int(pid) for pid in done.stdout.split()]
    assert bool(pids) == (kind == "process")
    assert eventually_sync(lambda: not any(psutil.pid_exists(pid) for pid in pids))
