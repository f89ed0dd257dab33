"""parity.csv, which says of each export what it was made of."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

from scripts.data.fingerprints import file_sha256
from scripts.networks.backends import weights_in
from scripts.networks.checkpoints import CheckpointError

logger = logging.getLogger(__name__)
PARITY_FILE = "parity.csv"
COLUMNS = (
    *("format", "file", "megabytes", "frames", "dice", "lowest_dice", "probability_difference", "sha256"),
    *("checkpoint_sha256", "temperature"),
)


def kept_rows(folder: Path, made: Sequence[str]) -> list[dict[str, str]]:
    """Rows of an earlier export's parity.csv for formats that are not ``made`` anew, as long as their files are there.

    Without them nobody could tell what those exports were made of.
    """
    table = folder / PARITY_FILE
    if not table.is_file():
        return []
    with table.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if set(row) == set(COLUMNS)]
    return [row for row in rows if row["format"] not in made and (folder / row["file"]).is_file()]


def check_export(file: str | Path, checkpoint: str | Path) -> None:
    """Raise CheckpointError where an export was made of other weights than the checkpoint that it lies beside.

    A training that goes on writes another model.pt, and its exports stay as they were. The same where the export is not
    the one that parity.csv tells of. An export without a row in
    parity.csv is taken at its word; a temperature that is folded into it is logged.
    """
    file, table = Path(file), Path(file).with_name(PARITY_FILE)
    if not table.is_file():
        return
    with table.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["file"] == file.name and row.get("checkpoint_sha256")]
    for row in rows:
        if row["checkpoint_sha256"] != file_sha256(str(checkpoint)):
            raise CheckpointError(
                f"{file} was exported from other weights than those of {checkpoint} now: export it again by "
                "--config_file \"['configs/inference.json','configs/export.json']\"."
            )
        if row.get("sha256") and row["sha256"] != file_sha256(str(weights_in(file))):
            raise CheckpointError(
                f"{file} is not the export that {table.name} tells of: export it again, or remove it."
            )
        if float(row["temperature"]) != 1:
            logger.warning(
                "%s has the temperature %s in it: give no --temperature, or it counts twice.", file, row["temperature"]
            )
