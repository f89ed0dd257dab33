"""MediaError, and what the first bytes of a file say it really is."""

from __future__ import annotations

from pathlib import Path

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg", ".flv", ".ogv"),
    *(".ts", ".mts", ".m2ts", ".vob"),
)
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd")  # RGB pictures or their stacks, as annotation tools pass them on
HEIF_SUFFIXES = (".heic", ".heif", ".avif")  # photographs that are not read, and are said to be so
HEAD_BYTES = 512  # enough for every signature below: DICOM's stands at byte 128, MPEG-TS repeats at byte 188

_CURE = {
    "video": "it is a video, not an image: give it its own suffix (.mp4, .avi, .mkv), or extract the frames that you "
    "mean, e.g. `ffmpeg -i {name} frame_%05d.png`",
    "DICOM": "it is a DICOM file, not an image: give it the suffix .dcm, or export the frame that you mean, e.g. "
    "`dcmj2pnm +on {name} frame.png`",
    "HEIF": "it is a HEIC or AVIF photograph: convert it to PNG or JPEG first",
    "git-lfs": "it is a Git LFS pointer, the picture itself was never fetched: run `git lfs pull`",
}


class MediaError(ValueError):
    """A file that cannot be read as the picture or mask it should be; the message names the file and the cure."""


def cannot_open(path: str | Path, error: OSError) -> MediaError:
    """What to raise where a file may not be read, or its disk is gone."""
    return MediaError(
        f"{path}: cannot be opened ({error.strerror or error}); check its permissions and the disk that it is on"
    )


def media_kind(head: bytes) -> str | None:
    """Tell from the first HEAD_BYTES of a file whether it is "video", "DICOM", "HEIF" or "git-lfs"; else None."""
    if head[128:132] == b"DICM":
        return "DICOM"
    if head[4:8] == b"ftyp":  # ISO base media: the brand tells a photograph from a film
        return "HEIF" if head[8:12] in (b"heic", b"heix", b"mif1", b"avif", b"msf1") else "video"
    if head[4:8] in (b"moov", b"mdat", b"wide") or head[:4] in (b"\x1aE\xdf\xa3", b"OggS", b"\x00\x00\x01\xba"):
        return "video"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "video"
    if head[:3] == b"FLV" or head[:4] == b"\x30\x26\xb2\x75":  # Flash; ASF (.wmv)
        return "video"
    # MPEG transport stream: a sync byte every 188; of a camera (AVCHD) after 4 bytes of time, every 192
    if len(head) > 196 and (head[0] == head[188] == 0x47 or head[4] == head[196] == 0x47):
        return "video"
    if head.startswith(b"version https://git-lfs"):
        return "git-lfs"
    return None


def refuse_foreign(path: str | Path) -> None:
    """Raise MediaError when `path` is missing, a folder, empty, or a video, DICOM, HEIF or LFS pointer by content."""
    path = Path(path)
    if not path.exists():
        raise MediaError(f"{path}: no such file; check the path, or take its row out of the datalist")
    if path.is_dir():
        raise MediaError(f"{path}: expected an image file, found a folder")
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if not head:
        raise MediaError(f"{path}: the file is empty (0 bytes); copy it again from its source or remove it")
    kind = media_kind(head)
    if kind is not None:
        raise MediaError(f"{path}: {_CURE[kind].format(name=path.name)}")
