"""Episodes by hand: hysteresis, bridging, false alarms, holes in time; and false alarms per minute."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.metrics.episodes import (
    false_positive_rate_per_minute,
    find_episodes,
    frame_durations_s,
    summarise_episodes,
)

NAN = float("nan")


def at(shares: list[float], fps: float = 10.0) -> dict[str, np.ndarray]:
    return {"times_s": np.arange(len(shares)) / fps, "shares": np.array(shares)}


def test_one_episode_by_hand() -> None:
    # Frames 2..7 of 10 frames/s; frame 6 is between leave (0.002) and enter (0.005) and still belongs to it.
    (episode,) = find_episodes(**at([0, 0.004, 0.01, 0.05, 0.2, 0.05, 0.003, 0.02, 0.001, 0]))
    assert (episode.start_frame, episode.end_frame, episode.peak_frame, episode.frames) == (2, 7, 4, 6)
    assert episode.start_s == pytest.approx(0.2) and episode.end_s == pytest.approx(0.8)
    assert episode.duration_s == pytest.approx(0.6) and episode.peak_s == pytest.approx(0.4)
    assert episode.peak_share == 0.2
    assert episode.mean_share == pytest.approx((0.01 + 0.05 + 0.2 + 0.05 + 0.003 + 0.02) / 6)


def test_hysteresis_needs_enter_to_begin_and_less_than_leave_to_end() -> None:
    assert find_episodes(**at([0.0049] * 20)) == []
    whole = find_episodes(**at([0.005, *[0.002] * 19]))
    assert [(episode.start_frame, episode.end_frame) for episode in whole] == [(0, 19)]
    ended = find_episodes(**at([0.005] * 6 + [0.0019] * 14))
    assert [(episode.start_frame, episode.end_frame) for episode in ended] == [(0, 5)]


@pytest.mark.parametrize(("gap", "count"), [(4, 1), (5, 2)])
def test_gap_of_exactly_bridge_is_joined(gap: int, count: int) -> None:
    # 0.1 s a frame, bridge 0.4 s: four frames join, five do not.
    episodes = find_episodes(**at([0.1] * 5 + [0.0] * gap + [0.1] * 5))
    assert len(episodes) == count
    assert episodes[0].frames == (10 + gap if count == 1 else 5)
    if count == 1:
        assert episodes[0].mean_share == pytest.approx(0.1 * 10 / 14), "bridged frames count in the mean"


@pytest.mark.parametrize(("length", "count"), [(3, 0), (4, 1)])
def test_shorter_than_min_duration_is_a_flicker(length: int, count: int) -> None:
    video = at([0.0] * 10 + [0.5] * length + [0.0] * 10)
    assert len(find_episodes(**video)) == count
    assert summarise_episodes(**video).flickers == 1 - count


def test_bridging_comes_before_dropping() -> None:
    # Two of 0.2 s, 0.2 s apart: 0.6 s together.
    (episode,) = find_episodes(**at([0.1, 0.1, 0, 0, 0.1, 0.1, 0, 0, 0, 0, 0, 0]))
    assert episode.duration_s == pytest.approx(0.6)
    assert find_episodes(**at([0.1, 0.1, 0, 0, 0.1, 0.1]), bridge_s=0.1) == []


def test_frames_that_were_not_decoded() -> None:
    # 0.4 s missing is bridged; frames counts those decoded. 0.5 s missing parts the two.
    (one,) = find_episodes(**at([0.1] * 5 + [NAN] * 4 + [0.1] * 5))
    assert (one.frames, one.duration_s) == (10, pytest.approx(1.4))
    first, second = find_episodes(**at([0.1] * 5 + [NAN] * 5 + [0.1] * 5))
    assert first.end_s == pytest.approx(0.5) and second.start_s == pytest.approx(1.0), "nobody knows what was between"
    assert find_episodes(**at([NAN] * 5)) == [] and find_episodes([], []) == []


def test_missing_frames_and_rows_that_are_not_there_are_the_same() -> None:
    random = np.random.default_rng(0)
    shares = np.clip(np.convolve(random.normal(0, 0.02, 600), np.ones(8) / 8, "same"), 0, 1)
    shares[random.random(600) < 0.2] = NAN
    shares[200:240] = NAN
    times, seen = np.arange(600) / 25, np.isfinite(shares)
    there = find_episodes(times[seen], shares[seen], frames=np.arange(600)[seen])
    assert len(there) > 3
    assert find_episodes(times, shares) == there


def test_times_that_are_not_uniform() -> None:
    # The frame of share 0.1 stands for 0.3 s, that of 0.4 for 0.1 s, that of 0.2 for the median distance, 0.2 s.
    (episode,) = find_episodes([0.0, 0.3, 0.4, 0.6, 0.8], [0.1, 0.4, 0.2, 0.0, 0.0])
    assert episode.end_s == pytest.approx(0.6)
    assert episode.mean_share == pytest.approx((0.3 * 0.1 + 0.1 * 0.4 + 0.2 * 0.2) / 0.6)
    np.testing.assert_allclose(frame_durations_s(np.array([0.0, 0.3, 0.4, 0.6, 0.8])), [0.3, 0.1, 0.2, 0.2, 0.2])


def test_a_slow_stride_is_no_hole() -> None:
    # One frame in 2 s: far above bridge_s, but usual here.
    (episode,) = find_episodes(**at([0, 0.1, 0.1, 0], fps=0.5))
    assert (episode.start_s, episode.end_s) == (2.0, 6.0)


def test_hole_in_the_file() -> None:
    times = np.r_[np.arange(10) / 10, 60 + np.arange(10) / 10]
    first, second = find_episodes(times, np.full(20, 0.1))
    assert (first.end_s, second.start_s) == (pytest.approx(1.0), 60.0)
    assert summarise_episodes(times, np.full(20, 0.1)).total_s == pytest.approx(2.0)


def test_frame_numbers_of_a_stride_or_window() -> None:
    (episode,) = find_episodes(**at([0.1, 0.3, 0.1, 0.1, 0.0]), frames=[100, 105, 110, 115, 120])
    assert (episode.start_frame, episode.peak_frame, episode.end_frame) == (100, 105, 115)


def test_summary_by_hand() -> None:
    # 12 s at 10 frames/s: 3 s of lesion, a flicker of 0.2 s, 1 s of lesion; two frames failed within bridging reach.
    shares = [0.0] * 20 + [0.1] * 30 + [0.0] * 20 + [0.3] * 2 + [0.0] * 28 + [0.2] * 10 + [0.0] * 10
    shares[5] = shares[6] = NAN
    summary = summarise_episodes(**at(shares))
    assert (summary.episodes, summary.flickers, summary.frames, summary.failed_frames) == (2, 1, 118, 2)
    assert summary.total_s == pytest.approx(12) and summary.lesion_s == pytest.approx(4)
    assert summary.lesion_time_share == pytest.approx(4 / 12)
    assert summary.episodes_per_minute == pytest.approx(10)
    assert summary.longest_s == pytest.approx(3) and summary.peak_share == 0.3


@pytest.mark.parametrize("shares", [[], [NAN], [NAN, NAN], [0.5]])
def test_summary_of_next_to_nothing(shares: list[float]) -> None:
    summary = summarise_episodes(**at(shares))
    assert summary.episodes == 0 and summary.total_s == summary.lesion_s == 0
    assert summary.episodes_per_minute is None and summary.lesion_time_share is None and summary.longest_s is None


def test_like_a_naive_state_machine() -> None:
    """Without bridging and dropping, frame by frame: inside after reaching enter, until below leave."""
    shares = np.clip(np.random.default_rng(3).normal(0.003, 0.003, 2000), 0, 1)
    inside, expected = False, []
    for share in shares:
        inside = share >= 0.002 if inside else share >= 0.005
        expected.append(inside)
    found = np.zeros(2000, dtype=bool)
    for episode in find_episodes(np.arange(2000) / 25, shares, bridge_s=0, min_duration_s=0):
        found[episode.start_frame : episode.end_frame + 1] = True
    np.testing.assert_array_equal(found, expected)


def test_neither_a_shift_in_time_nor_its_unit_of_frames_matters() -> None:
    shares = np.clip(np.random.default_rng(5).normal(0.003, 0.004, 3000), 0, 1)
    times = np.arange(3000) * 1001 / 30000
    plain, later = find_episodes(times, shares), find_episodes(times + 3600.0, shares)
    assert len(plain) > 5
    assert [episode.start_frame for episode in plain] == [episode.start_frame for episode in later]
    doubled = find_episodes(np.repeat(times, 2) + np.tile([0, 1001 / 60000], 3000), np.repeat(shares, 2))
    assert [episode.start_frame for episode in doubled] == [2 * episode.start_frame for episode in plain]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"enter": 0.001}, "leave <= enter"),
        ({"leave": 0.0}, "0 < leave"),
        ({"enter": 1.5}, "enter <= 1"),
        ({"enter": NAN}, "enter is nan"),
        ({"bridge_s": -1.0}, "0 or more"),
        ({"min_duration_s": NAN}, "min_duration_s is nan"),
        ({"times_s": [0.0, 2.0, 1.0]}, "sort them"),
        ({"times_s": [0.0, NAN, 1.0]}, "not finite"),
        ({"times_s": [0.0, 1.0]}, "one value for each time"),
        ({"shares": [0.0, 12.0, 0.0]}, "0..12, expected 0..1"),
        ({"shares": [0.0, -0.1, 0.0]}, "expected 0..1"),
        ({"frames": [1, 2]}, "one number for each of 3"),
    ],
)
def test_bad_arguments(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words.replace(".", r"\.")):
        find_episodes(**{"times_s": [0.0, 1.0, 2.0], "shares": [0.0, 0.1, 0.0], **change})


def test_false_alarms_per_minute_by_hand() -> None:
    # 60 s at 1 frame/s, lesion in seconds 20..29: 50 s lesion-free. Alarms at 3..5, at 10, at 19 (before the lesion
    # comes), at 25 (right) and at 28..31, which stays on after the lesion has gone: four runs of false alarm.
    alarms, truth = np.zeros(60, dtype=bool), np.zeros(60, dtype=bool)
    truth[20:30] = True
    for first, after in ((3, 6), (10, 11), (19, 20), (25, 26), (28, 32)):
        alarms[first:after] = True
    times = np.arange(60.0)
    assert false_positive_rate_per_minute(times, alarms, truth) == pytest.approx(4 / (50 / 60))
    assert false_positive_rate_per_minute(times, ~truth & False, truth) == 0
    assert false_positive_rate_per_minute(times, ~truth, np.zeros(60, dtype=bool)) == pytest.approx(2)
    assert false_positive_rate_per_minute(times, alarms, np.ones(60, dtype=bool)) is None


def test_false_alarm_in_the_first_frame_counts() -> None:
    alarms = np.array([True, False, False, False, False, False])
    assert false_positive_rate_per_minute(np.arange(6) * 10.0, alarms, np.zeros(6, dtype=bool)) == pytest.approx(1)


def test_false_alarm_arguments() -> None:
    flags = np.zeros(3, dtype=bool)
    with pytest.raises(TypeError, match="alarms is float64, expected bool"):
        false_positive_rate_per_minute(np.arange(3), np.zeros(3), flags)
    with pytest.raises(TypeError, match="truth is int64"):
        false_positive_rate_per_minute(np.arange(3), flags, np.zeros(3, dtype=np.int64))
    with pytest.raises(ValueError, match="one value for each time"):
        false_positive_rate_per_minute(np.arange(3), flags[:2], flags)
