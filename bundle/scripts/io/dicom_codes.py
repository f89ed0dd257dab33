"""What a segment shows, in the standard's codes.

A DICOM segment names the kind of thing it outlines by two codes: a category (CID 7150) and a type (CID 7151). All three
findings are changes of the tissue's structure, so they share one category. Hemorrhage and Lesion stand in CID 7151;
Polyp does not, but that group may be extended, and 41329004 is SNOMED CT's morphologic abnormality "Polyp" (not
68496003, the disorder "Polyp of colon": the bundle also sees polyps elsewhere).
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.sr.coding import Code

MORPHOLOGICALLY_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")

FINDINGS = {
    "lesion": Code("52988006", "SCT", "Lesion"),
    "polyp": Code("41329004", "SCT", "Polyp"),
    "hemorrhage": Code("50960005", "SCT", "Hemorrhage"),
}

_LONG_STRING = 64  # characters, the longest text of VR LO


def finding_code(finding: str) -> Code:
    """Code of "lesion", "polyp" or "hemorrhage". Raises ValueError for another finding."""
    if finding not in FINDINGS:
        raise ValueError(f"finding {finding!r} has no code; expected one of {', '.join(FINDINGS)}")
    return FINDINGS[finding]


@dataclass(frozen=True)
class SegAlgorithm:
    """What made the masks, as it is written into every segment.

    Args:
        name: of the bundle, ASCII, 1 to 64 characters.
        version: of the bundle, ASCII, 1 to 64 characters.
        weights_sha256: of the weights file, 64 hexadecimal digits.
        threshold: probability above which a pixel is lesion, 0..1.

    Raises:
        ValueError: a value that DICOM cannot hold.
    """

    name: str
    version: str
    weights_sha256: str
    threshold: float

    def __post_init__(self) -> None:
        for field in ("name", "version"):
            text = getattr(self, field)
            if not (0 < len(text.strip()) and len(text) <= _LONG_STRING and text.isascii() and text.isprintable()):
                raise ValueError(f"{field} {text!r}: expected 1 to {_LONG_STRING} printable ASCII characters")
            if "\\" in text:
                raise ValueError(f"{field} {text!r}: a backslash separates values in DICOM; leave it out")
        digits = self.weights_sha256.lower()
        if len(digits) != 64 or set(digits) - set("0123456789abcdef"):
            raise ValueError(f"weights_sha256 {self.weights_sha256!r}: expected 64 hexadecimal digits")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold {self.threshold}: expected a probability, 0 to 1")

    @property
    def parameters(self) -> dict[str, str]:
        """What Algorithm Parameters (0066,0032) says, name -> value."""
        return {"weights_sha256": self.weights_sha256.lower(), "threshold": f"{self.threshold:g}"}
