"""The affine of every kind of file, by hand and as SimpleITK reads the same file."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from label_env import run_in_label_env
from make_dicom import SOP_CLASSES, make_clip, pictures, write_dicom, write_video_dicom
from numpy.testing import assert_allclose
from PIL import Image, TiffImagePlugin, TiffTags
from pydicom import Dataset
from pydicom.uid import HEVCMP51, MPEG4HP41

from scripts.io.errors import MediaError
from scripts.io.frame_address import join_address
from scripts.io.geometry import read_affine
from scripts.io.image_reader import read_rgb

IDENTITY_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
RGB24 = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
# Columns run to the back, rows to the feet: orientation (0, 1, 0), (0, 0, -1); their normal is (-1, 0, 0)
POSITION, ORIENTATION, SPACING = [10, 20, 30], [0, 1, 0, 0, 0, -1], [0.5, 0.25]  # mm between rows, columns

SIMPLE_ITK = """
import SimpleITK
answer = {}
for path in argument:
    reader = SimpleITK.ImageFileReader()
    if path.endswith(".dcm"):
        reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(path)
    image = reader.Execute()
    answer[path] = [image.GetDimension(), image.GetDirection(), image.GetSpacing(), image.GetOrigin()]
"""


def simple_itk_affines(paths: list[Path]) -> dict[str, np.ndarray]:
    """(4, 4) RAS of each file by SimpleITK; what a picture does not say is taken from the identity."""
    found = {}
    for path, (dimensions, direction, spacing, origin) in run_in_label_env(SIMPLE_ITK, list(map(str, paths))).items():
        affine = np.eye(4)
        size = min(3, dimensions)
        columns = np.reshape(direction, (dimensions, dimensions)) * spacing
        affine[:size, :size], affine[:size, 3] = columns[:size, :size], origin[:size]
        found[path] = IDENTITY_LPS @ affine
    return found


def groups(frames: int) -> dict[str, list[Dataset]]:
    """Functional groups with the same geometry: shared spacing and orientation, a position for each frame."""
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = ORIENTATION
    measures.PixelSpacing, measures.SliceThickness, measures.SpacingBetweenSlices = SPACING, 2, 3
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    each = []
    for number in range(frames):
        position, group = Dataset(), Dataset()
        position.ImagePositionPatient = [10 - 3 * number, 20, 30]
        group.PlanePositionSequence = [position]
        each.append(group)
    return {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": each}


CLASSIC = {"ImagePositionPatient": POSITION, "ImageOrientationPatient": ORIENTATION, "PixelSpacing": SPACING}


def write_dicoms(folder: Path) -> list[Path]:
    """Every storage class, one and three frames, without geometry, with it, with parts, with functional groups."""
    found = []
    for name, (sop_class, _) in SOP_CLASSES.items():
        for frames in (1, 3):
            kinds = {
                "none": {},
                "classic": {**CLASSIC, "SliceThickness": "2", "FrameOfReferenceUID": "1.2.3"},
                "between": {**CLASSIC, "SliceThickness": "2", "SpacingBetweenSlices": "3"},
                "spacing": {"PixelSpacing": SPACING},
                "orientation": {"ImageOrientationPatient": ORIENTATION},
                "groups": groups(frames),
                "both": {**CLASSIC, **groups(frames)},
            }
            for kind, elements in kinds.items():
                path = folder / f"{name} {frames} {kind}.dcm"
                photometric = "MONOCHROME2" if "Grayscale" in name else "RGB"
                write_dicom(path, pictures(frames), photometric=photometric, sop_class=sop_class, **elements)
                found.append(path)
    return found


def test_dicom_as_simple_itk_reads_it(tmp_path: Path) -> None:
    paths = write_dicoms(tmp_path)
    for path, expected in simple_itk_affines(paths).items():
        assert_allclose(read_affine(path), expected, err_msg=path)
    # One by hand, so that both cannot be wrong alike: column 2, row 1 of frame 0 lies at 20 + 2 * 0.25, 30 - 0.5
    affine = read_affine(tmp_path / "VL Photographic 1 classic.dcm")
    assert_allclose(affine @ [2, 1, 0, 1], [-10, -20.5, 29.5, 1])
    affine = read_affine(tmp_path / "Multi-frame True Color SC 3 groups.dcm")
    assert_allclose(affine @ [2, 1, 2, 1], [-(10 - 2 * 3), -20.5, 29.5, 1])
    assert_allclose(read_affine(tmp_path / "VL Endoscopic 3 none.dcm"), IDENTITY_LPS)


def test_real_dicom_as_simple_itk_reads_it(shared_dir: Path) -> None:
    readable = [path for path in sorted((shared_dir / "data/dicom").iterdir()) if "jpeg_gdcm" not in path.name]
    for path, expected in simple_itk_affines(readable).items():
        assert_allclose(read_affine(path), expected, err_msg=path)


def write_nifti(path: Path, affine: np.ndarray | None, sform: int, qform: int, zooms: tuple[float, ...] = ()) -> Path:
    image = nib.Nifti1Image(np.zeros((5, 4, 3), RGB24), None)
    if zooms:
        image.header.set_zooms(zooms)
    image.set_sform(affine, sform)
    image.set_qform(affine, qform)
    nib.save(image, path)
    return path


def test_nifti_as_simple_itk_reads_it(tmp_path: Path) -> None:
    affine = np.array([[0, -3, 0, 7], [2, 0, 0, 8], [0, 0, 4, 9], [0, 0, 0, 1.0]])
    paths = [
        write_nifti(tmp_path / "both.nii", affine, 1, 1),
        write_nifti(tmp_path / "sform.nii.gz", affine, 1, 0),
        write_nifti(tmp_path / "qform.nii.gz", affine, 0, 1),
        write_nifti(tmp_path / "neither.nii", None, 0, 0, (2, 3, 4)),
    ]
    for path in paths[:3]:
        assert_allclose(read_affine(path), affine, atol=1e-5)
    assert_allclose(read_affine(paths[3]), np.diag([-2, -3, 4, 1]))
    for path, expected in simple_itk_affines(paths).items():
        assert_allclose(read_affine(path), expected, atol=1e-5, err_msg=path)


def write_nrrd(path: Path, sizes: str, lines: str) -> Path:
    header = f"NRRD0004\ntype: unsigned char\ndimension: {len(sizes.split())}\nsizes: {sizes}\n{lines}"
    count = int(np.prod(list(map(int, sizes.split()))))
    path.write_bytes(f"{header}encoding: raw\n\n".encode() + bytes(count))
    return path


def test_nrrd_as_simple_itk_reads_it(tmp_path: Path) -> None:
    directions = "space directions: none (0,2,0) (3,0,0) (0,0,4)\nspace origin: (7,8,9)\n"
    vector = "kinds: vector domain domain domain\n"
    cases = {
        "plain": ("3 5 4 3", vector),
        "lps": ("3 5 4 3", f"space: left-posterior-superior\n{vector}{directions}"),
        "ras": ("3 5 4 3", f"space: right-anterior-superior\n{vector}{directions}"),
        "spacings": ("3 5 4", "kinds: vector domain domain\nspacings: nan 2 3\n"),
        "flat": (
            "3 5 4",
            "space dimension: 2\nkinds: vector domain domain\n"
            "space directions: none (0,2) (3,0)\nspace origin: (7,8)\n",
        ),
        "last": (
            "5 4 3 3",
            "space: left-posterior-superior\nkinds: domain domain domain RGB-color\n"
            "space directions: (0,2,0) (3,0,0) (0,0,4) none\nspace origin: (7,8,9)\n",
        ),
    }
    paths = [write_nrrd(tmp_path / f"{name}.nrrd", *case) for name, case in cases.items()]
    for path, expected in simple_itk_affines(paths).items():
        assert_allclose(read_affine(path), expected, err_msg=path)
    ras = np.array([[0, 3, 0, 7], [2, 0, 0, 8], [0, 0, 4, 9], [0, 0, 0, 1]])
    assert_allclose(read_affine(tmp_path / "ras.nrrd"), ras)
    assert_allclose(read_affine(tmp_path / "lps.nrrd"), IDENTITY_LPS @ ras)
    assert_allclose(read_affine(write_nrrd(tmp_path / "no kinds.nrrd", "3 5 4 2", "")), IDENTITY_LPS)


def test_pictures_as_simple_itk_reads_them(tmp_path: Path) -> None:
    """JPEG and TIFF files have dots an inch; ITK makes millimetres of them."""
    picture = Image.fromarray(pictures()[0])
    paths = []
    for name in ("a.png", "a.jpg", "a.tif", "a.bmp"):
        for number, extra in enumerate(({}, {"dpi": (72, 72)}, {"dpi": (254, 127)})):
            paths.append(tmp_path / f"{number}{name}")
            picture.save(paths[-1], **extra)
    for number, unit in enumerate((1, 2, 3)):
        paths.append(tmp_path / f"{number}_unit.tif")
        picture.save(paths[-1], resolution_unit=unit, x_resolution=10.0, y_resolution=20.0)
    picture.save(tmp_path / "cm.tif", resolution_unit=2)
    for path, expected in simple_itk_affines([*paths, tmp_path / "cm.tif"]).items():
        assert_allclose(read_affine(path), expected, err_msg=path)
    assert_allclose(read_affine(tmp_path / "2a.jpg"), np.diag([-0.1, -0.2, 1, 1]))
    assert_allclose(read_affine(tmp_path / "2a.png"), IDENTITY_LPS)
    picture.save(tmp_path / "a.webp")
    (tmp_path / "a.mp4").write_bytes(make_clip(pictures(3, 48, 64), MPEG4HP41))
    for name in ("a.webp", "a.mp4", "a.mp4#2"):
        expected = IDENTITY_LPS.copy()
        expected[2, 3] = 2 if "#" in name else 0
        assert_allclose(read_affine(tmp_path / name), expected)


PIXELS_AT = """
import SimpleITK
answer = {}
for path, points in argument.items():
    image = SimpleITK.ReadImage(path)
    answer[path] = [image[image.TransformPhysicalPointToIndex(point)][0] for point in points]
