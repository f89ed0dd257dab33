"""pydicom 2.4, which MONAI Label asks for, and pydicom 3 give the same pixels, frame by frame."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from label_env import run_in_label_env
from make_dicom import VIDEO, WRITABLE, add_palette, make_header, pictures, write_dicom, write_video_dicom
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, HTJ2KLossless, ImplicitVRLittleEndian

from scripts.io.errors import MediaError
from scripts.io.media import close_media, open_media

# Run in both environments: path -> [hash of each frame], or the first words of the error
HASHES = """
import hashlib
from scripts.io.errors import MediaError
from scripts.io.media import open_media
answer = {}
for path in argument:
    try:
        media = open_media(path)
        answer[path] = [hashlib.sha256(media.frame(k).tobytes()).hexdigest() for k in range(len(media))]
    except MediaError as error:
        answer[path] = str(error).removeprefix(path)[:200]
import pydicom
answer["pydicom"] = pydicom.__version__
"""


def hashes_here(paths: list[str]) -> dict[str, list[str] | str]:
    answer: dict[str, list[str] | str] = {}
    for path in paths:
        try:
            media = open_media(path)
            answer[path] = [hashlib.sha256(media.frame(k).tobytes()).hexdigest() for k in range(len(media))]
        except MediaError as error:
            answer[path] = str(error).removeprefix(path)[:200]
    close_media()
    return answer


def same_in_both(paths: list[Path]) -> dict[str, list[str] | str]:
    """Hashes, after they were found to be the same with both versions of pydicom."""
    names = [str(path) for path in paths]
    here, there = hashes_here(names), run_in_label_env(HASHES, names)
    assert (pydicom.__version__.split(".")[0], there.pop("pydicom").split(".")[0]) == ("3", "2")
    assert {name: found for name, found in here.items() if there[name] != found} == {}
    return here


def odd_files(folder: Path) -> list[Path]:
    """What other programs write: no preamble, words, tables and bits of unusual kinds."""
    found = [write_dicom(folder / "odd_be.dcm", pictures(3, 5, 7), syntax=ExplicitVRBigEndian)]
    for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian):
        dataset = pydicom.dcmread(write_dicom(folder / "a.dcm", pictures(2), syntax=syntax))
        del dataset.file_meta, dataset.preamble
        path = folder / f"bare_{syntax.name.split()[0]}_{syntax.is_little_endian}.dcm"
        implicit, little = syntax.is_implicit_VR, syntax.is_little_endian
        dataset.save_as(path, enforce_file_format=False, implicit_vr=implicit, little_endian=little)
        found.append(path)
    for bits in (8, 16):
        for little in (True, False):
            syntax = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            dataset = make_header((1, 16, 16), "PALETTE COLOR", syntax)
            add_palette(dataset, bits, little)
            dataset.PixelData = np.arange(256, dtype=np.uint8).tobytes()
            dataset["PixelData"].VR = "OW"
            found.append(folder / f"palette_{bits}_{little}.dcm")
            dataset.save_as(found[-1], enforce_file_format=True)
    for little in (True, False):  # 8 bits stored in 16, with rubbish above them
        syntax = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset = make_header((2, 6, 8, 3), "RGB", syntax)
        dataset.BitsAllocated = 16
        values = (pictures(2, 6, 8).astype(np.uint16) + 0x1200).astype("<u2" if little else ">u2")
        dataset.PixelData = values.tobytes()
        dataset["PixelData"].VR = "OW"
        found.append(folder / f"wide_{little}.dcm")
        dataset.save_as(found[-1], enforce_file_format=True)
    dataset = make_header((1, 4, 4), "PALETTE COLOR", ExplicitVRLittleEndian)  # segmented: 0..3 up, then 12 of the last
    for name, top in (("Red", 90), ("Green", 60), ("Blue", 30)):
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [16, 0, 16])
        table = np.array([0, 1, 256, 1, 3, top << 8, 1, 12, top << 8], "<u2").tobytes()
        setattr(dataset, f"Segmented{name}PaletteColorLookupTableData", table)
    dataset.PixelData = bytes(range(16))
    dataset["PixelData"].VR = "OB"
    found.append(folder / "segmented.dcm")
    dataset.save_as(found[-1], enforce_file_format=True)
    (folder / "a.dcm").unlink()
    return found


def test_every_kind_has_the_same_pixels(tmp_path: Path) -> None:
    paths = []
    for number, (syntax, kinds) in enumerate(WRITABLE.items()):
        for photometric in kinds:
            planars = (0, 1) if not syntax.is_encapsulated and photometric in ("RGB", "YBR_FULL") else (0,)
            for planar in planars:
                path = tmp_path / f"{number}_{photometric}_{planar}.dcm"
                paths.append(write_dicom(path, pictures(3), photometric=photometric, syntax=syntax, planar=planar))
    for syntax in VIDEO:
        paths.append(write_video_dicom(tmp_path / f"{syntax}.dcm", pictures(6, 48, 64), syntax=syntax))
    paths += odd_files(tmp_path)
    found = same_in_both(paths)
    assert [name for name, hashes in found.items() if isinstance(hashes, str)] == []
    clean = [hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures(2, 6, 8)]
    assert found[str(tmp_path / "wide_True.dcm")] == found[str(tmp_path / "wide_False.dcm")] == clean
    still = [name for name, hashes in found.items() if len(hashes) > 1 and len(set(hashes)) == 1]
    assert len(found) > 60 and still == []


def test_high_throughput_jpeg_2000_and_errors(tmp_path: Path) -> None:
    """A transfer syntax newer than pydicom 2.4, and two that nobody decodes."""
    rgb = pictures(1)
    plain = pydicom.dcmread(write_dicom(tmp_path / "j2k.dcm", rgb, syntax=pydicom.uid.JPEG2000Lossless))
    paths = []
    for name, syntax in (("ht", HTJ2KLossless), ("lossless", "1.2.840.10008.1.2.4.70"), ("own", "1.2.3.4")):
        # OpenJPEG tells by the codestream, which may be a plain one
        plain.PixelData = encapsulate(list(pydicom.encaps.generate_frames(plain.PixelData, number_of_frames=1)))
        plain.file_meta.TransferSyntaxUID = syntax
        paths.append(tmp_path / f"{name}.dcm")
        pydicom.dcmwrite(paths[-1], plain, implicit_vr=False, little_endian=True, force_encoding=True)
    found = same_in_both(paths)
    assert found[str(paths[0])] == [hashlib.sha256(rgb.tobytes()).hexdigest()]
    assert "4.70 (JPEG Lossless" in found[str(paths[1])] and "1.2.3.4 (unknown to pydicom)" in found[str(paths[2])]


def test_real_files_have_the_same_pixels(shared_dir: Path) -> None:
    found = same_in_both(sorted((shared_dir / "data/dicom").iterdir()))
    assert sum(isinstance(hashes, list) for hashes in found.values()) >= 16


@pytest.mark.parametrize("module", ["scripts.io.frames_reader", "scripts.io.dicom_reader", "scripts.data.layouts"])
def test_reading_needs_nothing_of_pydicom_3(module: str) -> None:
    assert run_in_label_env(f"import {module}\nanswer = 'highdicom' in sys.modules") is False
