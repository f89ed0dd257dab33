"""Inference on frames of any size: the shipped network, its companion and a mirrored pass, for mask and agreement."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from monai.data import Dataset
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import nn

from scripts.data.fingerprints import file_sha256
from scripts.engines.checkpoints import load_into
from scripts.engines.export_record import check_export
from scripts.engines.overrides import running_config
from scripts.io.dicom_codes import SegAlgorithm
from scripts.io.errors import MediaError
from scripts.io.frame_address import split_address
from scripts.io.media import open_media
from scripts.io.provenance import Provenance, hash_config
from scripts.networks.backends import backend_file, open_backend, weights_in
from scripts.networks.checkpoints import load_weights, read_file

logger = logging.getLogger(__name__)
BUNDLE_NAME = "endoscopic_lesion_segmentation"


class AgreementIteration:
    """MONAI's iteration_update: logits of the network, of its companion, and of the network on the mirrored frame.

    Args:
        companion: the student where the EMA teacher was shipped; None = not to be had.
        flip: run the mirrored frame too (one more pass).
    """

    def __init__(self, companion: nn.Module | None = None, flip: bool = True) -> None:
        self.companion = companion
        self.flip = flip

    def __call__(self, engine: Engine, batchdata: dict[str, Any]) -> Any:
        """Batch of frames -> "pred", and "pred_companion", "pred_flip" where asked for, each (B, C, H, W) logits."""
        image, _ = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking)
        output: dict[str, Any] = {}  # the image stays in the batch, uint8
        with engine.mode(engine.network):
            output[Keys.PRED] = engine.inferer(image, engine.network)
            if self.flip:
                output["pred_flip"] = engine.inferer(image.flip(-1), engine.network).flip(-1)
        if self.companion is not None:
            with engine.mode(self.companion):
                output["pred_companion"] = engine.inferer(image, self.companion)
        return _completed(engine, output)


class FlipAveragedIteration:
    """MONAI's iteration_update: the network on the frame and on the mirrored frame, "pred" the mean of both.

    "pred" are logits (B, C, H, W) whose softmax is the mean of the two probabilities.

    Args:
        flip: False = the frame alone, where left and right differ.
    """

    def __init__(self, flip: bool = True) -> None:
        self.flip = flip

    def __call__(self, engine: Engine, batchdata: dict[str, Any]) -> Any:
        """Batch of frames -> {"pred"}."""
        image, _ = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking)
        with engine.mode(engine.network):
            plain = engine.inferer(image, engine.network).float().log_softmax(dim=1)
            if not self.flip:
                return _completed(engine, {Keys.PRED: plain})
            mirrored = engine.inferer(image.flip(-1), engine.network).float().flip(-1).log_softmax(dim=1)
        return _completed(engine, {Keys.PRED: torch.logaddexp(plain, mirrored)})  # a constant is nothing to softmax


def _completed(engine: Engine, output: dict[str, Any]) -> Any:
    """The output of an iteration as the handlers of its events leave it."""
    engine.state.output = output
    engine.fire_event(IterationEvents.FORWARD_COMPLETED)
    engine.fire_event(IterationEvents.MODEL_COMPLETED)
    return engine.state.output


class FrameDataset(Dataset):
    """Frames of which some may be broken: such a one becomes a black picture with its error beside it.

    One bad file must not end a night's work; FrameResultWriter lists it in failures.csv. An item comes out with "path"
    (where its frame is read from), "time_s" (seconds since the first frame of its video, nan elsewhere) and "error".

    Args:
        data: items with "file" and "image" (path, or address of a frame), and more of their own.
        transform: item -> tensors.
        size: [height, width] of the black picture.
    """

    def __init__(self, data: Sequence[dict[str, Any]], transform: Callable, size: Sequence[int]) -> None:
        super().__init__(data, transform)
        self.size = [int(side) for side in size]

    def _transform(self, index: int) -> dict[str, Any]:
        item = self.data[index]
        shown = {**item, "path": item["image"], "time_s": float("nan"), "error": ""}
        try:
            found = super()._transform(index)
            shown["time_s"] = frame_time(item["image"])
            return {**shown, **found}
        except Exception as error:
            cause = error
            while cause.__cause__ is not None and not isinstance(cause, (MediaError, OSError)):
                cause = cause.__cause__
            if not isinstance(cause, (MediaError, OSError)):  # an OSError: a file that may not be read
                raise
            shown |= {"error": str(cause), "time_s": _time_or_nan(item["image"])}
            black = torch.zeros(3, *self.size, dtype=torch.uint8)
            return {**shown, "image": black, "original_size": torch.tensor(self.size)}


def frame_time(address: str) -> float:
    """Seconds from the first frame of a video to the one of `address`; nan where time has no meaning."""
    path, index = split_address(address)
    if index is None:
        return float("nan")
    time = getattr(open_media(path), "time", None)
    seconds = None if time is None else time(index)
    return float("nan") if seconds is None else float(seconds)


def _time_or_nan(address: str) -> float:
    try:
        return frame_time(address)
    except (MediaError, OSError, IndexError):
        return float("nan")


def load_shipped(
    network: nn.Module,
    checkpoint: str | Path,
    device: str | torch.device,
    backend: str = "torch",
    image_size: int | None = None,
) -> nn.Module:
    """The network with the weights to use of a run's model.pt or last.pt, on its device.

    Where another backend computes it stays as it is.

    Args:
        image_size: pixels, side of the square that the network is going to see; see load_into.

    Raises:
        CheckpointError: see scripts.networks.checkpoints.
    """
    if backend != "torch":
        return network
    load_into(network, checkpoint, image_size)
    return network.to(device).eval()


def computing_network(
    network: nn.Module, checkpoint: str | Path, device: str | torch.device, backend: str = "torch"
) -> nn.Module:
    """What computes: the network itself, or what export.json made of the checkpoint for a backend.

    Raises:
        CheckpointError, ImportError, ValueError: see scripts.networks.backends and check_export.
    """
    if backend == "torch":
        return network
    file = backend_file(checkpoint, backend)
    check_export(file, checkpoint)
    return open_backend(file, backend, device)


def load_companion(
    network: nn.Module, checkpoint: str | Path, device: str | torch.device, backend: str = "torch"
) -> nn.Module | None:
    """The companion of a run's model.pt (the raw student beside its EMA), or None: there is none, or an export.

    It is in the file, or in one beside it, as a package has it: the zoo's model.pt is one plain state dict.
    """
    if backend != "torch":
        logger.info("Exports hold no companion: agreement is between the network and its mirrored pass.")
        return None
    content, _ = read_file(checkpoint)
    if isinstance(content, dict) and "companion" in content:
        load_weights(network, checkpoint, key="companion")
    elif companion_beside(checkpoint).is_file():
        load_weights(network, companion_beside(checkpoint))
    else:
        logger.warning("%s holds no companion: agreement is between the network and its mirrored pass.", checkpoint)
        return None
    return network.to(device).eval()


def companion_beside(checkpoint: str | Path) -> Path:
    """Where a packaged checkpoint has its companion: models/model_companion.pt for models/model.pt."""
    path = Path(checkpoint).expanduser()
    return path.with_name(f"{path.stem}_companion{path.suffix}")


def weights_sha256(checkpoint: str | Path, backend: str = "torch") -> str:
    """SHA-256 of the weights that compute."""
    return file_sha256(str(weights_in(backend_file(checkpoint, backend))))


def build_provenance(
    bundle_root: str | Path, checkpoint: str | Path, threshold: float, temperature: float, backend: str = "torch"
) -> Provenance:
    """What the running config will write beside each output: bundle, weights, config, threshold, versions."""
    metadata = json.loads((Path(bundle_root) / "configs" / "metadata.json").read_text(encoding="utf-8"))
    return Provenance(
        bundle_version=metadata["version"],
        weights_sha256=weights_sha256(checkpoint, backend),
        config_sha256=hash_config(json.loads(json.dumps(running_config(), default=str))),
        threshold=threshold,
        temperature=temperature,
    )


def seg_algorithm(provenance: Provenance) -> SegAlgorithm:
    """How a DICOM SEG names what made it."""
    return SegAlgorithm(
        name=BUNDLE_NAME,
        version=provenance.bundle_version,
        weights_sha256=provenance.weights_sha256,
        threshold=provenance.threshold,
    )
