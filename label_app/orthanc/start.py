#!/usr/bin/env python3
"""Start Orthanc with DICOMweb for this machine alone, and say what to give MONAI Label as --studies.

    label_app/orthanc/start.py --storage FOLDER [--port 8042] [--password-file FILE] [--pid-file FILE]

It ends with ctrl-C or SIGTERM. The address is 127.0.0.1 and no other: Orthanc itself listens on all addresses of the
machine (Debian's 1.10.1 does not know HttpBindAddresses), so it runs in a network namespace of its own, and this
program passes on to it what comes in at 127.0.0.1. Where namespaces are not allowed, Orthanc is started without one,
and stopped again if it listens on more than 127.0.0.1.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
INSIDE = "ORTHANC_START_LISTENS_ON"  # environment: file descriptor of the port of the machine, within the namespace
NO_NAMESPACE = 125  # exit code of in_namespace.sh
PLUGINS = ("/usr/share/orthanc/plugins", "/usr/local/share/orthanc/plugins")
SECONDS_TO_START = 30.0
USER = "lesion"


def main() -> None:
    """Read the command line and run. Exit code 2: a wrong argument; 1: Orthanc is missing, fails or is reachable."""
    options = arguments()
    if INSIDE in os.environ:  # in_namespace.sh has become this program again
        listener = socket.socket(fileno=int(os.environ.pop(INSIDE)))
        sys.exit(asyncio.run(serve(options, listener)))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, options.port))
    except OSError as error:
        sys.exit(f"port {options.port} of {HOST} cannot be taken ({error.strerror}); give another --port")
    wrapper = HERE / "in_namespace.sh"
    if not options.no_namespace and subprocess.run([wrapper, "true"], capture_output=True).returncode == 0:
        listener.listen(128)
        listener.set_inheritable(True)
        os.environ[INSIDE] = str(listener.fileno())
        os.execv(wrapper, [str(wrapper), sys.executable, str(HERE / "start.py"), *sys.argv[1:]])
    listener.close()
    sys.exit(asyncio.run(serve(options, None)))


def arguments() -> argparse.Namespace:
    """The command line, with its files checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", type=Path, required=True, help="folder of Orthanc's pictures and index; made")
    parser.add_argument("--port", type=int, default=8042, help="of 127.0.0.1 (default 8042)")
    parser.add_argument("--password-file", type=Path, help=f"asks for this password and the user {USER!r}")
    parser.add_argument("--pid-file", type=Path, help="written once Orthanc answers, removed at the end")
    parser.add_argument("--end-with-parent", action="store_true", help="end when the program that started this ends")
    parser.add_argument("--no-namespace", action="store_true", help="start Orthanc without a network namespace")
    options = parser.parse_args()
    if not 1 <= options.port <= 65535:
        parser.error(f"--port {options.port}: expected 1 to 65535")
    if options.password_file and not options.password_file.is_file():
        parser.error(f"--password-file {options.password_file}: no such file; write the password into it")
    return options


def configuration(options: argparse.Namespace) -> dict[str, object]:
    """Orthanc's settings: orthanc.json and what the command line says."""
    plugins = [path for folder in PLUGINS if (path := Path(folder) / "libOrthancDicomWeb.so").exists()]
    if not plugins:
        sys.exit(f"Orthanc's DICOMweb plug-in is not in {' or '.join(PLUGINS)}; apt-get install orthanc-dicomweb")
    settings = json.loads((HERE / "orthanc.json").read_text(encoding="utf-8"))
    settings |= {"HttpPort": options.port, "Plugins": [str(plugins[0])]}
    settings |= {name: str(options.storage.resolve()) for name in ("StorageDirectory", "IndexDirectory")}
    if password := password_of(options):
        settings |= {"AuthenticationEnabled": True, "RegisteredUsers": {USER: password}}
    return settings


def password_of(options: argparse.Namespace) -> str:
    """The password; empty = none is asked for. Exits when the file is empty."""
    if not options.password_file:
        return ""
    password = options.password_file.read_text(encoding="utf-8").strip()
    if not password:
        sys.exit(f"{options.password_file}: empty; write the password into it")
    return password


