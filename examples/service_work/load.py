"""How long a cheap request takes beside heavy ones: with workers, and with the naive handler.

Three kinds of processes: the service with its workers; one that sends `/ping` and measures; and
this one, which keeps the uploads in flight.
"""

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

from loopworkers import WorkerExecutor

from .work import table_statistics

WORKERS = 2  # of the service
UPLOADS = 8  # in flight
CPU = 0.2  # seconds that an upload takes to compute
PING_EVERY = 0.005  # seconds
WARM_UP = 1.0  # seconds of which the pings do not count


def main(service):
    """Run the load on a service that ``python *service`` starts, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0, help="for each row")
    seconds = parser.parse_args().seconds
    table, took = calibrated_table()
    print(
        f"{UPLOADS} uploads in flight, of {len(table) / 1e6:.1f} MB and {took * 1000:.0f} ms CPU; "
        f"{WORKERS} workers, {os.cpu_count()} cores; a /ping every {PING_EVERY * 1000:.0f} ms\n"
    )
    head = ("", "pings", "p50", "p90", "p99", "max", "uploads a second")
    print("{:16}{:>7}{:>10}{:>10}{:>10}{:>10}{:>19}".format(*head))
    with serving(service) as port:
        for label, path in {
            "nothing else": None,
            "with workers": "/statistics",
            "naive handler": "/naive/statistics",
        }.items():
            pings, rate = measure(port, path, table, seconds)
            cuts = statistics.quantiles(pings, n=100, method="inclusive")
            figures = (cuts[49], cuts[89], cuts[98], max(pings))
            times = "".join(f"{figure * 1000:7.1f} ms" for figure in figures)
            print(f"{label:16}{len(pings):7}{times}{rate:19.1f}", flush=True)


def calibrated_table():
    """A CSV whose statistics take `CPU` seconds, and how many they did take."""

    def table(rows):
        lines = (f"{n},{n * 7919 % 1009 / 10},{n * 104729 % 9973 / 7:.2f}\n" for n in range(rows))
        return ("number,price,weight\n" + "".join(lines)).encode()

    def cpu_time(data):
        started = time.process_time()
        table_statistics(data)
        return time.process_time() - started

    rows = 5000
    for _ in range(6):  # the speed of a processor changes by the second
        data = table(rows)
        took = min(cpu_time(data) for _ in range(3))
        if 0.95 < took / CPU < 1.05:
            break
        rows = round(rows * CPU / took)
    return data, took


@contextmanager
def serving(command):
    """A service started by ``python *command``; the value is its port."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield ready_port(process.stdout)
    finally:
        process.terminate()
        process.communicate()


def ready_port(output):
    said = []
    for line in output:
        if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
            return int(found[1])
        said.append(line)
    sys.exit(f"the service did not start:\n{''.join(said)}")


def measure(port, path, table, seconds):
    """The times of pings, and the uploads answered a second."""
    is_over = threading.Event()
    uploads = UPLOADS if path else 0
    started = time.perf_counter()
    with ThreadPoolExecutor(UPLOADS) as threads, WorkerExecutor(max_workers=1) as process:
        clients = [threads.submit(upload, port, path, table, is_over) for _ in range(uploads)]
        try:
            pings = process.submit(ping, port, seconds).result()
        finally:
            is_over.set()
        answered = sum(client.result() for client in clients)
    return pings, answered / (time.perf_counter() - started)


def upload(port, path, table, is_over):
    """One upload after the other; returns how many were answered."""
    body = (
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="table.csv"\r\n'
        b"Content-Type: text/csv\r\n\r\n" + table + b"\r\n--edge--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    answered = 0
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        while not is_over.is_set():
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                raise ConnectionError(f"{path} answered {response.status}: {answer.decode()}")
            answered += 1
    return answered


def ping(port, seconds):
    """Seconds that each of many pings took, over one connection; in a process of its own."""
    taken = []
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        due = time.perf_counter()
        count_from, end = due + WARM_UP, due + WARM_UP + seconds
        while due < end:
            connection.sendall(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"pong"):
                received = connection.recv(4096)
                if not received:
                    raise ConnectionError(f"the service closed the connection after {answer!r}")
                answer += received
            now = time.perf_counter()
            while due < now:
                # Those that came due meanwhile, of other clients, would have waited until now too.
                if due >= count_from:
                    taken.append(now - due)
                due += PING_EVERY
            time.sleep(due - now)
            due = time.perf_counter()  # this program may sleep longer, which nobody has waited for
    return taken
