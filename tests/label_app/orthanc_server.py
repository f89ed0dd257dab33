"""A real Orthanc, started by label_app/orthanc/start.py on a free port of loopback, ended by its process id."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from label_app_helpers import REPOSITORY, free_port
from pydicom import Dataset, dcmread

START = REPOSITORY / "label_app" / "orthanc" / "start.py"
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Orthanc:
    """Orthanc with its REST interface, which the product does not use, to look at what is stored."""

    def __init__(self, folder: Path, *options: str, wait: bool = True) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.pid_file = folder / "pid"
        self.log = folder / "orthanc.log"
        command = [sys.executable, str(START), "--storage", str(folder / "storage"), "--port", str(self.port)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--pid-file", str(self.pid_file), *options], stdout=log, stderr=subprocess.STDOUT
            )
        if wait:
            self.wait()

    def wait(self, seconds: float = 40.0) -> None:
        """Until the PID file is there, or fail with its log."""
        end = time.monotonic() + seconds
        while not self.pid_file.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                pytest.fail(f"Orthanc did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it -> its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(30)

    def get(self, path: str, user: str = "", host: str = "127.0.0.1") -> tuple[int, bytes]:
        """GET -> (status, body). user: "name:password"."""
        request = urllib.request.Request(f"http://{host}:{self.port}{path}")
        return self._open(request, user)

    def delete(self, path: str) -> int:
        """DELETE -> status."""
        return self._open(urllib.request.Request(self.url + path, method="DELETE"))[0]

    def store(self, path: Path) -> None:
        """Store a DICOM file."""
        status, answer = self._open(urllib.request.Request(self.url + "/instances", path.read_bytes()))
        assert status == 200, answer

    def datasets(self, modality: str) -> dict[str, Dataset]:
        """Orthanc's id -> all instances of a modality."""
        found = {}
        for identity in json.loads(self.get("/instances")[1]):
            dataset = dcmread(BytesIO(self.get(f"/instances/{identity}/file")[1]))
            if dataset.Modality == modality:
                found[identity] = dataset
        return found

    @staticmethod
    def _open(request: urllib.request.Request, user: str = "") -> tuple[int, bytes]:
        if user:
            request.add_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
        try:
            with _DIRECT.open(request, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


def require_orthanc(namespace: bool = True) -> None:
    """Skip the test where Orthanc, its plug-in or (unless not needed) network namespaces are missing."""
    plugin = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
    if shutil.which("Orthanc") is None or not plugin.exists():
        pytest.skip("Orthanc is not installed: apt-get install orthanc orthanc-dicomweb")
    if namespace:
        wrapper = START.with_name("in_namespace.sh")
        if subprocess.run([wrapper, "true"], capture_output=True).returncode:
            pytest.skip("this system allows no network namespaces, in which Orthanc is kept to loopback")


class Worker:
    """DICOMweb datastores in the MONAI Label environment."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.log = folder / "worker.log"
        script = Path(__file__).with_name("dicomweb_worker.py")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [str(python), str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # PATH is without the environment's bin: a server may be started by its full name
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            )

    def ask(self, on: str, call: str, *arguments: Any) -> dict[str, Any]:
        """{"result": ...} or {"error": ..., "message": ...}."""
        self.process.stdin.write(json.dumps({"on": on, "call": call, "arguments": arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the worker has ended:\n{self.log.read_text()[-2000:]}"
        return json.loads(line)

    def stop(self) -> None:
        """End it."""
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
