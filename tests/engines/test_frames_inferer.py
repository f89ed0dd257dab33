"""A stack of frames is inferred frame by frame, whatever the batch."""

from __future__ import annotations

import pytest
import torch

from scripts.engines.frames_inferer import FramesInferer


def mean_and_position(frames: torch.Tensor) -> torch.Tensor:
    """A made-up network (B, 3, H, W) -> (B, 2, H, W) whose output tells the frames apart."""
    return torch.cat([frames.mean(1, keepdim=True), frames[:, :1]], dim=1)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_stack_equals_its_frames(batch_size: int) -> None:
    stack = torch.randint(0, 256, (2, 3, 5, 4, 6), dtype=torch.uint8)
    logits = FramesInferer(batch_size)(stack, mean_and_position)
    assert logits.shape == (2, 2, 5, 4, 6)
    for one in range(2):
        for frame in range(5):
            expected = mean_and_position(stack[one, :, frame][None].float() / 255)[0]
            torch.testing.assert_close(logits[one, :, frame], expected)


def test_frames_pass_through() -> None:
    frames = torch.rand(3, 3, 4, 6)
    torch.testing.assert_close(FramesInferer()(frames, mean_and_position), mean_and_position(frames))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 4, 6\); expected frames"):
        FramesInferer()(torch.rand(3, 4, 6), mean_and_position)
