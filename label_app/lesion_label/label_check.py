"""Can training read this label of that image? Asked when the label is saved, by whom it can still be mended."""

from __future__ import annotations

from pathlib import Path

from lesion_label.requests import invalid
from scripts.data.checks import check_files
from scripts.data.expansion import expand_media
from scripts.io.errors import DICOM_SUFFIXES
from scripts.io.mask_reader import ValueMap
from scripts.io.media import close_media

#: what an annotator can do, where the message of the data layer names what one does with a data set
_CURES = {
    "value_map": "(In 3D Slicer: export one segment alone as a label map.)",
    "say which frame": "(Save the label of all its frames as one label volume, .nii.gz or .nrrd.)",
}


def refuse_unreadable(label: Path, image: Path, image_id: str, value_map: ValueMap | None = None) -> None:
    """Put a label and its image through the checks that a round begins with.

    A label volume's frames have one size, and its values are read as a whole: its first frame stands for all.

    Args:
        label: mask or label volume, under whatever name. image: picture, DICOM file or volume.
        image_id: what the client calls it, for the message.
        value_map: that of the rounds, see read_mask.

    Raises:
        MONAILabelException: DICOM, several values, another size or number of frames than the image, another affine than
            a volume of intensities, or a file that cannot be read; answered with 400.
    """
    if label.suffix.lower() in DICOM_SUFFIXES:
        raise invalid(
            f"the label of image {image_id} is not saved: a DICOM file; expected a mask (.png) or a label volume "
            "(.nii.gz, .nrrd). DICOM SEG are kept by a DICOMweb server alone: start this one with its URL as --studies"
        )
    item = {"image": str(image), "label": str(label), "file": image.name, "group": image_id}
    try:
        check_files(expand_media({"labels": [item]})["labels"][:1], value_map)
    except (ValueError, OSError) as error:
        found = str(error).rpartition("mend or remove them:")[2].strip()
        found = found.replace(str(label), "the label").replace(str(image), image.name)
        cures = " ".join(cure for sign, cure in _CURES.items() if sign in found)
        message = f"the label of image {image_id} is not saved, training could not use it: {found} {cures}"
        raise invalid(message.strip()) from error
    finally:
        close_media()
