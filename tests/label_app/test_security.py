"""The holes of MONAI Label 0.8.5, each tried against the running server."""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from label_app_helpers import MODEL, REPOSITORY, Server, free_port, make_studies
from PIL import Image

TOKEN = "correct-horse-battery"


@pytest.fixture
def server(module_server: Server) -> Server:
    return module_server


@pytest.fixture
def studies(module_server: Server) -> Path:
    return module_server.log.parent / "studies"


@pytest.fixture(scope="module")
def locked(label_python: Path, tmp_path_factory: pytest.TempPathFactory, random_weights: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("locked")
    conf = ("weights", str(random_weights), "weights_dir", str(folder / "rounds"))
    server = Server(label_python, folder, make_studies(folder), *conf, env={"LESION_LABEL_TOKEN": TOKEN}).wait()
    yield server
    server.stop()


def test_files_outside_the_studies_are_out_of_reach(server: Server, studies: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (64, 64)).save(secret)
    for image in (str(secret), "../secret", "..%2Fsecret", "%252e%252e%252fsecret", "..\\secret", "/etc/passwd"):
        status, content, _ = server.infer(image)
        assert status == 400, (image, content)
    # In the form's JSON the name passes by the query: the app itself refuses it.
    for params in ({"image": str(secret)}, {"image": "../secret.png"}, {"image": ["x"]}):
        status, content, _ = server.send("POST", f"/infer/{MODEL}?image=frame_00&output=json", params)
        assert status == 400, (params, content)
    status, content, _ = server.infer("frame_00", model_filename="../../secret.pt")
    assert status == 400 and "no weights '../../secret.pt'" in content["detail"]
    assert server.infer("frame_00")[0] == 200


def test_nothing_is_written_outside_the_studies(server: Server, studies: Path, tmp_path: Path) -> None:
    before = _files(studies.parent)
    picture = studies / "frame_00.png"
    for path in (
        "/datastore/?image=../evil",
        "/datastore/image?image=..%2F..%2Fevil",
        "/datastore/image?image=%252e%252e%252fevil",
        "/datastore/image?image=a%00b",
    ):
        status, content, _ = server.send("PUT", path, {}, "file", picture)
        assert status == 400, (path, content)
    for path in (
        "/datastore/label?image=../evil",
        "/datastore/label?image=frame_00&tag=../../evil",
        "/datastore/label?image=frame_00&tag=%2e%2e",
    ):
        status, content, _ = server.send("PUT", path, {}, "label", picture)
        assert status == 400, (path, content)
    status, content, _ = server.send("PUT", "/datastore/label?image=unknown", {}, "label", picture)
    assert status == 404 and "not in the datastore" in content["detail"]
    script = tmp_path / "evil.py"
    script.write_text("print()")
    assert server.send("PUT", "/datastore/image?image=evil", {}, "file", script)[0] == 400
    assert server.ask("DELETE", "/datastore/image?id=../secret")[0] == 400
    assert _files(studies.parent) == before
    assert server.send("PUT", "/datastore/image?image=more", {}, "file", picture)[0] == 200
    assert (studies / "more.png").read_bytes() == picture.read_bytes()
    assert server.ask("DELETE", "/datastore/image?id=more")[0] == 200 and not (studies / "more.png").exists()


def test_released_weights_cannot_be_replaced(server: Server, random_weights: Path, studies: Path) -> None:
    before = random_weights.read_bytes()
    assert server.send("PUT", f"/model/{MODEL}", {}, "file", studies / "frame_00.png")[0] == 403
    assert server.ask("DELETE", f"/model/{MODEL}")[0] == 403
    assert random_weights.read_bytes() == before
    assert server.ask("PUT", "/weights/nothing")[0] == 400
    assert server.get("/weights/")[1]["current"] == "release"


def test_other_pages_are_refused(server: Server) -> None:
    own = f"http://127.0.0.1:{server.port}"
    status, _, headers = server.get("/info/", Origin="https://evil.example")
    assert status == 403 and "access-control-allow-origin" not in headers
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}
    status, _, headers = server.ask("OPTIONS", "/datastore/label", None, preflight)
    assert status == 403 and "access-control-allow-credentials" not in headers
    assert server.get("/info/", Origin="null")[0] == 403
    status, _, headers = server.get("/info/", Origin=own)
    assert status == 200 and "access-control-allow-credentials" not in headers


