"""Orthanc as label_app/orthanc/start.py starts it: for this machine alone, and gone when it should be."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from label_app_helpers import free_port
from orthanc_server import START, Orthanc, require_orthanc

STUDIES = "/dicom-web/studies"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Orthanc]]:
    """start(option, ..., wait=True) -> Orthanc; ended after the test."""
    require_orthanc()
    started: list[Orthanc] = []

    def go(*options: str, wait: bool = True) -> Orthanc:
        started.append(Orthanc(tmp_path, *options, wait=wait))
        return started[-1]

    yield go
    for each in started:
        each.stop()


def own_addresses() -> list[str]:
    """IPv4 addresses of this machine beside 127.0.0.1, and 127.0.0.2, which is always one of its own."""
    shown = subprocess.run(["ip", "-4", "-o", "addr"], capture_output=True, text=True).stdout
    return sorted({"127.0.0.2", *re.findall(r"inet ([\d.]+)", shown)} - {"127.0.0.1"})


def running(process: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def orthanc_of(server: Orthanc) -> int:
    """Process id of the Orthanc that this start.py has started."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return next(int(child) for child in children if Path(f"/proc/{child}/comm").read_text().strip() == "Orthanc")


def ends(process: int, seconds: float = 20) -> bool:
    """Whether a process is gone within some seconds."""
    end = time.monotonic() + seconds
    while running(process) and time.monotonic() < end:
        time.sleep(0.1)
    return not running(process)


def test_it_answers_on_loopback_and_refuses_on_all_other_addresses(start: Callable[..., Orthanc]) -> None:
    server = start()
    assert server.get(STUDIES) == (200, b"[]")
    assert f"--studies {server.url}/dicom-web" in server.log.read_text()
    for address in own_addresses():
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, server.port), 3)
    listening = subprocess.run(["ss", "-Hltn", f"sport = :{server.port}"], capture_output=True, text=True).stdout
    assert [line.split()[3] for line in listening.splitlines()] == [f"127.0.0.1:{server.port}"]


def test_sigterm_ends_it_and_its_orthanc(start: Callable[..., Orthanc]) -> None:
    server = start()
    orthanc = orthanc_of(server)
    assert int(server.pid_file.read_text()) == server.process.pid
    assert server.stop() == 0 and not running(orthanc) and not server.pid_file.exists()


def test_orthanc_does_not_outlive_a_killed_start(start: Callable[..., Orthanc]) -> None:
    server = start()
    orthanc = orthanc_of(server)
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    assert ends(orthanc)


def test_it_ends_with_its_parent_if_asked_to(tmp_path: Path) -> None:
    require_orthanc()
    command = [START, "--storage", tmp_path / "s", "--port", free_port(), "--pid-file", tmp_path / "pid"]
    text = (
        "import subprocess, sys, time, pathlib\n"
        "subprocess.Popen([sys.executable, *sys.argv[1:], '--end-with-parent'])\n"
        f"while not pathlib.Path({str(tmp_path / 'pid')!r}).exists(): time.sleep(.05)\n"
    )
    subprocess.run([sys.executable, "-c", text, *map(str, command)], check=True, timeout=40, capture_output=True)
    # Its parent is gone by now. Without a PID file it is already at its end.
    process = int((tmp_path / "pid").read_text()) if (tmp_path / "pid").exists() else 0
    try:
        assert ends(process)
    finally:
        if process and running(process):
            os.kill(process, signal.SIGTERM)


def test_password(start: Callable[..., Orthanc], tmp_path: Path) -> None:
    (tmp_path / "password").write_text("open sesame\n")
    server = start("--password-file", str(tmp_path / "password"))
    assert server.get(STUDIES)[0] == 401
    assert server.get(STUDIES, user="lesion:wrong")[0] == 401
    assert server.get(STUDIES, user="lesion:open sesame")[0] == 200
    assert "open sesame" not in server.log.read_text()


def test_without_a_namespace_it_is_on_loopback_or_refuses(start: Callable[..., Orthanc]) -> None:
    """Debian's 1.10.1 refuses: it does not know HttpBindAddresses. Later versions may do."""
    server = start("--no-namespace", wait=False)
    end = time.monotonic() + 30
    while server.process.poll() is None and not server.pid_file.exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    if server.process.poll() is None:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", server.port), 3)
        return
    assert server.process.returncode == 1
    assert re.search(r"Orthanc listens on 0\.0\.0\.0, so other machines can reach it", server.log.read_text())


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run(["--storage", tmp_path / "s", "--port", port])
    assert done.returncode == 1 and f"port {port} of 127.0.0.1 cannot be taken" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "--port 70000: expected 1 to 65535"),
        (["--password-file", "nowhere"], "--password-file nowhere: no such file"),
    ],
)
def test_mistakes(tmp_path: Path, options: list[str], message: str) -> None:
    done = run(["--storage", tmp_path / "s", *options])
    assert done.returncode == 2 and message in done.stderr and not (tmp_path / "s").exists()


def run(arguments: list[object]) -> subprocess.CompletedProcess[str]:
    """start.py with arguments that it refuses."""
    return subprocess.run(
        [sys.executable, str(START), *map(str, arguments)], capture_output=True, text=True, timeout=30
    )


def test_a_namespace_holds_loopback_and_nothing_else() -> None:
    require_orthanc()
    wrapper = START.with_name("in_namespace.sh")
    text = (
        "import os, socket\n"
        "with socket.socket() as listener:\n"
        "    listener.bind(('127.0.0.1', 0)); listener.listen()\n"
        "    socket.create_connection(listener.getsockname(), 3).close()\n"
        "print(sorted(name for _, name in socket.if_nameindex() if name in ('lo', 'eth0')))\n"
        "print(os.getuid())\n"
        "try: socket.create_connection(('192.0.2.1', 80), 3)\n"
        "except OSError as error: print(error.strerror)\n"
    )
    done = subprocess.run([wrapper, sys.executable, "-c", text], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    interfaces, user, error = done.stdout.splitlines()
    assert interfaces == "['lo']" and error == "Network is unreachable"
    assert int(user) in (0, os.getuid())  # people who are not root see themselves as 0
    empty = subprocess.run([wrapper], capture_output=True, text=True)
    assert empty.returncode == 2 and "in_namespace.sh COMMAND" in empty.stderr
