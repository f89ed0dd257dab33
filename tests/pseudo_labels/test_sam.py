"""Segment Anything models of few random weights against the library's own pipeline; files: test_sam_weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the optional transformers library is not installed")

from tiny_sam import KINDS, SIDE, library_processor, picture, prompts

from scripts.pseudo_labels.promptable import NO_POINT, SegmenterError, stability_score
from scripts.pseudo_labels.sam import SamSegmenter

SIZES = [(37, 61), (480, 333), (1, 40), (3, 3), (64, 64)]  # (H, W); 1 and 3 rows could be mistaken for channels


def chosen(given: dict[str, np.ndarray], rows) -> dict[str, np.ndarray]:
    return {name: value[rows] for name, value in given.items()}


def assert_same(one, other, tolerance: float = 1e-4) -> None:
    """Equal answers but for the rounding of sums; masks may differ where a logit is zero but for rounding."""
    np.testing.assert_allclose(one.logits, other.logits, atol=tolerance, rtol=1e-4)
    np.testing.assert_allclose(one.predicted_iou, other.predicted_iou, atol=tolerance)
    np.testing.assert_allclose(one.stability, other.stability, atol=0.01)
    assert (one.masks != other.masks).mean() <= 1e-4


def library_pipeline(kind: str, segmenter: SamSegmenter, image, given):
    """Masks (P, H, W), full-size logits, IoUs (P,) and the scaled prompts, by the library alone."""
    processor = library_processor(kind)
    inputs = processor(
        images=image,
        return_tensors="pt",
        input_data_format="channels_last",
        input_points=[given["points"].tolist()],
        input_labels=[given["labels"].tolist()],
        input_boxes=[given["boxes"].tolist()],
    )
    sizes = {name: inputs.pop(name) for name in ("original_sizes", "reshaped_input_sizes") if name in inputs}
    inputs = {name: value.float() if value.is_floating_point() else value for name, value in inputs.items()}
    with torch.no_grad():
        output = segmenter.model(**inputs, multimask_output=False)
    logits, masks = (
        processor.image_processor.post_process_masks(output.pred_masks, **sizes, binarize=binarize)[0][:, 0]
        for binarize in (False, True)
    )
    return masks.numpy(), logits.numpy(), output.iou_scores[0, :, 0].numpy(), inputs


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_the_librarys_own_pipeline(segmenters, kind, size):
    segmenter, image, given = segmenters(kind), picture(*size), prompts(*size)
    seen = {}
    hook = segmenter.model.prompt_encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True
    )
    segmenter.set_image(image)
    found = segmenter.predict(**given)
    hook.remove()
    masks, logits, ious, inputs = library_pipeline(kind, segmenter, image, given)
    # What the model saw: our prompts stand along the batch axis, the library's along the next one.
    for name in ("input_points", "input_boxes", "input_labels"):
        ours = seen[name][:, 0].double()
        np.testing.assert_allclose(ours.numpy(), inputs[name][0].double().numpy(), atol=1e-4)
    assert found.masks.shape == (3, *size) and found.masks.dtype == bool
    sure = np.abs(logits) > 1e-4  # elsewhere the order of a sum decides
    assert sure.mean() > 0.99
    assert np.array_equal(found.masks[sure], masks[sure])
    np.testing.assert_allclose(found.predicted_iou, ious.clip(0, 1), atol=1e-4)
    np.testing.assert_allclose(found.stability, stability_score(logits), atol=0.02)
    assert found.logits.dtype == found.predicted_iou.dtype == found.stability.dtype == np.float32


def test_the_tiny_models_do_answer_the_prompts(segmenters):
    """Without this the comparisons above could pass on empty masks."""
    for kind in KINDS:
        segmenter, given = segmenters(kind), prompts(37, 61)
        segmenter.set_image(picture(37, 61))
        found = segmenter.predict(**given)
        assert 0.02 < found.masks.mean() < 0.98
        assert np.abs(found.logits[0] - found.logits[1]).max() > 0.05


@pytest.mark.parametrize("size", [(37, 61), (61, 37), (64, 64)])
@pytest.mark.parametrize("kind", KINDS)
def test_returned_logits_cover_the_picture(segmenters, kind, size):
    """Scaled straight to the picture they give its masks, but for the border that two scalings blur differently."""
    segmenter = segmenters(kind)
    segmenter.set_image(picture(*size))
    found = segmenter.predict(**prompts(*size))
    grid = SIDE // 4
    if kind in ("sam", "sam_hq"):
        expected = tuple(-(-side * grid // max(size)) for side in size)  # 37x61: 9.7 of 16 rows, 16 columns
    else:
        expected = (grid, grid)
    assert found.logits.shape[1:] == expected
    straight = torch.nn.functional.interpolate(torch.from_numpy(found.logits)[:, None], size, mode="bilinear")[:, 0] > 0
    assert (straight.numpy() == found.masks).mean() > 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_many_prompts_in_one_call_are_as_many_calls(segmenters, folders, kind):
    segmenter, given = segmenters(kind), prompts(37, 61, 5)
    segmenter.set_image(picture(37, 61))
    given["mask_logits"] = segmenter.predict(**given).logits
    together = segmenter.predict(**given)
    for number in range(5):
        alone = segmenter.predict(**chosen(given, slice(number, number + 1)))
        assert_same(
            alone, type(together)(**{name: getattr(together, name)[number : number + 1] for name in vars(alone)})
        )
    few = SamSegmenter(folders(kind), prompts_per_pass=2)  # 2 + 2 + 1
    few.set_image(picture(37, 61))
    assert_same(few.predict(**given), together)


@pytest.mark.parametrize("kind", KINDS)
def test_points_that_are_none_change_nothing(segmenters, kind):
    segmenter, given = segmenters(kind), prompts(37, 61)
    segmenter.set_image(picture(37, 61))
    for boxes in ({}, {"boxes": given["boxes"]}):
        plain = segmenter.predict(points=given["points"], labels=given["labels"], **boxes)
        points = np.insert(given["points"], 1, 7.0, axis=1)
        labels = np.insert(given["labels"], 1, NO_POINT, axis=1)
        assert_same(segmenter.predict(points=points, labels=labels, **boxes), plain, tolerance=1e-6)
    # Rows of 2, 1 and 0 real points: each as if it stood alone, in the order given.
    labels = np.array([[1, 0], [NO_POINT, 1], [NO_POINT, NO_POINT]])
    mixed = segmenter.predict(points=given["points"], labels=labels, boxes=given["boxes"])
    alone = [
        segmenter.predict(given["points"][:1], labels[:1], given["boxes"][:1]),
        segmenter.predict(given["points"][1:2, 1:], labels[1:2, 1:], given["boxes"][1:2]),
        segmenter.predict(boxes=given["boxes"][2:]),
    ]
    for number, one in enumerate(alone):
        assert_same(one, type(mixed)(**{name: getattr(mixed, name)[number : number + 1] for name in vars(one)}))


def test_a_prompt_of_nothing_is_refused(segmenters):
    segmenter = segmenters("sam")
    segmenter.set_image(picture(37, 61))
    with pytest.raises(SegmenterError, match="prompt 1 .*point"):
        segmenter.predict(points=np.ones((2, 1, 2)), labels=np.array([[1], [NO_POINT]]))


@pytest.mark.parametrize("size", [(37, 61), (480, 333)])
@pytest.mark.parametrize("kind", KINDS)
def test_rough_masks_change_the_answer_and_may_come_at_any_resolution(segmenters, kind, size):
    segmenter, given = segmenters(kind), prompts(*size)
    segmenter.set_image(picture(*size))
    plain = segmenter.predict(**given)
    again = segmenter.predict(**given, mask_logits=plain.logits)
    assert np.abs(again.logits - plain.logits).max() > 1e-3
    alone = segmenter.predict(mask_logits=plain.logits)  # no points and no boxes at all
    assert alone.masks.shape == plain.masks.shape and np.isfinite(alone.logits).all()
    for shape in ((1, 1), (5, 70), size, (2 * size[0], 2 * size[1])):
        rough = np.random.default_rng(2).normal(0, 4, (3, *shape))
        assert segmenter.predict(**given, mask_logits=rough).masks.shape == plain.masks.shape


@pytest.mark.parametrize("kind", ["sam", "sam2"])
def test_rough_masks_lie_where_they_belong_on_the_models_grid(segmenters, kind):
    """A linear slope stays itself under bilinear scaling: at each cell's centre stands the value of that place."""
    segmenter, (height, width) = segmenters(kind), (48, 64)
    segmenter.set_image(picture(height, width))
    seen = []
    hook = segmenter.model.prompt_encoder.mask_embed.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    slope = (np.arange(width) + 0.5)[None] / 8 - (np.arange(height) + 0.5)[:, None] / 8  # x / 8 - y / 8, in pixels
    segmenter.predict(mask_logits=slope[None])
    hook.remove()
    grid = seen[0][0, 0].numpy()
    assert grid.shape == (SIDE // 4, SIDE // 4)
    centres = (np.arange(16) + 0.5) * 4  # in pixels of the model's input, 64
    if kind == "sam":  # scale 1, 48 of 64 rows are picture
        rows, columns, inside = centres, centres, 12
        assert (grid[inside:] == -10).all()
    else:  # 48 rows scaled to 64
        rows, columns, inside = centres * 48 / 64, centres, 16
    expected = columns[None] / 8 - rows[:inside, None] / 8
    # At the border scaling with antialiasing has no cells beyond to average with.
    np.testing.assert_allclose(grid[1 : inside - 1, 1:-1], expected[1:-1, 1:-1], atol=0.02)


def test_given_back_logits_lie_on_the_cells_they_came_from(segmenters):
    """Through crop and lay a smooth mask of SAM comes back, although 61x37 ends within a cell (9.7 of 16)."""
    segmenter = segmenters("sam")
    segmenter.set_image(picture(61, 37))
    side = torch.linspace(-1, 1, 16)
    low = (side[:, None] + 2 * side[None])[None, None]
    back = segmenter._lay(segmenter._crop(low))
    np.testing.assert_allclose(back[0, 0, 1:-1, 1:9].numpy(), low[0, 0, 1:-1, 1:9].numpy(), atol=1e-5)
    assert (back[..., 10:] == -10).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_question_has_the_same_answer(folders, segmenters, kind):
    given, answers = prompts(37, 61), []
    for segmenter in (segmenters(kind), segmenters(kind), SamSegmenter(folders(kind))):
        segmenter.set_image(picture(37, 61))
        answers.append(segmenter.predict(**given))
    for answer in answers[1:]:
        for name in vars(answer):
            assert np.array_equal(getattr(answer, name), getattr(answers[0], name)), name


def test_the_name_tells_kind_and_size(segmenters):
    for kind, title in zip(KINDS, ("SAM", "SAM-HQ", "SAM 2", "SAM 2", "EdgeTAM"), strict=True):
        segmenter = segmenters(kind)
        count = sum(parameter.numel() for parameter in segmenter.model.parameters()) / 1e6
        assert segmenter.name == f"{title} ({kind}, {count:.1f} M parameters)"
        assert not segmenter.model.training
        assert not any(parameter.requires_grad for parameter in segmenter.model.parameters())


def test_a_picture_too_elongated_for_the_model_is_refused_by_name(segmenters):
    segmenter = segmenters("sam")
    segmenter.set_image(picture(37, 61))
    with pytest.raises(SegmenterError, match="strip.png: 3000x1 pixels"):
        segmenter.set_image(np.zeros((1, 3000, 3), np.uint8), "strip.png")
    with pytest.raises(SegmenterError, match="set_image"):  # not the answer for the picture before
        segmenter.predict(boxes=np.array([[0, 0, 1, 1]]))


def test_no_prompts_are_no_masks(segmenters):
    segmenter = segmenters("sam2")
    segmenter.set_image(picture(37, 61))
    assert segmenter.predict(boxes=np.zeros((0, 4))).masks.shape == (0, 37, 61)
