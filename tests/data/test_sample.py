"""The built-in sample set: what it contains, that it repeats exactly, and that it never harms another folder."""

from __future__ import annotations

import csv
import errno
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.data.sample import FramePlan, is_sample_dataset, main, make_sample_dataset, plan_frames
from scripts.data.sample_scene import highest_pixels, make_patient, render_frame, visible_field
from scripts.data.sample_texture import periodic_noise, sample_tile

SMALL = dict(frames=10, labelled=5, size=64, groups=4)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sample_dataset(tmp_path_factory.mktemp("sample") / "set", **SMALL)


def test_layout(small: Path) -> None:
    images, masks = sorted((small / "images").iterdir()), sorted((small / "masks").iterdir())
    assert (len(images), len(masks)) == (10, 5)
    assert {m.name for m in masks} <= {i.name for i in images}
    for path in images:
        picture = np.asarray(Image.open(path))
        assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    for path in masks:
        mask = np.asarray(Image.open(path))
        assert mask.shape == (64, 64) and set(np.unique(mask)) <= {0, 255}
    rows = list(csv.DictReader((small / "groups.csv").open()))
    assert [row["file"] for row in rows] == [i.name for i in images]
    assert Counter(row["group"] for row in rows) == {
        "patient_001": 3,  # 10 frames dealt to 4 patients
        "patient_002": 3,
        "patient_003": 2,
        "patient_004": 2,
    }
    assert "SYNTHETIC SAMPLE" in (small / "README.txt").read_text()
    assert sorted(p.name for p in small.parent.iterdir()) == ["set"], "a temporary folder was left behind"


def test_repeats_byte_for_byte_whatever_the_global_random_state(small: Path, tmp_path: Path) -> None:
    np.random.seed(1234)
    before = np.random.get_state()[1].copy()
    again = make_sample_dataset(tmp_path / "again", **SMALL)
    assert contents(again) == contents(small)
    assert (np.random.get_state()[1] == before).all(), "the global random state was used"


def test_repeats_in_another_process_and_from_the_command_line(small: Path, tmp_path: Path) -> None:
    options = [part for name, value in SMALL.items() for part in (f"--{name}", str(value))]
    bundle = Path(__file__).parents[2] / "bundle"
    result = subprocess.run(
        [sys.executable, "-m", "scripts.data.sample", "--output", str(tmp_path / "cli"), *options],
        cwd=bundle,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "77"},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().splitlines()[-1] == str(tmp_path / "cli")
    assert contents(tmp_path / "cli") == contents(small)


def test_another_seed_gives_other_pictures(small: Path, tmp_path: Path) -> None:
    other = contents(make_sample_dataset(tmp_path / "other", **SMALL, seed=1))
    same = contents(small)
    assert not [name for name in same if name.startswith("images") and other.get(name) == same[name]]


def test_all_pictures_differ(small: Path) -> None:
    assert len({p.read_bytes() for p in (small / "images").iterdir()}) == 10


def test_a_complete_set_is_kept_as_it_is(small: Path) -> None:
    stamps = {p: p.stat().st_mtime_ns for p in small.rglob("*")}
    assert make_sample_dataset(small, **SMALL) == small
    assert {p: p.stat().st_mtime_ns for p in small.rglob("*")} == stamps


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    make_sample_dataset(tmp_path / "deep" / "er", frames=1, labelled=0, size=64, groups=1)
    (tmp_path / "empty").mkdir()
    assert is_sample_dataset(make_sample_dataset(tmp_path / "empty", frames=1, labelled=0, size=64, groups=1))
    assert is_sample_dataset(tmp_path / "deep" / "er")


def test_a_folder_with_other_content_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    assert not is_sample_dataset(tmp_path)
    with pytest.raises(FileExistsError, match=r"mine\.txt.*empty or new folder"):
        make_sample_dataset(tmp_path, **SMALL)
    assert contents(tmp_path) == {"mine.txt": b"precious"}


def test_a_set_with_other_parameters_is_refused(small: Path) -> None:
    before = contents(small)
    with pytest.raises(FileExistsError, match="another sample set.*'seed': 0.*'seed': 5.*delete"):
        make_sample_dataset(small, **SMALL, seed=5)
    assert contents(small) == before


def test_a_damaged_set_is_refused(tmp_path: Path) -> None:
    folder = make_sample_dataset(tmp_path / "set", **SMALL)
    next((folder / "masks").iterdir()).unlink()
    with pytest.raises(FileExistsError, match="masks has 4 files, the sample set has 5"):
        make_sample_dataset(folder, **SMALL)
    (folder / ".sample.json").write_text("{")
    with pytest.raises(FileExistsError, match="unreadable marker"):
        make_sample_dataset(folder, **SMALL)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/set.*folder you can write"):
        make_sample_dataset(tmp_path / "file" / "set", **SMALL)
    with pytest.raises(FileExistsError, match="is a file"):
        make_sample_dataset(tmp_path / "file", **SMALL)


