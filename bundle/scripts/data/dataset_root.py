"""Which data set a run works on when it is named, and when it is not."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch.distributed as dist

from scripts.data.processes import rank

logger = logging.getLogger(__name__)

SAMPLE_DIR = "sample_dataset"  # below the working directory, when no sample_dir is given


def dataset_root(
    dataset_dir: str | os.PathLike[str] | None, sample_dir: str | os.PathLike[str] | None
) -> tuple[Path, bool]:
    """The folder or file to read, and whether it is the sample set.

    Args:
        dataset_dir: None or "" for the folder that MONAI_LABEL_STUDIES names, else the sample set in `sample_dir`.
    """
    dataset_dir = dataset_dir or studies_of_the_server()
    if dataset_dir:
        return Path(os.path.expanduser(str(dataset_dir))), False
    return _make_sample(sample_dir or SAMPLE_DIR), True


def studies_of_the_server() -> str:
    """The folder that MONAI_LABEL_STUDIES names, "" where it is unset or no folder of this machine (a DICOMweb URL)."""
    studies = os.environ.get("MONAI_LABEL_STUDIES", "")
    if not studies or not Path(studies).is_dir():
        return ""
    logger.info("no dataset_dir given: using %s, the folder that MONAI_LABEL_STUDIES names", studies)
    return studies


def _make_sample(directory: str | os.PathLike[str]) -> Path:
    """Generate the sample set once; other ranks wait for the first."""
    from scripts.data.sample import make_sample_dataset  # only where it is wanted: it draws pictures

    logger.warning(
        "no dataset_dir given: using the built-in SAMPLE set of drawn frames in %s; its figures say nothing about "
        "endoscopy. Give your own data with --dataset_dir",
        directory,
    )
    together = dist.is_available() and dist.is_initialized()
    if together and rank() != 0:
        dist.barrier()
    made = Path(make_sample_dataset(directory))
    if together and rank() == 0:
        dist.barrier()
    return made
