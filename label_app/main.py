"""MONAI Label app: annotate endoscopic lesions, learn from the untouched frames too.

monailabel start_server --app label_app --studies FOLDER_OR_DICOMWEB_URL --conf models endoscopic_lesion_segmentation
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

APP = Path(__file__).resolve().parent
if str(APP) not in sys.path:
    sys.path.insert(0, str(APP))

from lesion_label.bundle import NAME, find_bundle  # noqa: E402
from lesion_label.requests import invalid  # noqa: E402
from monailabel.interfaces.app import MONAILabelApp  # noqa: E402
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException  # noqa: E402

logger = logging.getLogger(__name__)

#: --conf keys, with what they mean
OPTIONS = {
    "models": f"{NAME}, the one model there is",
    "bundle": "folder of the bundle; default: model/<name> of the app, then bundle beside the app",
    "weights": "file of released weights; default: models/model.pt of the bundle",
    "weights_dir": "folder of fine-tuned weights, runs and scores; default: model/<name>_rounds of the app",
    "encoder_weights": "auto, imagenet, none, or a file: where the first round starts when there are no weights",
    "round_config": "file to train by instead of configs/annotation_round.json of the bundle",
    "min_labels": "final labels without which training is refused",
    "hosts": "names (a,b) by which the server may be addressed besides localhost",
    "origins": "pages of other servers (https://a,https://b) that may use this one",
}


class LesionApp(MONAILabelApp):
    """One model, endoscopic_lesion_segmentation, on a folder of images or a DICOMweb server."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        _refuse_unknown(conf)
        self.bundle = find_bundle(app_dir, conf)
        from lesion_label.infer import LABELS
        from lesion_label.scoring import LesionScoring
        from lesion_label.weights import WeightsStore

        rounds = conf.get("weights_dir") or Path(app_dir) / "model" / f"{NAME}_rounds"
        release = Path(conf["weights"]) if conf.get("weights") else self.bundle.released_weights
        if conf.get("weights") and not release.is_file():
            raise FileNotFoundError(f"--conf weights {release}: no such file")
        self.weights = WeightsStore(Path(rounds).expanduser().resolve(), release.expanduser().resolve())
        self.encoder_weights = conf.get("encoder_weights", "auto")
        self.scoring_method = LesionScoring(self.bundle, self.weights, self.encoder_weights)
        self.min_labels = conf.get("min_labels")
        self.round_config = Path(conf["round_config"]).expanduser().resolve() if conf.get("round_config") else None
        # Uploads pass through a folder that nobody else reads, so that a path in a request can name nothing else.
        self.incoming = Path(tempfile.mkdtemp(prefix="lesion_label_"))
        tempfile.tempdir = str(self.incoming)
        atexit.register(shutil.rmtree, self.incoming, ignore_errors=True)
        metadata = self.bundle.metadata
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name=metadata["name"],
            description=metadata["task"],
            version=metadata["version"],
            labels=LABELS,
        )

    def init_datastore(self) -> Any:
        from lesion_label.datastore import LesionDatastore
        from lesion_label.train import value_map_of
        from monailabel.config import settings

        if self.studies.startswith(("http://", "https://")):
            from lesion_label.dicomweb import open_dicomweb

            return open_dicomweb(self.studies.rstrip("/"))
        values = value_map_of(self.bundle, self.round_config)
        reload = settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD
        return LesionDatastore(self.studies, auto_reload=reload, value_map=values)

    def init_infers(self) -> dict[str, Any]:
        from lesion_label.infer import LesionInfer

        return {NAME: LesionInfer(self.bundle, self.weights)}

    def init_trainers(self) -> dict[str, Any]:
        from lesion_label.train import MIN_LABELS, LesionTrain

        lowest = int(self.min_labels or MIN_LABELS)
        return {NAME: LesionTrain(self.bundle, self.weights, self.encoder_weights, lowest, self.round_config)}

    def init_scoring_methods(self) -> dict[str, Any]:
        return {"lesion": self.scoring_method}

    def init_strategies(self) -> dict[str, Any]:
        from lesion_label.strategies import DESCRIPTIONS, LesionStrategy

        return {kind: LesionStrategy(kind, self.scoring_method) for kind in DESCRIPTIONS}

    def server_mode(self, mode: bool) -> None:
        """Called when the web server starts, before it listens."""
        super().server_mode(mode)
        if mode:
            from lesion_label.server import secure_server

            secure_server(self, self.conf)
            for task in self._infers.values():
                threading.Thread(target=task.warm_up, daemon=True).start()

    def trainers(self) -> list[str]:
        """Names of what can be trained."""
        return list(self._trainers)

    def check_training(self, model: str, params: dict[str, Any]) -> None:
        """Raise MONAILabelException when this training cannot start: no such model, too few labels, bad parameters."""
        task = self._trainers.get(model)
        if task is None:
            raise invalid(f"there is no model {model!r} to train; there is {', '.join(self._trainers)}")
        reason = task.refusal(self.datastore())
        if reason:
            raise MONAILabelException(MONAILabelError.APP_TRAIN_FAILED, reason)
        task.options(params)

    def infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """MONAI Label's, on images of the datastore, uploads and sessions alone.

        Raises MONAILabelException: any other path.
        """
        datastore = datastore or self.datastore()
        image = request.get("image")
        if not isinstance(image, str):
            raise invalid("image: expected the id of an image of the datastore, or an upload")
        known = image in set(datastore.list_images())
        path = datastore.get_image_uri(image) if known else image
        if not known and not self._is_upload(path):
            raise invalid(f"image {os.path.basename(image)[:80]!r} is not in the datastore; add it, or send it as file")
        result = super().infer({**request, "image": path, "save_label": False}, datastore)
        if known and request.get("save_label") and result.get("file"):
            facts = {"model": request.get("model"), "params": result["params"]}
            result["label"] = datastore.save_label(image, result["file"], request.get("label_tag", "original"), facts)
        return result

    def _is_upload(self, path: str) -> bool:
        folders = [self.incoming.resolve()]
        if self.sessions() is not None:
            folders.append(Path(self.sessions().store_path).resolve())
        found = Path(path).resolve()
        return found.exists() and any(found.is_relative_to(folder) for folder in folders)

    def async_scoring(self, method: str | None, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """New scores after each sample, as MONAI Label wants them; a process only where there is something to score."""
        methods = [method] if method else list(self._scoring_methods)
        stale = [one for one in methods if self._scoring_methods[one].missing(self.datastore())]
        from monailabel.utils.async_tasks.utils import processes

        if not stale or processes("scoring") or processes("train"):
            return {}
        return {one: super(LesionApp, self).async_scoring(one, params) for one in stale}

    def _local_request(self, url: str, params: dict[str, Any] | None, action: str) -> Any:
        """MONAI Label's, with the token: a training process asks its server for new scores when it is done."""
        import requests
        from lesion_label.security import TOKEN_VARIABLE
        from monailabel.config import settings

        token = os.environ.get(TOKEN_VARIABLE, "")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        address = f"http://127.0.0.1:{settings.MONAI_LABEL_SERVER_PORT}{url}"
        try:
            response = requests.post(address, json=params or {}, headers=headers, timeout=60)
            response.raise_for_status()
        except requests.RequestException as error:  # a round that is done stays done
            logger.warning("%s could not be started by itself: %s", action, error)
            return None
        return response.json()

    def batch_infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """MONAI Label's; on a machine without GPU its default of several GPUs divides by zero."""
        import torch

        if torch.cuda.device_count() == 0:
            request = {**request, "multi_gpu": False}
        return super().batch_infer(request, datastore)


def _refuse_unknown(conf: dict[str, str]) -> None:
    from difflib import get_close_matches

    for key in conf:
        if key not in OPTIONS:
            near = get_close_matches(key, OPTIONS, n=1, cutoff=0.0)
            raise ValueError(f"--conf {key}: there is no such option; did you mean {near[0]} ({OPTIONS[near[0]]})?")
