"""The server as a client meets it: bound to loopback, masks for every kind of image, errors that say what is wrong."""

from __future__ import annotations

import base64
import io
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from label_app_helpers import MODEL, REPOSITORY, Server, add_labels, draw_lesion, until
from make_dicom import write_dicom
from PIL import Image


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """The same frame in every format, and three-frame files of it, mirrored and flipped."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    frame, _ = draw_lesion(3, 70, 90)
    stack = np.stack([frame, frame[:, ::-1], frame[::-1]])
    picture = Image.fromarray(frame)
    for name in ("png.png", "tif.tif", "bmp.BMP"):
        picture.save(folder / name)
    picture.save(folder / "jpg.jpeg", quality=95)
    rgb = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    for name, frames in (("nii.nii.gz", stack[:1]), ("niistack.nii", stack)):
        packed = np.ascontiguousarray(frames).view(rgb)[..., 0].transpose(2, 1, 0)
        nib.save(nib.Nifti1Image(packed, np.diag([-0.5, -0.5, 2.0, 1.0])), folder / name)
    write_dicom(folder / "dcm.dcm", frame[None])
    write_dicom(folder / "dcmstack.dcm", stack)
    return folder


def test_masks_of_every_kind_of_image(
    start_server: Callable[..., Server], mixed: Path, random_weights: Path, label_python: Path
) -> None:
    server = start_server(mixed, "weights", str(random_weights))
    found = server.get("/info/")[1]
    assert found["datastore"]["total"] == 8 and list(found["models"]) == [MODEL] and found["labels"] == {"lesion": 1}
    single = {}
    for image in ("png", "tif", "bmp", "nii", "dcm"):
        status, content, headers = server.infer(image, output="image")
        assert status == 200 and headers["content-type"] == "image/png", content
        single[image] = np.asarray(Image.open(io.BytesIO(content)))
        assert single[image].shape == (70, 90) and set(np.unique(single[image])) == {0, 1}
        np.testing.assert_array_equal(single[image], single["png"])
    assert server.infer("jpg", output="image")[1][:8] == b"\x89PNG\r\n\x1a\n"  # no lossy mask
    for image in ("niistack", "dcmstack"):
        status, content, _ = server.infer(image, output="image", result_extension=".nii.gz")
        path = mixed.parent / f"{image}.nii.gz"
        path.write_bytes(content)
        volume = nib.load(path)
        masks = np.asarray(volume.dataobj).T
        assert masks.shape == (3, 70, 90) and masks.dtype == np.uint8
        np.testing.assert_array_equal(masks[0], single["png"])
        if image == "niistack":
            np.testing.assert_allclose(volume.affine, np.diag([-0.5, -0.5, 2.0, 1.0]))
    status, content, _ = server.infer("dcmstack", output="image", result_extension=".png")
    assert status == 400 and "3 frames, a .png file holds one" in content["detail"]
    status, content, _ = server.infer("png", result_extension=".exe")
    assert status == 400 and "result_extension '.exe'" in content["detail"]
    assert "ERROR" not in server.text() and "Traceback" not in server.text()


def test_final_labels_that_training_cannot_use_are_refused(start_server: Callable[..., Server], mixed: Path) -> None:
    server = start_server(mixed)
    mask = (draw_lesion(3, 70, 90)[1] > 0).astype(np.uint8)
    labels = mixed.parent

    def put(image: str, values: np.ndarray, name: str) -> tuple[int, str]:
        """Save (H, W) as a picture, or (D, H, W) as 3D Slicer does, and send it."""
        if values.ndim == 2:
            Image.fromarray(values).save(labels / name)
        else:
            nib.save(nib.Nifti1Image(values.T, np.diag([-1.0, -1.0, 1.0, 1.0])), labels / name)
        status, answer, _ = server.send("PUT", f"/datastore/label?image={image}", {}, "label", labels / name)
        return status, answer.get("detail", "")

    for image in ("dcmstack", "niistack"):
        assert put(image, np.stack([mask] * 2), "label.nii.gz")[0] == 400
        assert put(image, mask, "label.png")[0] == 400
    status, detail = put("png", mask[:60], "label.png")
    assert status == 400 and "the mask is 90x60 pixels" in detail and "its image png.png is 90x70" in detail
    several = mask.copy()
    several[0, :9] = 2
    status, detail = put("dcm", several, "label.png")
    assert status == 400 and "3 values (0, 1, 2)" in detail
    shutil.copy(mixed / "dcm.dcm", labels / "label.dcm")
    status, answer, _ = server.send("PUT", "/datastore/label?image=dcm", {}, "label", labels / "label.dcm")
    assert status == 400 and "a DICOM file" in answer["detail"]
    assert server.get("/info/")[1]["datastore"]["completed"] == 0
    for image in ("png", "bmp", "nii", "dcm"):
        assert put(image, mask, "label.png") == put(image, mask[None], "label.nii.gz") == (200, "")
    for image in ("dcmstack", "niistack"):
        assert put(image, np.stack([mask] * 3), "label.nii.gz") == (200, "")
    assert server.get("/info/")[1]["datastore"]["completed"] == 6
    assert "Traceback" not in server.text()


def test_uncertainty_is_a_second_output(module_server: Server) -> None:
    server = module_server
    status, facts, _ = server.infer("frame_00", uncertainty=True)
    assert status == 200 and facts["weights"] == "release" and facts["uncertainty"]["map_format"] == ".png"
    inside = np.asarray(Image.open(io.BytesIO(base64.b64decode(facts["uncertainty"]["map"]))))
    as_file = np.asarray(Image.open(io.BytesIO(server.infer("frame_00", output="image", map="uncertainty")[1])))
    np.testing.assert_array_equal(inside, as_file)
    assert inside.shape == (72, 96) and inside.max() > 250  # one bit on the edge between lesion and background
    assert facts["uncertainty"]["mean_bits"] == pytest.approx(inside.mean() / 255, abs=0.003)
    mask = np.asarray(Image.open(io.BytesIO(server.infer("frame_00", output="image")[1])))
    # The mask's own edge lies where the map is high: neighbours on both sides of it are close to p = 0.5.
    edge = mask[:, 1:] != mask[:, :-1]
    assert inside[:, 1:][edge].mean() > inside.mean()
    assert server.infer("frame_00", map="heat")[0] == 400


def test_it_listens_on_loopback_alone(module_server: Server) -> None:
    server = module_server
    others = [address for address in _own_addresses() if not address.startswith("127.")]
    for address in [*others, "127.0.0.2"]:
        with pytest.raises(OSError):
            socket.create_connection((address, server.port), 2).close()
    assert "Listening on 127.0.0.1" in server.text()


def test_a_network_needs_a_token(start_server: Callable[..., Server], studies: Path) -> None:
    server = start_server(studies, wait=False, options=("--host", "0.0.0.0"))
    with pytest.raises(RuntimeError, match="set a token first"):
        server.wait()


def test_without_weights_it_says_what_to_do(start_server: Callable[..., Server], studies: Path) -> None:
    server = start_server(studies)
    status, content, _ = server.infer("frame_00")
    assert status == 400 and "Save a few labels and train" in content["detail"]
    add_labels(studies, range(2))
    until(lambda: server.get("/info/")[1]["datastore"]["completed"] == 2)
    status, content, _ = server.post(f"/train/{MODEL}")
    assert status == 409 and content["detail"].startswith("2 labelled images, at least 3 are needed")
    status, content, _ = server.post("/train/another")
    assert status == 400 and "no model 'another'" in content["detail"]


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        (("weigths", "x.pt"), "did you mean weights"),
        (("weights", "missing.pt"), "missing.pt: no such file"),
        (("bundle", "nowhere"), "no bundle in"),
    ],
)
def test_bad_options_end_the_start(
    start_server: Callable[..., Server], studies: Path, conf: tuple[str, str], message: str
) -> None:
    server = start_server(studies, *conf, wait=False)
    with pytest.raises(RuntimeError, match=message):
        server.wait()


def test_a_packaged_bundle_is_found(
    start_server: Callable[..., Server], studies: Path, random_weights: Path, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    shutil.copytree(REPOSITORY / "label_app" / "lesion_label", app / "lesion_label")
    shutil.copy(REPOSITORY / "label_app" / "main.py", app)
    bundle = app / "model" / MODEL
    for folder in ("configs", "scripts"):
        shutil.copytree(REPOSITORY / "bundle" / folder, bundle / folder)
    (bundle / "models").mkdir()
    released = shutil.copy(random_weights, bundle / "models" / "model.pt")
    before = Path(released).read_bytes()
    server = start_server(studies, app=app)
    assert server.infer("frame_01")[1]["weights"] == "release"
    assert Path(released).read_bytes() == before


def test_preloading_scores_and_strategies(
    start_server: Callable[..., Server], studies: Path, random_weights: Path
) -> None:
    add_labels(studies, range(2))
    server = start_server(studies, "weights", str(random_weights))
    until(lambda: server.get("/scoring/?check_if_running=true")[0] == 404)  # it scores by itself at its start
    status, result, _ = server.post("/scoring/lesion?run_sync=true")
    assert status == 200 and result["failed"] == [] and result["known"] == 12, result
    for strategy in ("random", "first", "uncertainty", "diversity"):
        status, sample, _ = server.post(f"/activelearning/{strategy}", {"n": 4, "client_id": strategy})
        assert status == 200 and len(set(sample["choices"])) == 4 and sample["id"] == sample["choices"][0]
        assert not {"frame_00", "frame_01"} & set(sample["choices"]) and Path(sample["path"]).is_file()
    first, second = (server.post("/activelearning/first", {"client_id": who})[1]["id"] for who in ("a", "b"))
    assert first != second  # what one person was given, another is not
    assert server.post("/activelearning/first", {"client_id": "a"})[1]["id"] == first
    plain = server.post("/activelearning/uncertainty", {"n": 10, "strata": False, "noise": 0, "group_cap": 0})[1]
    assert len(plain["choices"]) > 3
    assert server.post("/activelearning/uncertainty", {"n": 0})[0] == 400


def test_batch_inference_on_a_machine_without_gpu(
    start_server: Callable[..., Server], studies: Path, random_weights: Path
) -> None:
    server = start_server(studies, "weights", str(random_weights))
    status, result, _ = server.post(f"/batch/infer/{MODEL}?images=unlabeled&run_sync=true", {"max_batch_size": 3})
    assert status == 200, result
    assert sorted(path.name for path in (studies / "labels" / "original").iterdir()) == [
        f"frame_{number:02d}.png" for number in range(3)
    ]


def _own_addresses() -> list[str]:
    found = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False)
    return found.stdout.split()
