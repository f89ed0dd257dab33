"""The DICOMweb datastore with a real Orthanc: what is listed, fetched, stored as SEG and read back."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from label_app_helpers import MODEL, Server, free_port, until
from make_dicom import SOP_CLASSES, pictures, write_dicom
from orthanc_server import Orthanc, Worker, require_orthanc
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.uid import JPEGBaseline8Bit, generate_uid

from scripts.io.dicom_codes import SegAlgorithm
from scripts.io.dicom_reader import DicomFile
from scripts.io.dicom_seg import write_seg
from scripts.io.geometry_copies import add_geometry_folder

HEIGHT, WIDTH = 24, 40
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI affine of a picture at the origin, 1 mm
KINDS = {"one": 1, "series": 3, "multi-frame": 4}  # frames
SECRETS = ("Secret", "SECRET-ID", "19700101")


@dataclass
class Archive:
    """An Orthanc with one series of each of KINDS without geometry, and a datastore on it."""

    server: Orthanc
    worker: Worker
    folder: Path
    uids: dict[str, str]  # kind -> Series Instance UID

    def open(self, cache: Path) -> Path:
        """Make a new datastore with its cache there -> its folder."""
        return Path(self("open", f"{self.server.url}/dicom-web", str(cache)))

    def ask(self, call: str, *arguments: Any) -> dict[str, Any]:
        """Call the datastore -> {"result"} or {"error", "message"}."""
        return self.worker.ask(self.server.url, call, *arguments)

    def __call__(self, call: str, *arguments: Any) -> Any:
        """Call the datastore -> the result. Fails on an error."""
        answer = self.ask(call, *arguments)
        assert "result" in answer, answer
        return answer["result"]


def write_originals(folder: Path) -> dict[str, str]:
    """One picture, a series of three (numbers 5, 7, 9; names in another order), a multi-frame JPEG -> their UIDs."""
    uids = {kind: str(generate_uid()) for kind in KINDS}
    frames = pictures(4, HEIGHT, WIDTH)
    write_dicom(folder / "one.dcm", frames[:1], SeriesInstanceUID=uids["one"])
    study = generate_uid()
    for name, number, frame in (("c", 5, 0), ("a", 7, 1), ("b", 9, 2)):
        write_dicom(
            folder / f"{name}.dcm",
            frames[frame : frame + 1],
            SeriesInstanceUID=uids["series"],
            StudyInstanceUID=study,
            InstanceNumber=str(number),
        )
    write_dicom(
        folder / "film.dcm",
        frames,
        sop_class=SOP_CLASSES["Multi-frame True Color SC"][0],
        syntax=JPEGBaseline8Bit,
        photometric="YBR_FULL_422",
        SeriesInstanceUID=uids["multi-frame"],
    )
    return uids


@pytest.fixture(scope="module")
def worker(label_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One process for all tests: it needs seconds to start."""
    require_orthanc()
    started = Worker(label_python, tmp_path_factory.mktemp("worker"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def originals(worker: Worker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """Pictures without geometry on a server. Read only."""
    yield from make_archive(worker, tmp_path_factory.mktemp("originals"), geometry=False)


@pytest.fixture(scope="module")
def copies(worker: Worker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """The same, and their copies with made-up geometry on the same server; `uids` are those of the copies."""
    yield from make_archive(worker, tmp_path_factory.mktemp("copies"), geometry=True)


def make_archive(worker: Worker, folder: Path, geometry: bool) -> Iterator[Archive]:
    (folder / "in").mkdir()
    uids = write_originals(folder / "in")
    paths = sorted((folder / "in").iterdir())
    if geometry:
        add_geometry_folder(folder / "in", folder / "out")
        paths += sorted((folder / "out").glob("*.dcm"))
        names = {"one": "one", "series": "a", "multi-frame": "film"}
        uids = {kind: str(dcmread(folder / "out" / f"{name}.dcm").SeriesInstanceUID) for kind, name in names.items()}
    server = Orthanc(folder)
    try:
        for path in paths:
            server.store(path)
        archive = Archive(server, worker, folder, uids)
        archive.open(folder / "cache")
        yield archive
    finally:
        server.stop()


def drawn_mask(frames: int) -> np.ndarray:
    """(frames, H, W) 0/1: an L that looks different mirrored and turned, elsewhere in each frame; frame 0 is empty
    when there are several."""
    mask = np.zeros((frames, HEIGHT, WIDTH), np.uint8)
    for index in range(1 if frames > 1 else 0, frames):
        mask[index, 2 + index : 12 + index, 5:8] = 1
        mask[index, 10 + index : 12 + index, 5 : 15 + 2 * index] = 1
    return mask


def save_nifti(path: Path, mask: np.ndarray, affine: np.ndarray = LPS) -> str:
    """(frames, H, W) -> a NIfTI file, axes (W, H, frames)."""
    nib.save(nib.Nifti1Image(np.ascontiguousarray(mask.T), affine), path)
    return str(path)


def read_nifti(path: str) -> np.ndarray:
    """Label file -> (frames, H, W), RGB volume -> (frames, H, W, 3); and it must lie as pictures do."""
    volume = nib.load(path)
    assert np.allclose(volume.affine, LPS)
    data = np.asarray(volume.dataobj)
    if data.dtype.names or data.ndim == 5:
        data = data.reshape(*data.shape[:3], -1) if data.ndim == 5 else np.stack([data[c] for c in "RGB"], -1)
        return data.reshape(data.shape[0], data.shape[1], -1, 3).transpose(2, 1, 0, 3)
    return data.reshape(*data.shape[:2], -1).T


def seg_of(archive: Archive, image: str) -> Dataset:
    """The newest SEG of a series on the server."""
    found = [
        seg
        for seg in archive.server.datasets("SEG").values()
        if seg.ReferencedSeriesSequence[0].SeriesInstanceUID == image
    ]
    return max(found, key=lambda seg: (seg.ContentDate, seg.ContentTime))


def test_all_colour_modalities_are_listed(originals: Archive) -> None:
    listed = originals("list_images")
    assert sorted(listed) == sorted(originals.uids.values())  # ES, ES, OT; 0.8.5 asks for CT alone
    assert sorted(originals("get_unlabeled_images")) == sorted(listed)
    assert originals("get_labeled_images") == []


@pytest.mark.parametrize("kind", KINDS)
def test_without_geometry_the_error_names_the_cure(originals: Archive, tmp_path: Path, kind: str) -> None:
    label = save_nifti(tmp_path / "label.nii.gz", drawn_mask(KINDS[kind]))
    answer = originals.ask("save_label", originals.uids[kind], label, "final", {})
    assert answer["error"] == "MediaError"
    assert "FrameOfReferenceUID, PixelSpacing" in answer["message"] and "add_geometry.json" in answer["message"]
    assert originals.server.datasets("SEG") == {} and originals("get_labeled_images") == []
    # what a network proposes is kept without a SEG, so needs no geometry
    assert originals("save_label", originals.uids[kind], label, "original", {}) == originals.uids[kind]
    assert (read_nifti(originals("get_label_uri", originals.uids[kind], "original")) > 0).any()


@pytest.mark.parametrize("archive", ["originals", "copies"])
@pytest.mark.parametrize("kind", KINDS)
def test_pictures_arrive_upright_in_order_and_colour(archive: str, kind: str, request: pytest.FixtureRequest) -> None:
    found: Archive = request.getfixturevalue(archive)
    volume = read_nifti(found("get_image_uri", found.uids[kind]))
    if kind == "multi-frame":
        with DicomFile(found.folder / "in" / "film.dcm") as film:
            expected = np.stack([film.frame(index) for index in range(len(film))])
        (fetched,) = Path(found("get_image_uri", found.uids[kind]).removesuffix(".nii.gz")).iterdir()
        assert dcmread(fetched).file_meta.TransferSyntaxUID == JPEGBaseline8Bit, "as it is stored, not decompressed"
    else:
        expected = pictures(KINDS[kind], HEIGHT, WIDTH)
    assert volume.shape == expected.shape
    assert np.abs(volume.astype(int) - expected).max() <= (1 if kind == "multi-frame" else 0)  # JPEG decoders differ


def test_copies_take_the_place_of_their_originals(copies: Archive) -> None:
    assert len(copies.server.datasets("ES")) == 8 and len(copies.server.datasets("OT")) == 2  # both are stored
    assert sorted(copies("list_images")) == sorted(copies.uids.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_mask_is_a_seg_of_the_same_pixels(copies: Archive, tmp_path: Path, kind: str) -> None:
    image, mask = copies.uids[kind], drawn_mask(KINDS[kind])
    assert image in copies("get_unlabeled_images")
    copies("save_label", image, save_nifti(tmp_path / "label.nii.gz", mask), "final", {})
    assert image not in copies("get_unlabeled_images") and image in copies("get_labeled_images")

    seg = seg_of(copies, image)
    segment = seg.SegmentSequence[0]
    category = segment.SegmentedPropertyCategoryCodeSequence[0]
    assert (category.CodeValue, category.CodingSchemeDesignator) == ("49755003", "SCT")
    property_type = segment.SegmentedPropertyTypeCodeSequence[0]
    assert (property_type.CodeValue, property_type.CodeMeaning) == ("52988006", "Lesion")
    assert segment.SegmentLabel == "lesion" and segment.SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert segment.SegmentAlgorithmName == "endoscopic_lesion_segmentation"

    sources = {str(each.SOPInstanceUID): each for each in copies_of(copies, image)}
    source = next(iter(sources.values()))
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert seg[keyword].value == source[keyword].value
    assert not [element for element in seg if element.tag.group == 0x0012], "it is no clinical trial"

    found = np.zeros_like(mask)
    pixels = seg.pixel_array.reshape(-1, HEIGHT, WIDTH)
    for groups, frame in zip(seg.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        named = groups.DerivationImageSequence[0].SourceImageSequence[0]
        own = sources[named.ReferencedSOPInstanceUID]
        z = float(groups.PlanePositionSequence[0].ImagePositionPatient[2])
        if kind == "multi-frame":
            index = named.ReferencedFrameNumber - 1
            position = own.PerFrameFunctionalGroupsSequence[index].PlanePositionSequence[0].ImagePositionPatient
        else:
            index, position = (int(own.InstanceNumber) - 5) // 2 if kind == "series" else 0, own.ImagePositionPatient
        assert z == position[2] == index
        found[index] = frame
    assert np.array_equal(found, mask)
    assert seg.NumberOfFrames == max(KINDS[kind] - 1, 1)  # frames without lesion are left out
    referenced = {each.ReferencedSOPInstanceUID for each in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert referenced <= set(sources) and len(referenced) == (2 if kind == "series" else 1)


def copies_of(archive: Archive, image: str) -> list[Dataset]:
    """Pictures of a series on the server."""
    stored = [*archive.server.datasets("ES").values(), *archive.server.datasets("OT").values()]
    return [each for each in stored if each.SeriesInstanceUID == image]


def test_dciodvfy_finds_no_error_in_a_seg(copies: Archive, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed: apt-get install dicom3tools")
    label = save_nifti(tmp_path / "label.nii.gz", drawn_mask(4))
    copies("save_label", copies.uids["multi-frame"], label, "final", {"algorithm_type": "MANUAL"})
    seg = seg_of(copies, copies.uids["multi-frame"])
    assert seg.SegmentSequence[0].SegmentAlgorithmType == "MANUAL"
    seg.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    shown = subprocess.run(["dciodvfy", str(tmp_path / "seg.dcm")], capture_output=True, text=True)
    assert "Segmentation" in shown.stderr
    assert [line for line in shown.stderr.splitlines() if line.startswith("Error")] == []


def test_a_second_datastore_gets_the_labels_back(copies: Archive, tmp_path: Path) -> None:
    for kind, frames in KINDS.items():
        label = save_nifti(tmp_path / f"{kind}.nii.gz", drawn_mask(frames))
        copies("save_label", copies.uids[kind], label, "final", {})
    try:
        folder = copies.open(tmp_path / "second")
        found = {Path(item["image"]).name: item for item in copies("datalist")}
        for kind, frames in KINDS.items():
            item = found[f"{copies.uids[kind]}.nii.gz"]
            assert np.array_equal(read_nifti(item["label"]), drawn_mask(frames))  # with the empty first frame
        with (folder / "groups.csv").open() as file:
            groups = {row["file"]: row["group"] for row in csv.DictReader(file)}
        assert set(groups) == set(found) and len(set(groups.values())) == 1  # one patient
        assert not any(secret in (folder / "groups.csv").read_text() for secret in SECRETS)
    finally:
        copies.open(copies.folder / "cache")


def test_the_newest_seg_counts_whoever_saved_it(copies: Archive, tmp_path: Path) -> None:
    image, mask = copies.uids["series"], drawn_mask(3)
    copies("save_label", image, save_nifti(tmp_path / "a.nii.gz", mask), "final", {})
    assert np.array_equal(read_nifti(copies("get_label_uri", image, "final")), mask)
    copies.open(tmp_path / "another_server")
    try:
        copies("save_label", image, save_nifti(tmp_path / "b.nii.gz", np.flip(mask)), "final", {})
    finally:
        copies.open(copies.folder / "cache")
    assert np.array_equal(read_nifti(copies("get_label_uri", image, "final")), np.flip(mask))
    found = {Path(item["image"]).name: item["label"] for item in copies("datalist")}
    assert np.array_equal(read_nifti(found[f"{image}.nii.gz"]), np.flip(mask))


def test_a_label_without_lesion_is_kept_here(copies: Archive, tmp_path: Path) -> None:
    image, before = copies.uids["one"], len(copies.server.datasets("SEG"))
    label = save_nifti(tmp_path / "label.nii.gz", np.zeros((1, HEIGHT, WIDTH), np.uint8))
    copies("save_label", image, label, "final", {})
    assert len(copies.server.datasets("SEG")) == before
    assert image in copies("get_labeled_images")
    found = {Path(item["image"]).name: item["label"] for item in copies("datalist")}
    assert not read_nifti(found[f"{image}.nii.gz"]).any()  # though an older SEG with lesion may be on the server
    assert "has no lesion: kept here" in copies.worker.log.read_text()


def test_a_label_deleted_on_the_server_is_gone(copies: Archive, tmp_path: Path) -> None:
    image = copies.uids["series"]
    copies("save_label", image, save_nifti(tmp_path / "a.nii.gz", drawn_mask(3)), "final", {})
    copies.open(tmp_path / "other")
    try:
        assert image in {Path(item["image"]).name.removesuffix(".nii.gz") for item in copies("datalist")}
        for identity, seg in copies.server.datasets("SEG").items():
            if seg.ReferencedSeriesSequence[0].SeriesInstanceUID == image:
                assert copies.server.delete(f"/instances/{identity}") == 200
        assert image in copies("get_unlabeled_images")
        assert image not in {Path(item["image"]).name.removesuffix(".nii.gz") for item in copies("datalist")}
    finally:
        copies.open(copies.folder / "cache")


@pytest.mark.parametrize(("algorithm", "counts"), [("AUTOMATIC", False), ("MANUAL", True)])
def test_only_a_seg_with_a_persons_hand_in_it_is_a_label(
    originals: Archive, tmp_path: Path, algorithm: str, counts: bool
) -> None:
    """The bundle's own SEG, of a multi-frame picture without geometry: it names frames and has no positions."""
    source, mask = dcmread(originals.folder / "in" / "film.dcm"), drawn_mask(4).astype(bool)
    made_by = SegAlgorithm("endoscopic_lesion_segmentation", "0.1.0", "0" * 64, 0.5)
    write_seg(tmp_path / "seg.dcm", source, dict(enumerate(mask)), algorithm=made_by)
    seg = dcmread(tmp_path / "seg.dcm")
    seg.SegmentSequence[0].SegmentAlgorithmType = algorithm
    seg.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    originals.server.store(tmp_path / "seg.dcm")
    image = originals.uids["multi-frame"]
    try:
        assert (image in originals("get_labeled_images")) is counts
        if counts:
            assert np.array_equal(read_nifti(originals("get_label_uri", image, "final")), mask)
        else:
            assert originals("get_label_uri", image, "final") == ""
    finally:
        for identity in originals.server.datasets("SEG"):
            originals.server.delete(f"/instances/{identity}")


def test_a_proposal_is_a_seg_of_software(copies: Archive, tmp_path: Path) -> None:
    image, mask = copies.uids["multi-frame"], drawn_mask(4)
    before = len(copies.server.datasets("SEG"))
    folder = copies("get_image_uri", image).removesuffix(".nii.gz")
    path = Path(copies("write_proposal", folder, save_nifti(tmp_path / "mask.nii.gz", mask), [{"name": "lesion"}]))
    try:
        seg = dcmread(path)
    finally:
        path.unlink()
    assert seg.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC" and seg.NumberOfFrames == 3
    assert len(copies.server.datasets("SEG")) == before
    empty = save_nifti(tmp_path / "empty.nii.gz", mask * 0)
    assert "no lesion was found" in copies.ask("write_proposal", folder, empty)["message"]


@pytest.mark.parametrize(("archive", "status"), [("copies", 200), ("originals", 422)])
def test_a_proposal_that_is_sent_leaves_no_file(
    archive: str,
    status: int,
    request: pytest.FixtureRequest,
    start_server: Callable[..., Server],
    random_weights: Path,
    tmp_path: Path,
) -> None:
    """Nor does one that cannot be made, of a series without geometry."""
    found: Archive = request.getfixturevalue(archive)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {"TMPDIR": str(temporary), "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(tmp_path / "cache")}
    server = start_server(f"{found.server.url}/dicom-web", "weights", str(random_weights), env=environment)
    path = f"/infer/{MODEL}?image={found.uids['multi-frame']}&output=dicom_seg"
    answered, content, _ = server.send("POST", path, {"label_info": [{"name": "lesion"}]})
    assert answered == status, content
    assert status != 200 or dcmread(BytesIO(content)).Modality == "SEG"
    until(lambda: not [path for path in temporary.rglob("*") if path.suffix in (".dcm", ".nrrd")], 5.0)


def test_scoring_is_of_the_pictures_that_the_server_lists(
    copies: Archive, start_server: Callable[..., Server], random_weights: Path, tmp_path: Path
) -> None:
    """It runs when the server starts, in a process of its own, which MONAI Label gives the settings of the server."""
    environment = {"MONAI_LABEL_DICOMWEB_CACHE_PATH": str(tmp_path / "cache")}
    start_server(f"{copies.server.url}/dicom-web", "weights", str(random_weights), env=environment)
    until(lambda: (tmp_path / "rounds" / "scores.npz").is_file())
    with np.load(tmp_path / "rounds" / "scores.npz") as scores:
        assert set(scores["id"].tolist()) == set(copies("list_images")) and not any(scores["error"].tolist())


def flipped(path: Path, mask: np.ndarray) -> str:
    """The same label with its columns and frames stored the other way round, as some tools do."""
    affine = LPS.copy()
    affine[0, 0], affine[0, 3] = 1, -(WIDTH - 1)
    affine[2, 2], affine[2, 3] = -1, len(mask) - 1
    return save_nifti(path.with_suffix(".nii.gz"), mask[::-1, :, ::-1], affine)


def raw(path: Path, mask: np.ndarray) -> str:
    """OHIF's label.bin."""
    mask.tofile(path.with_suffix(".bin"))
    return str(path.with_suffix(".bin"))


@pytest.mark.parametrize("write", [flipped, raw])
def test_labels_of_other_tools(copies: Archive, tmp_path: Path, write: Callable[..., str]) -> None:
    image, mask = copies.uids["series"], drawn_mask(3)
    copies("save_label", image, write(tmp_path / "label", mask), "original", {})
    assert np.array_equal(read_nifti(copies("get_label_uri", image, "original")), mask)


def test_a_png_is_a_label_of_a_single_frame(copies: Archive, tmp_path: Path) -> None:
    mask = drawn_mask(1)
    Image.fromarray(mask[0] * 255).save(tmp_path / "label.png")
    copies("save_label", copies.uids["one"], str(tmp_path / "label.png"), "original", {})
    assert np.array_equal(read_nifti(copies("get_label_uri", copies.uids["one"], "original")), mask)
    answer = copies.ask("save_label", copies.uids["series"], str(tmp_path / "label.png"), "original", {})
    assert "(1, 24, 40); expected the shape of series" in answer["message"]


@pytest.mark.parametrize(
    ("mask", "info", "message"),
    [
        (np.ones((3, HEIGHT, WIDTH + 1), np.uint8), {}, r"(3, 24, 41) and lies elsewhere"),
        (np.arange(3 * HEIGHT * WIDTH, dtype=np.uint8).reshape(3, HEIGHT, WIDTH), {}, "expected 0 and one other value"),
        (drawn_mask(3), {"algorithm_type": "AUTOMATIC"}, "a label is SEMIAUTOMATIC or MANUAL"),
        (drawn_mask(3), {"finding": "ulcer"}, "finding 'ulcer'"),
    ],
)
def test_labels_that_do_not_fit(copies: Archive, tmp_path: Path, mask: np.ndarray, info: dict, message: str) -> None:
    before = len(copies.server.datasets("SEG"))
    label = save_nifti(tmp_path / "label.nii.gz", mask)
    answer = copies.ask("save_label", copies.uids["series"], label, "final", info)
    assert message in answer["message"] and len(copies.server.datasets("SEG")) == before


@pytest.mark.parametrize("uid", ["../../evil", "..", "1..2", "1.2.03", "1." + "2" * 64, "", "1.2.3/4", "1.2\n"])
@pytest.mark.parametrize("call", ["get_image_uri", "get_label_uri", "save_label", "remove_label", "remove_image"])
def test_ids_that_are_no_uids(copies: Archive, tmp_path: Path, call: str, uid: str) -> None:
    label = save_nifti(tmp_path / "label.nii.gz", drawn_mask(1))
    arguments = {"save_label": [label, "final", {}], "get_label_uri": ["final"], "remove_label": ["final"]}
    answer = copies.ask(call, uid, *arguments.get(call, []))
    assert "expected a Series Instance UID" in answer["message"]


def test_a_tag_that_is_a_path(copies: Archive, tmp_path: Path) -> None:
    label = save_nifti(tmp_path / "label.nii.gz", drawn_mask(1))
    answer = copies.ask("save_label", copies.uids["one"], label, "../../../evil", {})
    assert answer["error"] == "InvalidIdError"


def test_what_belongs_to_the_server_is_not_changed_here(copies: Archive, tmp_path: Path) -> None:
    image = copies.uids["one"]
    copies("save_label", image, save_nifti(tmp_path / "a.nii.gz", drawn_mask(1)), "final", {})
    assert "delete it there" in copies.ask("remove_label", image, "final")["message"]
    assert "delete it there" in copies.ask("remove_image", image)["message"]
    assert "store them on the DICOM server" in copies.ask("add_image", image, "x.png", {})["message"]
    assert "is not on the DICOM server" in copies.ask("get_image_uri", "1.2.3")["message"]


def test_the_search_filter_of_monai_label(originals: Archive, tmp_path: Path) -> None:
    name = "MONAI_LABEL_DICOMWEB_SEARCH_FILTER"
    try:
        originals("set", name, {"Modality": "OT,XC"})
        originals.open(tmp_path / "filtered")
        assert originals("list_images") == [originals.uids["multi-frame"]]
    finally:
        originals("unset", name)
        originals.open(originals.folder / "cache")


def test_real_pictures(copies: Archive, shared_dir: Path, tmp_path: Path) -> None:
    """A gastroscopy frame in JPEG 2000 and an ultrasound clip in JPEG: 30 frames, with an old SEG-free header."""
    (tmp_path / "in").mkdir()
    for name in ("dwv_nema-vl2_j2kr.dcm", "examples_ybr_color.dcm"):
        shutil.copy(shared_dir / "data" / "dicom" / name, tmp_path / "in")
    add_geometry_folder(tmp_path / "in", tmp_path / "out")
    stored = []
    try:
        for path in sorted((tmp_path / "out").glob("*.dcm")):
            copies.server.store(path)
            header = dcmread(path)
            stored.append(header)
            frames = int(header.get("NumberOfFrames", 1))
            mask = np.zeros((frames, header.Rows, header.Columns), np.uint8)
            mask[-1, 30:60, 100:180] = mask[-1, 60:90, 100:110] = 1
            image = str(header.SeriesInstanceUID)
            copies("save_label", image, save_nifti(tmp_path / "label.nii.gz", mask), "final", {})
            seg = seg_of(copies, image)
            assert seg.PatientID == header.PatientID and seg.NumberOfFrames == 1
            named = seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
            assert named.ReferencedSOPInstanceUID == header.SOPInstanceUID
            assert named.get("ReferencedFrameNumber") == (frames if frames > 1 else None)
            assert np.array_equal(seg.pixel_array.reshape(mask.shape[1:]), mask[-1])
    finally:
        uids = {str(header.StudyInstanceUID) for header in stored}
        for modality in ("ES", "US", "XC", "OT", "SEG"):
            for identity, dataset in copies.server.datasets(modality).items():
                if dataset.StudyInstanceUID in uids:
                    copies.server.delete(f"/instances/{identity}")
    # What the archive deletes is not trained on: it leaves the folder, too.
    folder = Path(copies("get_image_uri", copies.uids["one"])).parent
    kept = {str(header.SeriesInstanceUID) for header in stored}
    assert all((folder / uid).is_dir() and (folder / f"{uid}.nii.gz").is_file() for uid in kept)
    copies("datalist")
    assert not [path.name for path in folder.rglob("*") if any(uid in path.name for uid in kept)]


def test_a_server_that_is_not_there(worker: Worker, tmp_path: Path) -> None:
    worker.ask("nobody", "open", f"http://127.0.0.1:{free_port()}/dicom-web", str(tmp_path))
    answer = worker.ask("nobody", "list_images")
    assert "lists no series (ConnectionError); is it running" in answer["message"]


def test_the_log_names_no_patient(copies: Archive) -> None:
    time.sleep(0.2)
    text = copies.worker.log.read_text()
    assert len(text) > 1000 and not [secret for secret in SECRETS if secret in text]
    assert os.path.getsize(copies.worker.log) < 1_000_000
