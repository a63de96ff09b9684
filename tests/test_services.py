"""The example services as their users run them: programs of their own, asked over HTTP."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import pytest

pytest.importorskip("PIL")

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LONG = 60.0  # a deadline that is reached only when something is broken
MAX_UPLOAD = 10_000_000

UVICORN = ["uvicorn", "--port", "0", "service_fastapi.app:app"]
AIOHTTP = ["service_aiohttp.app", "--port", "0"]
NEEDS = {"fastapi": ["fastapi", "uvicorn", "python_multipart"], "aiohttp": ["aiohttp"]}
SERVICES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            not all(map(find_spec, needed)), reason=f"{needed} are not installed"
        ),
    )
    for name, needed in NEEDS.items()
]

CSV = "name,price,note\nape,1.5,\nbee,2.5,old\ncow,5,old\n"
COLUMNS = {
    "name": {
        "filled": 3,
        "empty": 0,
        "distinct": 3,
        "most common": [["ape", 1], ["bee", 1], ["cow", 1]],
    },
    "price": {
        "filled": 3,
        "empty": 0,
        "min": 1.5,
        "mean": 3.0,
        "median": 2.5,
        "max": 5.0,
        "deviation": pytest.approx(1.4719601),
    },
    "note": {"filled": 2, "empty": 1, "distinct": 1, "most common": [["old", 2]]},
}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Service(NamedTuple):
    port: int
    process: subprocess.Popen[str]

    def ask(self, method: str, path: str, *given: Any) -> Answer:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=LONG)) as connection:
            connection.request(method, path, *given)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read())

    def upload(self, path: str, content: bytes, content_type: str) -> Answer:
        body = (
            b'--edge\r\nContent-Disposition: form-data; name="file"; filename="it"\r\n'
            b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + content + b"\r\n--edge--\r\n"
        )
        return self.ask("POST", path, body, {"Content-Type": "multipart/form-data; boundary=edge"})

    def metric(self, name: str, more: str = "") -> float:
        text = self.ask("GET", "/metrics").body.decode()
        found = re.search(rf"^loopworkers_{name}{{[^}}]*{more}}} (.*)$", text, re.MULTILINE)
        assert found, text
        return float(found[1])


@contextmanager
def started(name: str) -> Iterator[Service]:
    process = subprocess.Popen(
        [sys.executable, "-m", *(UVICORN if name == "fastapi" else AIOHTTP)],
        cwd=EXAMPLES,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # by which its processes are found
    )
    said: list[str] = []
    drained = threading.Thread(target=lambda: said.extend(process.stdout or ()))
    try:
        for line in process.stdout or ():
            said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                break
        else:
            pytest.fail("".join(said))
        drained.start()
        service = Service(int(found[1]), process)
        eventually(lambda: service.ask("GET", "/health/ready").status == 200)
        yield service
    finally:
        process.terminate()
        try:
            process.wait(LONG)
        finally:
            process.kill()
            if drained.ident:
                drained.join()
            process.communicate()
    assert process.returncode in (0, -signal.SIGTERM), "".join(said)
    assert "Traceback" not in "".join(said), "".join(said)
    eventually(lambda: not of_session(process.pid))


def of_session(session: int) -> list[int]:
    found = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == session:
                found.append(pid)
        except OSError:  # it has just ended
            pass
    return found


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@pytest.fixture(scope="module", params=SERVICES)
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    with started(request.param) as service:
        yield service


def image(size: tuple[int, int], kind: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    made = io.BytesIO()
    Image.new(mode, size).save(made, kind, **options)
    return made.getvalue()


# --- what is answered ----------------------------------------------------------------------------


def test_ping(service: Service) -> None:
    assert service.ask("GET", "/ping").body == b"pong"


@pytest.mark.parametrize("path", ["/statistics", "/naive/statistics"])
def test_statistics_of_a_table(service: Service, path: str) -> None:
    answer = service.upload(path, CSV.encode("utf-8-sig"), "text/csv; charset=utf-8")
    assert (answer.status, answer.json) == (200, COLUMNS)


def test_statistics_of_a_text(service: Service) -> None:
    answer = service.upload("/statistics", b"To be,\nor not to be.\n", "text/plain")
    assert answer.json == {
        "lines": 2,
        "characters": 21,
        "words": 6,
        "distinct words": 4,
        "mean length": pytest.approx(13 / 6),
        "most common": [["to", 2], ["be", 2], ["or", 1], ["not", 1]],
    }


def test_a_large_upload(service: Service) -> None:
    lines = MAX_UPLOAD // 2 // 5
    answer = service.upload("/statistics", b"word\n" * lines, "text/plain")
    assert answer.json["most common"] == [["word", lines]]


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (image((400, 200)), (100, 50)),
        (image((30, 20)), (30, 20)),
        (image((400, 200), "JPEG", "CMYK"), (100, 50)),
        (image((400, 200), "WEBP", "RGBA"), (100, 50)),
        (image((400, 200), mode="P", transparency=0), (100, 50)),
        (
            image(
                (400, 200),
                "JPEG",
                exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
            ),
            (50, 100),
        ),
    ],
    ids=["png", "small", "cmyk", "webp", "palette", "turned"],
)
def test_thumbnail(service: Service, content: bytes, size: tuple[int, int]) -> None:
    answer = service.upload("/thumbnail?size=100", content, "application/octet-stream")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    with Image.open(io.BytesIO(answer.body), formats=["PNG"]) as made:
        assert made.size == size


def test_report(service: Service) -> None:
    answer = service.ask("GET", "/report?days=1000&seed=7")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["transfer-encoding"] == "chunked"
    lines = answer.body.decode().splitlines()
    assert lines[0] == "day,orders,revenue,median order"
    assert [line.split(",")[0] for line in lines[1:]] == [str(n) for n in range(1, 1001)]
    assert service.ask("GET", "/report?days=1000&seed=7").body == answer.body
    assert service.ask("HEAD", "/report").status == 405


# --- what is refused -----------------------------------------------------------------------------

REFUSED = {
    "an empty table": ("/statistics", b"", "text/csv", "the first line must name the columns"),
    "two names alike": ("/statistics", b"a,a\n1,2\n", "text/csv", "by a name of its own"),
    "ragged": ("/statistics", b"a,b\n1,2\n\n3\n", "text/csv", "line 4 has 1 fields, the header 2"),
    "a quote too many": ("/statistics", b'a,b\n1,"2" x\n', "text/csv", "line 2: "),
    "numbers too large": ("/statistics", b"a\n1e308\n1e308\n", "text/csv", "too large"),
    "not a text": ("/statistics", b"\xff\xfe\x00", "text/plain", "not UTF-8: byte 0 is 0xff"),
    "not an image": ("/thumbnail", b"no image", "image/png", "not an image, or a broken one"),
    "another format": ("/thumbnail", image((9, 9), "GIF"), "image/gif", "JPEG, PNG, WEBP"),
    "half an image": ("/thumbnail", image((99, 99))[:-60], "image/png", "or a broken one"),
    "a bomb": ("/thumbnail", image((6000, 5000), mode="1"), "image/png", "25 million pixels"),
    "a large bomb": ("/thumbnail", image((9000, 9000), mode="1"), "image/png", "25 million pixels"),
}


@pytest.mark.parametrize(("path", "content", "kind", "why"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used(
    service: Service, path: str, content: bytes, kind: str, why: str
) -> None:
    answer = service.upload(path, content, kind)
    assert answer.status == 422
    assert why in answer.body.decode()


def test_not_finite_numbers_are_no_numbers(service: Service) -> None:
    answer = service.upload("/statistics", b"a\n1\nnan\n", "text/csv")
    assert answer.json["a"]["distinct"] == 2


def test_types_that_are_not_known(service: Service) -> None:
    answer = service.upload("/statistics", b"a", "application/pdf")
    assert answer.status == 415
    assert "wanted: text/csv, text/plain" in answer.body.decode()


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/statistics", b"a,b\n", "text/csv"),
        ("/statistics", b"nothing", "multipart/form-data; boundary=edge"),
        ("/statistics", b"nothing", "multipart/form-data"),
        ("/statistics", b"--edge\r\nbad\r\n\r\nx", "multipart/form-data; boundary=edge"),
        (
            "/statistics",
            b'--edge\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--edge--\r\n',
            "multipart/form-data; boundary=edge",
        ),
    ],
    ids=["no form", "a broken form", "no boundary", "a broken header", "no file"],
)
def test_what_is_no_upload(service: Service, path: str, body: bytes, kind: str) -> None:
    assert service.ask("POST", path, body, {"Content-Type": kind}).status in (400, 415, 422)


@pytest.mark.parametrize("query", ["days=0", "days=x", "days=100001", "seed=x"])
def test_numbers_that_are_not_allowed(service: Service, query: str) -> None:
    assert service.ask("GET", f"/report?{query}").status in (400, 422)


@pytest.mark.parametrize("size", [MAX_UPLOAD + 1, 3 * MAX_UPLOAD])
def test_too_large_an_upload(service: Service, size: int) -> None:
    assert service.upload("/statistics", bytes(size), "text/plain").status == 413


# --- a full service, and clients that leave ------------------------------------------------------


def test_full_until_the_clients_leave(service: Service) -> None:
    """Two reports are computed, sixteen wait; the next is refused, and all end with the clients."""
    clients = []
    try:
        for _ in range(18):
            client = socket.socket()
            clients.append(client)
            # Never read from, so that no report gets to its end.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", service.port))
            client.sendall(b"GET /report?days=100000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(lambda: service.metric("calls_running") == 2)
        eventually(lambda: service.metric("calls_waiting") == 16)
        full = service.upload("/statistics", b"word", "text/plain")
        assert (full.status, full.headers["retry-after"]) == (503, "1")
        assert service.ask("GET", "/report").status == 503
        assert service.ask("GET", "/ping").body == b"pong"
        assert service.ask("GET", "/health/ready").status == 200
    finally:
        for client in clients:
            client.close()
    eventually(lambda: service.metric("calls_running") + service.metric("calls_waiting") == 0)
    assert service.upload("/statistics", b"word", "text/plain").status == 200


@pytest.mark.parametrize("name", SERVICES)
def test_it_ends_with_its_workers(name: str) -> None:
    """`started` looks at what is left."""
    with started(name) as service:
        assert service.upload("/statistics", b"word", "text/plain").status == 200
        assert len(of_session(service.process.pid)) > 1


# --- the load ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVICES)
def test_load(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", f"service_{name}.load", "--seconds", "1"]
    process = subprocess.Popen(
        command,
        cwd=EXAMPLES,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    output, errors = process.communicate(timeout=100)
    assert (process.returncode, errors) == (0, "")
    assert "8 uploads in flight" in output
    for label in ("nothing else", "with workers", "naive handler"):
        row = re.search(rf"^{label} +(\d+)(?: +\d+\.\d ms){{4}} +(\d+\.\d)$", output, re.MULTILINE)
        assert row, output
        assert int(row[1]) > 0
        assert (float(row[2]) > 0) == (label != "nothing else")
    eventually(lambda: not of_session(process.pid))


def test_pings_that_had_to_wait_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only the one that was sent: others would have been, meanwhile."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    load = import_module("service_work.load")
    monkeypatch.setattr(load, "WARM_UP", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while connection.recv(4096):
                    time.sleep(0.2)  # the slowness that is to be measured
                    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\npong")

        thread = threading.Thread(target=serve)
        thread.start()
        taken = load.ping(server.getsockname()[1], 0.1)
        thread.join()
    assert taken[0] >= 0.2
    assert len(taken) >= 0.2 / load.PING_EVERY
    assert taken == sorted(taken, reverse=True)
