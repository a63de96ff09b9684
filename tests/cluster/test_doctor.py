"""`loopworkers doctor`, run on small applications as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import loopworkers

ROOT = Path(loopworkers.__file__).parents[1]

needs_isolates = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="isolates need CPython 3.14 or newer"
)

IN_ISOLATE = "import _interpreters; in_isolate = _interpreters.get_current()[0] != 0\n"


class Doctor:
    """Writes the application's files, and examines it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, **files: str) -> None:
        for name, text in files.items():
            path = self._folder / f"{name}.py"
            path.write_text(textwrap.dedent(text), encoding="utf-8")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "loopworkers", "doctor", *arguments],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def says(self, *arguments: str, code: int) -> list[str]:
        """The lines it prints, when it ends with that exit code."""
        ended = self.run(*arguments)
        assert (ended.returncode, ended.stderr) == (code, ""), ended
        return ended.stdout.splitlines()

    def modules(self, target: str, *, code: int) -> dict[str, dict[str, Any]]:
        """By name, what it says of each module."""
        told = json.loads("\n".join(self.says(target, "--json", code=code)))
        assert (told["target"], told["can_run"]) == (target, code == 0)
        return {module["module"]: module for module in told["modules"]}


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    return Doctor(tmp_path)


# --- it can run in isolates ---------------------------------------------------------------------


@needs_isolates
def test_pure_python(doctor: Doctor) -> None:
    doctor.write(
        app="import wave, helper\napp = helper.make()", helper="def make(): return object()"
    )
    (summary,) = doctor.says("app:app", code=0)
    assert summary.startswith("app:app can run in isolates: ")
    assert summary.endswith(" modules load")


@needs_isolates
def test_all_modules_are_listed_on_demand(doctor: Doctor) -> None:
    doctor.write(app="import wave, helper", helper="")
    states = {line.split()[0]: line.split()[1] for line in doctor.says("app", "--all", code=0)[2:]}
    assert states["app"] == states["helper"] == states["wave"] == "loads"
    modules = doctor.modules("app", code=0)
    assert modules["helper"]["file"].endswith("helper.py")
    assert modules["helper"]["imported_by"] == ["app"]
    assert modules.keys() == states.keys()


@needs_isolates
@pytest.mark.parametrize("way", ["import numpy", "import indirectly"])
def test_doing_without_a_refused_module(doctor: Doctor, way: str) -> None:
    doctor.write(
        app=f"""
            try:
                {way}
            except ImportError:
                import replacement
        """,
        indirectly="import numpy",
        replacement="",
    )
    summary, _, row, *details = doctor.says("app", code=0)
    assert summary.endswith(" modules load, 1 is refused and done without")
    assert row.split() == ["numpy._core._multiarray_umath", "falls", "back"]
    assert "does not support loading in subinterpreters" in details[0]
    assert details[-1].strip().startswith("app goes on without it")
    modules = doctor.modules("app", code=0)
    assert modules["numpy._core._multiarray_umath"]["kind"] == "extension"
    assert modules["numpy"]["state"] == "blocked"
    assert modules["numpy.linalg"]["state"] in ("blocked", "not reached")
    assert modules["replacement"]["state"] == "loads"


@needs_isolates
def test_what_fails_everywhere_is_no_trouble(doctor: Doctor) -> None:
    doctor.write(
        app="""
            for name in ("no_such_module", "broken"):
                try:
                    __import__(name)
                except Exception:
                    pass
        """,
        broken="1 / 0",
    )
    assert len(doctor.says("app", code=0)) == 1


@needs_isolates
def test_what_the_application_prints_and_leaves_running(doctor: Doctor) -> None:
    doctor.write(
        app="""
            import os, sys, threading, time
            print("hello")
            print("hello", file=sys.stderr)
            os.write(1, b"hello")
            threading.Thread(target=time.sleep, args=(1000,)).start()
        """
    )
    assert len(doctor.says("app", code=0)) == 1


@needs_isolates
def test_loaders_look_as_ever_to_the_application(doctor: Doctor) -> None:
    doctor.write(
        app="""
            import importlib.util, importlib.machinery, inspect, helper
            assert type(helper.__loader__) is importlib.machinery.SourceFileLoader
            assert helper.__spec__.loader is helper.__loader__
            assert type(__spec__.loader) is importlib.machinery.SourceFileLoader
            assert inspect.getsource(helper).strip() == "value = 1"
            assert importlib.util.find_spec("later").loader.get_filename().endswith("later.py")
            importlib.reload(helper)
        """,
        helper="value = 1",
        later="",
    )
    assert len(doctor.says("app", code=0)) == 1


# --- it cannot --------------------------------------------------------------------------------


@needs_isolates
def test_refused(doctor: Doctor) -> None:
    doctor.write(app="import helper\napp = object()", helper="import numpy")
    summary, _, row, *details = doctor.says("app:app", code=1)
    assert summary.startswith("app:app cannot run in isolates: 1 of ")
    assert summary.endswith(" modules is refused")
    assert row.split() == ["numpy._core._multiarray_umath", "refused"]
    error, importers, instead = map(str.strip, details)
    assert error.endswith("does not support loading in subinterpreters")
    assert importers == "imported by: app > helper > numpy"
    assert "SharedBuffer" in instead


