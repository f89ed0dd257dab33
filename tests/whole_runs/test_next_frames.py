"""Which frames to label next, as a person asks for it."""

from __future__ import annotations

import csv
import json
import logging
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_video import make_clip
from PIL import Image

from scripts.data.errors import DatasetError
from scripts.engines.frame_scores import score_frames
from scripts.engines.overrides import UnknownOverrideError
from scripts.networks import LESSNet
from scripts.networks.checkpoints import CheckpointError

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that nobody trained but whose answers differ from frame to frame."""
    torch.manual_seed(0)
    network = LESSNet(encoder_weights="none", dropout=0.1)
    torch.save({"model": network.state_dict()}, tmp_path_factory.mktemp("weights") / "model.pt")
    return tmp_path_factory.getbasetemp() / "weights0" / "model.pt"


@pytest.fixture
def ask(run_config: Any, checkpoint: Path, tmp_path: Path) -> Any:
    """Run the config on a folder -> rows of next_frames.csv."""

    def run(dataset_dir: Path, **settings: Any) -> list[dict[str, str]]:
        settings = {"image_size": 64, "checkpoint": str(checkpoint), "output_dir": str(tmp_path / "out")} | settings
        run_config("next_frames", dataset_dir=str(dataset_dir), **settings)
        return rows(tmp_path / "out" / "next_frames.csv")

    return run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


UNLABELLED = [f"images/frame_{k:02d}.{'jpg' if k % 4 == 3 else 'png'}" for k in range(8, 12)]
UNLABELLED += [f"unlabeled/frame_{k:02d}.{'jpg' if k % 4 == 3 else 'png'}" for k in range(12, 16)]


def test_the_most_uncertain_frames_of_a_dataset(ask: Any, tiny_dataset: Path, checkpoint: Path, tmp_path: Path) -> None:
    """Without noise and rules: exactly the order of the scores, and labelled frames are no candidates."""
    chosen = ask(tiny_dataset, count=99, noise=0.0, group_cap=0, strata_shares=None)
    assert sorted(row["file"] for row in chosen) == UNLABELLED
    network = LESSNet(encoder_weights="none")
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
    paths = [tiny_dataset / name for name in UNLABELLED]
    scores = {each.id: each for each in score_frames(network, paths, device="cpu", image_size=64)}
    expected = sorted(UNLABELLED, key=lambda name: -scores[str(tiny_dataset / name)].score)
    assert [row["file"] for row in chosen] == expected
    for rank, row in enumerate(chosen, start=1):
        seen = scores[str(tiny_dataset / row["file"])]
        assert int(row["rank"]) == rank and row["reason"] == f"no. {rank} of 8 by score"
        assert float(row["score"]) == pytest.approx(seen.score, abs=2e-6) and row["stratum"] == seen.stratum
    groups = dict(zip(UNLABELLED, ["g0", "g0", "u0", "u0", "u1", "u1", "u2", "u2"], strict=True))
    assert {row["file"]: row["group"] for row in chosen} == groups
    assert not (tmp_path / "out" / "failures.csv").exists()


def test_last_pt_of_a_run_will_do(ask: Any, tiny_dataset: Path, trained_run: Path) -> None:
    assert ask(tiny_dataset, checkpoint=str(trained_run / "last.pt"), count=3)


def test_groups_cap_what_is_chosen(ask: Any, tiny_dataset: Path) -> None:
    """g0 has two labelled frames already, u0, u1 and u2 none."""
    chosen = ask(tiny_dataset, count=4, group_cap=1)
    assert Counter(row["group"] for row in chosen[:3]) == {"u0": 1, "u1": 1, "u2": 1}
    assert "group cap of 1 passed" in chosen[3]["reason"] and chosen[3]["group"] != "g0"


@pytest.mark.parametrize("strategy", ["uncertainty", "diversity", "random", "first"])
def test_every_strategy_is_the_same_twice(ask: Any, tiny_dataset: Path, tmp_path: Path, strategy: str) -> None:
    once = ask(tiny_dataset, strategy=strategy, count=5)
    picture = (tmp_path / "out" / "next_frames.png").read_bytes()
    assert once == ask(tiny_dataset, strategy=strategy, count=5)
    assert picture == (tmp_path / "out" / "next_frames.png").read_bytes()
    assert len({row["file"] for row in once}) == 5 and [row["rank"] for row in once] == list("12345")
    if strategy == "first":
        assert [row["file"] for row in once] == UNLABELLED[:5] and {row["score"] for row in once} == {""}


def test_a_plain_folder_before_there_is_any_mask(ask: Any, tmp_path: Path) -> None:
    """Sub-folders are groups; two red frames among blue ones are found by an encoder that nobody trained."""
    for number in range(8):
        folder = tmp_path / "frames" / f"patient{number % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        colour = (220, 30, 30) if number == 6 else (20, 40, 200)
        noise = np.random.default_rng(number).integers(0, 20, (70, 90, 3))
        Image.fromarray((np.array(colour) + noise).astype(np.uint8)).save(folder / f"{number}.png")
    chosen = ask(tmp_path / "frames", strategy="diversity", encoder_weights="none", checkpoint="missing.pt", count=3)
    assert "patient2/6.png" in [row["file"] for row in chosen[:2]]
    assert len({row["group"] for row in chosen}) == 3
    assert {row["score"] for row in chosen} == {""} == {row["stratum"] for row in chosen}


def test_images_without_masks_yet_keep_their_groups(ask: Any, tiny_dataset: Path) -> None:
    for mask in (tiny_dataset / "masks").iterdir():
        mask.unlink()
    found = {row["file"]: row["group"] for row in ask(tiny_dataset, strategy="first", count=99)}
    assert len(found) == 16 and found["images/frame_00.png"] == found["images/frame_01.png"] == "g0"
    assert found["unlabeled/frame_15.jpg"] == "u2"
    groups = [row["group"] for row in ask(tiny_dataset, strategy="diversity", count=9)]
    assert sorted(groups) == ["g0", "g1", "g2", "g3", "g4", "g5", "u0", "u1", "u2"]


def test_frames_of_a_clip_are_candidates_but_near_duplicates_are_not(ask: Any, tmp_path: Path) -> None:
    """Ten seconds of 4 frames/s, of which 2 are looked at: the even ones. 8 has a mask, 10 is its double."""
    (tmp_path / "set" / "images").mkdir(parents=True)
    (tmp_path / "set" / "masks" / "clip").mkdir(parents=True)
    # Each frame another 3 x 3 board of dark and light fields.
    boards = [np.unpackbits(np.array([37 * k + 11], ">u2").view(np.uint8))[-9:].reshape(3, 3, 1) for k in range(40)]
    pictures = [np.kron(60 + 130 * board, np.ones((16, 32, 3))).astype(np.uint8) for board in boards]
    pictures[10] = pictures[8]
    make_clip(tmp_path / "set" / "images" / "clip.mp4", 40, fps=4, size=(48, 96), pictures=pictures)
    Image.fromarray(np.zeros((48, 96), np.uint8)).save(tmp_path / "set" / "masks" / "clip" / "000008.png")
    chosen = ask(tmp_path / "set", strategy="first", count=99)
    numbers = sorted(int(row["file"].removeprefix("images/clip.mp4#")) for row in chosen)
    assert numbers == sorted(set(range(0, 40, 2)) - {8, 10})
    assert {row["group"] for row in chosen} == {"images/clip.mp4"}


def test_a_datalist_is_honoured(ask: Any, tiny_dataset: Path) -> None:
    listed = {"training": [{"image": "images/frame_00.png", "label": "masks/frame_00.png", "group": "a"}]}
    listed["unlabeled"] = [{"image": f"images/frame_{k:02d}.png", "group": "b"} for k in (8, 9, 9, 0)]
    (tiny_dataset / "datalist.json").write_text(json.dumps(listed))
    chosen = ask(tiny_dataset, strategy="random", count=9)
    assert {row["file"] for row in chosen} == {"images/frame_08.png", "images/frame_09.png"}
    assert {row["group"] for row in chosen} == {"b"}


def test_the_sheet_shows_the_frames_in_order(ask: Any, tmp_path: Path) -> None:
    """Seven frames of one colour each: five in the first row, two in the second, each in its own colour."""
    (tmp_path / "frames").mkdir()
    for number in range(7):
        Image.new("RGB", (80, 80), (30 * number, 200 - 20 * number, 90)).save(tmp_path / "frames" / f"{number}.png")
    chosen = ask(tmp_path / "frames", strategy="first", count=7)
    assert [row["file"] for row in chosen] == [f"{number}.png" for number in range(7)]
    sheet = np.asarray(Image.open(tmp_path / "out" / "next_frames.png"))
    assert sheet.shape == (8 + 2 * (256 + 34 + 8), 8 + 5 * (256 + 8), 3)
    for number in range(7):
        row, column = 8 + 128 + number // 5 * 298, 8 + 128 + number % 5 * 264
        assert sheet[row, column].tolist() == [30 * number, 200 - 20 * number, 90]
    assert (sheet[8 + 298 :, 8 + 3 * 264 :] == 255).all(), "nothing after the last"


@pytest.mark.parametrize("strategy", ["uncertainty", "random"])
def test_frames_that_cannot_be_read(ask: Any, tiny_dataset: Path, tmp_path: Path, strategy: str) -> None:
    """They are listed, the exit code says so, and others take their place."""
    (tiny_dataset / "images" / "frame_08.png").write_bytes(b"")
    with pytest.raises(SystemExit) as stop:
        ask(tiny_dataset, strategy=strategy, count=7)
    assert stop.value.code == 3
    (failure,) = rows(tmp_path / "out" / "failures.csv")
    assert failure["file"] == "images/frame_08.png" and "0 bytes" in failure["error"]
    assert len(rows(tmp_path / "out" / "next_frames.csv")) == 7
    assert len(ask(tiny_dataset, strategy=strategy, count=7, allow_failures=True)) == 7


def test_no_frame_can_be_read(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "a.png").write_text("no picture")
    for strategy in ("uncertainty", "first"):
        with pytest.raises(DatasetError, match="none of its 1 frames can be read"):
            ask(tmp_path / "frames", strategy=strategy)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"stratgy": "first"}, UnknownOverrideError, "did you mean --strategy"),
        ({"strategy": "best"}, ValueError, "strategy is 'best'; expected one of uncertainty, diversity, random, first"),
        ({"count": 0}, ValueError, "count is 0"),
        (
            {"checkpoint": "nowhere.pt"},
            CheckpointError,
            "nowhere.pt does not exist; give --checkpoint model.pt of a run$",
        ),
        ({"checkpoint": "nowhere.pt", "strategy": "diversity"}, CheckpointError, "for diversity, --encoder_weights"),
        ({"encoder_weights": "none"}, ValueError, "uncertainty needs a network trained on lesions"),
        ({"strata_shares": {"lesion": -1.0}}, ValueError, "expected 0 or more each"),
        ({"dataset_dir": ""}, DatasetError, "dataset_dir is empty"),
        ({"dataset_dir": "/nowhere/at/all"}, DatasetError, "does not exist; give a folder"),
    ],
)
def test_mistakes(
    run_config: Any, checkpoint: Path, tiny_dataset: Path, tmp_path: Path, changes: Any, error: type, message: str
) -> None:
    settings = {"dataset_dir": str(tiny_dataset), "checkpoint": str(checkpoint), "image_size": 64}
    with pytest.raises(error, match=message):
        run_config("next_frames", **settings | {"output_dir": str(tmp_path / "out")} | changes)
    assert not (tmp_path / "out").exists()


def test_everything_has_a_mask(ask: Any, tiny_dataset: Path) -> None:
    for name in UNLABELLED:
        (tiny_dataset / name).unlink()
    (tiny_dataset / "unlabeled").rmdir()
    (tiny_dataset / "unlabeled_groups.csv").unlink()
    with pytest.raises(DatasetError, match="every frame has a mask already"):
        ask(tiny_dataset)


def test_the_network_is_that_of_inference() -> None:
    own, shipped = (
        json.loads((BUNDLE / "configs" / f"{name}.json").read_text()) for name in ("next_frames", "inference")
    )
    for config in (own, shipped):
        config["network_def"].pop("encoder_weights")
    assert own["network_def"] == shipped["network_def"] and own["image_size"] == shipped["image_size"]


def test_an_encoder_that_nobody_trained_is_said(ask: Any, tiny_dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        ask(tiny_dataset, strategy="diversity", encoder_weights="none", count=2)
    assert "frames are told apart by the encoder alone" in caplog.text and "nobody trained this encoder" in caplog.text


def test_sure_frames_score_zero_and_come_last(ask: Any, tiny_dataset: Path, tmp_path: Path) -> None:
    """A head that says background everywhere: all scores 0, order by name, no frame lost."""
    network = LESSNet(encoder_weights="none")
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.copy_(torch.tensor([20.0, -20.0]))
    torch.save(network.state_dict(), tmp_path / "sure.pt")
    chosen = ask(tiny_dataset, checkpoint=str(tmp_path / "sure.pt"), noise=0.0, group_cap=0, count=8)
    assert [row["file"] for row in chosen] == UNLABELLED
    assert {row["score"] for row in chosen} == {"0.000000"} and {row["stratum"] for row in chosen} == {"clear"}
    assert math.isclose(sum(float(row["score"]) for row in chosen), 0)
