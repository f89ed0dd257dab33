"""python -m scripts.package, and the zoo's verification replayed on what it writes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from monai.bundle.utils import load_bundle_config
from packages import NAME, files_of
from whole_run import BUNDLE, TINY

from scripts.package import build, zoo_checks
from scripts.package.__main__ import main
from scripts.package.archive import write_zip
from scripts.package.build import Options, build_package
from scripts.package.errors import PackageError
from scripts.package.metadata import schema_problems
from scripts.package.weights import pack_weights
from scripts.package.zoo_checks import ZooChecks

STEPS = (
    *("verify_net_in_out", "ckpt_export", "torch.jit.load"),
    *("train", "evaluate", "inference", "monai.bundle.load"),
)


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
    for name in ("LICENSE", "configs/evaluate.json", "scripts/networks/less_net.py"):
        assert files[name] == hashlib.sha256((BUNDLE / name).read_bytes()).hexdigest()
    assert [line for line in said if not line.startswith(("ok ", "   "))] == []


def test_the_configs_have_the_size_that_the_weights_were_trained_at(packaged: tuple[Path, list[str]]) -> None:
    output, said = packaged
    for name in ("inference", "next_frames", "train"):
        own, theirs = (
            json.loads((folder / "configs" / f"{name}.json").read_text()) for folder in (BUNDLE, output / NAME)
        )
        assert theirs == own | {"image_size": 64} != own
        assert any(f"configs/{name}.json: image_size is 64 here" in line for line in said)


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
