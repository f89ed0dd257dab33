"""What python -m scripts.package refuses before it asks the zoo's checks: files, metadata, weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from packages import edit, make_frame, spoil_metadata, spoilt, state
from whole_run import BUNDLE

from scripts.package.build import Options, build_package
from scripts.package.errors import PackageError
from scripts.package.weights import pack_weights


def add(name: str, size: int = 1) -> Callable[[Path], None]:
    return lambda bundle: (bundle / name).write_bytes(b"x" * size) and None


def new_version(bundle: Path) -> None:
    """A bundle in its repository, whose changelog and project were forgotten."""
    edit(bundle / "configs" / "metadata.json", version="0.2.0", changelog={"0.1.0": "a", "0.2.0": "b"})
    for name in ("CHANGELOG.md", "pyproject.toml"):
        shutil.copy(BUNDLE.parent / name, bundle.parent)


@pytest.mark.parametrize(
    ("spoil", "messages"),
    [
        (lambda bundle: (bundle / "LICENSE").unlink(), ["LICENSE is missing"]),
        (lambda bundle: (bundle / "docs" / "README.md").unlink(), ["docs/README.md is missing"]),
        (add("notes.txt"), ["notes.txt is a stray file"]),
        (add("scripts/metrics/test_dice.py"), ["scripts/metrics/test_dice.py is a stray file"]),
        (add("scripts/data/table.csv"), ["scripts/data/table.csv is a stray file"]),
        (lambda bundle: (bundle / "docs" / "x.md").symlink_to("README.md"), ["docs/x.md is a link"]),
        (add("docs/figures/huge.png", 1_000_001), ["docs/figures/huge.png has 1.0 MB, at most 1 MB"]),
        (lambda bundle: (bundle / "docs" / "x.md").write_text("[a](no.md#b)"), ["docs/x.md links to no.md#b"]),
        (spoil_metadata(version="0.3.0"), ["version 0.3.0 has no entry in changelog"]),
        (spoil_metadata(**{"changelog#0.10.0": "x"}), ["version is 0.1.0, the newest entry of changelog is 0.10.0"]),
        (spoil_metadata(version="1.0"), ["version '1.0' is not like 1.2.3"]),
        (new_version, ["pyproject.toml: version is 0.1.0, metadata.json has 0.2.0", "newest heading is 0.1.0"]),
        (spoil_metadata(task=None, authors=3), ["task is missing", "authors is 3, expected text"]),
        (spoil_metadata(schema=""), ["schema is '', expected text"]),
        (spoil_metadata(pytorch_version="2.15.0+cu132"), ["the version of pytorch_version is '2.15.0+cu132'"]),
        (spoil_metadata(**{"required_packages_version#timm": ">=1"}), ["the version of timm is '>=1'"]),
        (spoil_metadata(**{"network_data_format#outputs#pred": None}), ["has no outputs#pred"]),
        (spoil_metadata(**{"network_data_format#inputs#image#dtype": None}), ["inputs#image#dtype is missing"]),
        (spoil_metadata(**{"network_data_format#inputs#image#num_channels": "3"}), ["num_channels is '3', expected a"]),
        (spoil_metadata(**{"network_data_format#outputs#pred#num_channels": 3}), ["channel_def names 2"]),
        (lambda bundle: (bundle / "configs" / "metadata.json").write_text("{"), ["metadata.json cannot be read"]),
    ],
)  # fmt: skip
def test_what_is_refused(
    spoil: Callable[[Path], None], messages: list[str], bundle: Path, trained_run: Path, tmp_path: Path
) -> None:
    spoil(bundle)
    with pytest.raises(PackageError) as refused:
        build_package(bundle, Options(tmp_path / "out", weights=trained_run / "model.pt"), lambda line: None)
    for message in messages:
        assert any(message in problem for problem in refused.value.problems), refused.value.problems
    assert len(refused.value.problems) == len(messages)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("content", "storage", "message"),
    [
        (None, "float32", "weight file .* does not exist"),
        ({"epoch": 1}, "float32", "holds no state dict"),
        (lambda: state(preset="lite_mobilevit_xxs"), "float32", "has shape|is of another network"),
        (lambda: {"model": state(), "companion": {}}, "float32", "companion"),
        (lambda: spoilt("normalize.mean", float("nan")), "float32", "normalize.mean is not finite in float32"),
        (lambda: spoilt("normalize.mean", 1e6), "float16", "normalize.mean is not finite in float16"),
    ],
)  # fmt: skip
def test_weights_that_are_refused(content: Any, storage: str, message: str, tmp_path: Path) -> None:
    if content is not None:
        torch.save(content() if callable(content) else content, tmp_path / "model.pt")
    with pytest.raises(PackageError, match=message):
        pack_weights(tmp_path / "model.pt", BUNDLE, storage, [], "")


def test_float16_that_changes_masks_is_refused(tmp_path: Path) -> None:
    """2049 is 2048 in float16: what was lesion everywhere is nowhere."""
    content = spoilt("head.weight", 0)
    content["head.bias"] = torch.tensor([2048.0, 2049.0])
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(PackageError, match="mean Dice of 0.0000 with those by the given ones on my frames"):
        pack_weights(tmp_path / "model.pt", BUNDLE, "float16", [make_frame(tmp_path)], "my frames")
