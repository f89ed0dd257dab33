"""python -m scripts.package, and the zoo's verification replayed on what it writes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle.utils import load_bundle_config
from PIL import Image
from whole_run import BUNDLE, TINY

from scripts.networks import LESSNet
from scripts.package import build, release, zoo_checks
from scripts.package.__main__ import main
from scripts.package.archive import write_zip
from scripts.package.build import Options, build_package
from scripts.package.errors import PackageError
from scripts.package.metadata import schema_problems
from scripts.package.weights import pack_weights
from scripts.package.zoo_checks import ZooChecks

NAME = "endoscopic_lesion_segmentation"
STEPS = (
    *("verify_net_in_out", "ckpt_export", "torch.jit.load"),
    *("train", "evaluate", "inference", "monai.bundle.load"),
)


def files_of(folder: Path) -> dict[str, str]:
    """Relative name -> hash of every file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def packaged(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Folder with the package of a tiny run's weights in float16 and its zip, and the lines of progress. Read only."""
    output = tmp_path_factory.mktemp("packages") / "a dist"
    said: list[str] = []
    folder, zipped = build_package(
        BUNDLE, Options(output, weights=trained_run / "model.pt", storage="float16"), said.append
    )
    assert (folder, zipped) == (output / NAME, output / f"{NAME}.zip")
    return output, said


def test_the_package_holds_what_the_zoo_needs_and_nothing_else(packaged: tuple[Path, list[str]]) -> None:
    output, said = packaged
    files = files_of(output / NAME)
    assert {path.name for path in output.iterdir()} == {NAME, f"{NAME}.zip"}, "nothing is left of the work"
    assert {"LICENSE", "configs/metadata.json", "configs/train.json", "configs/logging.conf", "docs/README.md"} <= set(
        files
    )
    assert {"models/model.pt", "models/model_companion.pt", "scripts/reports/template.html.j2"} <= set(files)
    assert {name.partition("/")[0] for name in files} == {"LICENSE", "configs", "docs", "models", "scripts"}
    assert not [name for name in files if "__pycache__" in name or "test_" in name or "/." in name]
    for name in ("LICENSE", "configs/train.json", "scripts/networks/less_net.py"):
        assert files[name] == hashlib.sha256((BUNDLE / name).read_bytes()).hexdigest()
    assert [line for line in said if not line.startswith(("ok ", "   "))] == []


def test_metadata_and_weights_belong_together(packaged: tuple[Path, list[str]], trained_run: Path) -> None:
    folder = packaged[0] / NAME
    entry = json.loads((folder / "configs" / "metadata.json").read_text())["weights"]
    files = files_of(folder)
    assert entry["sha256"] == {name: files[name] for name in ("models/model.pt", "models/model_companion.pt")}
    assert (entry["file"], entry["storage"], entry["parameters"]) == ("models/model.pt", "float16", 2_142_882)
    assert entry["parity"]["count"] == 16 and entry["parity"]["dice"] >= 0.999
    assert 0 < entry["parity"]["probability_difference"] < 0.05, "rounding is seen, and is small"
    run = torch.load(trained_run / "model.pt", weights_only=True)
    for name, key in (("model.pt", "model"), ("model_companion.pt", "companion")):
        stored = torch.load(folder / "models" / name, weights_only=True)
        assert stored.keys() == run[key].keys()
        for tensor, value in run[key].items():
            half = value.half() if value.is_floating_point() else value
            assert torch.equal(stored[tensor], half)


def test_links_out_of_the_bundle_are_plain_text(packaged: tuple[Path, list[str]]) -> None:
    source, shown = ((folder / "docs" / "inference.md").read_text() for folder in (BUNDLE, packaged[0] / NAME))
    assert "[OHIF was](../../label_app/docs/ohif.md)" in source
    assert "(OHIF was)" in shown and "label_app/docs" not in shown and "[results.md](results.md)" in shown


def test_the_same_input_gives_the_same_bytes(
    packaged: tuple[Path, list[str]], trained_run: Path, tmp_path: Path
) -> None:
    output, _ = packaged
    copy = tmp_path / "copy" / NAME
    shutil.copytree(output / NAME, copy)  # other times
    (copy / "LICENSE").chmod(0o600)
    write_zip(copy, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (output / f"{NAME}.zip").read_bytes()
    renamed = shutil.copy(trained_run / "model.pt", tmp_path / "other name.pt")
    first, second = (pack_weights(Path(one), BUNDLE, "float32", [], "") for one in (trained_run / "model.pt", renamed))
    assert first == second and first.files["models/model.pt"] != (trained_run / "model.pt").read_bytes()


def test_the_zoo_verifies_a_copy_elsewhere(packaged: tuple[Path, list[str]], frames_dir: Path, tmp_path: Path) -> None:
    """Unzipped under a path with spaces, read only, from another working directory."""
    zipped = packaged[0] / f"{NAME}.zip"
    place = tmp_path / "a model zoo"
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(place)
    before = files_of(place)
    for path in (place, *place.rglob("*")):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)
    script = Path(__file__).with_name("zoo_replay.py")
    scratch = tmp_path / "work here"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, "-P", script, place / NAME, zipped, frames_dir, scratch, json.dumps(TINY)],
        cwd=scratch, capture_output=True, text=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    passed = tuple(line.split()[1] for line in done.stdout.splitlines() if line.startswith("passed "))
    assert (done.returncode, passed) == (0, STEPS), done.stderr[-3000:]
    assert files_of(place) == before, "nothing is written into the bundle (a super-user could)"


