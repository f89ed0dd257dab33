"""Jumps of a video: by hand, under changes that are none, and on real clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from scripts.transforms.scenes import SceneChanges, is_scene_change, scene_distance


def scene(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """Smooth mucosa-like structure in a round field of view on black: (3, H, W) uint8."""
    random = np.random.default_rng(seed)
    structure = gaussian_filter(random.normal(size=(height, width)), 10)
    structure *= 40 / structure.std()
    colour = np.array([170, 100, 90])[:, None, None]
    y, x = np.mgrid[:height, :width]
    lit = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (0.45 * height) ** 2
    noise = random.normal(0, 3, (3, height, width))
    return (np.clip(colour + structure * colour / 170 + noise, 30, 255) * lit).astype(np.uint8)


def checks(bright: int, dark: int) -> np.ndarray:
    """A chess board of 16 x 16 fields, (3, 16, 16) uint8: one field is one pixel of the coarse picture."""
    board = np.indices((16, 16)).sum(0) % 2
    return np.repeat(np.where(board, bright, dark).astype(np.uint8)[None], 3, axis=0)


def test_distance_by_hand() -> None:
    # Variance (30 grey levels)^2 = 900, e = 16. Inverted: 1 - (-900 + 16) / 916. Half the contrast (variance 225):
    # 1 - (450 + 16) / sqrt(916 * 241).
    board = checks(130, 70)
    assert scene_distance(board, board) == pytest.approx(0, abs=1e-6)
    assert scene_distance(board, checks(70, 130)) == pytest.approx(1 + 884 / 916, rel=1e-5)
    assert scene_distance(board, checks(215, 185)) == pytest.approx(1 - 466 / (916 * 241) ** 0.5, rel=1e-4)


def test_symmetric_and_takes_tensors_and_sizes() -> None:
    a, b = scene(0), scene(1, 200, 180)
    assert scene_distance(a, b) == pytest.approx(scene_distance(torch.from_numpy(b), torch.from_numpy(a)), abs=1e-6)
    larger = np.kron(scene(0), np.ones((1, 5, 5), dtype=np.uint8))
    assert scene_distance(a, larger) < 0.03, "the same picture at five times the size"


def test_other_scenes_are_found() -> None:
    """In spite of the field of view, whose rim they have in common."""
    frames = [scene(seed) for seed in range(12)]
    pairs = [(a, b) for place, a in enumerate(frames) for b in frames[:place]]
    assert np.mean([is_scene_change(a, b) for a, b in pairs]) > 0.95


def test_light_colour_noise_and_a_small_step_are_no_scene() -> None:
    frame = scene(3).astype(float)
    changed = {
        "half the light": frame * 0.5,
        "a third more light": frame * 1.33,
        "another colour of light": frame * np.array([0.7, 1.2, 1.1])[:, None, None],
        "noise": frame + np.random.default_rng(0).normal(0, 25, frame.shape),
        "three pixels": np.roll(frame, 3, axis=2),
    }
    for name, other in changed.items():
        assert not is_scene_change(scene(3), np.clip(other, 0, 255).astype(np.uint8)), name


def test_frames_without_structure() -> None:
    black, noise = np.zeros((3, 64, 64), dtype=np.uint8), np.random.default_rng(0).integers(100, 104, (3, 64, 64))
    assert scene_distance(black, black) == 0
    assert not is_scene_change(noise.astype(np.uint8), np.full((3, 64, 64), 180, dtype=np.uint8))
    assert is_scene_change(black, scene(0)), "the signal comes back"


def test_first_frame_is_no_jump_and_a_cut_is_one_jump() -> None:
    changes = SceneChanges()
    assert [changes.update(scene(seed)) for seed in (0, 0, 0, 1, 1)] == [False, False, False, True, False]
    changes.reset()
    assert not changes.update(scene(2))


def test_a_smaller_step_is_a_jump_after_steady_pictures_only() -> None:
    a, b = scene(0).astype(float), scene(1).astype(float)
    mixed = next(
        frame
        for frame in (((1 - w) * a + w * b).astype(np.uint8) for w in np.linspace(0.2, 0.7, 101))
        if 0.32 < scene_distance(scene(0), frame) < 0.43
    )
    steady, moving = SceneChanges(), SceneChanges()
    assert [steady.update(frame) for frame in (scene(0), scene(0), scene(0), mixed)][-1]
    # Steps of about that size all the time: motion.
    assert not any(moving.update(frame) for frame in (scene(0), mixed, scene(0), mixed, scene(0), mixed))


@pytest.mark.parametrize(
    ("shape", "kind"), [((64, 64, 3), "u1"), ((1, 8, 8), "u1"), ((3, 8, 8), "f4"), ((3, 0, 8), "u1")]
)
def test_other_frames_are_refused(shape: tuple[int, ...], kind: str) -> None:
    with pytest.raises(ValueError, match=r"expected \(3, H, W\) torch.uint8 RGB"):
        SceneChanges().update(np.zeros(shape, kind))


@pytest.fixture(scope="module")
def clips(shared_dir: Path) -> list[list[np.ndarray]]:
    """Six real clips as lists of (3, H, W) uint8."""
    av = pytest.importorskip("av")
    folder = shared_dir / "data" / "video"
    files = [folder / "colonoscopy_polyp.mp4", *(folder / "nasal" / f"nasal_{i:02d}.mp4" for i in (1, 2, 3, 4, 10))]
    found = []
    for file in files:
        with av.open(str(file)) as container:
            frames = (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
            found.append([np.ascontiguousarray(frame.transpose(2, 0, 1)) for frame in frames])
    return found


def test_real_motion_is_no_jump(clips: list[list[np.ndarray]]) -> None:
    """They hold fast sweeps (nasal_01 at 8.6 s) and changes of exposure (nasal_01 at 1.8 s)."""
    assert sum(map(len, clips)) > 400
    for frames in clips:
        changes = SceneChanges()
        assert not any(changes.update(frame) for frame in frames)


def test_cuts_between_real_clips_are_jumps(clips: list[list[np.ndarray]]) -> None:
    random, found = np.random.default_rng(0), []
    for before in clips:
        for after in clips:
            if before is not after:
                for place in random.integers(4, len(before), 3):
                    changes = SceneChanges()
                    frames = [*before[place - 4 : place], after[random.integers(len(after))]]
                    found.append([changes.update(frame) for frame in frames][-1])
    assert len(found) == 90 and np.mean(found) >= 0.8
