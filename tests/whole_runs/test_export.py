"""Exports by export.json, and inference through each of them."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import UNet
from PIL import Image

from scripts.data.fingerprints import file_sha256
from scripts.engines.export import (
    ExportError,
    Parity,
    calibration_apart,
    export_network,
    fold_temperature,
    probabilities,
)
from scripts.engines.export_record import COLUMNS, PARITY_FILE, check_export, kept_rows
from scripts.io.table import Table
from scripts.networks import CheckpointError, LESSNet
from scripts.networks.backends import SUFFIXES, ExportedNetwork, backend_file, open_backend, weights_in

BACKENDS = ("torchscript", "onnx", "openvino", "openvino_int8")


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["format"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def exported(trained_run: Path, frames_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with model.pt of a run and all its exports. Read only."""
    from whole_run import run_layers

    for package in ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf"):
        pytest.importorskip(package, reason="the optional extra for exports is not installed")
    folder = tmp_path_factory.mktemp("an export")
    (folder / "model.pt").write_bytes((trained_run / "model.pt").read_bytes())
    options = {"dataset_dir": str(frames_dir / "images"), "checkpoint": str(folder / "model.pt"), "image_size": 64}
    run_layers("inference", "export", formats=list(BACKENDS), **options)
    return folder


def test_every_export_is_there_with_its_parity(exported: Path) -> None:
    rows = rows_of(exported / "parity.csv")
    assert tuple(rows) == BACKENDS
    for name, row in rows.items():
        assert (exported / row["file"]).is_file() and row["file"] == f"model{SUFFIXES[name]}"
        assert int(row["frames"]) == 8, "of 16; INT8 was calibrated on the others"
        assert float(row["dice"]) >= (0.99 if name == "openvino_int8" else 0.999)
        assert float(row["probability_difference"]) < (0.2 if name == "openvino_int8" else 1e-3)
        assert row["checkpoint_sha256"] == file_sha256(str(exported / "model.pt"))
    assert not list(exported.glob(".partial*")), "nothing is left of what was needed on the way"


def test_an_export_of_older_weights_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint, export = tmp_path / "model.pt", tmp_path / "model.onnx"
    checkpoint.write_bytes(b"weights")
    check_export(export, checkpoint)  # nothing is known of it
    table = Table(COLUMNS)
    row = dict.fromkeys(COLUMNS, "") | {"file": "model.onnx", "temperature": 1.5}
    table.add(**row | {"checkpoint_sha256": file_sha256(str(checkpoint))})
    table.write(tmp_path / PARITY_FILE)
    check_export(export, checkpoint)
    assert "model.onnx has the temperature 1.500000 in it: give no --temperature" in caplog.text
    check_export(tmp_path / "model.ts", checkpoint)
    checkpoint.write_bytes(b"weights of another epoch")
    with pytest.raises(CheckpointError, match="model.onnx was exported from other weights than .*model.pt now: export"):
        check_export(export, checkpoint)


def test_an_export_that_the_table_does_not_tell_of_is_not_used(tmp_path: Path) -> None:
    """Of OpenVINO the .xml is the network's shape: two trainings have the same one."""
    checkpoint, export = tmp_path / "model.pt", tmp_path / "model_openvino.xml"
    checkpoint.write_bytes(b"weights")
    export.write_text("the shape")
    export.with_suffix(".bin").write_bytes(b"weights of A")
    assert weights_in(export) == export.with_suffix(".bin") and weights_in(checkpoint) == checkpoint
    row = {"file": export.name, "temperature": 1, "checkpoint_sha256": file_sha256(str(checkpoint))}
    table = Table(COLUMNS)
    table.add(**dict.fromkeys(COLUMNS, "") | row | {"sha256": file_sha256(str(weights_in(export)))})
    table.write(tmp_path / PARITY_FILE)
    check_export(export, checkpoint)
    export.with_suffix(".bin").write_bytes(b"weights of B, another length")
    with pytest.raises(CheckpointError, match=r"model_openvino.xml is not the export that parity.csv tells of"):
        check_export(export, checkpoint)


