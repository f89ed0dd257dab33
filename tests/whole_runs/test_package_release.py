"""Packages of the released weights, and of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from packages import NAME, edit, files_of, make_frame, state

from scripts.package import build, release
from scripts.package.build import Options, build_package
from scripts.package.errors import PackageError
from scripts.package.weights import pack_weights


@pytest.fixture
def released(bundle: Path, trained_run: Path) -> Path:
    """A bundle with weights in float16, their hashes, figures and terms, as after a release."""
    packed = pack_weights(trained_run / "model.pt", bundle, "given", [], "")
    half = pack_weights(trained_run / "model.pt", bundle, "float16", [make_frame(bundle.parent)], "a frame")
    (bundle / "models").mkdir()
    for name, data in half.files.items():
        (bundle / name).write_bytes(data)
    assert (packed.entry["storage"], half.entry["storage"]) == ("float32", "float16")
    edit(bundle / "configs" / "metadata.json", weights=half.entry, eval_metrics={"dice": 0.5}, training={"seed": 0})
    (bundle / "docs" / "data_license.txt").write_text("terms")
    make_frame(bundle.parent).replace(bundle / "docs" / "figures" / "failures.png")
    card = (bundle / "docs" / "README.md").read_text()
    part = card[card.rindex("<!-- released -->") : card.rindex("<!-- end released -->")]
    (bundle / "docs" / "README.md").write_text(card.replace(part, "<!-- released -->\nDice 0.5\n"))
    return bundle


def packed_from(
    bundle: Path, output: Path, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> tuple[dict[str, Any], set[str], str, list[str]]:
    """metadata.json, files, card and lines of a package; the zoo's checks are tried on the package above."""
    (output.parent / "checker.py").write_text("print('ok all')")
    monkeypatch.setattr(build, "CHECKER", output.parent / "checker.py")
    said: list[str] = []
    folder, _ = build_package(bundle, Options(output, **options), said.append)
    content = json.loads((folder / "configs" / "metadata.json").read_text())
    return content, set(files_of(folder)), (folder / "docs" / "README.md").read_text(), said


def test_the_released_weights_are_packaged_as_they_are_with_their_figures(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, files, card, _ = packed_from(released, tmp_path / "out", monkeypatch)
    own = json.loads((released / "configs" / "metadata.json").read_text())
    assert content == own and content["weights"]["parity"]["count"] == 1, "the parity measured at the release stays"
    assert {"models/model.pt", "models/model_companion.pt", "docs/data_license.txt"} <= files and "Dice 0.5" in card
    assert "was trained on\npolyps" in card
    shipped, kept = (files_of(folder) for folder in (tmp_path / "out" / NAME, released))
    assert shipped["models/model.pt"] == kept["models/model.pt"]


@pytest.mark.parametrize("given", [True, False])
def test_a_package_of_other_weights_has_none_of_the_figures_of_the_release(
    given: bool, released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(state(), tmp_path / "other.pt")
    options = {"weights": tmp_path / "other.pt"} if given else {"without_weights": True}
    content, files, card, said = packed_from(released, tmp_path / "out", monkeypatch, **options)
    assert not {"eval_metrics", "training"} & content.keys() and (content["weights"]["file"] is None) is not given
    assert "docs/data_license.txt" not in files and "Dice 0.5" not in card and "<!-- released -->" not in card
    assert "was trained on\npolyps" not in card and card.count(release.NOTE) == 2
    assert "docs/figures/failures.png" not in files
    named = "weights, eval_metrics, training, docs/data_license.txt, docs/figures/failures.png"
    assert f"   {named} are left out: they are about the weights of the release" in said


def test_weights_that_changed_since_the_release_are_refused(released: Path, tmp_path: Path) -> None:
    torch.save(state(), released / "models" / "model.pt")
    with pytest.raises(PackageError, match="weights#sha256 is .* put back the weights that the figures"):
        build_package(released, Options(tmp_path / "out"), lambda line: None)
