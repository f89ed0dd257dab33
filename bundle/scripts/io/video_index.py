"""Which frames a clip holds, and when each is shown: found by reading its packets, without decoding."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from scripts.io.video_open import reason_of

_DEFAULT_RATE = Fraction(25)  # frames/s, FFmpeg's own assumption for a stream that does not say


@dataclass(frozen=True)
class VideoIndex:
    """Presentation time stamps and key frames of one video stream; 8 bytes a frame and 16 a key frame.

    Attributes:
        stamps: (N,) int64, time stamps of the shown frames in the order of showing, in units of `time_base` seconds.
        time_base: seconds of one unit.
        key_stamps, key_seeks: (K,) int64, time stamp of each key frame, ascending, and the one the container seeks by;
            empty with `by_order`.
        by_order: the container holds no trustworthy time stamps (raw streams, H.264 in AVI, clips put one after the
            other): frames are told apart by their order alone, which makes reading backwards start at the beginning.
        rate: frames/s, the mean over the clip.
        declared_frames: what the container's header says, None when it says nothing.
        warnings: what is wrong with the clip as a whole, as sentences.
    """

    stamps: NDArray[np.int64]
    time_base: Fraction
    key_stamps: NDArray[np.int64]
    key_seeks: NDArray[np.int64]
    by_order: bool
    rate: float
    declared_frames: int | None = None
    warnings: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.stamps)

    def time(self, index: int) -> float:
        """Seconds from the first frame's showing to that of frame `index`. Raises IndexError outside 0..len-1."""
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index}; the clip has {len(self)} frames, counted from 0.")
        return float(int(self.stamps[index] - self.stamps[0]) * self.time_base)

    def key_before(self, index: int) -> int:
        """Number of the key frame from which frame `index` can be decoded."""
        return max(0, int(np.searchsorted(self.key_stamps, self.stamps[index], side="right")) - 1)

    def find(self, stamp: int | None, last: int) -> int:
        """Index of a decoded frame by its time stamp; `last` is the index of the one decoded before it.

        Frames that share a stamp, or have none, are numbered on.
        """
        if self.by_order or stamp is None:
            return last + 1
        found = int(np.searchsorted(self.stamps, stamp))
        shared = last + 1 < len(self) and self.stamps[last + 1] == stamp
        return last + 1 if found <= last and shared else found

    @cached_property
    def key_frames(self) -> NDArray[np.int64]:
        """(K,) index of the first frame shown at or after each key frame."""
        return np.searchsorted(self.stamps, self.key_stamps)


def build_index(container: InputContainer, stream: VideoStream) -> VideoIndex:
    """Read all packets of `stream` once (they are not decoded) -> VideoIndex. The container stands at its end then.

    A container that breaks off gives what it holds, with a warning.
    """
    stamps, decode_stamps, keys, seeks = array("q"), array("q"), array("q"), array("q")
    by_pts = container.format.name.startswith("matroska")  # its cues hold presentation times, other indices dts
    hidden = missing = restarts = skipped = 0
    last_dts: int | None = None
    broken = ""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except (av.FFmpegError, OSError) as error:
            broken = f"damaged after frame {len(stamps)} ({reason_of(error)})"
            break
        if not packet.size:
            continue
        shown = not packet.is_discard and not _is_vp8_reference(stream, packet)
        stamp = packet.pts if packet.pts is not None else packet.dts
        missing += packet.pts is None
        if packet.dts is not None:
            if last_dts is not None:
                restarts += packet.dts < last_dts
                skipped += max(0, packet.dts - last_dts - 1)
            last_dts = packet.dts
        if packet.is_keyframe and stamp is not None:
            keys.append(stamp)
            seeks.append(stamp if by_pts or packet.dts is None else packet.dts)
        if shown:
            stamps.append(stamp if stamp is not None else len(stamps))
            decode_stamps.append(packet.dts if packet.dts is not None else len(decode_stamps))
        else:  # left out by an edit list, or a picture that only others refer to
            hidden += 1
    context = stream.codec_context
    # The AVI demuxer makes time stamps up in the order of decoding; only for MPEG-4 part 2 it knows better.
    invented = container.format.name == "avi" and context.name != "mpeg4" and context.reorder_depth > 0
    # Recordings put one after the other (cat a.ts b.ts): their times start anew, and would be sorted into each other.
    counted = bool(missing) or bool(restarts)
    by_order = counted or invented
    time_base, rate = stream.time_base, stream.guessed_rate or stream.average_rate or _DEFAULT_RATE
    sorted_stamps = np.sort(np.frombuffer(decode_stamps if by_order else stamps, dtype=np.int64))
    if counted and not invented:
        sorted_stamps, time_base = np.arange(len(stamps), dtype=np.int64), 1 / Fraction(rate)
    if by_order:
        del keys[:], seeks[:]
    order = np.argsort(np.frombuffer(keys, dtype=np.int64), kind="stable")
    found_rate = _mean_rate(sorted_stamps, time_base, float(rate))
    declared = stream.frames or None
    # AVI has an empty packet where a recorder dropped a frame, so that the one before stays. The header counts
    # them, the demuxer passes over them; dts is the place of a packet.
    hidden += skipped if container.format.name == "avi" else 0
    warnings = _warnings(container, stream, sorted_stamps, found_rate, hidden, broken)
    if restarts:
        again = f"its time stamps start anew {restarts} times" if restarts > 1 else "its time stamps start anew once"
        warnings = (*warnings, f"{again}: frames are counted, and their times are by the frame rate")
    return VideoIndex(
        stamps=sorted_stamps,
        time_base=Fraction(time_base),
        key_stamps=np.frombuffer(keys, dtype=np.int64)[order],
        key_seeks=np.frombuffer(seeks, dtype=np.int64)[order],
        by_order=by_order,
        rate=found_rate,
        declared_frames=declared,
        warnings=warnings,
    )


def _is_vp8_reference(stream: VideoStream, packet: av.Packet) -> bool:
    """Say whether this is a VP8 picture that is never shown (RFC 6386, section 9.1: show_frame is bit 4)."""
    return stream.codec_context.name == "vp8" and not memoryview(packet)[0] & 0x10


def _mean_rate(stamps: NDArray[np.int64], time_base: Fraction, said: float) -> float:
    span = int(stamps[-1] - stamps[0]) * Fraction(time_base) if len(stamps) > 1 else 0
    return float((len(stamps) - 1) / span) if span > 0 else said


def _warnings(
    container: InputContainer, stream: VideoStream, stamps: NDArray[np.int64], rate: float, hidden: int, broken: str
) -> tuple[str, ...]:
    found, declared = len(stamps), stream.frames
    if declared and found + hidden < declared:
        why = f", {broken}" if broken else ""
        return (f"truncated: it holds {found} frames, its header says {declared - hidden}{why}",)
    if broken:
        return (broken,)
    if found and not declared:
        said, seconds = _declared_seconds(container, stream), found / rate
        if said - seconds > max(3 / rate, 0.02 * said):
            return (f"truncated: it holds {found} frames in {seconds:.2f} s, its header says {said:.2f} s",)
    return ()


def _declared_seconds(container: InputContainer, stream: VideoStream) -> float:
    """Length of the video stream by the header, seconds; 0 when only the length with the sound is known."""
    text = stream.metadata.get("DURATION", "")  # Matroska, "00:00:12.480000000"
    try:
        hours, minutes, seconds = (float(part) for part in text.split(":"))
        return 3600 * hours + 60 * minutes + seconds
    except ValueError:
        alone = len(container.streams) == 1 and container.duration is not None
        return container.duration / av.time_base if alone else 0.0
