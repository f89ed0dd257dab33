"""Smoothing of logits in time: the formula by hand, frame rates, and what begins an average anew."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from scripts.transforms.temporal import LogitSmoother

RANDOM = np.random.default_rng(0)
SCENE_A, SCENE_B = (torch.from_numpy(RANDOM.integers(0, 256, (3, 16, 16), dtype=np.uint8)) for _ in range(2))


def smooth(smoother: LogitSmoother, values: list[float], fps: float = 25.0, video: str = "a.mp4") -> list[float]:
    """Smoothed values of logits that are constant over one scene of a video."""
    return [
        float(smoother(torch.full((2, 3, 5), float(value)), SCENE_A, video, place / fps)[1, 2, 4])
        for place, value in enumerate(values)
    ]


def test_formula_by_hand() -> None:
    # 10, then 0.6 * 10 + 0.4 * 0 = 6, 3.6, 0.6 * 3.6 + 0.4 * 5 = 4.16
    assert smooth(LogitSmoother(0.6), [10, 0, 0, 5]) == pytest.approx([10, 6, 3.6, 4.16], rel=1e-5)


def test_half_the_frame_rate_squares_the_momentum() -> None:
    assert smooth(LogitSmoother(0.6), [10, 0, 0], fps=12.5) == pytest.approx([10, 3.6, 1.296], rel=1e-5)


@pytest.mark.parametrize("fps", [5.0, 12.5, 25.0, 29.97, 50.0, 100.0])
def test_what_is_left_after_a_time_does_not_depend_on_the_frame_rate(fps: float) -> None:
    after = smooth(LogitSmoother(0.6), [1.0] + [0.0] * round(fps), fps)
    assert after[-1] == pytest.approx(0.6 ** (25 * round(fps) / fps), rel=1e-4)


def test_each_pixel_and_class_on_its_own_and_the_input_stays() -> None:
    first, second = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    kept = second.clone()
    smoother = LogitSmoother(0.5)
    smoother(first, SCENE_A, "a", 0.0)
    result = smoother(second, SCENE_A, "a", 0.04)
    torch.testing.assert_close(result, (first + second) / 2)
    assert torch.equal(second, kept)


def test_changing_the_result_in_place_does_not_reach_the_average() -> None:
    smoother = LogitSmoother(0.5)
    smoother(torch.ones(1, 2, 2), SCENE_A, "a", 0.0).zero_()
    smoother(torch.ones(1, 2, 2), SCENE_A, "a", 0.04).zero_()
    torch.testing.assert_close(smoother(torch.ones(1, 2, 2), SCENE_A, "a", 0.08), torch.ones(1, 2, 2))


def test_constant_logits_stay_and_no_momentum_is_the_input() -> None:
    assert smooth(LogitSmoother(0.9), [3.0] * 20) == pytest.approx([3.0] * 20)
    assert smooth(LogitSmoother(0.0), [1, 5, -2]) == [1, 5, -2]


def test_flicker_falls_by_what_the_formula_says() -> None:
    # Variance of an exponential average of white noise: (1 - m) / (1 + m), a quarter at m = 0.6.
    noise = np.random.default_rng(1).normal(size=4000)
    smoothed = smooth(LogitSmoother(0.6), noise.tolist())
    assert np.var(smoothed) / np.var(noise) == pytest.approx(0.25, rel=0.1)


def test_a_cut_begins_anew() -> None:
    smoother = LogitSmoother(0.6)
    smoother(torch.full((2, 2, 2), 9.0), SCENE_A, "a", 0.0)
    assert not smoother.scene_change
    cut = smoother(torch.zeros(2, 2, 2), SCENE_B, "a", 0.04)
    assert smoother.scene_change and smoother.scene_changes == 1 and cut.eq(0).all()
    after = smoother(torch.ones(2, 2, 2), SCENE_B, "a", 0.08)
    assert not smoother.scene_change and after[0, 0, 0] == pytest.approx(0.4)


def test_without_looking_for_scenes_a_cut_is_smoothed() -> None:
    smoother = LogitSmoother(0.6, scene_threshold=None)
    smoother(torch.full((2, 2, 2), 10.0), SCENE_A, "a", 0.0)
    assert smoother(torch.zeros(2, 2, 2), SCENE_B, "a", 0.04)[0, 0, 0] == pytest.approx(6.0)
    assert not smoother.scene_change


def test_another_video_begins_anew_and_is_no_scene_change() -> None:
    smoother = LogitSmoother(0.6)
    assert smooth(smoother, [10, 10], video="a.mp4")[-1] == 10
    assert float(smoother(torch.zeros(2, 3, 5), SCENE_B, "b.mp4", 5.0).max()) == 0
    assert not smoother.scene_change and smoother.scene_changes == 0


@pytest.mark.parametrize("time_s", [0.04, 0.0])
def test_a_step_back_in_time_begins_anew(time_s: float) -> None:
    smoother = LogitSmoother(0.6)
    smooth(smoother, [10, 10])
    assert float(smoother(torch.zeros(2, 3, 5), SCENE_A, "a.mp4", time_s).max()) == 0


def test_reset_and_another_size_begin_anew() -> None:
    smoother = LogitSmoother(0.6)
    smooth(smoother, [10, 10])
    smoother.reset()
    assert float(smoother(torch.zeros(2, 3, 5), SCENE_A, "a.mp4", 0.08).max()) == 0
    assert smoother(torch.ones(2, 4, 4), SCENE_A, "a.mp4", 0.12).eq(1).all()


def test_logits_that_are_not_finite_do_not_last(caplog: pytest.LogCaptureFixture) -> None:
    smoother = LogitSmoother(0.6)
    smooth(smoother, [10, 10])
    broken = torch.full((2, 3, 5), float("nan"))
    with caplog.at_level(logging.WARNING):
        assert smoother(broken, SCENE_A, "a.mp4", 0.08) is broken
    assert "a.mp4: the logits at 0.080 s are not finite" in caplog.text
    assert smoother(torch.ones(2, 3, 5), SCENE_A, "a.mp4", 0.12).eq(1).all()


def test_half_precision_is_averaged_in_float32() -> None:
    smoother = LogitSmoother(0.9)
    for place in range(200):
        result = smoother(torch.full((1, 2, 2), 1.0, dtype=torch.bfloat16), SCENE_A, "a", place * 0.04)
    assert result.dtype == torch.bfloat16 and result.eq(1).all()


@pytest.mark.parametrize("momentum", [1.0, -0.1, float("nan")])
def test_momentum_out_of_range(momentum: float) -> None:
    with pytest.raises(ValueError, match="0 .no smoothing. to below 1"):
        LogitSmoother(momentum)


@pytest.mark.parametrize("logits", [torch.zeros(1, 2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.uint8)])
def test_other_logits(logits: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"a\.mp4: logits are .*expected \(C, H, W\) float"):
        LogitSmoother()(logits, SCENE_A, "a.mp4", 0.0)


def test_a_time_that_is_no_number() -> None:
    with pytest.raises(ValueError, match=r"a\.mp4: the time of the frame is nan"):
        LogitSmoother()(torch.zeros(2, 4, 4), SCENE_A, "a.mp4", float("nan"))
