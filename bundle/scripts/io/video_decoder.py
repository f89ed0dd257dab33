"""The decoded picture of a frame by its number, found by the cheapest way."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple
from weakref import WeakSet

import av
import numpy as np
from av.codec.context import Flags
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame

from scripts.io.errors import MediaError
from scripts.io.video_index import build_index
from scripts.io.video_open import open_container, reason_of, video_stream

_NEAR = 8  # frames: so far ahead decoding on is cheaper than seeking, which throws away what the threads began
_RETRY_KEYS = 4  # a frame that fails after a seek is tried again from so many key frames before (intra refresh)
_REFRESH_KEYS = 2  # with intra refresh a picture is whole so many recovery points after the one where decoding began
_HELD = 16  # frames: so long a frame waits for those decoded before it (H.264 and HEVC reorder by 16 at most)
_THREADS = min(4, os.cpu_count() or 1)  # each decoding thread holds frames of its own
_SILENT = "nothing comes out of the decoder"
_END = object()


class _Place(NamedTuple):
    """Where a packet stands in the order of decoding; its frame carries this on through the decoder."""

    position: int
    group: int  # counts the key frames since the run's start
    key_stamp: int | None  # of the group's key frame


class FrameDecoder:
    """One clip's container, its index, and the run of decoding that goes on in it.

    A frame is None when it does not decode whole, or refers to one that does not: FFmpeg would make its pixels up from
    what it has. Damage so reaches from the damaged frame to the next key frame at most. Holds one decoded frame besides
    those of FFmpeg's threads.
    """

    def __init__(self, source: str | Path | BinaryIO, name: str) -> None:
        """Open the clip and build its index. Raises MediaError as open_container, video_stream; or without a frame."""
        self._source, self._name = source, name
        self._container = None
        self._process = os.getpid()
        self._threaded, self._switched = True, False
        self._gradual = False  # intra refresh: what the container calls a key frame is none
        self._open()
        _alive.add(self)
        try:
            self.index = build_index(self._container, self.stream)
            if not len(self.index):
                raise MediaError(f"{name}: the video holds no frame; record or copy it again, or remove it")
            self._seek(0)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the container; a second call does nothing."""
        if self._process != os.getpid():
            _inherited.append((self._frames_out, self._container))
        self._frames_out, self._held = iter(()), None
        if self._container is not None and self._process == os.getpid():
            self._container.close()
        self._container = None

    @property
    def closed(self) -> bool:
        """Whether close was called."""
        return self._container is None

    def fetch(self, index: int) -> VideoFrame | None:
        """Decode frame `index` (0 is the first shown) -> it, or None when it does not decode: `why` says the reason."""
        if self._process != os.getpid():
            raise RuntimeError(f"{self._name}: opened before this process forked; open the file anew here.")
        key = self.index.key_before(index)
        ahead = index > self._last and (
            self.index.by_order or index - self._last <= _NEAR or key <= self.index.key_before(max(self._last, 0))
        )
        if not ahead and not self._before < index <= self._last:
            self._seek(key)
        frame = self._advance(index)
        earlier = max(0, key - _RETRY_KEYS)
        if frame is None and self._start_key > earlier:
            self._seek(earlier)
            frame = self._advance(index)
        return frame

    def _open(self) -> None:
        """Open the container and its video stream anew."""
        if self._container is not None:
            self._container.close()
        self._container = open_container(self._source, self._name)
        try:
            self.stream = video_stream(self._container, self._source, self._name)
        except BaseException:
            self.close()
            raise
        context = self.stream.codec_context
        context.thread_type = "AUTO" if self._threaded else "NONE"
        context.thread_count = _THREADS if self._threaded else 1
        context.flags |= Flags.copy_opaque

    def _begin(self, start_key: int, packets: Iterable[Packet]) -> None:
        """Begin a run of decoding with the packet of key frame `start_key`."""
        self._start_key = start_key
        # What comes out before the key frame is shown lacks the frames that it refers to.
        useful = start_key + (_REFRESH_KEYS if self._gradual and start_key else 0)
        self._first = int(self.index.key_frames[useful]) if len(self.index.key_frames) else 0
        self._before = self._last = self._first - 1  # index of what came out last but one, and last
        self._held: VideoFrame | None = None  # what came out last
        self._damage: dict[int, int] = {}  # group -> position of its first damaged packet
        self._done: set[int] = set()  # positions of packets that came out, or never will
        self._lost, self._lost_group = 0, 0  # frames that the count of a clip without time stamps lacks, and where
        self.why = _SILENT
        self._frames_out = self._settle(self._decode(packets))

    def _seek(self, key: int) -> None:
        """Stand at key frame `key`, or at one before where the container knows no better."""
        if self._gradual:
            key = max(0, key - _REFRESH_KEYS)
        tries = (key, max(0, key - 1)) if len(self.index.key_stamps) else ()
        for number in tries:
            try:
                self._container.seek(int(self.index.key_seeks[number]), stream=self.stream)
                packets = self._container.demux(self.stream)
                packet = next((packet for packet in packets if packet.is_keyframe and packet.size), None)
            except (av.FFmpegError, OSError):
                break
            stamp = None if packet is None else packet.pts if packet.pts is not None else packet.dts
            landed = key + 1 if stamp is None else int(np.searchsorted(self.index.key_stamps, stamp))
            if landed <= key:
                return self._begin(landed, chain([packet], packets))
        self._open()  # raw streams cannot seek, and order counts from the beginning
        self._begin(0, self._container.demux(self.stream))

    def _decode(self, packets: Iterable[Packet]) -> Iterator[VideoFrame]:
        """Decode -> frames in the order of showing, each with its _Place."""
        packets, position, group, key_stamp = iter(packets), 0, 0, None
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.FFmpegError, OSError) as error:
                self.why = reason_of(error)
                return
            if packet.size:
                position += 1
                if packet.is_keyframe:
                    group, key_stamp = group + 1, packet.pts
                packet.opaque = _Place(position, group, key_stamp)
                if packet.is_discard:
                    self._done.add(position)
            try:
                yield from packet.decode()
            except av.FFmpegError as error:
                self.why = reason_of(error)
                if self._threaded:  # which packet it was, and what else was lost with it, only one thread can tell
                    self._threaded, self._switched = False, True
                    return
                self._note_damage(group, position)
                self._done.add(position)
                self._lost, self._lost_group = self._lost + 1, group

    def _settle(self, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        """Hold each frame back until all that was decoded before it came out: only then its references are known.

        A B frame is shown before a frame that it refers to, and FFmpeg tells of damage when that comes out.
        """
        waiting: deque[VideoFrame] = deque()
        settled = 0  # all packets up to this position are done
        for frame in frames:
            waiting.append(frame)
            place: _Place | None = frame.opaque
            if place is not None:
                self._done.add(place.position)
                if frame.is_corrupt:
                    self._note_damage(place.group, place.position)
            while settled + 1 in self._done:
                settled += 1
                self._done.discard(settled)
            while waiting and (
                len(waiting) > _HELD or waiting[0].opaque is None or waiting[0].opaque.position <= settled + 1
            ):
                yield waiting.popleft()
        yield from waiting

    def _advance(self, index: int) -> VideoFrame | None:
        """Decode on to frame `index` -> it, or None when it does not come out whole."""
        while self._last < index:
            frame = next(self._frames_out, _END)
            if frame is _END and self._switched:
                self._switched = False
                self._open()
                self._seek(self.index.key_before(index))
                continue
            if frame is _END:
                self._before, self._last, self._held = self._last, len(self.index), None
                break
            if self.index.by_order and self._lost and frame.opaque and frame.opaque.group > self._lost_group:
                self._last, self._lost = self._last + self._lost, 0  # at a key frame the count is right again
            found = self.index.find(frame.pts, self._last)
            if found >= self._first > self._last and self._start_key and not self._gradual and not _is_key(frame):
                self._gradual = True
                self._seek(self.index.key_before(index))
                continue
            if found >= self._first:
                self._before, self._last = self._last, found
                self._held = frame if self._is_whole(frame) else None
        return self._held if self._last == index else None

    def _is_whole(self, frame: VideoFrame) -> bool:
        """Say whether the frame decoded without damage, and so did what it may refer to."""
        if frame.is_corrupt:
            self.why = "parts of it are missing"
            return False
        place: _Place | None = frame.opaque
        if place is None:
            return True
        groups = [place.group]
        if place.key_stamp is not None and frame.pts is not None and frame.pts < place.key_stamp:
            groups.append(place.group - 1)  # shown before its own key frame: it refers to the group before, too
        if any(self._damage.get(group, place.position) < place.position for group in groups) or (
            self.index.by_order and self._lost  # whose turn it is cannot be told before the next key frame
        ):
            self.why = "it refers to a frame that is damaged"
            return False
        return True

    def _note_damage(self, group: int, position: int) -> None:
        """Remember the first damaged packet of a group; older groups than the one before are of no use."""
        self._damage = {old: first for old, first in self._damage.items() if old >= group - 1}
        self._damage[group] = min(position, self._damage.get(group, position))


def _is_key(frame: VideoFrame) -> bool:
    """Say whether the frame is that of a run's first packet, and needs no other."""
    return (frame.opaque is None or frame.opaque.position == 1) and frame.pict_type == PictureType.I


# FFmpeg's threads are not there in a forked process, and freeing a decoder waits for them for ever: what was open when
# the process forked is kept in the child until it ends. It must not be read there either.
_alive: WeakSet[FrameDecoder] = WeakSet()
_inherited: list[object] = []


def _keep() -> None:
    _inherited.append(list(_alive))


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(before=_keep, after_in_parent=_inherited.pop)