def test_other_host_names_are_refused(server: Server) -> None:
    """A page may point its own name at this machine (DNS rebinding): its requests have that name as Host."""
    assert server.get("/info/", Host="evil.example")[0] == 421
    assert server.get("/info/", Host=f"localhost:{server.port}")[0] == 200


def test_allowed_origins_get_no_credentials(start_server: Callable[..., Server], studies: Path) -> None:
    server = start_server(studies, "origins", "https://viewer.example", "hosts", "label.example")
    status, _, headers = server.get("/info/", Origin="https://viewer.example", Host="label.example")
    assert status == 200 and headers["access-control-allow-origin"] == "https://viewer.example"
    assert "access-control-allow-credentials" not in headers
    assert server.get("/info/", Origin="https://evil.example")[0] == 403


def test_without_the_token_nothing_is_read_or_written(locked: Server) -> None:
    picture = locked.log.parent / "studies" / "frame_00.png"
    for method, path in (
        ("GET", "/info/"),
        ("GET", "/datastore/?output=all"),
        ("GET", "/datastore/image?image=frame_00"),
        ("GET", f"/model/{MODEL}"),
        ("GET", "/logs/"),
        ("GET", "/weights/"),
        ("GET", "/openapi.json"),
        ("GET", "/auth/../info/"),
        ("POST", "/activelearning/random"),
        ("POST", f"/train/{MODEL}"),
        ("DELETE", "/datastore/image?id=frame_00"),
    ):
        status, content, headers = locked.ask(method, path, b"{}" if method == "POST" else None)
        assert status in (400, 401), (path, status, content)
    assert locked.send("PUT", "/datastore/label?image=frame_00", {}, "label", picture)[0] == 401
    assert locked.infer("frame_00")[0] == 401
    for wrong in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
        assert locked.get("/info/", Authorization=wrong)[0] == 401
    assert picture.exists()
    assert locked.get("/info/", Authorization=f"Bearer {TOKEN}")[0] == 200


def test_logging_in_as_slicer_does(locked: Server) -> None:
    assert locked.get("/auth/")[1]["enabled"] is True
    form = {"content-type": "application/x-www-form-urlencoded"}
    body = "username=annotator&grant_type=password&password="
    assert locked.ask("POST", "/auth/token", f"{body}wrong".encode(), form)[0] == 400
    status, content, headers = locked.ask("POST", "/auth/token", f"{body}{TOKEN}".encode(), form)
    assert status == 200 and content == {"access_token": TOKEN, "token_type": "bearer"}
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
    assert locked.get("/info/", Cookie=cookie.split(";")[0])[0] == 200
    assert locked.get("/auth/token/valid", Authorization=f"bearer {TOKEN}")[0] == 200
    assert locked.get("/auth/token/valid")[0] == 401
    assert TOKEN not in locked.text()


def test_archives_and_whole_slides_are_not_taken(server: Server, studies: Path) -> None:
    for query in ("uncompress=true", "uncompress=yes", "uncompress=on", "uncompress=T", "uncompress=0&uncompress=y"):
        assert server.send("PUT", f"/session/?{query}", {}, "files", studies / "frame_00.png")[0] == 403
    # A line's end behind the path: the routes do not see it, and the guard must.
    assert server.send("PUT", "/session/%0A?uncompress=true", {}, "files", studies / "frame_00.png")[0] == 400
    assert server.post("/reload%0A")[0] == server.post("/proxy/dicom/stow/studies%250a")[0] == 400
    assert server.post(f"/infer/wsi/{MODEL}")[0] == 403
    assert server.post("/reload")[0] == 403
    status, content, _ = server.send("PUT", "/session/", {}, "files", studies / "frame_00.png")
    assert status == 200
    status, facts, _ = server.send("POST", f"/infer/{MODEL}?session_id={content['session_id']}&output=json", {})
    assert status == 200 and facts["frames"] == 1
    assert server.get("/session/..%2f..%2fetc")[0] == 400


