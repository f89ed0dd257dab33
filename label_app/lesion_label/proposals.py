"""What the network found in a series, as a DICOM SEG that is sent back and not stored (infer with output=dicom_seg)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from fastapi import BackgroundTasks
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException

from lesion_label.dicom_seg import make_seg
from lesion_label.label_volume import read_label
from lesion_label.series import read_series


def write_proposal(
    series_dir: str, label: str, label_info: Any = None, file_ext: str = "*", use_itk: bool = True
) -> str:
    """Write a mask as a SEG of algorithm type AUTOMATIC -> path of a temporary file, which whoever sends it removes.

    The arguments are those of MONAI Label's nifti_to_dicom_seg: series_dir, folder of the series in the datastore;
    label, file of the mask. The others are not needed.

    Raises:
        MediaError: the series has no geometry.
        MONAILabelException: the mask is empty, and a SEG must have a segment.
    """
    series = read_series(Path(series_dir))
    mask = read_label(Path(label), series, f"mask of series {series.uid}")
    if not mask.any():
        message = f"no lesion was found in series {series.uid}, and a DICOM SEG cannot say so: ask for output=image"
        raise MONAILabelException(MONAILabelError.INFERENCE_ERROR, message)
    seg = make_seg(series, mask, algorithm="AUTOMATIC")
    with tempfile.NamedTemporaryFile(prefix="proposal-", suffix=".dcm", delete=False) as file:
        seg.save_as(file, write_like_original=False)
    return file.name


def propose_in_our_codes() -> None:
    """Let MONAI Label's infer endpoint write its SEG by `write_proposal`, and keep no file of it.

    0.8.5 removes the mask once it is sent, but not the SEG, which names the patient, nor the mask where there is no SEG
    to send.
    """
    import monailabel.endpoints.infer as endpoint

    send = endpoint.send_response

    def propose(series_dir: str, label: str, label_info: Any = None, **options: Any) -> str:
        try:
            return write_proposal(series_dir, label, label_info, **options)
        except Exception:
            Path(label).unlink(missing_ok=True)
            raise

    def send_and_remove(datastore: Any, result: dict[str, Any], output: Any, background_tasks: BackgroundTasks) -> Any:
        if proposal := result.get("dicom_seg"):
            background_tasks.add_task(Path(proposal).unlink, missing_ok=True)
        return send(datastore, result, output, background_tasks)

    endpoint.nifti_to_dicom_seg = propose
    endpoint.send_response = send_and_remove
