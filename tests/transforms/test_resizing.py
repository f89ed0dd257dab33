"""To the network's size and back, against Pillow, naive loops and numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image
from torch import Tensor
from torch.nn import functional

from scripts.transforms import RecordSized, ResizeTo, RestoreClassesd, RestoreLesionProbabilityd


def softmax_lesion(first: float, second: float) -> float:
    """Probability of the second of two classes."""
    return float(np.exp(second) / (np.exp(first) + np.exp(second)))


def test_size_is_recorded_as_height_width() -> None:
    item = {"image": torch.zeros(3, 40, 70)}
    result = RecordSized("image")(item)
    assert result["original_size"].tolist() == [40, 70]
    assert "original_size" not in item, "the item that came in is not changed"
    assert RecordSized("image", output_key="seen")(item)["seen"].tolist() == [40, 70]


@pytest.mark.parametrize("size", [(32, 32), (20, 90), (96, 48)])
def test_picture_like_pillow(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    result = ResizeTo(["image"], size)({"image": torch.from_numpy(picture).permute(2, 0, 1)})["image"]
    assert result.shape == (3, *size) and result.dtype == torch.uint8
    expected = np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR))
    difference = np.abs(result.permute(1, 2, 0).numpy().astype(int) - expected.astype(int))
    assert difference.max() <= 1, "bilinear with antialiasing, up to rounding"


@pytest.mark.parametrize("size", [(32, 32), (20, 90), (96, 48), (64, 48)])
def test_label_is_the_nearest_pixel(size: tuple[int, int]) -> None:
    label = torch.randint(0, 2, (1, 64, 48), dtype=torch.uint8) * 7
    result = ResizeTo(["label"], size)({"label": label})["label"]
    expected = torch.zeros(1, *size, dtype=torch.uint8)
    for row in range(size[0]):
        for column in range(size[1]):
            source = int((row + 0.5) * 64 / size[0]), int((column + 0.5) * 48 / size[1])
            expected[0, row, column] = label[0, source[0], source[1]]
    assert torch.equal(result, expected)


def test_picture_and_label_together_and_what_is_not_named_stays() -> None:
    item = {"image": torch.zeros(3, 30, 40, dtype=torch.uint8), "label": torch.ones(1, 30, 40), "file": "a.png"}
    result = ResizeTo(["image", "label"], [64, 96])(item)
    assert result["image"].shape == (3, 64, 96) and result["label"].shape == (1, 64, 96)
    assert result["label"].dtype == torch.uint8 and result["label"].eq(1).all()
    assert result["file"] == "a.png" and item["image"].shape == (3, 30, 40)


def test_other_label_keys() -> None:
    stripes = (torch.arange(64) % 2 * 200).to(torch.uint8).expand(1, 64, 64)
    as_label = ResizeTo(["mask"], [48, 48], label_keys=["mask"])({"mask": stripes})["mask"]
    as_picture = ResizeTo(["mask"], [48, 48])({"mask": stripes})["mask"]
    assert set(as_label.unique().tolist()) <= {0, 200}
    assert not set(as_picture.unique().tolist()) <= {0, 200}


def test_missing_key() -> None:
    item = {"image": torch.zeros(3, 64, 64, dtype=torch.uint8)}
    result = ResizeTo(["image", "label"], [32, 32], allow_missing_keys=True)(item)
    assert set(result) == {"image"} and result["image"].shape == (3, 32, 32)
    with pytest.raises(KeyError, match="label"):
        ResizeTo(["image", "label"], [32, 32])(item)


def test_meta_tensor_becomes_plain() -> None:
    result = ResizeTo(["image"], [32, 32])({"image": MetaTensor(torch.zeros(3, 64, 64, dtype=torch.uint8))})
    assert type(result["image"]) is Tensor


def restore(logits: Tensor, size: tuple[int, int], **options: float) -> Tensor:
    item = {"pred": logits, "original_size": torch.tensor(size)}
    return RestoreLesionProbabilityd("pred", **options)(item)["pred"]


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.75), (2.0, 0.6339746), (0.5, 0.9)])
def test_probability_and_temperature_by_hand(temperature: float, expected: float) -> None:
    # Logits 0 and ln 3: 3 / 4; at T = 2 sqrt(3) / (1 + sqrt(3)); at T = 1/2 9 / 10.
    logits = torch.tensor([0.0, np.log(3.0)]).view(2, 1, 1).expand(2, 8, 8)
    result = restore(logits, (12, 20), temperature=temperature)
    assert result.shape == (1, 12, 20)
    torch.testing.assert_close(result, torch.full((1, 12, 20), expected))


def test_all_lesion_classes_count() -> None:
    # exp: 1, 2, 5 -> 7 / 8 is not background.
    logits = torch.tensor([1.0, 2.0, 5.0]).log().view(3, 1, 1).expand(3, 4, 4)
    torch.testing.assert_close(restore(logits, (4, 4)), torch.full((1, 4, 4), 7 / 8))


def test_logits_are_interpolated_before_softmax() -> None:
    # Two columns to four: a, 3/4 a + 1/4 b, 1/4 a + 3/4 b, b.
    logits = torch.zeros(2, 1, 2)
    logits[1, 0] = torch.tensor([-8.0, 4.0])
    expected = [softmax_lesion(0.0, value) for value in (-8.0, -5.0, 1.0, 4.0)]
    torch.testing.assert_close(restore(logits, (1, 4))[0, 0], torch.tensor(expected))


def test_half_precision_logits_are_read_in_float32() -> None:
    logits = torch.tensor([0.0, 1.0]).view(2, 1, 1).expand(2, 4, 4).to(torch.bfloat16)
    result = restore(logits, (8, 8))
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, torch.full((1, 8, 8), softmax_lesion(0.0, 1.0)))


def test_missing_predictions_are_skipped() -> None:
    restoring = RestoreLesionProbabilityd(["pred", "pred_ema"])
    result = restoring({"pred": torch.zeros(2, 4, 4), "original_size": torch.tensor([8, 6])})
    assert result["pred"].shape == (1, 8, 6) and "pred_ema" not in result


@pytest.mark.parametrize("shape", [(128, 64), (64, 128), (33, 190)])
def test_there_and_back(shape: tuple[int, int]) -> None:
    """A rectangle that goes through the network's size comes back in its place, at the frame's size."""
    label = torch.zeros(1, *shape, dtype=torch.uint8)
    label[:, shape[0] // 4 : shape[0] // 2, shape[1] // 4 : shape[1] // 2] = 1
    item = {"image": label.expand(3, *shape), "label": label}
    item = ResizeTo(["image", "label"], [64, 64])(RecordSized("image")(item))
    item["pred"] = torch.cat([1.0 - item["label"].float(), item["label"].float()]) * 20
    result = RestoreLesionProbabilityd("pred")(item)["pred"]
    assert result.shape == label.shape
    wrong = (result > 0.5).ne(label.bool())
    # At most one network pixel to either side of the contour.
    rim = (-(-shape[0] // 64), -(-shape[1] // 64))
    window = [2 * side + 1 for side in rim]
    grown = functional.max_pool2d(label.float(), window, 1, rim)
    shrunk = -functional.max_pool2d(-label.float(), window, 1, rim)
    assert not wrong[grown == shrunk].any()
    if shape[0] % 64 == shape[1] % 64 == 0:
        assert not wrong.any(), "exact where a network pixel is a whole number of the frame's"


def test_classes_at_original_size() -> None:
    """three pixels to six: the border of two classes lies where their interpolated logits cross"""
    logits = torch.tensor([[[4.0, 0.0, 0.0]], [[0.0, 4.0, 0.0]], [[0.0, 0.0, 4.0]]])  # (3, 1, 3)
    item = {"pred": MetaTensor(logits), "original_size": torch.tensor([2, 6])}
    found = RestoreClassesd("pred")(item)["pred"]
    assert found.dtype == torch.uint8 and found.tolist() == [[[0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2]]]
    assert torch.equal(item["pred"], logits), "the input is left as it is"


def test_classes_of_two_are_those_of_the_lesion_probability() -> None:
    logits = torch.randn(2, 7, 9, generator=torch.Generator().manual_seed(0))
    item = {"pred": logits, "original_size": torch.tensor([31, 20])}
    probability = RestoreLesionProbabilityd("pred")(item)["pred"]
    assert torch.equal(RestoreClassesd("pred")(item)["pred"], (probability > 0.5).to(torch.uint8))


def test_classes_of_broken_logits_are_refused() -> None:
    logits = torch.zeros(3, 2, 2)
    logits[0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="pred: the network's output is not finite"):
        RestoreClassesd("pred")({"pred": logits, "original_size": torch.tensor([4, 4])})
    assert RestoreClassesd("pred")({"original_size": torch.tensor([4, 4])}).keys() == {"original_size"}
