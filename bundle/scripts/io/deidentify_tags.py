"""Header of a DICOM picture -> one without what identifies the patient (PS3.15 annex E, Basic Profile).

Which attribute is removed, emptied, replaced by a dummy or by another UID is read off the standard's table E.1-1, which
dicom-anonymizer keeps as generated from the standard (edition 2024b); carrying it out is done here, because that
package's own run goes through the outermost level alone (a name within a sequence that is kept would stay), writes a
dummy date where the table says to remove or empty it, and keeps its UIDs in a variable of the module.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from functools import cache

from dicomanonymizer import simpledicomanonymizer
from pydicom import DataElement, Dataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.tag import BaseTag

_STANDARD_UIDS = "1.2.840.10008."  # storage classes, transfer syntaxes: the same for everybody
_REMOVE, _EMPTY, _DUMMY, _UID = "remove", "empty", "dummy", "uid"
# Where the table leaves a choice (X/Z, X/D, ...), the attribute stays, without its value, so that the file stays valid.
_ACTIONS = {
    "delete": _REMOVE,
    "empty": _EMPTY,
    "replace": _DUMMY,
    "replace_UID": _UID,
    "empty_or_replace": _DUMMY,
    "delete_or_empty": _EMPTY,
    "delete_or_replace": _DUMMY,
    "delete_or_empty_or_replace": _DUMMY,
    "delete_or_empty_or_replace_UID": _UID,
}
_DATES = {"DA": "19000101", "DT": "19000101000000", "TM": "000000"}  # dicom-anonymizer's year 1 is no valid date
_DRAWN_GROUPS = (*range(0x5000, 0x5020, 2), *range(0x6000, 0x6020, 2), 0x0070)  # curves, overlays, annotations
_AFTER_PIXELS = (0xFFFAFFFA, 0xFFFCFFFC)  # digital signatures, which hold no more; padding
_KINDS = ("ClassUID", "TransferSyntaxUID", "CodingSchemeUID")
_MORE = {0x00620020: _EMPTY}  # Tracking ID, free text that came with segmentations
_PSEUDONYMS = ("PatientName", "PatientID")


class UidMapping:
    """New UIDs and pseudonyms, the same for the same old one, and not to be traced back without the secret."""

    def __init__(self, secret: bytes | None = None) -> None:
        """`secret`: to get the same ones in a later run; by default nobody knows it, and each mapping differs."""
        self._secret = secret or secrets.token_bytes(32)

    def uid(self, old: str) -> str:
        """New UID of an old one (of 128 bits, under 2.25); UIDs of the standard stay."""
        old = str(old).strip("\0 ")
        if not old or old.startswith(_STANDARD_UIDS):
            return old
        return f"2.25.{int.from_bytes(self._digest('uid', old)[:16], 'big')}"

    def pseudonym(self, patient: str) -> str:
        """Such as P-3F2A9C01D2E4, for one patient."""
        return f"P-{self._digest('patient', patient)[:6].hex().upper()}"

    def _digest(self, kind: str, text: str) -> bytes:
        return hmac.digest(self._secret, f"{kind}:{text}".encode("utf-8", "surrogateescape"), hashlib.sha256)


@cache
def _rules() -> tuple[dict[int, str], list[tuple[int, int, str]]]:
    """Table E.1-1: {tag: action} and, for repeating groups, [(tag, mask, action)]."""
    single, repeating = dict(_MORE), []
    for key, function in simpledicomanonymizer.initialize_actions_2024b().items():
        action = _ACTIONS[function.__name__]
        tag = key[0] << 16 | key[1]
        if len(key) == 2:
            single[tag] = action
        else:
            repeating.append((tag, key[2] << 16 | key[3], action))
    return single, repeating


def clean_header(dataset: Dataset, mapping: UidMapping) -> None:
    """Remove what identifies the patient from a header, in place, and say that it was done.

    Patient's Name and ID become one pseudonym of the mapping, so that pictures of a patient stay together: that of ID
    and issuer, without an ID that of the name. All UIDs become others, also those that the table does not know. Private
    attributes, links, overlays, curves and annotations are removed. Pixels are not looked at. Values of attributes that
    the standard does not know to identify (e.g. Manufacturer) stay.
    """
    patient = "\0".join(str(dataset.get(keyword) or "") for keyword in ("PatientID", "IssuerOfPatientID"))
    if not patient.partition("\0")[0].strip():  # an issuer alone is a hospital, not a patient
        patient = str(dataset.get("PatientName") or "")
    _clean(dataset, mapping)
    pseudonym = mapping.pseudonym(patient) if patient.strip("\0 ") else ""
    for keyword in _PSEUDONYMS:
        setattr(dataset, keyword, pseudonym)
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "PS3.15 E.1 Basic Profile, table of 2024b"
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    method = Dataset()
    profile = codes.DCM.BasicApplicationConfidentialityProfile
    method.CodeValue, method.CodingSchemeDesignator, method.CodeMeaning = profile.value, "DCM", profile.meaning
    dataset.DeidentificationMethodCodeSequence = [method]


def _clean(dataset: Dataset, mapping: UidMapping) -> None:
    for tag in list(dataset.keys()):
        if tag.is_private or tag.group in _DRAWN_GROUPS:
            del dataset[tag]
            continue
        action = _REMOVE if tag in _AFTER_PIXELS else _action(tag)
        if action == _REMOVE:
            del dataset[tag]
        elif action is not None or dataset[tag].VR in ("PN", "SQ", "UN", "UI", "UR"):
            _apply(dataset, tag, action, mapping)


def _action(tag: BaseTag) -> str | None:
    single, repeating = _rules()
    if tag in single:
        return single[tag]
    return next((action for pattern, mask, action in repeating if tag & mask == pattern & mask), None)


def _apply(dataset: Dataset, tag: BaseTag, action: str | None, mapping: UidMapping) -> None:
    element = dataset[tag]
    if element.VR == "SQ":
        if action in (_EMPTY, _DUMMY):  # their items say who, where or with which device: a dummy would say nothing
            element.value = Sequence()
        for item in element.value:
            _clean(item, mapping)
    elif element.VR in ("UN", "UR"):  # could not be told apart, so could be anything; a link into an archive
        del dataset[tag]
    elif action == _UID or (element.VR == "UI" and action is None):
        if not element.keyword.endswith(_KINDS):  # of what kind an object is, not which one
            _replace_uids(element, mapping)
    elif action == _DUMMY and element.VM > 0:
        if element.VR in _DATES:
            element.value = _DATES[element.VR]
            return
        try:
            simpledicomanonymizer.replace_element(element)
        except NotImplementedError:
            element.value = None
    else:  # to be emptied, or a person's name that no rule knows
        element.value = None


def _replace_uids(element: DataElement, mapping: UidMapping) -> None:
    several = element.VM > 1
    element.value = [mapping.uid(old) for old in element.value] if several else mapping.uid(element.value or "")