def test_monai_reads_the_zip_itself(packaged: tuple[Path, list[str]]) -> None:
    parser = load_bundle_config(str(packaged[0] / f"{NAME}.zip"), "train.json")
    assert parser["network_def"]["preset"] == "lite" and parser["_meta_"]["weights"]["storage"] == "float16"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the bundle's folder without weights, to be spoilt."""
    left_out = shutil.ignore_patterns("runs", "models", "__pycache__")
    return Path(shutil.copytree(BUNDLE, tmp_path / "bundle", ignore=left_out))


def edit(path: Path, **changes: Any) -> None:
    """Change entries of a JSON file, by their path with # between names; None removes one."""
    content = json.loads(path.read_text())
    for name, value in changes.items():
        *parents, last = name.split("#")
        place = content
        for parent in parents:
            place = place[parent]
        place.pop(last) if value is None else place.__setitem__(last, value)
    path.write_text(json.dumps(content))


def spoil_metadata(**changes: Any) -> Callable[[Path], None]:
    return lambda bundle: edit(bundle / "configs" / "metadata.json", **changes)


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


def make_frame(folder: Path) -> Path:
    """A picture to compare weights on."""
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "frame.png")
    return folder / "frame.png"


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


def state(**options: Any) -> dict[str, torch.Tensor]:
    return LESSNet(encoder_weights="none", **options).state_dict()


def spoilt(name: str, value: float) -> dict[str, torch.Tensor]:
    content = state()
    content[name] = torch.full_like(content[name], value)
    return content


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


def checks_of(package: Path, scratch: Path, content: Any = None) -> ZooChecks:
    """The zoo's checks in this process, on a spoilt copy with weights that fit, or with ``content``."""
    (package / "models").mkdir()
    torch.save(state() if content is None else content, package / "models" / "model.pt")
    scratch.mkdir()
    return ZooChecks(package, scratch)


def test_other_channels_than_declared_are_found(bundle: Path, tmp_path: Path) -> None:
    pred = "network_data_format#outputs#pred#"
    spoil_metadata(**{f"{pred}num_channels": 3, f"{pred}channel_def#2": "vessel"})(bundle)
    with pytest.raises(ValueError, match="output channel number `2` doesn't match: `3`"):
        checks_of(bundle, tmp_path / "work").shapes()


def test_weights_under_a_key_are_found(bundle: Path, tmp_path: Path) -> None:
    """The zoo names no key: MONAI's load takes such a file in silence and leaves the network random."""
    checks = checks_of(bundle, tmp_path / "work", {"model": state()})
    with pytest.raises(RuntimeError, match="Missing key"):
        checks.torchscript()
    with pytest.raises(KeyError):
        checks.loading()


