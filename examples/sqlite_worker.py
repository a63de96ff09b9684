"""A worker that stays: it holds a search index in memory and answers queries through its port."""

import asyncio
import sqlite3
import sys
from pathlib import Path

from loopworkers import BlockingPort, Worker


def search(port: BlockingPort, folder: str):
    """Index the first lines of all modules in a folder, then answer until the port closes."""
    db = sqlite3.connect(":memory:")
    db.execute("create table modules (name text, first text)")
    for path in filter(Path.is_file, sorted(Path(folder).glob("*.py"))):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
        db.execute("insert into modules values (?, ?)", (path.stem, lines[0].strip('"#! ')))
    port.send(db.execute("select count(*) from modules").fetchone()[0])
    for word in port:
        found = "select name, first from modules where first like ? order by name limit 3"
        port.send(db.execute(found, (f"%{word}%",)).fetchall())


async def main():
    kind = "isolate" if sys.version_info >= (3, 14) else "process"
    async with Worker(search, str(Path(asyncio.__file__).parents[1]), kind=kind) as worker:
        print(await worker.receive() > 100, "modules are indexed, the loop was free meanwhile")
        for word in ("random", "heap", "nothing like this"):
            await worker.send(word)
            print(word, "->", await worker.receive())
        print("the worker was busy", f"{worker.utilization().ratio:.0%} of its time")
    print("exit code", worker.exitcode)


asyncio.run(main())
