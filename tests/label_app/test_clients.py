"""Many clients, clients that die, and CVAT's plug-in."""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from label_app_helpers import MODEL, REPOSITORY, Server
from PIL import Image


def test_fifty_inferences_by_four_clients(module_server: Server) -> None:
    """No error, and no memory that stays: benchmarks/label_server.py measures the times."""
    server = module_server
    answers: list[tuple[str, int, bytes]] = []
    expected = {f"frame_{number:02d}": server.infer(f"frame_{number:02d}", output="image")[1] for number in range(12)}
    assert len(set(expected.values())) == 12

    def client(offset: int) -> None:
        for number in range(offset, 50, 4):
            image = f"frame_{number % 12:02d}"
            status, content, _ = server.infer(image, output="image")
            answers.append((image, status, content))

    threads = [threading.Thread(target=client, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(answers) == 50 and all(status == 200 for _, status, _ in answers)
    assert all(content == expected[image] for image, _, content in answers)  # nobody got another's mask


def test_clients_with_different_weights_get_their_own(
    start_server: Callable[..., Server], studies: Path, random_weights: Path, tmp_path: Path
) -> None:
    import torch

    rounds = tmp_path / "rounds"
    rounds.mkdir()
    other = torch.load(random_weights, weights_only=True)
    other["model"]["head.bias"] += torch.tensor([3.0, -3.0])
    torch.save(other, rounds / "round_001.pt")
    server = start_server(studies, "weights", str(random_weights))
    expected = {name: server.infer("frame_00", "image", model_filename=name)[1] for name in ("release", "round_001")}
    assert expected["release"] != expected["round_001"]
    for _ in range(3):
        for name, content in expected.items():
            assert server.infer("frame_00", "image", model_filename=name)[1] == content


def test_pictures_of_dotted_names_are_several(module_server: Server, tmp_path: Path) -> None:
    """MONAI Label 0.8.5 calls each of them "p1", and the second replaced the first."""
    names = ["p1.frame.1", "p1.frame.2"]
    for value, name in enumerate(names):
        Image.new("RGB", (8, 8), (value, 0, 0)).save(tmp_path / f"{name}.png")
        status, answer, _ = module_server.send("PUT", "/datastore/image", {}, "file", tmp_path / f"{name}.png")
        assert status == 200 and answer == {"image": name}
    path = f"/datastore/image?image={names[0]}"
    assert module_server.get(path)[1] == (tmp_path / f"{names[0]}.png").read_bytes()
    status, answer, _ = module_server.send("PUT", path, {}, "file", tmp_path / f"{names[1]}.png")
    assert status == 400 and "give this one another id" in answer["detail"]
    for name in names:
        assert module_server.ask("DELETE", f"/datastore/image?id={name}")[0] == 200


def test_a_client_that_dies_in_mid_upload_leaves_the_datastore_whole(module_server: Server) -> None:
    server, studies = module_server, module_server.log.parent / "studies"
    before = {path.name: path.read_bytes() for path in studies.rglob("*") if path.is_file()}
    for path, name in (("/datastore/image?image=half", "file"), ("/datastore/label?image=frame_00", "label")):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.putrequest("PUT", path)
        connection.putheader("content-type", "multipart/form-data; boundary=b")
        connection.putheader("content-length", "100000")
        connection.endheaders()
        head = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="half.png"\r\n\r\n'
        connection.send(head.encode() + b"\x89PNG" + b"x" * 5000)
        connection.sock.close()
    time.sleep(1.0)
    after = {path.name: path.read_bytes() for path in studies.rglob("*") if path.is_file()}
    assert after == before
    assert server.get("/info/")[1]["datastore"] == {"total": 12, "completed": 0, "label_tags": {}}
    assert "half" not in server.get("/datastore/?output=all")[1]["objects"]


NUCLIO = """
import base64, importlib.util, json, logging, sys, types
sys.path.insert(0, sys.argv[1])
import detector
context = types.SimpleNamespace(logger=logging.getLogger(), user_data=types.SimpleNamespace())
context.Response = lambda body, status_code, **_: types.SimpleNamespace(body=body, status=status_code)
detector.init_context(context)
picture = base64.b64encode(open(sys.argv[2], "rb").read())
answer = detector.handler(context, types.SimpleNamespace(body={"image": picture}))
print("ANSWER", answer.status, answer.body)
"""


def test_the_plugin_of_cvat_gets_polygons(module_server: Server, label_python: Path, tmp_path: Path) -> None:
    """CVAT runs MONAI Label's detector.py in a nuclio function: here the same file, with nuclio's two objects."""
    plugin = label_python.parent.parent / "monailabel" / "plugins" / "cvat"
    picture = module_server.log.parent / "studies" / "frame_04.png"
    done = subprocess.run(
        [str(label_python), "-c", NUCLIO, str(plugin), str(picture)],
        env={"MONAI_LABEL_SERVER": module_server.url, "MONAI_LABEL_MODEL": MODEL, "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "ANSWER 200" in done.stdout, done.stdout + done.stderr
    shapes = json.loads(done.stdout.split("ANSWER 200 ", 1)[1])
    assert shapes and all(shape["type"] == "polygon" and shape["label"] == "lesion" for shape in shapes)
    # The plug-in sends a JPEG: the same one, sent by hand, has the same outlines.
    jpeg = tmp_path / "frame.jpg"
    Image.open(picture).save(jpeg)
    _, facts, _ = module_server.send("POST", f"/infer/{MODEL}?output=json", {}, "file", jpeg)
    elements = facts["annotations"][0]["annotation"]["elements"]
    contours = [[value for point in contour for value in point] for one in elements for contour in one["contours"]]
    assert [shape["points"] for shape in shapes] == contours


def test_an_upload_is_inferred_and_not_kept(module_server: Server, tmp_path: Path) -> None:
    picture = module_server.log.parent / "studies" / "frame_04.png"
    before = {path.name for path in picture.parent.iterdir()}
    status, facts, _ = module_server.send("POST", f"/infer/{MODEL}?output=json", {}, "file", picture)
    assert status == 200 and facts["frames"] == 1
    assert facts["lesion_share"] == module_server.infer("frame_04")[1]["lesion_share"]
    assert {path.name for path in picture.parent.iterdir()} == before
    broken = tmp_path / "broken.png"
    broken.write_bytes(base64.b64decode("iVBORw0KGgo="))
    status, content, _ = module_server.send("POST", f"/infer/{MODEL}?output=json", {}, "file", broken)
    assert status == 422 and "png" in content["detail"], content


@pytest.mark.parametrize("name", ["README.md", "label_app/docs/README.md"])
def test_commands_of_the_docs_exist(name: str) -> None:
    text = (REPOSITORY / name).read_text()
    assert "label_app/install.sh" in text and "monailabel start_server --app label_app" in text
