"""OHIF, as the label app serves it: a picture, its SEG, a proposal of the server, a correction, the SEG it becomes."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import itk
import numpy as np
import pytest
from label_app_helpers import MODEL, REPOSITORY, Server
from make_dicom import SOP_CLASSES, write_dicom
from ohif_viewer import OHIF, Viewer, open_viewer, require_viewer
from orthanc_server import Orthanc, require_orthanc
from pydicom import Dataset, dcmread
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, generate_uid

from scripts.io.dicom_codes import SegAlgorithm
from scripts.io.dicom_seg import write_seg
from scripts.io.geometry_copies import add_geometry_folder

SIZE = (240, 320)  # H, W
SKIN, LESION, MARK = (205, 140, 110), (130, 30, 30), (40, 60, 200)
MAGENTA, FILL = (255, 0, 200), 0.3  # of proposals: label_app/ohif/web/labelmap.js
SHOWN = {
    "film": (0, 1, 2),
    "series copy": (2, 1, 0),
}  # frames as OHIF orders them: pictures with positions from the far end
LEVELS = 12  # by which a colour on the screen may differ: JPEG, and OHIF's window of 256 around 128
LESION_FREE = (120, 300)  # row, column where the seeded random network sees no lesion in the frame shown first
TOKEN = "the token of this test"
META = """{"segmentAttributes": [[{"labelID": 1, "SegmentLabel": "lesion", "SegmentAlgorithmType": "MANUAL",
"SegmentedPropertyCategoryCodeSequence":
    {"CodeValue": "49755003", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Morphologically Abnormal Structure"},
"SegmentedPropertyTypeCodeSequence":
    {"CodeValue": "52988006", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Lesion"},
"recommendedDisplayRGBValue": [255, 0, 200]}]], "SeriesDescription": "by dcmqi", "SeriesNumber": "300",
"InstanceNumber": "1", "ContentCreatorName": "test", "ContentLabel": "LESION"}"""


def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Frame (H, W, 3): skin, a dark disc that moves right, a blue mark at the lower right; and the disc (H, W)."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    frame = np.full((*SIZE, 3), SKIN, np.uint8)
    disc = (rows - 90) ** 2 + (columns - 90 - 40 * number) ** 2 < 45**2
    frame[disc] = LESION
    frame[160:190, 270:300] = MARK
    return frame, disc


FRAMES, DISCS = (np.stack(found) for found in zip(*(draw(number) for number in range(3)), strict=True))


@dataclass
class Stand:
    """Orthanc with studies, the label app on it and a browser on that. study, series: name -> UID."""

    viewer: Viewer
    server: Server
    orthanc: Orthanc
    study: dict[str, str]
    series: dict[str, str]

    def proposal(self, name: str, folder: Path) -> np.ndarray:
        """What the server answers to a client that is no browser, (D, H, W) bool."""
        path = f"/infer/{MODEL}?image={self.series[name]}&output=image"
        params = {"result_extension": ".nrrd", "result_dtype": "uint8"}
        status, answer, _ = self.server.send("POST", path, params, authorization=f"Bearer {TOKEN}")
        assert status == 200, answer
        (folder / "proposal.nrrd").write_bytes(answer)
        return itk.array_from_image(itk.imread(str(folder / "proposal.nrrd"))) > 0

    def newest_seg(self, name: str) -> Dataset:
        """SEG of a series, the last one that was stored."""
        found = [
            seg
            for seg in self.orthanc.datasets("SEG").values()
            if seg.ReferencedSeriesSequence[0].SeriesInstanceUID == self.series[name]
        ]
        return max(found, key=lambda seg: str(seg.get("ContentDate", "")) + str(seg.get("ContentTime", "")))


def write_pictures(folder: Path) -> None:
    """One frame in four kinds, a film of three, three single frames of a series with file names in another order.

    Each is of another patient.
    """
    jpeg = {"photometric": "YBR_FULL_422", "syntax": JPEGBaseline8Bit}
    film = {"sop_class": SOP_CLASSES["Multi-frame True Color SC"][0], "Modality": "ES"}
    write_dicom(folder / "single.dcm", FRAMES[:1], **jpeg, PatientID="1")
    write_dicom(folder / "film.dcm", FRAMES, **jpeg, **film, PatientID="2")
    write_dicom(folder / "jpeg.dcm", FRAMES[:1], photometric="YBR_FULL", syntax=JPEGBaseline8Bit, PatientID="3")
    write_dicom(folder / "jpeg2000.dcm", FRAMES[:1], photometric="YBR_RCT", syntax=JPEG2000Lossless, PatientID="4")
    write_dicom(folder / "palette.dcm", FRAMES[:1], photometric="PALETTE COLOR", PatientID="5")
    same = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid(), "PatientID": "6"}
    for name, number in (("series_c", 0), ("series_a", 1), ("series_b", 2)):
        write_dicom(folder / f"{name}.dcm", FRAMES[number : number + 1], InstanceNumber=str(number + 1), **same)


def write_segs(plain: Path, copies: Path, python: Path) -> None:
    """SEG of the bundle beside the pictures without geometry, SEG of dcmqi beside the film with made-up geometry."""
    algorithm = SegAlgorithm(name=MODEL, version="0.1.0", weights_sha256="0" * 64, threshold=0.5)
    for name, count in (("single", 1), ("film", 3)):
        source = dcmread(plain / f"{name}.dcm", stop_before_pixels=True)
        write_seg(plain / f"{name}_seg.dcm", source, dict(enumerate(DISCS[:count])), algorithm=algorithm)
    itk.imwrite(itk.image_from_array(DISCS.astype(np.uint8)), str(copies / "label.nrrd"))
    (copies / "meta.json").write_text(META)
    command = [python.parent / "itkimage2segimage", "--inputImageList", copies / "label.nrrd"]
    command += ["--inputDICOMList", copies / "film.dcm", "--outputDICOM", copies / "film_seg.dcm"]
    subprocess.run([*command, "--inputMetadata", copies / "meta.json"], check=True, capture_output=True)


@pytest.fixture(scope="module")
def stand(label_python: Path, tmp_path_factory: pytest.TempPathFactory, random_weights: Path) -> Iterator[Stand]:
    """Studies without geometry ("single", "film" with our SEG), "film copy" (with dcmqi's) and "series copy"."""
    chromium = require_viewer()
    require_orthanc()
    folder = tmp_path_factory.mktemp("ohif")
    for name in ("plain", "again", "browser", "orthanc"):
        (folder / name).mkdir()
    write_pictures(folder / "plain")
    write_pictures(folder / "again")  # the copies keep their source's study, in which nothing else shall be
    add_geometry_folder(folder / "again", folder / "copies")
    write_segs(folder / "plain", folder / "copies", label_python)
    files = [path for path in (folder / "plain").glob("*.dcm") if "series" not in path.name]
    files += [folder / "copies" / f"{name}.dcm" for name in ("film", "film_seg", "series_a", "series_b", "series_c")]
    names = {name: f"plain/{name}" for name in ("single", "film", "jpeg", "jpeg2000", "palette")}
    names |= {"film copy": "copies/film", "series copy": "copies/series_a"}
    headers = {name: dcmread(folder / f"{path}.dcm", stop_before_pixels=True) for name, path in names.items()}
    orthanc = Orthanc(folder / "orthanc")
    server = None
    try:
        for path in files:
            orthanc.store(path)
        conf = ("weights", str(random_weights), "weights_dir", str(folder / "rounds"))
        env = {"LESION_LABEL_TOKEN": TOKEN}
        server = Server(label_python, folder, f"{orthanc.url}/dicom-web", *conf, env=env).wait()
        with open_viewer(chromium, folder / "browser", server.url, TOKEN) as viewer:
            study = {name: str(header.StudyInstanceUID) for name, header in headers.items()}
            series = {name: str(header.SeriesInstanceUID) for name, header in headers.items()}
            yield Stand(viewer, server, orthanc, study, series)
    finally:
        if server is not None:
            server.stop()
        orthanc.stop()


def assert_drawn(viewer: Viewer, mask: np.ndarray, frame: np.ndarray, colour: tuple[int, ...], fill: float) -> None:
    """The mask (H, W) bool is seen in its colour over the frame (H, W, 3), and the frame alone elsewhere."""
    for place, expected in ((mask, frame * (1 - fill) + np.array(colour) * fill), (~mask, frame)):
        seen, (rows, columns) = viewer.colours(place)
        assert len(seen) > 20
        right = np.abs(seen - expected[rows, columns]).max(axis=1) < LEVELS
        assert right.mean() > 0.97, (seen[~right][:5], expected[rows, columns][~right][:5])


@pytest.mark.parametrize("name", ["single", "jpeg", "jpeg2000", "palette"])
def test_a_frame_is_shown_in_its_colours_and_upright(stand: Stand, name: str) -> None:
    """Through MONAI Label's own proxy, which drops Accept, the last three are in false colours or not there at all."""
    stand.viewer.open(stand.study[name], "viewer")
    for colour in (SKIN, LESION, MARK):
        red = colour[0]
        expected = (red, 255 - red, red * 7 % 256) if name == "palette" else colour  # make_dicom.add_palette
        seen, _ = stand.viewer.colours((FRAMES[0] == colour).all(axis=2))
        assert len(seen) >= 4 and np.abs(np.median(seen, axis=0) - expected).max() < LEVELS


def test_only_the_patients_own_studies_are_listed(stand: Stand) -> None:
    """Through MONAI Label's own proxy, which drops the query, those of all patients are."""
    stand.viewer.open(stand.study["single"], "viewer")
    time.sleep(2)
    assert stand.viewer.page.get_by_text("02-Jan-2020").count() == 2  # once in the list, once over the picture


@pytest.mark.parametrize("name", ["single", "film", "film copy"])
def test_a_seg_is_drawn_over_its_frames(stand: Stand, name: str) -> None:
    """OHIF 3.13 by itself draws none of the three: a TypeError, a TypeError, and the first frame alone."""
    stand.viewer.open(stand.study[name], "viewer")
    stand.viewer.load_seg()
    frames = (0,) if name == "single" else (0, 2)
    for number in frames:
        stand.viewer.scroll(number)
        disc, _ = stand.viewer.colours(DISCS[number])
        assert len(disc) > 20 and (disc[:, 2] - LESION[2] > 40).mean() > 0.97  # magenta has what the disc lacks: blue
        skin, (rows, columns) = stand.viewer.colours(~DISCS[number])
        assert (np.abs(skin - FRAMES[number][rows, columns]).max(axis=1) < LEVELS).mean() > 0.97


def segment(stand: Stand, name: str, folder: Path) -> np.ndarray:
    """Press the button; frames shown first and last must be the server's answer, which is given back (D, H, W) bool."""
    mask = stand.proposal(name, folder)
    assert mask.shape == (3, *SIZE) and all(0.02 < frame.mean() < 0.98 for frame in mask)
    assert (mask[0] != mask[2]).mean() > 0.01
    stand.viewer.open(stand.study[name])
    said = stand.viewer.press("SegmentLesions", "proposal covers")
    assert f"{100 * mask.mean():.1f} %" in said
    for place in (0, 2):
        stand.viewer.scroll(place)
        number = SHOWN[name][place]
        assert_drawn(stand.viewer, mask[number], FRAMES[number], MAGENTA, FILL)
    return mask


def test_the_button_shows_what_the_server_answers(stand: Stand, tmp_path: Path) -> None:
    segment(stand, "film", tmp_path)


def test_a_corrected_proposal_becomes_a_seg_that_is_shown_again(stand: Stand, tmp_path: Path) -> None:
    name = "series copy"
    first, last = SHOWN[name][0], SHOWN[name][2]
    mask = segment(stand, name, tmp_path)
    row, column = LESION_FREE
    assert not mask[last, row, column]
    stand.viewer.stroke(SIZE, row, column)
    stand.viewer.press("SaveLesions", "saved as the final label")

    seg = stand.newest_seg(name)
    numbers = {str(d.SOPInstanceUID): int(d.InstanceNumber) for d in stand.orthanc.datasets("ES").values()}
    saved = np.zeros_like(mask)
    for groups, pixels in zip(
        seg.PerFrameFunctionalGroupsSequence, np.reshape(seg.pixel_array, (-1, *SIZE)), strict=True
    ):
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        saved[numbers[source.ReferencedSOPInstanceUID] - 1] = pixels
    added = saved & ~mask
    assert saved[mask].all() and added[last, row, column] and not np.delete(added, last, axis=0).any()

    stand.viewer.open(stand.study[name], "viewer")
    stand.viewer.load_seg()
    drawn, (rows, columns) = stand.viewer.colours(saved[first])
    changed = np.abs(drawn - FRAMES[first][rows, columns]).max(axis=1)
    plain, (rows, columns) = stand.viewer.colours(~saved[first])
    unchanged = np.abs(plain - FRAMES[first][rows, columns]).max(axis=1)
    assert len(drawn) > 20 and (changed > 3 * LEVELS).mean() > 0.97
    assert len(plain) > 20 and (unchanged < LEVELS).mean() > 0.97


def test_what_cannot_be_saved_is_said_with_the_cure(stand: Stand) -> None:
    stand.viewer.open(stand.study["single"])
    assert "there is no mask to save" in stand.viewer.press("SaveLesions", "no mask to save")
    stand.viewer.press("SegmentLesions", "the server")
    stand.viewer.page.locator("[data-sonner-toast]").filter(has_text="proposal").first.wait_for()
    assert "add_geometry.json" in stand.viewer.press("SaveLesions", "422")
    assert not stand.viewer.elsewhere  # of all tests up to here


def test_another_package_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "other.tgz"
    with tarfile.open(package, "w:gz") as archive:
        archive.add(__file__, "package/dist/index.html")
    script = tmp_path / "ohif" / "install.py"  # a copy, which installs beside itself
    script.parent.mkdir()
    script.write_text((OHIF / "install.py").read_text())
    done = subprocess.run([sys.executable, script, "--package", package], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "SHA-512" in done.stderr and "other.tgz" in done.stderr
    assert not (script.parent / "dist").exists()


def test_nothing_of_others_is_tracked() -> None:
    tracked = subprocess.run(["git", "ls-files", OHIF], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert not [path for path in tracked.stdout.splitlines() if "/dist/" in path or path.endswith(".tgz")]