async def serve(options: argparse.Namespace, listener: socket.socket | None) -> int:
    """Run Orthanc until it or this program is told to end -> exit code.

    Args:
        options: the command line.
        listener: 127.0.0.1 of the machine, when Orthanc runs in a namespace; None when it listens there itself.
    """
    stop, parent = asyncio.Event(), os.getppid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    options.storage.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="orthanc-") as folder:  # for the owner alone: it may hold the password
        config = Path(folder) / "orthanc.json"
        config.write_text(json.dumps(configuration(options), indent=4), encoding="utf-8")
        try:
            orthanc = subprocess.Popen(["Orthanc", str(config)], start_new_session=True, preexec_fn=end_with_us)
        except FileNotFoundError:
            sys.exit("Orthanc is not installed; apt-get install orthanc orthanc-dicomweb")
        try:
            await answers(options, orthanc, stop)
            if listener is None:
                refuse_reachable(options.port)
                relay = None
            else:
                relay = await asyncio.start_server(passing_on_to(options.port), sock=listener)
            announce(options)
            while not stop.is_set() and orthanc.poll() is None:
                if options.end_with_parent and os.getppid() != parent:
                    break
                await asyncio.sleep(0.2)
            if relay is not None:
                relay.close()
        finally:
            ended = orthanc.poll()
            if ended is None:
                orthanc.terminate()
                try:
                    orthanc.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    orthanc.kill()
            if options.pid_file:
                options.pid_file.unlink(missing_ok=True)
    return 0 if ended is None else 1


def end_with_us() -> None:
    """Orthanc is told to end by the system when this program is killed (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


async def answers(options: argparse.Namespace, orthanc: subprocess.Popen[bytes], stop: asyncio.Event) -> None:
    """Wait until DICOMweb answers. Exits when Orthanc does not come up."""
    request = urllib.request.Request(f"http://{HOST}:{options.port}/dicom-web/studies?limit=1")
    if password := password_of(options):
        token = base64.b64encode(f"{USER}:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + SECONDS_TO_START
    while not stop.is_set():
        if orthanc.poll() is not None:
            sys.exit(f"Orthanc ended with exit code {orthanc.returncode}; its messages are above")
        try:
            with opener.open(request, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > end:
                sys.exit(f"Orthanc does not answer after {SECONDS_TO_START:g} s; its messages are above")
            await asyncio.sleep(0.1)


def refuse_reachable(port: int) -> None:
    """Exit if something listens on this port on another address than 127.0.0.1."""
    listening = subprocess.run(["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    found = sorted(set(re.findall(rf"(\S+):{port}\b", listening)) - {HOST})
    if found:
        sys.exit(
            f"Orthanc listens on {', '.join(found)}, so other machines can reach it: this version does not know "
            "HttpBindAddresses, and no network namespace could be made. It was stopped. Allow namespaces "
            "(label_app/orthanc/in_namespace.sh true says how), or install an Orthanc that does."
        )


def passing_on_to(port: int) -> object:
    """A handler that joins a connection to 127.0.0.1:port of this namespace."""

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                target.write(data)
                await target.drain()
            target.write_eof()
        except (ConnectionError, OSError, RuntimeError):  # one side is gone: so is the connection
            target.close()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection(HOST, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))
        for each in (writer, inner_writer):
            each.close()

    return handle


def announce(options: argparse.Namespace) -> None:
    """Print the address, and write the PID file."""
    print(f"Orthanc answers, on this machine alone. monailabel start_server --studies {studies_url(options.port)}")
    if options.password_file:
        print(f"with MONAI_LABEL_DICOMWEB_USERNAME={USER} and MONAI_LABEL_DICOMWEB_PASSWORD from your password file")
    sys.stdout.flush()
    if options.pid_file:
        between = options.pid_file.with_name(f".{options.pid_file.name}.partial")
        between.write_text(f"{os.getpid()}\n", encoding="utf-8")
        between.replace(options.pid_file)


def studies_url(port: int) -> str:
    """What MONAI Label calls --studies."""
    return f"http://{HOST}:{port}/dicom-web"


if __name__ == "__main__":
    main()
