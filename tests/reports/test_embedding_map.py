"""The picture of embeddings: one colour for what is alike, different colours for what is not."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import nn

from scripts.reports.embedding_map import GAP, NAME, TILE, principal_colours, write_embedding_map


def test_alike_pixels_have_one_colour_in_all_frames_and_unlike_ones_another():
    directions = torch.eye(8)[[0, 3, 5]]
    classes = torch.tensor([[[0, 0, 1], [2, 2, 1]], [[1, 1, 1], [0, 2, 0]]])
    colours = principal_colours(directions[classes].permute(0, 3, 1, 2))
    assert colours.shape == (2, 2, 3, 3) and colours.dtype == torch.uint8
    of_class = [{tuple(colour.tolist()) for colour in colours[classes == index]} for index in range(3)]
    assert [len(found) for found in of_class] == [1, 1, 1]
    assert len(set.union(*of_class)) == 3


def test_it_is_the_same_at_each_call_and_stands_few_channels():
    embedding = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    first = principal_colours(embedding)
    assert torch.equal(first, principal_colours(embedding.clone()))
    assert not first[..., 2].any()  # two channels: no third component


def test_the_first_component_is_that_of_a_singular_value_decomposition():
    embedding = (
        torch.randn(1, 5, 20, 20, generator=torch.Generator().manual_seed(1)) * torch.arange(1, 6.0)[:, None, None]
    )
    red = principal_colours(embedding)[0, ..., 0].flatten().double()
    vectors = embedding[0].flatten(1).T.double()
    vectors = vectors - vectors.mean(dim=0)
    scores = vectors @ torch.linalg.svd(vectors).Vh[0]
    inside = (red > 0) & (red < 255)
    assert torch.corrcoef(torch.stack([red[inside], scores[inside]]))[0, 1].abs() > 0.9999


def test_frames_with_foreground_are_shown_with_their_outlines(tmp_path):
    frames = [
        {"image": torch.full((3, 16, 16), 90, dtype=torch.uint8), "label": torch.zeros(1, 16, 16)} for _ in range(5)
    ]
    for index in (1, 3, 4):
        frames[index]["label"][:, 4:12, 4:12] = 1
        frames[index]["image"][:, 4:12, 4:12] = 200
    network = nn.Conv2d(3, 4, 1)
    path = write_embedding_map(tmp_path, network, frames, frames=2)
    assert path == tmp_path / "figures" / NAME
    picture = np.asarray(Image.open(path))
    assert picture.shape == (2 * TILE + GAP, 2 * TILE + GAP, 3)
    top, below = picture[:TILE, :TILE], picture[TILE + GAP :, :TILE]
    assert (top[10, 10] == 90).all()
    assert len(np.unique(top.reshape(-1, 3), axis=0)) > 2  # the outline besides the two greys
    assert (below[TILE // 2, TILE // 2] != below[5, 5]).any()
    assert not network.training


def test_without_foreground_any_frames_are_shown(tmp_path):
    frames = [{"image": torch.zeros(3, 8, 8, dtype=torch.uint8), "label": torch.zeros(1, 8, 8)}]
    path = write_embedding_map(tmp_path, nn.Conv2d(3, 4, 1), frames)
    assert np.asarray(Image.open(path)).shape == (2 * TILE + GAP, TILE, 3)
