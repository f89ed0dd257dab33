"""Masks, their uncertainty and polygons for one image of the datastore."""

from __future__ import annotations

import base64
import logging
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.tasks.infer.basic_infer import BasicInferTask
from monailabel.transform.post import Restored
from monailabel.transform.writer import write_itk

from lesion_label.bundle import Bundle
from lesion_label.polygons import annotations
from lesion_label.requests import device_of, first_of, invalid, one_of
from lesion_label.weights import CURRENT, WeightsError, WeightsStore

logger = logging.getLogger(__name__)

LABELS = {"lesion": 1}
PICTURES = (".png", ".tif", ".tiff", ".bmp")
VOLUMES = (".nrrd", ".nii", ".nii.gz")
MAPS = ("mask", "uncertainty")
NETWORKS_KEPT = 2  # in memory, so that two people with different weights do not make the server read files


class LesionInfer(BasicInferTask):
    """Inference with the transforms, network and inferer of configs/inference.json.

    Request parameters, beside MONAI Label's own:
        model_filename: "current" (default), "release" or a round of training.
        map: what the file holds, "mask" (0/1) or "uncertainty" (entropy of the lesion's probability, in bits).
        uncertainty: true = the uncertainty map comes too, in the JSON part, as base64 of an .nrrd or .png file.
        result_extension: .png, .tif, .bmp for one frame; .nrrd, .nii, .nii.gz for any number of frames.

    The JSON part has "annotations" (polygons for CVAT), "lesion_share", "uncertainty" and "weights".
    """

    def __init__(self, bundle: Bundle, store: WeightsStore) -> None:
        self.bundle = bundle
        self.store = store
        metadata = bundle.metadata
        super().__init__(
            path=str(store.release),
            network=None,
            type=InferType.SEGMENTATION,
            labels=LABELS,
            dimension=2,
            description=metadata["description"],
            config={"map": list(MAPS), "uncertainty": False},
        )
        self.version = metadata["version"]
        self._lock = threading.Lock()  # MONAI's parser and the cache are no thread's own
        self._parts: dict[str, Any] = {}  # of the config, parsed once: they keep no state between requests

    def is_valid(self) -> bool:
        """Listed even without weights, so that a client is told what to do about it."""
        return True

    def info(self) -> dict[str, Any]:
        return {**super().info(), "version": self.version, "weights": self.store.describe(), "endoscopy": True}

    def config(self) -> dict[str, Any]:
        return {**self._config, "model_filename": [CURRENT, *self.store.names()]}

    def get_path(self, validate: bool = True) -> str | None:
        """The weights in use, for MONAI Label's /model/info."""
        try:
            return str(self.store.path())
        except WeightsError:
            return None

    def pre_transforms(self, data: dict[str, Any] | None = None) -> Sequence[Callable]:
        transforms = self._parse("pre_transforms")
        transforms[0]._loader.image_only = False  # "image_meta_dict" is where MONAI Label looks for the geometry
        return transforms

    def inferer(self, data: dict[str, Any] | None = None) -> Inferer:
        return self._parse("inferer")

    def post_transforms(self, data: dict[str, Any] | None = None) -> Sequence[Callable]:
        return [*self._parse("post_transforms"), Restored(keys="pred", ref_image="image")]

    def _parse(self, name: str) -> Any:
        with self._lock:
            if name not in self._parts:
                self._parts[name] = self.bundle.config().get_parsed_content(name, instantiate=True)
            return self._parts[name]

    def __call__(self, request: dict[str, Any], callbacks: Any = None) -> tuple[str | None, dict[str, Any]]:
        """Mask file (or uncertainty map) and the JSON part. Raises MONAILabelException for a request it cannot meet."""
        request = {**request, "map": one_of(request.get("map", "mask"), MAPS, "map")}
        request["model_filename"] = first_of(request.get("model_filename", CURRENT))
        request["device"] = device_of(request.get("device"))
        extension = first_of(request.get("result_extension") or "")
        if extension and extension not in (*PICTURES, *VOLUMES):
            raise invalid(f"result_extension {extension!r}: expected one of {' '.join((*PICTURES, *VOLUMES))}")
        try:
            self.store.path(request["model_filename"])
        except WeightsError as error:
            raise invalid(str(error)) from error
        return super().__call__(request, callbacks)

    def _get_network(self, device: str, data: dict[str, Any] | None) -> torch.nn.Module:
        path = self.store.path((data or {}).get("model_filename", CURRENT))
        stat = path.stat()
        key = (str(path), stat.st_mtime_ns, stat.st_size, str(device))
        with self._lock:
            networks: OrderedDict = self._networks if isinstance(self._networks, OrderedDict) else OrderedDict()
            self._networks = networks
            if key not in networks:
                networks[key] = self.bundle.network(path, device)
                while len(networks) > NETWORKS_KEPT:
                    networks.popitem(last=False)
            networks.move_to_end(key)
            return networks[key]

    def warm_up(self) -> None:
        """Load what the first request would wait ten seconds for."""
        try:
            self._get_network(device_of(None), None)
            for name in ("pre_transforms", "inferer", "post_transforms"):
                self._parse(name)
        except WeightsError as error:
            logger.info("Nothing to load: %s", error)

    def writer(self, data: dict[str, Any], extension: str | None = None, dtype: Any = None) -> tuple[Any, dict]:
        mask, uncertainty = np.asarray(data["pred"]), np.asarray(data["pred_uncertainty"])
        mask, uncertainty = (found[0] if found.ndim == 4 else found for found in (mask, uncertainty))  # (W, H, D)
        affine = data["pred_meta_dict"]["affine"]
        facts = {
            "annotations": annotations(mask.transpose(2, 1, 0)),
            "lesion_share": float(np.mean(mask > 0)),
            "uncertainty": {"mean_bits": float(uncertainty.mean()), "highest_bits": float(uncertainty.max())},
            "weights": self.store.resolve(data["model_filename"]),
            "frames": mask.shape[2],
        }
        wanted = (
            extension or first_of(data.get("result_extension") or "") or (".png" if mask.shape[2] == 1 else ".nrrd")
        )
        if data.get("uncertainty") is True:
            suffix = ".png" if wanted in PICTURES else ".nrrd"
            facts["uncertainty"] |= _encoded(uncertainty, suffix, affine)
        shown = mask if data["map"] == "mask" else uncertainty
        return write_map(shown, wanted, affine), facts


def write_map(values: np.ndarray, suffix: str, affine: Any) -> str:
    """Write a mask (uint8 0/1) or a map (float 0..1) of shape (W, H, D) to a temporary file -> its path.

    Pictures hold maps as 0..255. Raises MONAILabelException: several frames for a picture.
    """
    if suffix in PICTURES:
        if values.shape[2] != 1:
            raise invalid(
                f"the image has {values.shape[2]} frames, a {suffix} file holds one; ask for .nrrd or .nii.gz"
            )
        values, affine = values[..., 0], None
        values = values if values.dtype == np.uint8 else np.round(values * 255).astype(np.uint8)
    handle = tempfile.NamedTemporaryFile(suffix=suffix, delete=False)  # the server deletes it once it is sent
    handle.close()
    write_itk(values, handle.name, affine, None, suffix != ".nii")
    return handle.name


def _encoded(uncertainty: np.ndarray, suffix: str, affine: Any) -> dict[str, str]:
    path = Path(write_map(uncertainty, suffix, affine))
    try:
        return {"map": base64.b64encode(path.read_bytes()).decode(), "map_format": suffix}
    finally:
        path.unlink()