def make_with_little_space(directory: Path) -> None:
    """Exit with 7 if the set could not be made in a process that may write no file of more than 2 KB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
    try:
        make_sample_dataset(directory, frames=2, labelled=1, size=64, groups=1)
    except OSError as error:
        os._exit(7 if error.errno == errno.EFBIG else 8)


def test_an_interrupted_call_leaves_nothing(tmp_path: Path) -> None:
    """As on a full disk, the first picture can only be written in part."""
    process = multiprocessing.get_context("fork").Process(target=make_with_little_space, args=(tmp_path / "set",))
    process.start()
    process.join(60)
    assert process.exitcode == 7
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(groups=11), "groups=11 with frames=10"),
        (dict(groups=0), "groups=0"),
        (dict(labelled=11), "labelled=11 with frames=10"),
        (dict(labelled=-1), "labelled=-1"),
        (dict(size=32), "size=32"),
        (dict(seed=-1), "seed=-1"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_sample_dataset(tmp_path / "set", **{**SMALL, **change})
    assert list(tmp_path.iterdir()) == []


def test_command_line_refuses_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--output", str(tmp_path / "set"), "--size", "8"])
    assert stop.value.code == 2 and "size=8" in capsys.readouterr().err


def test_the_default_plan() -> None:
    plan = plan_frames(frames=160, labelled=24, groups=20, seed=0)
    labelled = [frame for frame in plan if frame.labelled]
    assert (len(plan), len(labelled), len({f.name for f in plan})) == (160, 24, 160)
    assert set(Counter(f.group for f in plan).values()) == {8}
    assert Counter(Counter(f.group for f in labelled).values()) == {2: 12}, "two masks in each of twelve patients"
    assert sum(f.blood_share == 0 for f in plan) == 32  # 20 % of 160
    free = [f for f in labelled if f.blood_share == 0]
    assert len(free) == 5 and len({f.group for f in free}) == 5  # 20 % of 24, in five patients
    bleeding = [f.blood_share for f in plan if f.blood_share]
    assert 0.002 <= min(bleeding) < 0.004 and 0.3 < max(bleeding) <= 0.35
    with_masks = [f.blood_share for f in labelled if f.blood_share]
    assert min(with_masks) < 0.005 and max(with_masks) > 0.25


@pytest.mark.parametrize(("frames", "labelled", "groups"), [(1, 1, 1), (7, 7, 3), (5, 0, 5), (12, 9, 5), (3, 3, 3)])
def test_plans_of_other_sizes(frames: int, labelled: int, groups: int) -> None:
    plan = plan_frames(frames, labelled, groups, seed=3)
    assert len({f.name for f in plan}) == frames
    assert sum(f.labelled for f in plan) == labelled
    assert {f.group for f in plan} == set(range(groups))
    assert isinstance(plan[0], FramePlan) and [f.name for f in plan] == sorted(f.name for f in plan)


@pytest.mark.parametrize("share", [0.0, 0.002, 0.05, 0.35])
def test_the_mask_has_the_area_asked_for(share: float) -> None:
    patient = make_patient(np.random.default_rng(1))
    frame, mask = render_frame(patient, np.random.default_rng(2), 128, share)
    assert mask.sum() == round(share * 128 * 128)
    assert frame.shape == (128, 128, 3) and frame.dtype == np.uint8


@pytest.mark.parametrize("seed", range(4))
def test_blood_is_inside_the_visible_field_and_the_rest_is_black(seed: int) -> None:
    centres = (np.arange(96) + 0.5) / 48 - 1
    x, y = np.meshgrid(centres, centres)
    patient = make_patient(np.random.default_rng(seed))
    frame, mask = render_frame(patient, np.random.default_rng(5), 96, 0.3)
    assert not mask[~visible_field(patient.field, patient.field_radius + 1e-4, x, y)].any()
    outside = ~visible_field(patient.field, patient.field_radius * 1.1, x, y)
    assert outside.any() and frame[outside].max() <= 12 and frame.max() > 120


def test_blood_looks_like_blood() -> None:
    """Redder (red over green) than the wall in the same frame, over several patients."""
    for seed in range(6):
        patient = make_patient(np.random.default_rng(seed))
        frame, mask = render_frame(patient, np.random.default_rng([seed, 1]), 128, 0.1)
        pixels = frame.astype(float)
        ratio = (pixels[..., 0] + 5) / (pixels[..., 1] + 5)
        wall = ~mask & (pixels.max(axis=2) > 40)
        assert np.median(ratio[mask]) > 1.5 * np.median(ratio[wall])


def test_highest_pixels_by_hand() -> None:
    field = np.array([[9.0, 1.0], [5.0, 7.0]])
    mask, border = highest_pixels(field, np.array([[False, True], [True, True]]), 2)
    assert mask.tolist() == [[False, False], [True, True]] and border == 5.0


def test_visible_fields_by_hand() -> None:
    x, y = np.array([[0.9, 0.8, 0.0]]), np.array([[0.0, 0.8, 0.97]])
    assert visible_field("circle", 1.0, x, y).tolist() == [[True, False, True]]
    assert visible_field("octagon", 1.0, x, y).tolist() == [[True, False, True]]
    assert visible_field("square", 0.95, x, y).tolist() == [[True, True, False]]


def test_tiles_have_no_seam() -> None:
    tile = periodic_noise(np.random.default_rng(0), 64, 1.0, 2, 6)
    assert abs(tile.mean()) < 1e-5 and tile.std() == pytest.approx(1.0, abs=1e-5)
    across, inside = np.abs(tile[:, 0] - tile[:, -1]).max(), np.abs(np.diff(tile, axis=1)).max()
    assert across <= 1.2 * inside


def test_tiles_are_read_bilinearly_and_wrap() -> None:
    tile = np.array([[0.0, 4.0], [8.0, 12.0]], np.float32)
    rows, columns = np.array([[0.0, 0.5, 2.0, 1.5]], np.float32), np.array([[0.5, 0.0, 1.0, 0.0]], np.float32)
    assert sample_tile(tile, rows, columns).tolist() == [[2.0, 4.0, 4.0, 4.0]]


def test_the_marker_says_how_it_was_made(small: Path) -> None:
    marker = json.loads((small / ".sample.json").read_text())
    assert {name: marker[name] for name in SMALL} == SMALL and marker["seed"] == 0