def test_poisoned_weights_do_not_run(start_server: Callable[..., Server], studies: Path, tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple:
            return (open, (str(tmp_path / "owned"), "w"))

    poisoned = tmp_path / "poisoned.pt"
    poisoned.write_bytes(pickle.dumps(Evil()))
    server = start_server(studies, "weights", str(poisoned))
    status, content, _ = server.infer("frame_00")
    assert status == 422 and "cannot be read" in content["detail"], content
    assert not (tmp_path / "owned").exists()


def _files(folder: Path) -> list[str]:
    """All files but the server's own log and the index of the datastore."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log"]
    return sorted(str(path) for path in found if path.name not in ("datastore_v2.json", ".lock", "scores.npz"))


def test_the_documented_nginx_front(
    start_server: Callable[..., Server], studies: Path, tmp_path: Path, random_weights: Path
) -> None:
    """label_app/nginx.conf with its host name, ports and files replaced: TLS, token, cookie flags, other hosts."""
    if not shutil.which("nginx") or not shutil.which("openssl"):
        pytest.skip("nginx and openssl are not installed")
    server = start_server(
        studies, "weights", str(random_weights), "hosts", "label.test", env={"LESION_LABEL_TOKEN": TOKEN}
    )
    port = free_port()
    key, certificate = tmp_path / "label.key", tmp_path / "label.crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=label.test"]
    command += ["-addext", "subjectAltName=DNS:label.test", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    text = (REPOSITORY / "label_app" / "nginx.conf").read_text()
    for old, new in (
        ("/tmp/", f"{tmp_path}/"),
        ("/etc/ssl/lesion_label.crt", str(certificate)),
        ("/etc/ssl/lesion_label.key", str(key)),
        ("listen 8443", f"listen 127.0.0.1:{port}"),
        ("127.0.0.1:8000", f"127.0.0.1:{server.port}"),
        ("label.example.org", "label.test"),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "nginx.conf").write_text(text)
    front = subprocess.Popen(["nginx", "-c", str(tmp_path / "nginx.conf"), "-g", "daemon off;"])
    try:
        context = ssl.create_default_context(cafile=str(certificate))

        def ask(method: str, path: str, body: str = "", **headers: str) -> http.client.HTTPResponse:
            connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=30)
            connection.connect = lambda: _connect_as(connection, "label.test", port, context)  # type: ignore[method-assign]
            connection.request(method, path, body, {"Host": f"label.test:{port}", **headers})
            return connection.getresponse()

        _until_it_listens(port, front)
        assert ask("GET", "/info/").status == 401
        bearer = f"Bearer {TOKEN}"
        assert ask("GET", "/info/", Authorization=bearer).status == 200
        assert ask("GET", "/info/", Authorization=bearer, Origin=f"https://label.test:{port}").status == 200
        assert ask("GET", "/info/", Authorization=bearer, Origin="https://evil.example").status == 403
        form = {"content-type": "application/x-www-form-urlencoded"}
        answer = ask("POST", "/auth/token", f"username=a&grant_type=password&password={TOKEN}", **form)
        cookie = answer.getheader("set-cookie")
        assert answer.status == 200 and cookie is not None and "secure" in cookie.lower()
        assert answer.getheader("strict-transport-security")
    finally:
        front.terminate()
        front.wait(10)


def _connect_as(connection: http.client.HTTPSConnection, name: str, port: int, context: ssl.SSLContext) -> None:
    plain = socket.create_connection(("127.0.0.1", port), 10)
    connection.sock = context.wrap_socket(plain, server_hostname=name)


def _until_it_listens(port: int, process: subprocess.Popen) -> None:
    for _ in range(100):
        assert process.poll() is None, "nginx ended"
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("nginx does not listen")
