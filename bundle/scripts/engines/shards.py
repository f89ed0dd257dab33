"""A large archive in parts: each process writes its part into a folder of its own, then the parts become one."""

from __future__ import annotations

import csv
import heapq
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from ignite.engine import Engine, Events

from scripts.engines.frame_results import EXIT_FAILURES, FAILURES_FILE, refuse_data_set
from scripts.engines.overrides import running_config
from scripts.io.atomic import PARTIAL, replacing, write_text
from scripts.io.frame_address import split_address
from scripts.io.provenance import hash_config

logger = logging.getLogger(__name__)

FOLDER, RECORD = "shards", "shard.json"
#: ids that may differ between the shards of one archive
OF_ONE_SHARD = ("shard", "device", "dataset_dir", "checkpoint", "output_dir", "bundle_root", "batch_size")

#: what all shards of an archive have in common, and what is said of those that differ from the first
_SAME = {
    "config_sha256": "settings other than those of the first; run these again",
    "weights_sha256": "another network than the first's; run these again",
    "files_sha256": "files had come or gone since the first was begun, so that some are in no shard; run all of them "
    "again",
}


class ShardError(ValueError):
    """The shards are not all there, or not of one archive."""


def shard_dir(output_dir: str | Path, shard: int, shards: int) -> Path:
    """Folder of part ``shard`` (from 0) of ``shards``."""
    return Path(output_dir) / FOLDER / f"{shard:04d}_of_{shards:04d}"


class ShardRecord:
    """Handler for an evaluator, after the one that writes: shard.json appears when everything else is there.

    Args:
        folder: of the shard.
        shard, shards: its number, from 0, and how many there are.
        frames: of the shard.
        files: of the whole archive: shards that saw another listing would leave files out without a word.
        weights_sha256: of the network; where it lies may differ from machine to machine.
    """

    def __init__(
        self,
        folder: str | Path,
        shard: int,
        shards: int,
        frames: int,
        files: Sequence[str] = (),
        weights_sha256: str = "",
    ) -> None:
        self.path = Path(folder) / RECORD
        settings = {name: value for name, value in running_config().items() if name not in OF_ONE_SHARD}
        self.record = {
            "shard": shard,
            "shards": shards,
            "frames": frames,
            "config_sha256": hash_config(json.loads(json.dumps(settings, default=str))),
            "files_sha256": hash_config({"files": list(files)}),
            "weights_sha256": weights_sha256,
        }

    def attach(self, engine: Engine) -> None:
        """Register the handler."""
        engine.add_event_handler(Events.STARTED, lambda engine: self._empty())
        engine.add_event_handler(
            Events.COMPLETED, lambda engine: write_text(self.path, json.dumps(self.record, indent=1) + "\n")
        )

    def _empty(self) -> None:
        """Take away what an earlier run left here: of files that are another shard's now it would win in the merge.

        Raises:
            OutputError: the merge would write into a data set.
        """
        refuse_data_set(self.path.parents[2])
        for path in self.path.parent.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def merge_shards(output_dir: str | Path, allow_failures: bool = False) -> None:
    """Put the parts below ``output_dir`` together there, as one process would have written them.

    Files are moved, tables merged in the order of the files, and the parts' folders removed last: a merge that was
    stopped goes on by the same command. Ends with exit code 3 if frames failed, as inference does.

    Args:
        allow_failures: only say so.

    Raises:
        ShardError: no part, one that is missing or unfinished, or parts of other settings or weights.
        OutputError: ``output_dir`` is a data set.
    """
    output_dir = Path(output_dir)
    done = output_dir / f"{PARTIAL}{FOLDER}"
    if done.is_dir():  # a merge was stopped while it removed what it had moved
        shutil.rmtree(done)
        if not (output_dir / FOLDER).is_dir():
            logger.info("%s: the shards were merged before", output_dir)
            return
    parts = _finished_parts(output_dir / FOLDER)
    refuse_data_set(output_dir)
    tables = sorted({path.name for part in parts for path in part.glob("*.csv")})
    for part in parts:
        for path in sorted(part.rglob("*")):
            if path.is_file() and path.parent != part:
                target = output_dir / path.relative_to(part)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
    rows = {name: _merge_tables([part / name for part in parts], output_dir / name) for name in tables}
    if FAILURES_FILE not in tables:
        (output_dir / FAILURES_FILE).unlink(missing_ok=True)  # of an earlier run into the same folder
    os.replace(output_dir / FOLDER, done)  # renamed first: half removed, they would be taken for unfinished ones
    shutil.rmtree(done)
    counts = ", ".join(f"{name}: {count} rows" for name, count in rows.items())
    logger.info("%d shards merged into %s (%s)", len(parts), output_dir, counts)
    if failed := rows.get(FAILURES_FILE):
        logger.error("%d frames or files could not be read; they are listed in %s", failed, output_dir / FAILURES_FILE)
        if not allow_failures:
            raise SystemExit(EXIT_FAILURES)


def _finished_parts(folder: Path) -> list[Path]:
    """Folders of all parts, in their order. Raises ShardError."""
    parts = sorted(path for path in folder.glob("*_of_*") if path.is_dir())
    if not parts:
        raise ShardError(f"{folder} holds no shard; run inference with multi_gpu_inference.json into this output_dir")
    counts = sorted({part.name.rpartition("_")[2] for part in parts})
    if len(counts) > 1:
        raise ShardError(f"{folder} holds shards of {' and of '.join(counts)}; remove those of the other run")
    count = int(counts[0])
    expected = [shard_dir(folder.parent, number, count) for number in range(count)]
    if missing := [path.name for path in expected if not (path / RECORD).is_file()]:
        raise ShardError(
            f"{len(missing)} of {count} shards are missing or unfinished: {', '.join(missing[:10])}; run each again by "
            f"--shard N --shards {count}"
        )
    records = [json.loads((path / RECORD).read_text(encoding="utf-8")) for path in expected]
    for key, fault in _SAME.items():
        values = [record.get(key) for record in records]
        if other := [path.name for path, value in zip(expected, values, strict=True) if value != values[0]]:
            raise ShardError(f"{', '.join(other)} in {folder}: {fault}")
    return expected


def _merge_tables(paths: list[Path], target: Path) -> int:
    """Rows of CSV files of one header, each in the order of its files, as one; returns how many."""
    paths = [path for path in paths if path.is_file()]
    with replacing(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        readers = [_rows(path) for path in paths]
        headers = [next(reader) for reader in readers]
        if any(header != headers[0] for header in headers):
            raise ShardError(f"{target.name}: shards have other columns; were they made by one version?")
        writer.writerow(headers[0])
        count = 0
        for row in heapq.merge(*readers, key=lambda row: PurePosixPath(split_address(row[0])[0]).parts):
            writer.writerow(row)
            count += 1
    return count


def _rows(path: Path) -> Iterator[list[str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        yield from csv.reader(stream)
