"""Scores of real files by a network whose answer is known."""

from __future__ import annotations

import json
import logging
import math
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from dicom_sources import make_source
from make_video import make_clip
from PIL import Image
from torch import Tensor, nn

from scripts.engines.frame_scores import frames_of, score_frames, soft_outputs
from scripts.networks import LESSNet
from scripts.selection.uncertainty import lesion_band_entropy


class RedNetwork(nn.Module):
    """Logit difference = 20 * (red - 0.5): red 0.5 is doubt. One tap: the picture itself."""

    def __init__(self, factor: float = 20.0) -> None:
        super().__init__()
        self.factor = factor
        self.batches: list[int] = []
        self.dropout = nn.Dropout(0.5)

    def encode(self, x: Tensor) -> list[Tensor]:
        self.batches.append(len(x))
        return [self.dropout(x)]

    def decode(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        red = self.factor * (features[0][:, 0] - 0.5)
        return torch.stack([torch.zeros_like(red), red], dim=1)


def picture(path: Path, *reds: int) -> str:
    """A 40 x 40 picture of upright stripes of these reds, green 51, blue 0."""
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[..., 0] = np.repeat(reds, 40 // len(reds))
    pixels[..., 1] = 51
    Image.fromarray(pixels).save(path)
    return str(path)


def scored(network, paths, **options):
    return list(score_frames(network, paths, device="cpu", image_size=40, **options))


def test_a_picture_by_hand(tmp_path: Path) -> None:
    """Four stripes of 10 columns: sure, sure, doubtful, sure. Red 128/255: p = sigmoid(20 * 0.00196) = 0.50980."""
    (found,) = scored(RedNetwork(), [picture(tmp_path / "a.png", 0, 0, 128, 255)])
    assert (found.id, found.error) == (str(tmp_path / "a.png"), "")
    assert found.lesion_share == 0.5 and found.stratum == "lesion"
    p = 1 / (1 + math.exp(-20 * (128 / 255 - 0.5)))
    entropy = -(p * math.log2(p) + (1 - p) * math.log2(1 - p))
    outline = np.pi / 8 * (40 + 78 / np.sqrt(2))
    assert found.score == pytest.approx(400 * entropy / outline / 40, rel=1e-4)
    assert found.features == pytest.approx([(128 + 255) / 4 / 255, 0.2, 0.0], abs=1e-6)


def test_temperature_softens(tmp_path: Path) -> None:
    """Red 0: p = sigmoid(-10) is sure, sigmoid(-10 / 5) = 0.119 is not."""
    path = picture(tmp_path / "a.png", 0)
    assert scored(RedNetwork(), [path])[0].score == 0
    assert scored(RedNetwork(), [path], temperature=5.0)[0].score > 0.1


def test_order_batches_and_progress(tmp_path: Path) -> None:
    paths = [picture(tmp_path / f"{k}.png", 10 * k) for k in range(10)]
    network, seen = RedNetwork().train(), []
    found = scored(network, paths[::-1], batch_size=4, progress=lambda done, of: seen.append((done, of)))
    assert [each.id for each in found] == paths[::-1]
    assert network.batches == [4, 4, 2] and seen == [(k, 10) for k in range(1, 11)]
    one_by_one = scored(network, paths[::-1], batch_size=1)
    assert found == one_by_one, "evaluation mode: dropout would show"
    assert not network.training


def test_what_cannot_be_read_does_not_stop_the_rest(tmp_path: Path) -> None:
    good = picture(tmp_path / "good.png", 128)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(Path(good).read_bytes()[:60])
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "bad.dcm").write_bytes(b"no DICOM")
    names = [
        "empty.png",
        "good.png",
        "text.png",
        "cut.png",
        "missing.png",
        "bad.mp4",
        "bad.dcm",
        "good.png#3",
        "good.png",
    ]
    found = scored(RedNetwork(), [tmp_path / name for name in names], batch_size=2)
    assert [Path(each.id).name for each in found] == names
    for each in found:
        if each.id == good:
            assert each.error == "" and each.score > 0
        else:
            assert Path(each.id.split("#")[0]).name in each.error
            assert math.isnan(each.score) and math.isnan(each.lesion_share)
            assert each.stratum == "" and each.features == []


def test_a_clip_is_its_most_doubtful_tenth(tmp_path: Path) -> None:
    """11 frames a tenth of which is 2: the score is the mean of the two highest, the features that of all."""
    frames = [np.full((48, 64, 3), (20 * k, 60, 60), np.uint8) for k in range(11)]
    make_clip(tmp_path / "clip.mp4", 11, fps=2, size=(48, 64), pictures=frames)
    clip = str(tmp_path / "clip.mp4")
    whole, *single = scored(RedNetwork(), [clip, *(f"{clip}#{k}" for k in range(11))])
    scores = sorted(each.score for each in single)
    assert scores[-1] > 0.2 > scores[0] and len({*scores}) > 3
    assert whole.score == pytest.approx(sum(scores[-2:]) / 2)
    assert whole.stratum == "lesion" and whole.id == clip
    assert whole.lesion_share == pytest.approx(np.mean([each.lesion_share for each in single]))
    assert whole.features == pytest.approx(np.mean([each.features for each in single], axis=0))


def test_of_a_quick_clip_two_frames_a_second_are_looked_at(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", 30, fps=10)
    clip = str(tmp_path / "clip.mp4")
    assert frames_of(clip) == [f"{clip}#{k}" for k in range(0, 30, 5)]
    assert frames_of(f"{clip}#7") == [f"{clip}#7"]


class BrokenNetwork(RedNetwork):
    """Not a number wherever the picture is red."""

    def decode(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        return torch.where(features[0][:, :1] > 0.9, torch.nan, super().decode(features, size))


def test_weights_that_give_no_number_are_said(tmp_path: Path) -> None:
    paths = [picture(tmp_path / "a.png", 255), picture(tmp_path / "b.png", 0)]
    first, second = scored(BrokenNetwork(), paths)
    assert "a.png: the network's output is not a number" in first.error and math.isnan(first.score)
    assert second.error == "" and second.score == 0


def test_the_real_network_has_the_two_halves(tmp_path: Path) -> None:
    """Probability and features agree with forward and embed, which other code uses."""
    torch.manual_seed(0)
    network = LESSNet(encoder_weights="none").eval()
    pictures = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    probability, features = soft_outputs(network, pictures, device="cpu", temperature=2.0)
    with torch.no_grad():
        logits = network(pictures.float() / 255)
        expected = network.embed(pictures.float() / 255)
    assert probability == pytest.approx(torch.softmax(logits / 2, dim=1)[:, 1].numpy(), abs=1e-6)
    assert features == pytest.approx(expected.numpy(), abs=1e-6)
    Image.fromarray(pictures[0].permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    (found,) = score_frames(network, [tmp_path / "a.png"], device="cpu", image_size=64)
    assert 0 <= found.score <= 6.31 and len(found.features) == expected.shape[1]


def test_the_size_of_the_file_does_not_matter(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:400, :400] / 400 - 0.5
    red = (255 / (1 + np.exp((np.hypot(rows, columns) - 0.25) / 0.02))).astype(np.uint8)
    for side in (100, 200, 400):
        Image.fromarray(np.stack([red, red, red], -1)).resize((side, side)).save(tmp_path / f"{side}.png")
    found = scored(RedNetwork(), [tmp_path / f"{side}.png" for side in (100, 200, 400)])
    assert [each.score for each in found] == pytest.approx([found[2].score] * 3, rel=0.05)
    assert found[2].score == pytest.approx(lesion_band_entropy(1 / (1 + np.exp(-20 * (red / 255 - 0.5)))), rel=0.05)


def test_a_readable_part_of_a_damaged_clip_is_scored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make_clip(tmp_path / "clip.mp4", 12, fps=2, gop=1, b_frames=0)
    with av.open(str(path)) as container:
        place, size = next((packet.pos, packet.size) for packet in container.demux(video=0) if packet.pts)
    data = bytearray(path.read_bytes())
    data[place + 8 : place + size] = bytes(size - 8)
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        (found,) = scored(RedNetwork(), [tmp_path / "clip.mp4"])
    assert found.error == "" and found.score >= 0
    assert "of 12 frames cannot be read and are left out" in caplog.text


@pytest.mark.parametrize("changes", [{"batch_size": 0}, {"temperature": 0.0}])
def test_numbers_that_make_no_sense(changes: dict, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 1 or more, and above 0"):
        scored(RedNetwork(), [tmp_path / "a.png"], **changes)


def test_a_folder_of_one_dicom_series_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    for number in range(2):
        source = make_source(np.full((1, 40, 40, 3), 255 * number, np.uint8))
        source.SeriesInstanceUID, source.InstanceNumber = "1.2.3", number + 1
        source.save_as(tmp_path / "series" / f"{number}.dcm", enforce_file_format=True)
    (found,) = scored(RedNetwork(), [tmp_path / "series"])
    assert found.error == "" and found.lesion_share == 0.5 and found.features == pytest.approx([0.5] * 3, abs=0.01)


LABEL_PYTHON = Path(__file__).resolve().parents[2] / ".venv-label" / "bin" / "python"
IN_LABEL_ENVIRONMENT = """
import json, sys
import torch
from scripts.engines.frame_scores import score_frames
from scripts.networks import LESSNet
network = LESSNet(encoder_weights="none")
network.load_state_dict(torch.load(sys.argv[1], weights_only=True))
found = list(score_frames(network, sys.argv[2:], device="cpu", image_size=64))
print(json.dumps([[each.score, each.stratum, each.features, "highdicom" in sys.modules] for each in found]))
"""


@pytest.mark.skipif(not LABEL_PYTHON.exists(), reason="no environment of MONAI Label (.venv-label) beside the bundle's")
def test_monai_labels_environment_gives_the_same_scores(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = LESSNet(encoder_weights="none")
    torch.save(network.state_dict(), tmp_path / "model.pt")
    path = picture(tmp_path / "a.png", 0, 90, 128, 255)
    command = [LABEL_PYTHON, "-c", IN_LABEL_ENVIRONMENT, tmp_path / "model.pt", path]
    bundle = Path(__file__).resolve().parents[2] / "bundle"
    ran = subprocess.run(command, cwd=bundle, capture_output=True, text=True, timeout=300, check=True)
    ((score, kind, features, highdicom),) = json.loads(ran.stdout.splitlines()[-1])
    (own,) = score_frames(network, [path], device="cpu", image_size=64)
    assert score == pytest.approx(own.score, rel=1e-4) and kind == own.stratum and not highdicom
    assert features == pytest.approx(own.features, abs=1e-5)
