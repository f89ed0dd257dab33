"""Parts of an archive become one: tables in the order of the files, and nothing before all parts are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ignite.engine import Engine

from scripts.engines.shards import ShardError, ShardRecord, merge_shards, shard_dir
from scripts.io.writers import OutputError


def part(out: Path, number: int, count: int, results: list[str], failures: list[str] = (), settings: str = "a") -> Path:  # type: ignore[assignment]
    """A finished part with a mask for each row."""
    folder = shard_dir(out, number, count)
    (folder / "masks").mkdir(parents=True)
    (folder / "results.csv").write_text("".join(f"{row}\n" for row in ["file,share", *results]))
    for row in results:
        (folder / "masks" / f"{row.partition(',')[0].replace('/', '_')}.png").write_bytes(row.encode())
    if failures:
        (folder / "failures.csv").write_text("".join(f"{row}\n" for row in ["file,error", *failures]))
    record = {"shard": number, "shards": count, "frames": len(results), "config_sha256": settings}
    (folder / "shard.json").write_text(json.dumps(record))
    return folder


def test_tables_are_merged_in_the_order_of_the_files_and_frames_stay_in_theirs(tmp_path: Path) -> None:
    part(tmp_path, 0, 2, ["a.png,1", "sub/x.png,5"], ['sub.png,"broken, truncated"'])
    part(tmp_path, 1, 2, ["clip.mp4#2,2", "clip.mp4#10,3", "sub/b.png,4"], ["b.png,nothing"])
    with pytest.raises(SystemExit) as ended:
        merge_shards(tmp_path)
    assert ended.value.code == 3, "as inference ends where frames failed"
    # by parts of the path, as files are listed: the folder sub before the file sub.png
    rows = ["file,share", "a.png,1", "clip.mp4#2,2", "clip.mp4#10,3", "sub/b.png,4", "sub/x.png,5"]
    assert (tmp_path / "results.csv").read_text().splitlines() == rows
    assert (tmp_path / "failures.csv").read_text().splitlines() == [
        "file,error",
        "b.png,nothing",
        'sub.png,"broken, truncated"',
    ]
    assert len(list((tmp_path / "masks").iterdir())) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["failures.csv", "masks", "results.csv"]


def test_failures_may_be_allowed_and_old_ones_go(tmp_path: Path) -> None:
    part(tmp_path, 0, 1, ["a.png,1"], ["b.png,nothing"])
    merge_shards(tmp_path, allow_failures=True)
    part(tmp_path, 0, 1, ["a.png,1"])
    merge_shards(tmp_path)
    assert not (tmp_path / "failures.csv").exists()


def test_a_merge_that_was_stopped_goes_on(tmp_path: Path) -> None:
    folder = part(tmp_path, 0, 1, ["a.png,1", "b.png,2"])
    (tmp_path / "masks").mkdir()
    (folder / "masks" / "a.png.png").rename(tmp_path / "masks" / "a.png.png")
    merge_shards(tmp_path)
    assert {path.name for path in (tmp_path / "masks").iterdir()} == {"a.png.png", "b.png.png"}


def test_nothing_is_merged_before_all_parts_are_finished(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="holds no shard; run inference with multi_gpu_inference.json"):
        merge_shards(tmp_path)
    part(tmp_path, 0, 3, ["a.png,1"])
    unfinished = part(tmp_path, 2, 3, ["c.png,1"]) / "shard.json"
    unfinished.unlink()
    with pytest.raises(ShardError, match=r"2 of 3 shards are missing or unfinished: 0001_of_0003, 0002_of_0003; run"):
        merge_shards(tmp_path)
    assert not (tmp_path / "results.csv").exists() and not (tmp_path / "masks").exists()


def test_parts_of_another_run_are_refused(tmp_path: Path) -> None:
    part(tmp_path, 0, 2, ["a.png,1"])
    part(tmp_path, 1, 2, ["b.png,1"], settings="other")
    with pytest.raises(ShardError, match="0001_of_0002 in .*: settings other than those of the first; run these again"):
        merge_shards(tmp_path)
    part(tmp_path, 0, 3, ["a.png,1"])
    with pytest.raises(ShardError, match="holds shards of 0002 and of 0003; remove those of the other run"):
        merge_shards(tmp_path)


def test_a_merge_that_was_stopped_at_its_end_is_finished(tmp_path: Path) -> None:
    part(tmp_path, 0, 1, ["a.png,1"])
    merge_shards(tmp_path)
    left = tmp_path / ".partial-shards" / "0000_of_0001"
    left.mkdir(parents=True)
    merge_shards(tmp_path)
    assert not left.parent.exists() and (tmp_path / "results.csv").is_file()
    left.mkdir(parents=True)
    part(tmp_path, 0, 1, ["b.png,1"])
    merge_shards(tmp_path)
    assert not left.parent.exists() and "b.png" in (tmp_path / "results.csv").read_text()


def test_parts_of_two_networks_are_refused(tmp_path: Path) -> None:
    for number in range(2):
        path = part(tmp_path, number, 2, [f"{number}.png,1"]) / "shard.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"weights_sha256": f"of {number}"}))
    with pytest.raises(ShardError, match="0001_of_0002 in .*: another network than the first's; run these again"):
        merge_shards(tmp_path)


def test_a_shard_begins_with_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of it may be another shard's now, and their old masks would win in the merge."""
    monkeypatch.setattr("scripts.engines.shards.running_config", dict)
    folder = part(tmp_path, 0, 2, ["a.png,1"])
    engine = Engine(lambda engine, batch: None)
    ShardRecord(folder, 0, 2, 1, ["a.png"], "of these weights").attach(engine)
    engine.run([0])
    assert [path.name for path in folder.iterdir()] == ["shard.json"]
    assert json.loads((folder / "shard.json").read_text())["weights_sha256"] == "of these weights"


def test_nothing_is_merged_into_a_data_set(tmp_path: Path) -> None:
    part(tmp_path, 0, 1, ["a.png,1"])
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    with pytest.raises(OutputError, match="holds images/ and masks/, a data set"):
        merge_shards(tmp_path)


def test_parts_that_saw_other_files_are_refused(tmp_path: Path) -> None:
    """A file that comes between two starts moves others from one part to the other: some would be in neither."""
    for number, files in enumerate(("ab", "abc")):
        path = part(tmp_path, number, 2, [f"{number}.png,1"]) / "shard.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"files_sha256": files}))
    with pytest.raises(ShardError, match="0001_of_0002 in .*: files had come or gone.*run all of them again"):
        merge_shards(tmp_path)
    assert not (tmp_path / "results.csv").exists()