def test_rows_of_formats_that_are_not_made_anew_stay(tmp_path: Path) -> None:
    table = Table(COLUMNS)
    for kind in ("onnx", "torchscript", "openvino"):
        table.add(**dict.fromkeys(COLUMNS, "") | {"format": kind, "file": f"model.{kind}"})
    table.write(tmp_path / PARITY_FILE)
    assert kept_rows(tmp_path / "nowhere", ["onnx"]) == [] and kept_rows(tmp_path, ["onnx"]) == [], "no file is there"
    for kind in ("onnx", "openvino"):
        (tmp_path / f"model.{kind}").touch()
    assert [row["format"] for row in kept_rows(tmp_path, ["onnx"])] == ["openvino"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_inference_gives_the_same_masks(
    backend: str, exported: Path, run_config: Any, frames_dir: Path, tmp_path: Path
) -> None:
    options = {"dataset_dir": str(frames_dir / "unlabeled"), "checkpoint": str(exported / "model.pt"), "image_size": 64}
    for name in ("torch", backend):
        run_config("inference", **options, output_dir=str(tmp_path / name), backend=name)
    dices = []
    for path in sorted((tmp_path / "torch" / "masks").glob("*.png")):
        first, second = (
            np.asarray(Image.open(tmp_path / name / "masks" / path.name)) > 0 for name in ("torch", backend)
        )
        dices.append(
            2 * (first & second).sum() / max(1, first.sum() + second.sum()) if first.any() | second.any() else 1
        )
    assert len(dices) == 6 and np.mean(dices) >= (0.97 if backend == "openvino_int8" else 0.999)
    with (tmp_path / backend / "results.csv").open(newline="") as file:
        assert {row["agreement_of"] for row in csv.DictReader(file)} == {"network+flip"}, "an export has no companion"


@pytest.mark.parametrize("backend", BACKENDS)
@torch.no_grad()
def test_any_batch_and_any_sides_of_32(backend: str, exported: Path, trained_run: Path) -> None:
    network = LESSNet(encoder_weights="none").eval()
    network.load_state_dict(torch.load(trained_run / "model.pt", weights_only=True)["model"])
    other = open_backend(backend_file(exported / "model.pt", backend), backend)
    # more than OpenVINO compiles apart, and the first again
    for shape in ((1, 64, 64), (3, 96, 160), (2, 64, 64), (1, 96, 64), (1, 64, 96), (2, 96, 96), (1, 64, 64)):
        shape = (shape[0], 3, *shape[1:])
        image = torch.rand(shape)
        tolerance = 0.5 if backend == "openvino_int8" else 1e-3
        torch.testing.assert_close(other(image), network(image), atol=tolerance, rtol=1e-3)
    with pytest.raises(ValueError, match=r"the input is 65x64 pixels and .* takes multiples of 32"):
        other(torch.rand(1, 3, 65, 64))


@torch.no_grad()
def test_a_temperature_is_folded_into_the_head() -> None:
    network = LESSNet(encoder_weights="none").eval()
    image = torch.rand(2, 3, 64, 64)
    folded = fold_temperature(network, 1.7)
    torch.testing.assert_close(folded(image), network(image) / 1.7)
    with pytest.raises(ValueError, match="temperature is 0"):
        fold_temperature(network, 0)


@torch.no_grad()
def test_a_temperature_is_folded_into_one_convolution_alone() -> None:
    """Before a norm a division is undone, and beside an identity it is half of one: masks would be others."""
    image = torch.rand(1, 3, 32, 32)
    for units, name in ((0, "plain"), (1, "residual")):
        network = UNet(2, 3, 2, channels=(8, 12), strides=(2,), num_res_units=units).eval()
        if name == "plain":
            torch.testing.assert_close(fold_temperature(network, 1.7)(image), network(image) / 1.7)
            continue
        assert fold_temperature(network, 1.0)(image).equal(network(image))
        with pytest.raises(TypeError, match="more than one convolution.*--temperature 1"):
            fold_temperature(network, 1.7)


def test_parity_by_hand() -> None:
    first = torch.tensor([[[0.9, 0.8, 0.2, 0.1]], [[0.1, 0.1, 0.1, 0.1]]])
    second = torch.tensor([[[0.9, 0.4, 0.2, 0.1]], [[0.1, 0.2, 0.1, 0.1]]])
    parity = Parity.of(first, second, 0.5)
    assert (parity.frames, parity.lowest_dice) == (2, pytest.approx(2 / 3))
    assert parity.dice == pytest.approx((2 / 3 + 1) / 2) and parity.probability_difference == pytest.approx(0.4)


def test_int8_is_not_compared_on_frames_that_calibrated_it(tmp_path: Path) -> None:
    frames = torch.arange(7.0).reshape(7, 1, 1, 1).expand(7, 3, 64, 64)
    for most, expected in ((100, [0, 2, 4, 6]), (2, [0, 2])):
        calibration, compared = calibration_apart(frames, most)
        assert calibration[:, 0, 0, 0].tolist() == expected and compared[:, 0, 0, 0].tolist() == [1, 3, 5]
    alone = [{"image": torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "error": [""]}]
    with pytest.raises(ExportError, match="one frame alone"):
        export_network(LESSNet(encoder_weights="none").eval(), alone, tmp_path, formats=["openvino_int8"])


class Drifting(LESSNet):
    """A network that is another one once it is scripted: what an exporter's fault looks like."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.decode(self.encode(x), (x.shape[2], x.shape[3]))
        return -logits if torch.jit.is_scripting() else logits


def test_an_export_with_other_masks_is_not_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Drifting(encoder_weights="none").eval()
    frames = [{"image": torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8), "error": ["", ""]}]
    (tmp_path / "model.ts").write_bytes(b"of an earlier export, which must not pass for this one")
    with pytest.raises(ExportError, match=r"not kept: torchscript: mean Dice .* expected 0.999"):
        export_network(network, frames, tmp_path, formats=["torchscript"])
    assert [path.name for path in tmp_path.iterdir()] == ["parity.csv"]
    row = rows_of(tmp_path / "parity.csv")["torchscript"]
    assert row["sha256"] == row["checkpoint_sha256"] == "" and float(row["dice"]) < 0.999
    by_network = probabilities(network, [torch.rand(1, 3, 64, 64)], "original")
    assert Parity.of(by_network, by_network, 0.5) == Parity(1, 1.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"formats": ["onx"]}, ValueError, "format 'onx' is unknown"),
        ({"formats": []}, ValueError, "formats is empty"),
        ({"image_size": 70}, ValueError, "image_size is 70x70; exports take multiples of 32"),
        ({"temperature": -1.0}, ValueError, "temperature is -1"),
    ],
)
def test_what_cannot_be_exported(
    changes: dict[str, Any], error: type[Exception], message: str, run_config: Any, trained_run: Path, frames_dir: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    options = {"dataset_dir": str(frames_dir / "unlabeled"), "checkpoint": str(trained_run / "model.pt")}
    with pytest.raises(error, match=message):
        run_config(
            "inference", "export", **{**options, "image_size": 64, "output_dir": str(tmp_path / "out"), **changes}
        )
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_missing_packages_are_named_before_a_frame_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("onnxruntime", "nncf"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    unread = (pytest.fail("a frame was read") for _ in range(1))
    with pytest.raises(
        ImportError, match="onnxruntime, nncf cannot .* for onnx, openvino_int8: pip install onnxruntime n"
    ):
        export_network(LESSNet(encoder_weights="none").eval(), unread, tmp_path, formats=["onnx", "openvino_int8"])
    assert not list(tmp_path.iterdir())


def test_frames_that_cannot_be_read_are_not_compared(tmp_path: Path) -> None:
    frames = [{"image": torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "error": ["broken"]}]
    with pytest.raises(ExportError, match="no frame to compare"):
        export_network(LESSNet(encoder_weights="none").eval(), frames, tmp_path)


def test_a_backend_without_its_file_says_how_to_make_it(
    run_config: Any, trained_run: Path, frames_dir: Path, tmp_path: Path
) -> None:
    options = {"dataset_dir": str(frames_dir / "unlabeled"), "checkpoint": str(trained_run / "model.pt")}
    with pytest.raises(CheckpointError, match=r"model.onnx does not exist; export model.pt first: .*export.json"):
        run_config("inference", **options, output_dir=str(tmp_path / "out"), backend="onnx")
    with pytest.raises(CheckpointError, match=r"model_trt.ts does not exist; export model.pt first: .*trt_export"):
        run_config("inference", "inference_trt", **options, output_dir=str(tmp_path / "out"))
    with pytest.raises(ValueError, match="backend 'onx' is unknown"):
        run_config("inference", **options, output_dir=str(tmp_path / "out"), backend="onx")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_broken_export_is_refused(backend: str, tmp_path: Path) -> None:
    pytest.importorskip({"torchscript": "torch", "onnx": "onnxruntime"}.get(backend, "openvino"))
    file = tmp_path / f"model{SUFFIXES[backend]}"
    file.write_bytes(b"not a network")
    with pytest.raises(CheckpointError, match=rf"model{SUFFIXES[backend]}: not a network that {backend} can open"):
        open_backend(file, backend)


def test_tensorrt_without_a_gpu_says_what_to_take(tmp_path: Path) -> None:
    (tmp_path / "model_trt.ts").write_bytes(b"")
    with pytest.raises(ValueError, match="'tensorrt' needs an NVIDIA GPU and the device is cpu; take onnx or openvino"):
        open_backend(tmp_path / "model_trt.ts", "tensorrt", "cpu")


def test_an_exported_network_has_nothing_to_train() -> None:
    network = ExportedNetwork(lambda image: image, "onnx")
    assert not list(network.parameters()) and torch.equal(network(torch.ones(1, 3, 32, 32)), torch.ones(1, 3, 32, 32))