@needs_isolates
def test_what_would_have_come_after_a_refused_one(doctor: Doctor) -> None:
    doctor.write(
        app="import numpy, readline_user, signal_user, wave",
        readline_user="import readline",
        # Imported by itself it does not say whether the application could.
        signal_user="import signal; signal.signal(signal.SIGUSR1, signal.SIG_DFL)",
    )
    modules = doctor.modules("app", code=1)
    assert modules["numpy._core._multiarray_umath"]["state"] == "refused"
    assert modules["readline"]["state"] == "refused"
    assert modules["readline"]["imported_by"] == ["app", "readline_user"]
    assert modules["signal_user"]["state"] == "blocked"
    assert modules["wave"]["state"] == "loads"


@needs_isolates
def test_caught_once_and_not_the_second_time(doctor: Doctor) -> None:
    doctor.write(
        app="""
            try:
                import readline
            except ImportError:
                pass
            import other
        """,
        other="import readline",
    )
    assert doctor.modules("app", code=1)["readline"]["state"] == "refused"


@needs_isolates
def test_a_refusal_behind_another_error(doctor: Doctor) -> None:
    doctor.write(
        app="""
            try:
                import readline
            except ImportError:
                pass
            readline.get_history_length()
        """
    )
    modules = doctor.modules("app", code=1)
    assert modules["readline"]["state"] == "refused"
    assert modules["app"]["state"] == "raises"
    assert modules["app"]["error"].startswith("NameError: ")


@needs_isolates
def test_raises_only_in_an_isolate(doctor: Doctor) -> None:
    doctor.write(
        app="import helper",
        helper="import signal\nsignal.signal(signal.SIGUSR1, signal.SIG_DFL)",
    )
    summary, _, row, error, importers, instead = doctor.says("app", code=1)
    assert summary.endswith(" modules raises an error")
    assert row.split() == ["helper", "raises"]
    assert "ValueError: signal only works in main thread" in error
    assert error.endswith("helper.py:2)")
    assert importers.strip() == "imported by: app"
    assert 'kind="process"' in instead


@needs_isolates
def test_no_attribute_in_an_isolate(doctor: Doctor) -> None:
    doctor.write(app=IN_ISOLATE + "if not in_isolate: app = 1")
    assert "has no attribute 'app'" in doctor.modules("app:app", code=1)["app"]["error"]


@needs_isolates
@pytest.mark.parametrize(
    ("way", "told"),
    [("os.abort()", "SIGABRT"), ("os.kill(os.getpid(), 9)", "SIGKILL"), ("os._exit(0)", "code 0")],
)
def test_crashes(doctor: Doctor, tmp_path: Path, way: str, told: str) -> None:
    doctor.write(
        app="import helper, readline, another",
        helper="import crashing",
        crashing=IN_ISOLATE + f"import os\nif in_isolate: {way}",
        another=IN_ISOLATE + "import os\nif in_isolate: os.abort()",
    )
    modules = doctor.modules("app", code=1)
    assert modules["crashing"]["state"] == modules["another"]["state"] == "crashes"
    assert modules["crashing"]["error"].endswith(told)
    assert modules["crashing"]["imported_by"] == ["app", "helper"]
    assert modules["readline"]["state"] == "refused"
    summary = doctor.says("app", code=1)[0]
    assert summary.endswith(" modules is refused, 2 end the process")
    assert not list(tmp_path.glob("core*"))


@needs_isolates
def test_crashes_when_the_isolate_ends(doctor: Doctor) -> None:
    doctor.write(app=IN_ISOLATE + "import atexit, os\nif in_isolate: atexit.register(os.abort)")
    told = doctor.modules("app", code=1)["app"]
    assert told["state"] == "crashes"
    assert "SIGABRT, when the isolate was to end" in told["error"]


@needs_isolates
def test_hangs(doctor: Doctor) -> None:
    doctor.write(app="import slow", slow=IN_ISOLATE + "import time\nif in_isolate: time.sleep(99)")
    summary, _, row, error, *_ = doctor.says("app", "--timeout", "8", code=1)
    assert summary.endswith(" does not end")
    assert row.split() == ["slow", "hangs"]
    assert error.strip() == "had not ended after 8 s"


# --- it cannot be imported at all -----------------------------------------------------------------


@needs_isolates
@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("fails:app", "RuntimeError: no database ("),
        ("no_such_module:app", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("imports_missing", "ModuleNotFoundError: No module named 'no_such_module' ("),
        ("works:app", "AttributeError: module 'works' has no attribute 'app'"),
        ("leaves", "SystemExit: 3 ("),
        ("dies", "it ended the process: exit code 7 while importing dies"),
    ],
)
def test_cannot_be_imported(doctor: Doctor, target: str, told: str) -> None:
    doctor.write(
        fails='raise RuntimeError("no database\\nand more")',
        imports_missing="import no_such_module",
        works="",
        leaves="import sys; sys.exit(3)",
        dies="import os; os._exit(7)",
    )
    (line,) = doctor.says(target, code=1)
    assert line.startswith(f"{target} cannot be imported: {told}")


@pytest.mark.parametrize(
    "arguments", [(), ("app.py",), ("a:b:c",), (":app",), ("app", "--timeout", "0")]
)
def test_usage(doctor: Doctor, arguments: tuple[str, ...]) -> None:
    ended = doctor.run(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "usage: loopworkers doctor" in ended.stderr


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python has isolates")
def test_python_without_isolates(doctor: Doctor) -> None:
    doctor.write(app="")
    (line,) = doctor.says("app", code=1)
    assert line.startswith("app cannot run in isolates here: isolates need CPython 3.14 or newer")
