"""Segment Anything models out of files of the transformers library: safetensors only, complete or refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from scripts.pseudo_labels.promptable import SegmenterError

#: model_type of config.json: title, class of the model, class of its image processor. Of a video model the part that
#: segments single pictures is taken.
FAMILIES = {
    "sam": ("SAM", "SamModel", "SamImageProcessor"),
    "sam_hq": ("SAM-HQ", "SamHQModel", "SamImageProcessor"),
    "sam2": ("SAM 2", "Sam2Model", "Sam2ImageProcessor"),
    "sam2_video": ("SAM 2", "Sam2Model", "Sam2ImageProcessor"),
    "edgetam": ("EdgeTAM", "EdgeTamModel", "Sam2ImageProcessor"),
    "edgetam_video": ("EdgeTAM", "EdgeTamModel", "Sam2ImageProcessor"),
}
_CURE = (
    "give the folder of a model in the form of the transformers library (config.json, model.safetensors, "
    "preprocessor_config.json), a hub name such as facebook/sam-vit-base, facebook/sam2.1-hiera-tiny or "
    "yonigozlan/EdgeTAM-hf, or a file of the original release of SAM or MobileSAM (sam_vit_b_01ec64.pth, mobile_sam.pt)"
)
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
# Entries of config.json that could lead to other files, other code or other arithmetic than float32.
_IGNORED = ("auto_map", "transformers_weights", "quantization_config", "fusion_config", "dtype", "torch_dtype")


def load_model(weights: str | Path) -> tuple[Any, Any, str]:
    """The library's model in float32 on the CPU, its image processor and its model_type.

    Pickled weights are never opened and no code that comes with the weights is run.

    Args:
        weights: folder in the form of the transformers library, or a name on its hub.

    Raises:
        SegmenterError: the library is missing or too old, the hub cannot be reached, or the folder holds another
            architecture, damaged files, or not exactly the tensors of the model that its config.json describes.
    """
    try:
        import transformers
    except ImportError as error:
        raise SegmenterError(
            f"the transformers library, which holds the Segment Anything models, cannot be imported ({error}): run "
            'pip install "endoscopic-lesion-segmentation[sam]" or uv pip install transformers; or give a file of the '
            "original release of SAM or MobileSAM (sam_vit_b_01ec64.pth, mobile_sam.pt), which needs no such library."
        ) from error
    folder = _folder(weights)
    source = str(folder or weights)
    try:
        config, _ = transformers.PreTrainedConfig.get_config_dict(source)
        found = config.get("model_type")
    except Exception as error:  # OSError for what is missing, several others for what is no JSON object
        raise SegmenterError(_unreadable(folder, source, "config.json", error)) from error
    if found not in FAMILIES:
        raise SegmenterError(
            f"{source}: config.json says model_type {found!r}, expected one of {', '.join(FAMILIES)}; {_CURE}."
        )
    if folder:
        _check_files(folder)
    _, model_name, processor_name = FAMILIES[found]
    model_class = getattr(transformers, model_name, None)
    if model_class is None:
        raise SegmenterError(
            f"{source}: transformers {transformers.__version__} has no {model_name}, which a {found} model needs: run "
            "uv pip install -U transformers."
        )
    try:
        model, report = model_class.from_pretrained(
            source,
            config=model_class.config_class.from_dict({k: v for k, v in config.items() if k not in _IGNORED}),
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="sdpa",  # torch's own, whatever the file names
            ignore_mismatched_sizes=True,  # only so that the report names them: they are refused below
            output_loading_info=True,
        )
    except Exception as error:  # the library and the classes of the models raise many kinds
        raise SegmenterError(_unreadable(folder, source, "the weights", error)) from error
    _check_report(source, found, report)
    try:
        return model, getattr(transformers, processor_name).from_pretrained(source), found
    except Exception as error:
        raise SegmenterError(_unreadable(folder, source, "preprocessor_config.json", error)) from error


def first_line(error: Exception) -> str:
    """The first line of what an exception says."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _folder(weights: str | Path) -> Path | None:
    """The folder, None for a hub name. Raises SegmenterError for anything else."""
    path = Path(weights).expanduser()
    if not path.is_dir():
        if _HUB_NAME.fullmatch(str(weights)):
            return None
        raise SegmenterError(f"{weights}: neither a folder or file that exists nor a hub name (owner/model); {_CURE}.")
    if not (path / "config.json").is_file():
        names = sorted(entry.name for entry in path.iterdir())[:8]
        raise SegmenterError(f"{path}: no config.json in this folder, found {names}; {_CURE}.")
    return path


def _check_files(folder: Path) -> None:
    """Raise SegmenterError unless the folder holds safetensors files, all of them whole."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        names = sorted(entry.name for entry in folder.iterdir())[:8]
        raise SegmenterError(
            f"{folder}: found {names}, expected model.safetensors. Files of other forms (.bin, .pth, .pt) are pickles, "
            "which can run code when they are opened, and are not read: download the safetensors form of this model, "
            "or convert it with save_pretrained of the transformers library on a machine that may run that code."
        )
    for file in files:
        try:
            with safe_open(str(file), framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise SegmenterError(
                f"{file}: cannot be read ({first_line(error)}), expected a whole safetensors file; copy or download "
                "it again."
            ) from error


def _check_report(source: str, found: str, report: dict[str, Any]) -> None:
    """Raise SegmenterError unless every tensor of the model came out of the file and none was left over.

    The library gives random numbers to tensors that it does not find; such a model would answer nonsense.
    """
    wrong = {kind: sorted(map(str, report[f"{kind}_keys"])) for kind in ("missing", "unexpected", "mismatched")}
    if any(wrong.values()):
        counts = ", ".join(f"{len(names)} {kind} {names[:3]}" for kind, names in wrong.items() if names)
        raise SegmenterError(
            f"{source}: these are not the weights of the {found} model that config.json describes; tensors: {counts} "
            "(mismatched: name, shape in the file, shape expected). Take config.json and model.safetensors from the "
            "same model, and download them again."
        )


def _unreadable(folder: Path | None, source: str, what: str, error: Exception) -> str:
    """Message for what the library cannot load."""
    if folder:
        return (
            f"{folder}: {what} cannot be loaded ({first_line(error)}), expected a model as save_pretrained writes it; "
            "copy or download the folder again."
        )
    return (
        f"{source}: {what} cannot be loaded from the hub ({first_line(error)}), and there is no folder of this name "
        f"here. Check the name and the connection; or download it on another machine (hf download {source} --local-dir "
        "sam), copy it here and give the path of that folder."
    )