"""


def test_exif_orientation(tmp_path: Path) -> None:
    """ITK shows pictures as stored: where the affine puts an upright pixel, ITK has its colour."""
    rows, columns = np.mgrid[:6, :8]
    values = np.kron(10 + 5 * (8 * rows + columns), np.ones((16, 16))).astype(np.uint8)  # 48 squares of 16 x 16
    wanted: dict[str, list[int]] = {}
    points: dict[str, list[list[float]]] = {}
    for orientation in range(1, 9):
        for suffix in ("png", "jpg", "tif"):
            path = tmp_path / f"{orientation}.{suffix}"
            exif = Image.Exif()
            exif[0x0112] = orientation
            Image.fromarray(values).convert("RGB").save(path, exif=exif, dpi=(72, 36), quality=95)
            upright, affine = read_rgb(path), IDENTITY_LPS @ read_affine(path)
            centres = [(column, row) for row in range(8, len(upright), 16) for column in range(8, upright.shape[1], 16)]
            wanted[str(path)] = [int(upright[row, column, 0]) for column, row in centres]
            points[str(path)] = [(affine @ [column, row, 0, 1])[:2].tolist() for column, row in centres]
    for path, found in run_in_label_env(PIXELS_AT, points).items():
        assert_allclose(found, wanted[path], atol=2, err_msg=path)


def test_of_one_frame(tmp_path: Path) -> None:
    """Frame 2 of a volume lies two steps along the third axis."""
    affine = np.array([[1, 0, 4, 5], [0, 1, 3, 6], [0, 0, 2, 7], [0, 0, 0, 1.0]])
    path = write_nifti(tmp_path / "a.nii", affine, 1, 0)
    assert_allclose(read_affine(join_address(path, 2)) @ [0, 0, 0, 1], [5 + 8, 6 + 6, 7 + 4, 1])


def test_damaged(tmp_path: Path) -> None:
    for name in ("a.nii", "a.nii.gz", "a.nrrd", "a.dcm"):
        (tmp_path / name).write_text("hello" * 100)
        with pytest.raises(MediaError, match=name):
            read_affine(tmp_path / name)


def test_dicom_that_itk_cannot_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_video_dicom(tmp_path / "a.dcm", pictures(4, 48, 64), syntax=HEVCMP51, **CLASSIC)
    assert_allclose(read_affine(path), IDENTITY_LPS)
    assert "a.dcm: ITK cannot read it" in caplog.text and "Secret" not in caplog.text


@pytest.mark.parametrize("density", [(72, 0), (0, 0), (0, 1)])
def test_a_tiff_whose_resolution_is_no_number_has_pixels_of_1_mm(tmp_path: Path, density: tuple[int, int]) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag in (282, 283):
        tags.tagtype[tag] = TiffTags.RATIONAL
        tags[tag] = TiffImagePlugin.IFDRational(*density)
    tags[296] = 2
    Image.new("RGB", (8, 6)).save(tmp_path / "a.tif", tiffinfo=tags)
    with Image.open(tmp_path / "a.tif") as image:
        assert image.tag_v2[296] == 2 and not float(image.tag_v2[282]) > 0  # the test can fail
    np.testing.assert_array_equal(np.abs(np.diag(read_affine(tmp_path / "a.tif"))), [1, 1, 1, 1])
