"""Episodes: stretches of a video in which a lesion is seen, found in its share of the frame over time.

A single frame's mask flickers. An episode therefore begins where the share reaches ``enter`` and lasts until it falls
below ``leave``, which is lower (hysteresis); gaps of at most ``bridge_s`` are then closed, and after that what is
shorter than ``min_duration_s`` is dropped as a false alarm.

A frame stands for the time until the next one that was decoded. Where that is more than ``bridge_s`` beyond the usual
(median) distance of frames, there is a hole of which nobody knows what was in it: the frame then stands for the usual
distance, and an episode ends. One rule serves strides, variable frame rates, frames that do not decode and cut files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

ENTER, LEAVE = 0.005, 0.002  # shares of the frame
MIN_DURATION_S, BRIDGE_S = 0.4, 0.4
ROUNDING_S = 1e-6  # time stamps are multiples of 1/90000 s and the like: their differences are not exact


@dataclass(frozen=True)
class Episode:
    """A stretch with lesion: seconds, shares of the frame (0..1) and the numbers of its frames.

    ``end_s`` is when its last frame gives way to the next one; ``frames`` were decoded from ``start_frame`` to
    ``end_frame``, both included; ``mean_share`` is weighted by time and counts bridged gaps.
    """

    start_s: float
    end_s: float
    duration_s: float
    peak_s: float
    peak_share: float
    mean_share: float
    start_frame: int
    end_frame: int
    peak_frame: int
    frames: int


@dataclass(frozen=True)
class EpisodeSummary:
    """A video in figures; None where no frame was decoded, or for a single frame, which has no duration.

    ``flickers``: stretches dropped for being too short. ``lesion_s``: sum of the episodes' durations. ``total_s``: time
    that decoded frames stand for. ``frames`` were decoded, ``failed_frames`` were not.
    """

    episodes: int
    episodes_per_minute: float | None
    flickers: int
    lesion_s: float
    lesion_time_share: float | None
    longest_s: float | None
    peak_share: float | None
    total_s: float
    frames: int
    failed_frames: int


def find_episodes(
    times_s: ArrayLike,
    shares: ArrayLike,
    *,
    frames: ArrayLike | None = None,
    enter: float = ENTER,
    leave: float = LEAVE,
    min_duration_s: float = MIN_DURATION_S,
    bridge_s: float = BRIDGE_S,
) -> list[Episode]:
    """Return the episodes of a video in their order, by the rules of this file's first lines.

    Args:
        times_s: (N,) seconds, not decreasing. shares: (N,) lesion's share of the frame, 0..1, nan where the frame was
            not decoded. frames: (N,) frame numbers, or None for 0..N-1.
        enter, leave: shares of the frame, 0 < leave <= enter <= 1.
        min_duration_s, bridge_s: seconds, 0 or more.

    Raises:
        ValueError: arrays or settings that are not as said.
    """
    return _find(times_s, shares, frames, enter, leave, min_duration_s, bridge_s)[0]


def summarise_episodes(
    times_s: ArrayLike,
    shares: ArrayLike,
    *,
    enter: float = ENTER,
    leave: float = LEAVE,
    min_duration_s: float = MIN_DURATION_S,
    bridge_s: float = BRIDGE_S,
) -> EpisodeSummary:
    """Count the episodes of a video and what was dropped; arguments and Raises as find_episodes."""
    episodes, flickers = _find(times_s, shares, None, enter, leave, min_duration_s, bridge_s)
    times, values = _series(times_s, shares)
    seen = np.isfinite(values)
    total = float(frame_durations_s(times[seen], bridge_s).sum())
    lesion = sum(episode.duration_s for episode in episodes)
    return EpisodeSummary(
        episodes=len(episodes),
        episodes_per_minute=len(episodes) / (total / 60) if total > 0 else None,
        flickers=flickers,
        lesion_s=lesion,
        lesion_time_share=min(1.0, lesion / total) if total > 0 else None,
        longest_s=max((episode.duration_s for episode in episodes), default=None),
        peak_share=float(values[seen].max()) if seen.any() else None,
        total_s=total,
        frames=int(seen.sum()),
        failed_frames=int((~seen).sum()),
    )


def frame_durations_s(times_s: NDArray[np.float64], bridge_s: float = BRIDGE_S) -> NDArray[np.float64]:
    """How long each decoded frame stands, seconds (N,): until the next, or the median distance before a hole.

    Args:
        times_s: (N,) seconds of the decoded frames, not decreasing.
        bridge_s: a distance that is longer than the median by more than this is a hole. The last frame stands for the
            median distance; a single frame for 0 s.
    """
    steps = np.diff(times_s)
    if len(steps) == 0:
        return np.zeros(len(times_s))
    usual = float(np.median(steps))
    known = steps <= usual + bridge_s + ROUNDING_S
    return np.append(np.where(known, steps, usual), usual)


def false_positive_rate_per_minute(
    times_s: ArrayLike, alarms: ArrayLike, truth: ArrayLike, bridge_s: float = BRIDGE_S
) -> float | None:
    """False alarms per minute of lesion-free video: how often a person would be called in vain.

    One false alarm is a run of successive frames with an alarm and without a lesion, however long; an alarm that stays
    on after the lesion has left the frame is one too.

    Args:
        times_s: (N,) seconds, not decreasing. alarms: (N,) bool, lesion predicted. truth: (N,) bool, lesion there.
        bridge_s: see frame_durations_s.

    Returns:
        Runs per minute; None without lesion-free video.

    Raises:
        TypeError: alarms or truth are not boolean. ValueError: lengths differ, or times decrease.
    """
    alarms, truth = np.asarray(alarms), np.asarray(truth)
    for name, flags in (("alarms", alarms), ("truth", truth)):
        if flags.dtype != bool:
            raise TypeError(
                f"{name} is {flags.dtype}, expected bool: compare the lesion's share with a threshold first."
            )
    times, free = _series(times_s, ~truth)
    _, alarm = _series(times, alarms)
    minutes = float(frame_durations_s(times, bridge_s)[free > 0].sum()) / 60
    wrong = alarm * free
    onsets = np.count_nonzero(np.diff(wrong, prepend=0.0) > 0)
    return onsets / minutes if minutes > 0 else None


def _find(
    times_s: ArrayLike,
    shares: ArrayLike,
    frames: ArrayLike | None,
    enter: float,
    leave: float,
    min_duration_s: float,
    bridge_s: float,
) -> tuple[list[Episode], int]:
    """The episodes, and how many stretches were dropped for being too short."""
    if not 0.0 < leave <= enter <= 1.0:
        raise ValueError(
            f"enter is {enter} and leave {leave}, expected shares of the frame with 0 < leave <= enter <= 1."
        )
    if not (min_duration_s >= 0.0 and bridge_s >= 0.0):
        raise ValueError(f"min_duration_s is {min_duration_s} and bridge_s {bridge_s}, expected seconds, 0 or more.")
    times, values = _series(times_s, shares)
    numbers = np.arange(len(times)) if frames is None else np.asarray(frames)
    if numbers.shape != times.shape:
        raise ValueError(f"frames is {numbers.shape}, expected one number for each of {len(times)} times.")
    seen = np.isfinite(values)
    times, values, numbers = times[seen], values[seen], numbers[seen]
    durations = frame_durations_s(times, bridge_s)
    ends = times + durations

    stretches: list[list[int]] = []  # first and last row of each
    for first, last in _hysteresis(values, times > np.append(-np.inf, ends[:-1]) + ROUNDING_S, enter, leave):
        if stretches and times[first] - ends[stretches[-1][1]] <= bridge_s + ROUNDING_S:
            stretches[-1][1] = last
        else:
            stretches.append([first, last])

    episodes = []
    for first, last in stretches:
        if ends[last] - times[first] < min_duration_s - ROUNDING_S:
            continue
        part, weight = values[first : last + 1], durations[first : last + 1]
        peak = first + int(part.argmax())
        episodes.append(
            Episode(
                start_s=float(times[first]),
                end_s=float(ends[last]),
                duration_s=float(ends[last] - times[first]),
                peak_s=float(times[peak]),
                peak_share=float(values[peak]),
                mean_share=float(np.average(part, weights=weight) if weight.sum() > 0 else part.mean()),
                start_frame=int(numbers[first]),
                end_frame=int(numbers[last]),
                peak_frame=int(numbers[peak]),
                frames=last - first + 1,
            )
        )
    return episodes, len(stretches) - len(episodes)


def _hysteresis(
    values: NDArray[np.float64], after_hole: NDArray[np.bool_], enter: float, leave: float
) -> Iterator[tuple[int, int]]:
    """Yield the first and last row of each stretch that reaches ``enter`` and stays at ``leave`` or above."""
    start: int | None = None
    for row, (value, hole) in enumerate(zip(values.tolist(), after_hole.tolist(), strict=True)):
        if start is not None and (hole or value < leave):
            yield start, row - 1
            start = None
        if start is None and value >= enter:
            start = row
    if start is not None:
        yield start, len(values) - 1


def _series(times_s: ArrayLike, shares: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64 (N,), checked."""
    times, values = np.asarray(times_s, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    if times.ndim != 1 or times.shape != values.shape:
        raise ValueError(f"times are {times.shape} and values {values.shape}, expected one value for each time.")
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise ValueError(
            "times decrease or are not finite, expected seconds in the order of the frames: sort them first."
        )
    if ((values < 0) | (values > 1)).any() or np.isinf(values).any():
        raise ValueError(
            f"shares range over {np.nanmin(values):g}..{np.nanmax(values):g}, expected 0..1, nan if not known."
        )
    return times, values