def test_a_torchscript_that_differs_is_found(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = checks_of(bundle, tmp_path / "work")
    monkeypatch.setattr(zoo_checks, "TOLERANCE", -1.0)  # no difference is that small
    with pytest.raises(ValueError, match="logits of the TorchScript differ"):
        checks.torchscript()


@pytest.mark.parametrize(
    ("layers", "spoil", "message"),
    [
        (("train", "train"), lambda config: config["train"].pop("inferer"), "train::inferer"),
        (("inference", "inference"), lambda config: config.pop("inferer"), "inferer"),
        (("train", "train", "evaluate"), lambda config: config.update({"train#inferer": "@nothing"}), "nothing"),
    ],
)
def test_missing_properties_are_found(
    layers: tuple[str, ...], spoil: Callable[[dict[str, Any]], Any], message: str, bundle: Path, tmp_path: Path
) -> None:
    file = bundle / "configs" / f"{layers[-1]}.json"
    content = json.loads(file.read_text())
    spoil(content)
    file.write_text(json.dumps(content))
    with pytest.raises(Exception, match=message):
        checks_of(bundle, tmp_path / "work").properties(*layers)


def test_a_network_that_cannot_be_made_is_reported(bundle: Path, tmp_path: Path) -> None:
    edit(bundle / "configs" / "inference.json", **{"network_def#_target_": "scripts.networks.NoSuchNetwork"})
    lines = io.StringIO()
    (tmp_path / "work").mkdir()
    zoo_checks.run_checks(bundle, tmp_path / "work", lines)
    (line,) = lines.getvalue().splitlines()
    assert line.startswith("failed network_def: ") and "NoSuchNetwork" in line


@pytest.mark.parametrize(
    ("checker", "problem"),
    [
        ("print('ok one'); print('failed two: no such id')", "two: no such id: correct the config"),
        ("print('ok one'); raise SystemExit('killed')", "ended with exit code 1 (killed)"),
        ("", "ended with exit code 0"),
    ],
)
def test_what_the_checks_find_refuses_the_package(
    checker: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checks are a process of their own, here one that says what it is told to."""
    (tmp_path / "checker.py").write_text(checker)
    monkeypatch.setattr(build, "CHECKER", tmp_path / "checker.py")
    assert main(["--output", str(tmp_path / "out"), "--without_weights"]) == 1
    printed = capsys.readouterr().out
    assert "REFUSED, nothing was written. What is wrong (1):" in printed and problem in printed
    assert not list((tmp_path / "out").iterdir())


def test_a_package_without_weights_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What runs it is tried on the package with weights; here the shape check and the loading alone."""
    (tmp_path / "checker.py").write_text("print('ok all')")
    monkeypatch.setattr(build, "CHECKER", tmp_path / "checker.py")
    for _ in ("new", "in the place of the old one"):
        assert main(["--output", str(tmp_path / "dist"), "--without_weights"]) == 0
        assert f"{tmp_path / 'dist' / NAME}.zip (" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "dist").iterdir()} == {NAME, f"{NAME}.zip"}
    folder = tmp_path / "dist" / NAME
    entry = json.loads((folder / "configs" / "metadata.json").read_text())["weights"]
    assert entry["file"] is None and "holds no weights" in entry["note"] and not (folder / "models").exists()
    (tmp_path / "work").mkdir()
    checks = ZooChecks(folder, tmp_path / "work")
    checks.shapes()
    with pytest.raises(zoo_checks.Skipped, match="holds no weights"):
        checks.loading()


def test_the_command_refuses_with_the_list_and_the_exit_code(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "thesis.txt").write_text("mine")
    out = tmp_path / "out"
    for arguments, message in (
        (["--output", str(out)], "models/model.pt is missing: give --weights"),
        (["--output", str(out), "--without_weights", "--weights", "x.pt"], "were both given"),
        (["--output", str(tmp_path), "--without_weights"], "is there and is no package"),
        (["--output", str(bundle / "configs"), "--without_weights"], "is a folder that is shipped"),
        (["--output", str(out), "--without_weights", "--schema", str(tmp_path / "no.json")], "no.json does not exist"),
    ):
        assert main(arguments, bundle) == 1
        printed = capsys.readouterr().out
        assert "REFUSED, nothing was written. What is wrong (1):" in printed and message in printed
    assert (tmp_path / NAME / "thesis.txt").read_text() == "mine"
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0 and "Nothing is written when one fails" in capsys.readouterr().out


def test_a_package_is_not_replaced_by_itself(bundle: Path, tmp_path: Path) -> None:
    """A package can be packaged again, but not onto itself."""
    bundle = bundle.rename(tmp_path / NAME)
    with pytest.raises(PackageError, match="would replace the bundle itself"):
        build_package(bundle, Options(tmp_path, without_weights=True), lambda line: None)


def test_a_schema_file_is_asked_too(tmp_path: Path) -> None:
    pytest.importorskip("jsonschema", reason="the optional extra for packaging is not installed")
    schema = tmp_path / "schema.json"
    for kind, expected in (("string", []), ("number", ["configs/metadata.json does not fit the schema schema.json"])):
        schema.write_text(json.dumps({"type": "object", "properties": {"task": {"type": kind}}}))
        (tmp_path / kind).mkdir()
        found = schema_problems(BUNDLE, schema, tmp_path / kind)
        assert [problem[: len(expected[0])] for problem in found] == expected
