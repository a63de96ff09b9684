"""`python -m loopworkers serve`, as a program."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from contract_help import LONG, eventually_sync
from serving import APP, SLOW_APP, Served, get

if TYPE_CHECKING:
    from pathlib import Path

LOCAL = "127.0.0.1:0"
SERVERS = ["uvicorn", "hypercorn"]


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


# --- serving -------------------------------------------------------------------------------------


def test_it_serves_and_ends_by_signal(server: str, kind: str, policy: str, folder: Path) -> None:
    end = signal.SIGINT if policy in ("shared", "least_busy") else signal.SIGTERM
    with Served(
        folder, "--server", server, "--kind", kind, "--policy", policy, "--workers", "2"
    ) as served:
        for _ in range(6):
            assert served.get() == "hello 1"
        served.signal(end)
        assert served.wait() == 0
    said = served.said()
    assert f"{end.name}: finishing" in said
    assert said.count("is ready") == 2
    assert said.count("finishes (drain)") == 2
    assert "Traceback" not in said
    # The lifespan of both workers.
    assert (folder / "started").read_text() == (folder / "stopped").read_text() == "xx"


def test_a_second_term_lets_requests_end_and_a_second_int_does_not(
    server: str, kind: str, folder: Path
) -> None:
    (folder / "app.py").write_text(SLOW_APP)
    with (
        Served(folder, "--server", server, "--kind", kind, "--workers", "1") as served,
        ThreadPoolExecutor() as pool,
    ):
        request = pool.submit(served.get)
        assert eventually_sync((folder / "asked").exists)
        for _ in range(2):
            served.signal(signal.SIGTERM)
            served.until("SIGTERM: finishing")
        (folder / "go").touch()
        assert request.result() == "hello 1"
        assert served.wait() == 0
    (folder / "go").unlink()
    (folder / "asked").unlink()
    with Served(folder, "--server", server, "--kind", kind, "--workers", "1") as served:
        with ThreadPoolExecutor() as pool:
            request = pool.submit(served.get)
            assert eventually_sync((folder / "asked").exists)
            served.signal(signal.SIGINT)
            served.until("SIGINT: finishing")
            served.signal(signal.SIGINT)
            assert served.wait() == 0
            assert request.exception() is not None
        assert "stacks follow" not in served.said()  # somebody was impatient, nobody late


def test_hup_serves_what_was_changed(server: str, kind: str, folder: Path) -> None:
    with Served(folder, "--server", server, "--kind", kind, "--workers", "2") as served:
        assert served.get() == "hello 1"
        (folder / "app.py").write_text(APP.replace("hello 1", "hello number 2"))
        served.signal(signal.SIGHUP)
        served.until(r"finishes \(reload\)", times=2)
        assert served.get() == "hello number 2"


def test_ttin_and_ttou_scale(kind: str, folder: Path) -> None:
    with Served(folder, "--kind", kind, "--workers", "1") as served:
        served.signal(signal.SIGTTIN)
        served.until("is ready", times=2)
        served.signal(signal.SIGTTOU)
        served.until(r"finishes \(scale\)")
        served.signal(signal.SIGTTOU)  # one stays
        assert served.get() == "hello 1"


def test_reload_when_a_file_is_changed(kind: str, folder: Path) -> None:
    with Served(folder, "--kind", kind, "--workers", "1", "--reload") as served:
        assert served.get() == "hello 1"
        (folder / "app.py").write_text(APP.replace("hello 1", "hello number 2"))
        served.until(r"app\.py changed: reloading")
        served.until(r"finishes \(reload\)")
        assert served.get() == "hello number 2"


def test_a_reload_that_fails_leaves_what_was_served(server: str, kind: str, folder: Path) -> None:
    with Served(folder, "--server", server, "--kind", kind, "--workers", "2") as served:
        (folder / "app.py").write_text("1 / 0")
        served.signal(signal.SIGHUP)
        served.until("SIGHUP: importing 'app' failed: ZeroDivisionError")
        assert served.get() == "hello 1"


def test_a_worker_is_replaced_after_so_many_requests(server: str, kind: str, folder: Path) -> None:
    with Served(
        folder, "--server", server, "--kind", kind, "--workers", "1", "--max-requests", "5"
    ) as served:
        for _ in range(8):
            assert served.get() == "hello 1"
        served.until(r"finishes \(requests\)")
        assert served.get() == "hello 1"


def test_a_unix_socket(server: str, kind: str, folder: Path) -> None:
    with Served(
        folder, "--server", server, "--kind", kind, "--workers", "2", bind="unix:s"
    ) as served:
        served.until("serving app:app on unix:")
        connection = http.client.HTTPConnection("localhost", timeout=LONG)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(LONG)
        connection.sock.connect(str(folder / "s"))
        assert get(connection) == "hello 1"
        connection.close()
    assert not (folder / "s").exists()


@pytest.mark.parametrize("keeps", [False, True], ids=["one request each", "keep-alive"])
def test_no_request_is_lost_by_a_reload(kind: str, keeps: bool, folder: Path) -> None:
    pytest.importorskip("uvicorn")
    lost: list[str] = []
    over = threading.Event()

    def load() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=LONG)
        heard_at = time.monotonic()
        while not over.is_set():
            silent = time.monotonic() - heard_at
            try:
                connection.request("GET", "/")
                silent = time.monotonic() - heard_at
                assert connection.getresponse().read() == b"hello 1"
            except Exception as error:
                # After a second of silence a connection may be closed, and a client that got no
                # processor for so long would find it so.
                if silent < 1:
                    lost.append(f"{error!r} after {silent:.2f} s")
                connection.close()
            heard_at = time.monotonic()
            if not keeps:
                connection.close()
        connection.close()

    with Served(folder, "--server", "uvicorn", "--kind", kind, "--workers", "2") as served:
        clients = [threading.Thread(target=load) for _ in range(4)]
        for client in clients:
            client.start()
        try:
            for number in range(3):
                served.signal(signal.SIGHUP)
                served.until(r"finishes \(reload\)", times=2 * (number + 1))
        finally:
            over.set()
            for client in clients:
                client.join()
    assert lost == []


# --- what cannot be served -----------------------------------------------------------------------


def refusal(folder: Path, *options: str, app: str = "app:app", bind: str = LOCAL) -> str:
    """The one line that tells why."""
    with Served(folder, "--workers", "2", *options, app=app, bind=bind) as served:
        assert served.wait() == 1, served.said()
    said = served.said()
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    return errors[0]


def test_a_port_in_use(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        assert re.search(f"{where}.*in use", refusal(folder, bind=where))


def test_a_privileged_port(folder: Path) -> None:
    try:
        socket.create_server(("127.0.0.1", 1)).close()
    except PermissionError:
        assert "ports below 1024 need a privilege" in refusal(folder, bind="127.0.0.1:1")
    else:
        pytest.skip("everybody may bind it here")


@pytest.mark.parametrize("bind", ["nowhere", "127.0.0.1:99999", "::1:80", "192.0.2.1:8000"])
def test_an_address_that_cannot_be(bind: str, folder: Path) -> None:
    assert bind in refusal(folder, bind=bind)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--workers", "0"), "1 worker or more"),
        (("--max-requests", "0"), "requests must be more than 0"),
        (("--max-connections", "0", "--policy", "round_robin"), "connections must be more than 0"),
        (("--max-connections", "9"), "needs a policy that hands connections over"),
        (("--unresponsive", "0"), "unresponsive must be more than 0"),
        (("--grace", "-1"), "grace must be 0 or more"),
        (("--reload", "--reload-dir", "nowhere"), "nowhere: there is no such folder"),
        (("--reload-dir", "."), "--reload-dir needs --reload"),
        (("--bind", "udp://127.0.0.1:0"), "by TCP or a Unix socket"),
        (("--keyfile", "app.py"), "--keyfile needs --certfile"),
        (("--certfile", "nowhere.pem"), "nowhere.pem"),
        (("--certfile", "app.py"), "app.py is no certificate"),
        (("--kind", "isolate", "--loop", "uvloop"), "solate"),
    ],
    ids=lambda each: " ".join(each) if type(each) is tuple else "",
)
def test_options_that_cannot_be(options: tuple[str, ...], why: str, folder: Path) -> None:
    assert why in refusal(folder, *options)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there are isolates here")
def test_without_isolates_it_says_so(folder: Path) -> None:
    assert "isolates need CPython 3.14 or newer" in refusal(folder, "--kind", "isolate")


BROKEN = {
    "missing:app": ("", "there is no module 'missing'"),
    "app:missing": ("", "'app' has no 'missing'"),
    ":app": ("", "names no application"),
    "number:app": ("app = 7", "is no ASGI application but 7"),
    "raising:app": ("1 / 0", "importing 'raising' failed: ZeroDivisionError: division by zero ("),
    "exiting:app": ("raise SystemExit(3)", "importing 'exiting' failed: SystemExit: 3"),
    "wrong:app": ("def f(:", "importing 'wrong' failed: SyntaxError: "),
    "needing:app": ("import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
}


@pytest.mark.parametrize("app", BROKEN)
def test_an_application_that_cannot_be_loaded(app: str, kind: str, folder: Path) -> None:
    text, why = BROKEN[app]
    if text:
        (folder / f"{app.partition(':')[0]}.py").write_text(text)
    assert why in refusal(folder, "--kind", kind, app=app)


@pytest.mark.parametrize("tells", [True, False])
def test_a_start_up_that_fails(server: str, kind: str, tells: bool, folder: Path) -> None:
    failing = 'return await send({"type": "lifespan.startup.failed", "message": "no database"})'
    raising = 'raise RuntimeError("no database")'
    before = 'await send({"type": "lifespan.startup.complete"})'
    assert before in APP
    (folder / "app.py").write_text(APP.replace(before, failing if tells else raising))
    # Without telling, an application is taken for one that knows no lifespan, unless asked for.
    said = refusal(folder, "--server", server, "--kind", kind, "--lifespan", "on")
    assert "start-up failed" in said
    assert "no database" in said


def test_no_server_is_installed(folder: Path) -> None:
    hide = "import sys\nsys.modules['uvicorn'] = sys.modules['hypercorn'] = None\n"
    (folder / "sitecustomize.py").write_text(hide)
    assert "pip install 'loopworkers[uvicorn]'" in refusal(folder)
    assert "hypercorn is not installed" in refusal(folder, "--server", "hypercorn")
