"""Weights that must not be used are refused with the file, what was found, what was expected and the cure."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from scripts.pseudo_labels.promptable import SegmenterError

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"


def test_without_the_library_the_error_says_how_to_install_it(monkeypatch, tmp_path):
    from scripts.pseudo_labels.sam import SamSegmenter

    monkeypatch.setitem(sys.modules, "transformers", None)  # what Python itself does for a module that is not there
    with pytest.raises(SegmenterError, match=r'pip install "endoscopic-lesion-segmentation\[sam\]".*mobile_sam.pt'):
        SamSegmenter(tmp_path)


pytest.importorskip("transformers", reason="the optional transformers library is not installed")

from tiny_sam import SIDE, Planted, library_processor, make_model  # noqa: E402

from scripts.pseudo_labels.sam import SamSegmenter  # noqa: E402


@pytest.fixture
def folder(tmp_path):
    return make_model("sam", tmp_path / "model")


def edit(file: Path, change) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def refusal(weights, **options) -> str:
    with pytest.raises(SegmenterError) as caught:
        SamSegmenter(weights, **options)
    return str(caught.value)


def test_another_architecture_is_refused_before_its_weights_are_read(folder):
    edit(folder / "config.json", lambda config: config.update(model_type="bert"))
    (folder / "model.safetensors").write_bytes(b"not read")
    message = refusal(folder)
    assert str(folder) in message and "'bert'" in message and "sam2" in message and "facebook/sam-vit-base" in message


@pytest.mark.parametrize("text", ["{", "[]", '{"hidden_size": 3}', ""])
def test_a_config_that_is_none_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    message = refusal(folder)
    assert str(folder) in message and "config.json" in message


def test_a_config_of_impossible_values_is_refused(folder):
    edit(folder / "config.json", lambda config: config["mask_decoder_config"].update(hidden_size="wide"))
    message = refusal(folder)
    assert str(folder) in message and "hidden_size" in message


def test_a_folder_without_config_is_refused(folder):
    (folder / "config.json").unlink()
    message = refusal(folder)
    assert str(folder) in message and "no config.json" in message and "model.safetensors" in message


def test_a_truncated_file_is_refused_by_name(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    message = refusal(folder)
    assert str(file) in message and "download it again" in message


@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_model.bin", "sam.pth"])
def test_pickled_weights_are_refused_and_their_code_is_not_run(folder, tmp_path, name):
    trace = tmp_path / "trace"
    (folder / "model.safetensors").unlink()
    with (folder / name).open("wb") as stream:
        pickle.dump(Planted(trace), stream)
    edit(folder / "config.json", lambda config: config.update(transformers_weights=name))
    message = refusal(folder)
    assert (
        str(folder) in message and name in message and "model.safetensors" in message and "save_pretrained" in message
    )
    assert not trace.exists()
    with (folder / name).open("rb") as stream:
        pickle.load(stream)
    assert trace.exists()  # it would have run


def test_a_pickle_beside_safetensors_is_not_opened(folder, tmp_path):
    with (folder / "pytorch_model.bin").open("wb") as stream:
        pickle.dump(Planted(tmp_path / "trace"), stream)
    edit(folder / "config.json", lambda config: config.update(transformers_weights="adapter_model.bin"))
    SamSegmenter(folder)
    assert not (tmp_path / "trace").exists()


def test_code_beside_the_weights_is_not_run(folder, tmp_path):
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')\nclass A: pass\n")
    edit(folder / "config.json", lambda config: config.update(auto_map={"AutoConfig": "evil.A", "AutoModel": "evil.A"}))
    SamSegmenter(folder)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("kind", ["sam", "sam2"])
@pytest.mark.parametrize("tensor", ["mask_decoder.iou_token.weight", "shared_image_embedding.positional_embedding"])
def test_a_missing_tensor_is_refused_by_name(tmp_path, kind, tensor):
    folder = make_model(kind, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights.pop(tensor)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    message = refusal(folder)
    assert str(folder) in message and "missing" in message and tensor in message


def test_an_unexpected_tensor_and_one_of_another_shape_are_refused_by_name(folder):
    weights = load_file(folder / "model.safetensors")
    name = "mask_decoder.iou_token.weight"
    save_file(weights | {"extra.weight": torch.zeros(1)}, folder / "model.safetensors", {"format": "pt"})
    message = refusal(folder)
    assert "1 unexpected" in message and "extra.weight" in message
    save_file(weights | {name: torch.zeros(1, 16)}, folder / "model.safetensors", {"format": "pt"})
    message = refusal(folder)
    assert name in message and "16" in message and "32" in message and "mismatched" in message


def test_half_precision_files_compute_in_float32(folder):
    weights = load_file(folder / "model.safetensors")
    halves = {name: tensor.half() for name, tensor in weights.items()}
    save_file(halves, folder / "model.safetensors", {"format": "pt"})
    edit(folder / "config.json", lambda config: config.update(dtype="float16", attn_implementation="some/kernel"))
    model = SamSegmenter(folder).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config._attn_implementation == "sdpa"


def test_a_missing_and_a_foreign_image_processor_are_refused(folder):
    (folder / "processor_config.json").unlink()
    message = refusal(folder)
    assert str(folder) in message and "preprocessor_config.json" in message
    processor = library_processor("sam").image_processor
    processor.pad_size = {"height": 2 * SIDE, "width": 2 * SIDE}
    processor.save_pretrained(folder)
    message = refusal(folder)
    assert "128, 128" in message and "64, 64" in message and "same model" in message


def test_a_file_out_of_such_a_folder_is_refused_with_the_folder_as_cure(folder):
    file = folder / "model.safetensors"
    message = refusal(file)
    assert str(file) in message and "give the folder" in message and "config.json" in message


@pytest.mark.parametrize("weights", ["/no/such/folder", "nothing", "", "a/b/c", "../x/y"])
def test_what_is_neither_folder_nor_file_nor_hub_name_is_refused(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refusal(weights)
    for word in ("config.json", "facebook/sam-vit-base", "mobile_sam.pt"):
        assert word in message


def test_a_hub_that_cannot_be_reached_is_said_with_the_way_around_it(tmp_path):
    """In a process of its own: the library reads the variable when it is imported."""
    code = (
        "from scripts.pseudo_labels.sam import SamSegmenter\n"
        "from scripts.pseudo_labels.promptable import SegmenterError\n"
        "try:\n    SamSegmenter('facebook/sam-vit-base')\nexcept SegmenterError as error:\n    print(error)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": str(BUNDLE)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for word in ("facebook/sam-vit-base", "another machine", "hf download", "path of that folder"):
        assert word in done.stdout


@pytest.mark.parametrize("device", ["quantum", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(folder, device):
    message = refusal(folder, device=device)
    assert device in message and "cpu" in message


def test_prompts_per_pass_must_be_one_or_more(folder):
    assert "prompts_per_pass" in refusal(folder, prompts_per_pass=0)


@pytest.mark.parametrize("kind", ["sam2", "sam2_video", "edgetam", "edgetam_video"])
def test_published_forms_load(tmp_path, kind):
    """preprocessor_config.json with the older name of the class, as the published SAM 2 models have it."""
    folder = make_model(kind, tmp_path / "model")
    (folder / "processor_config.json").unlink()
    library_processor(kind).image_processor.save_pretrained(folder)
    edit(
        folder / "preprocessor_config.json", lambda config: config.update(image_processor_type="Sam2ImageProcessorFast")
    )
    segmenter = SamSegmenter(folder)
    segmenter.set_image(np.zeros((20, 30, 3), np.uint8))
    assert segmenter.predict(boxes=np.array([[1, 1, 9, 9]])).masks.shape == (1, 20, 30)
