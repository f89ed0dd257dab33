"""Fine-tuned weights: one file a round of training, one of them current, the release untouched."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.data.fingerprints import file_sha256
from scripts.data.seen_frames import follow_manifest
from scripts.io.atomic import replacing, write_text

RELEASE = "release"
CURRENT = "current"
NONE = "none"
_ROUND = re.compile(r"round_(\d+)")  # all of a round's name: a copy (round_001_best.pt) is none


class WeightsError(ValueError):
    """No such weights; the message lists those that there are."""


class WeightsStore:
    """A folder of round_001.pt, round_002.pt, ... and current.json that names one of them.

    Beside each lie round_001.json, its facts, and round_001.manifest.json, the frames that it has learnt from.

    Args:
        folder: made when the first round is published.
        release: the weights the bundle came with; may be missing, is never written.
    """

    def __init__(self, folder: str | Path, release: str | Path) -> None:
        self.folder = Path(folder)
        self.release = Path(release)

    def names(self) -> list[str]:
        """What can be chosen: rounds, the newest first, then "release" if there is one."""
        rounds = [name for _, name in sorted(self._rounds(), reverse=True)]
        return rounds + ([RELEASE] if self.release.is_file() else [])

    def _rounds(self) -> list[tuple[int, str]]:
        """Number and name of each round."""
        found = (_ROUND.fullmatch(path.stem) for path in self.folder.glob("round_*.pt"))
        return [(int(name[1]), name[0]) for name in found if name]

    def current(self) -> str | None:
        """Name of the weights in use; None where there are none at all."""
        names = self.names()
        try:
            chosen = json.loads((self.folder / "current.json").read_text(encoding="utf-8"))["name"]
        except (FileNotFoundError, ValueError, KeyError):
            chosen = None
        return chosen if chosen in names else next(iter(names), None)

    def resolve(self, name: str = CURRENT) -> str:
        """The name of the weights meant by ``name``, which may be "current". Raises WeightsError: no such."""
        wanted = self.current() if name in (CURRENT, "") else name
        if wanted is None:
            raise WeightsError(
                f"there are no weights yet: neither {self.release} nor a trained round in {self.folder}. Save a few "
                "labels and train, or start the server with --conf weights FILE"
            )
        if wanted not in self.names():
            raise WeightsError(f"no weights {wanted!r}; there are {', '.join([CURRENT, *self.names()])}")
        return wanted

    def path(self, name: str = CURRENT) -> Path:
        """The file of the weights ``name``, or of the current ones. Raises WeightsError."""
        wanted = self.resolve(name)
        return self.release if wanted == RELEASE else self.folder / f"{wanted}.pt"

    def use(self, name: str) -> None:
        """Make ``name`` current: the way back to an earlier round or to the release. Raises WeightsError."""
        name = self.resolve(name)
        write_text(self.folder / "current.json", json.dumps({"name": name, "since": _now()}, indent=4))

    def publish(self, checkpoint: str | Path, facts: dict[str, Any]) -> str:
        """Copy a trained model.pt into the next round, facts and manifest beside it, and make it current -> its name.

        Later rounds are told by the manifest what may not measure them. It holds the frames of the rounds before it,
        too: those of "start_from" of the facts.
        """
        name = f"round_{max((number for number, _ in self._rounds()), default=0) + 1:03d}"
        manifest, start = Path(checkpoint).with_name("manifest.json"), facts.get("start_from", NONE)
        if manifest.is_file():
            target = self.folder / f"{name}.manifest.json"
            follow_manifest(manifest, target, None if start == NONE else self.path(start))
        with replacing(self.folder / f"{name}.pt") as temporary:
            shutil.copyfile(checkpoint, temporary)
        digest = file_sha256(str(self.folder / f"{name}.pt"))
        facts = {"name": name, "made": _now(), "sha256": digest, **facts}
        write_text(self.folder / f"{name}.json", json.dumps(facts, indent=4))
        self.use(name)
        return name

    def describe(self) -> dict[str, Any]:
        """{"current": name, "available": [{"name", "made", "labels", "val_dice", ...}]}."""
        found = []
        for name in self.names():
            facts = self.folder / f"{name}.json"
            found.append(json.loads(facts.read_text(encoding="utf-8")) if facts.is_file() else {"name": name})
        return {"current": self.current(), "available": found}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def main() -> None:
    """Show the weights of a folder, or choose one: ``python -m lesion_label.weights FOLDER [--use NAME]``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder")
    parser.add_argument("--release", default="", help="the bundle's models/model.pt")
    parser.add_argument("--use", default="", help="make these the current weights")
    arguments = parser.parse_args()
    store = WeightsStore(arguments.folder, arguments.release or Path(arguments.folder) / "no_release.pt")
    if arguments.use:
        store.use(arguments.use)
    print(json.dumps(store.describe(), indent=4))


if __name__ == "__main__":
    main()
