"""A real MONAI Label server, started from its own environment, on a free port of loopback, ended by its process id."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scripts.networks import LESSNet

REPOSITORY = Path(__file__).resolve().parents[2]
MODEL = "endoscopic_lesion_segmentation"


@pytest.fixture(scope="session")
def label_python() -> Path:
    """Python of the MONAI Label environment; the test is skipped where label_app/install.sh has not been run."""
    python = REPOSITORY / ".venv-label" / "bin" / "python"
    if not python.exists():
        pytest.skip("no MONAI Label environment: run label_app/install.sh")
    return python


class Server:
    """`monailabel start_server` on a folder of images; `get`, `post`, `put`, `delete` talk to it."""

    def __init__(
        self,
        python: Path,
        folder: Path,
        studies: Path | str,
        *conf: str,
        app: Path = REPOSITORY / "label_app",
        options: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
    ) -> None:
        self.token = ""  # sent with every request, if set
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"server_{self.port}.log"
        pairs = [text for pair in zip(conf[::2], conf[1::2], strict=True) for text in ("--conf", *pair)]
        command = [str(python.parent / "monailabel"), "start_server", "--app", str(app), "--studies", str(studies)]
        command += ["--port", str(self.port), "--conf", "models", MODEL, *pairs, *options]
        quiet = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "30000"}  # two cores, several processes
        environment = {**quiet, **os.environ, **(env or {}), "HOME": str(folder), "CUDA_VISIBLE_DEVICES": ""}
        environment["PATH"] = f"{python.parent}{os.pathsep}{environment['PATH']}"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=folder, env=environment, start_new_session=True
            )

    def wait(self, seconds: float = 120.0) -> Server:
        """Until it answers, or fail with its log."""
        end = time.time() + seconds
        while time.time() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.text()[-3000:]}")
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                return self
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"the server does not answer:\n{self.text()[-3000:]}")

    def text(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, and whatever it started."""
        if self.process.poll() is None:
            os.kill(self.process.pid, how)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(15)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, Any]:
        """One request -> (status, JSON or bytes, headers)."""
        token = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = urllib.request.Request(self.url + path, body, {**token, **(headers or {})}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                status, content, found = answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            status, content, found = error.code, error.read(), error.headers
        if found.get("content-type", "").startswith("application/json"):
            return status, json.loads(content), found
        return status, content, found

    def get(self, path: str, **headers: str) -> tuple[int, Any, Any]:
        """GET."""
        return self.ask("GET", path, None, headers)

    def post(self, path: str, params: dict[str, Any] | None = None, **headers: str) -> tuple[int, Any, Any]:
        """POST a JSON body."""
        return self.ask(
            "POST", path, json.dumps(params or {}).encode(), {"content-type": "application/json", **headers}
        )

    def infer(self, image: str, output: str = "json", **params: Any) -> tuple[int, Any, Any]:
        """POST /infer with form parameters."""
        return self.send("POST", f"/infer/{MODEL}?image={image}&output={output}", params)

    def send(
        self, method: str, path: str, params: dict[str, Any], name: str = "", file: Path | None = None, **headers: str
    ) -> tuple[int, Any, Any]:
        """A multipart form: "params" as JSON and, if one is given, a file."""
        limit = "tests-boundary"
        parts = [f'--{limit}\r\nContent-Disposition: form-data; name="params"\r\n\r\n{json.dumps(params)}\r\n'.encode()]
        if file is not None:
            head = f'--{limit}\r\nContent-Disposition: form-data; name="{name}"; filename="{file.name}"\r\n\r\n'
            parts += [head.encode(), file.read_bytes(), b"\r\n"]
        body = b"".join([*parts, f"--{limit}--\r\n".encode()])
        return self.ask(method, path, body, {"content-type": f"multipart/form-data; boundary={limit}", **headers})

    def train(self, seconds: float = 300.0, **params: Any) -> dict[str, Any]:
        """Start training and wait for its end -> its task."""
        status, task, _ = self.post(f"/train/{MODEL}", params)
        assert status == 200, task
        end = time.time() + seconds
        while time.time() < end:
            task = self.get("/train/")[1]
            if task["status"] not in ("SUBMITTED", "RUNNING"):
                return task
            time.sleep(0.5)
        raise AssertionError(f"training took more than {seconds} s: {task}")


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something to become true; fail when it does not in time."""
    end = time.time() + seconds
    while not holds():
        assert time.time() < end, "it did not happen in time"
        time.sleep(0.2)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="session")
def bundle_without_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the bundle as somebody has it who trains all weights with the app."""
    folder = tmp_path_factory.mktemp("unreleased") / "bundle"
    for name in ("configs", "scripts"):
        shutil.copytree(REPOSITORY / "bundle" / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def start_server(label_python: Path, bundle_without_weights: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """A function that starts servers: start_server(studies, "conf key", "value", ..., env={}) -> Server, answering."""
    servers: list[Server] = []

    def start(studies: Path | str, *conf: str, wait: bool = True, **options: Any) -> Server:
        if "bundle" not in conf and "app" not in options:
            conf = (*conf, "bundle", str(bundle_without_weights))
        if "weights_dir" not in conf and "app" not in options:
            conf = (*conf, "weights_dir", str(tmp_path / "rounds"))
        servers.append(Server(label_python, tmp_path, studies, *conf, **options))
        return servers[-1].wait() if wait else servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model.pt of the default network with seeded random weights: its masks mean nothing, but are not empty."""
    torch.manual_seed(0)
    network = LESSNet(preset="lite", encoder_weights="none", in_channels=3, out_channels=2, dropout=0.1).eval()
    with torch.no_grad():  # stretched, or all probabilities would be close to a half
        frame = torch.from_numpy(draw_lesion(0, 256, 256)[0]).permute(2, 0, 1)[None] / 255
        difference = network(frame)[:, 1] - network(frame)[:, 0]
        stretch = 4 / difference.std()
        network.head.weight *= stretch
        network.head.bias *= stretch
        network.head.bias[1] -= difference.median() * stretch
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save({"model": network.state_dict(), "epoch": 1, "value": 0.0}, path)
    return path


def draw_lesion(number: int, height: int = 72, width: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A pink noisy frame (H, W, 3) with a dark red ellipse, and its mask (H, W) 0/255."""
    random = np.random.default_rng(number)
    frame = np.array([205, 135, 115]) + random.integers(-15, 15, (height, width, 3))
    rows, columns = np.mgrid[:height, :width]
    centre = random.uniform(0.3, 0.7, 2) * (height, width)
    inside = ((rows - centre[0]) / 14) ** 2 + ((columns - centre[1]) / 20) ** 2 < 1
    frame[inside] -= np.array([90, 100, 90])
    return frame.clip(0, 255).astype(np.uint8), (inside * 255).astype(np.uint8)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """A MONAI Label folder: frame_00.png to frame_11.png; their masks are in truth/ beside it."""
    return make_studies(tmp_path)


@pytest.fixture(scope="module")
def module_server(
    label_python: Path, tmp_path_factory: pytest.TempPathFactory, random_weights: Path
) -> Iterator[Server]:
    """One server for tests that leave it as it is: random weights, `studies` beside its log; 12 frames."""
    folder = tmp_path_factory.mktemp("server")
    conf = ("weights", str(random_weights), "weights_dir", str(folder / "rounds"))
    server = Server(label_python, folder, make_studies(folder), *conf).wait()
    yield server
    server.stop()


def make_studies(parent: Path) -> Path:
    """The folder of the fixture `studies`, below another parent."""
    folder, truth = parent / "studies", parent / "truth"
    folder.mkdir()
    truth.mkdir()
    for number in range(12):
        frame, mask = draw_lesion(number)
        Image.fromarray(frame).save(folder / f"frame_{number:02d}.png")
        Image.fromarray(mask).save(truth / f"frame_{number:02d}.png")
    return folder


def add_labels(studies: Path, numbers: range) -> None:
    """Labels as MONAI Label keeps them: labels/final/frame_NN.png."""
    folder = studies / "labels" / "final"
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        shutil.copy(studies.parent / "truth" / f"frame_{number:02d}.png", folder)
