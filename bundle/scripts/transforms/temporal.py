"""Temporal smoothing of a video's logits: an exponential moving average that starts anew at each scene."""

from __future__ import annotations

import logging
import math

import torch

from scripts.transforms.scenes import THRESHOLD, Frame, SceneChanges

logger = logging.getLogger(__name__)

REFERENCE_FPS = 25.0  # frames/s for which the momentum is given


class LogitSmoother:
    """Exponential moving average of logits over the frames of a video, in their order of time.

        s_t = m * s_(t-1) + (1 - m) * z_t,    m = momentum ** (25 * dt),    s_0 = z_0

    with z_t the network's logits and dt the seconds since the frame before: momentum is that of a 25 frames/s video,
    and a stride, a dropped frame or another frame rate forgets as much in the same time. 0.6 leaves a half after 0.05 s
    and 1 % after 0.36 s. The average begins anew with another video, a step back in time, another size of the logits
    and a change of scene (see scenes.py), so that no mask is carried over a cut. It lags behind by m / (1 - m) frames,
    1.5 at 25 frames/s. At 2 frames/s m is 0.002: smoothing then does nothing.

    Args:
        momentum: 0 (no smoothing) to below 1.
        scene_threshold: distance above which two frames are different scenes, 0..2; None: no scene is looked for.

    Attributes:
        scene_change: whether the last frame began another scene of the same video.
        scene_changes: how many frames did since the smoother was made.

    Raises:
        ValueError: a momentum outside 0..1.
    """

    def __init__(self, momentum: float = 0.6, scene_threshold: float | None = THRESHOLD) -> None:
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum is {momentum}, expected 0 (no smoothing) to below 1, e.g. 0.6.")
        self.momentum = momentum
        self._scenes = None if scene_threshold is None else SceneChanges(scene_threshold)
        self.scene_changes = 0
        self.reset()

    def reset(self) -> None:
        """Forget all frames: the next one is the first of a video."""
        self.scene_change = False
        self._video: str | None = None
        self._time_s = 0.0
        self._average: torch.Tensor | None = None
        if self._scenes is not None:
            self._scenes.reset()

    def __call__(self, logits: torch.Tensor, frame: Frame, video: str, time_s: float) -> torch.Tensor:
        """Take the next frame and return its smoothed logits; the input is left as it is.

        Args:
            logits: (C, H, W) float. frame: (3, h, w) uint8 RGB, of any size. video: what tells one video from another.
            time_s: seconds since the video's start.

        Returns:
            (C, H, W), type and device of ``logits``. Logits that are not finite come back as they are and are not
            averaged; a warning is logged.

        Raises:
            ValueError: logits or frame of another shape or type, a time that is not a number.
        """
        if logits.ndim != 3 or not logits.is_floating_point():
            raise ValueError(f"{video}: logits are {tuple(logits.shape)} {logits.dtype}, expected (C, H, W) float.")
        if not math.isfinite(time_s):
            raise ValueError(f"{video}: the time of the frame is {time_s}, expected seconds since the video's start.")
        if video != self._video or time_s <= self._time_s:
            self.reset()
        elapsed = time_s - self._time_s
        self._video, self._time_s = video, time_s
        self.scene_change = self._scenes is not None and self._scenes.update(frame)
        self.scene_changes += self.scene_change

        fresh = logits.detach().as_subclass(torch.Tensor).float()
        if not torch.isfinite(fresh.sum()):  # one pass; a sum of logits does not overflow
            logger.warning("%s: the logits at %.3f s are not finite; temporal smoothing begins anew", video, time_s)
            self._average = None
            return logits
        old = self._average
        if old is None or self.scene_change or old.shape != fresh.shape:
            self._average = fresh.clone()
        else:
            keep = self.momentum ** (REFERENCE_FPS * elapsed)
            self._average = torch.lerp(fresh, old.to(fresh.device), keep)
        # A copy: what the caller does to its result in place must not reach the average.
        return self._average.to(logits.dtype, copy=True)
