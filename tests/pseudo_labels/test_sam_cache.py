"""Embeddings that are kept spare the encoder and never change an answer."""

from __future__ import annotations

import logging

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the optional transformers library is not installed")

from tiny_sam import KINDS, library_processor, make_model, picture, prompts

from scripts.pseudo_labels.embedding_cache import ENDING
from scripts.pseudo_labels.sam import SamSegmenter


@pytest.mark.parametrize("kind", KINDS)
def test_kept_embeddings_spare_the_encoder_and_change_nothing(folders, kind, tmp_path):
    calls = []

    def fresh(**options) -> SamSegmenter:
        segmenter = SamSegmenter(folders(kind), **options)
        segmenter.model.vision_encoder.register_forward_hook(lambda *_: calls.append(kind))
        return segmenter

    def ask(segmenter: SamSegmenter, image):
        segmenter.set_image(image)
        return segmenter.predict(**prompts(37, 61))

    image, other = picture(37, 61), picture(37, 61, seed=1)
    plain = ask(fresh(), image)
    cached = fresh(cache_dir=tmp_path)
    answers = [ask(cached, image), ask(cached, image), ask(fresh(cache_dir=tmp_path), image)]
    assert len(calls) == 2  # the one without cache and the first one with it
    for answer in answers:
        for name in vars(plain):
            assert np.array_equal(getattr(answer, name), getattr(plain, name)), name
    ask(cached, other)
    assert len(calls) == 3 and len(list(tmp_path.glob(f"*{ENDING}"))) == 2
    cached.set_image(np.ascontiguousarray(image.reshape(61, 37, 3)))  # the same bytes, another picture
    assert len(calls) == 4


def test_a_damaged_kept_embedding_is_computed_again(folders, tmp_path, caplog):
    segmenter, given = SamSegmenter(folders("sam"), cache_dir=tmp_path), prompts(37, 61)
    segmenter.set_image(picture(37, 61))
    before = segmenter.predict(**given)
    (file,) = tmp_path.glob(f"*{ENDING}")
    file.write_bytes(file.read_bytes()[:-50])
    with caplog.at_level(logging.WARNING):
        segmenter.set_image(picture(37, 61))
    assert file.name in caplog.text
    assert np.array_equal(segmenter.predict(**given).logits, before.logits)


def test_other_weights_and_other_settings_have_other_keys(folders, tmp_path):
    image, cache = picture(37, 61), tmp_path / "cache"
    first = SamSegmenter(folders("sam"), cache_dir=cache)
    second = SamSegmenter(make_model("sam", tmp_path / "seed1", seed=1), cache_dir=cache)
    assert first.fingerprint != second.fingerprint and len(first.fingerprint) == 64
    assert first.fingerprint == SamSegmenter(folders("sam")).fingerprint
    darker = make_model("sam", tmp_path / "darker")  # the same weights, another normalisation
    processor = library_processor("sam").image_processor
    processor.image_mean = [0.3, 0.3, 0.3]
    (darker / "processor_config.json").unlink()
    processor.save_pretrained(darker)  # as preprocessor_config.json, the form of published models
    third = SamSegmenter(darker, cache_dir=cache)
    assert third.fingerprint == first.fingerprint
    for number, segmenter in enumerate((first, second, third), start=1):
        segmenter.set_image(image)
        assert len(list(cache.glob(f"*{ENDING}"))) == number
