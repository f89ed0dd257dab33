"""What a person watches and counts of a video: overlay clip, timeline, episodes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scripts.engines.frame_result import MOVING, FrameResult
from scripts.engines.overlay_clip import OverlayClip
from scripts.engines.picture_results import frame_name
from scripts.io.errors import MediaError
from scripts.io.media import display_rate_of, frame_rate_of, open_media
from scripts.io.provenance import Provenance
from scripts.io.table import Table
from scripts.io.writers import OutputNamer, remove_output, write_mask_png
from scripts.metrics.episodes import find_episodes, summarise_episodes
from scripts.metrics.temporal_consistency import TemporalConsistency
from scripts.metrics.timeline import Timeline, write_episodes

logger = logging.getLogger(__name__)

VIDEOS_FILE = "videos.csv"
OVERLAY, TIMELINE, PICTURE, EPISODES = OUTPUTS = ("overlay.mp4", "timeline.csv", "timeline.png", "episodes.csv")
VIDEO_COLUMNS = (
    *("file", "frames", "failed_frames", "seconds", "episodes", "episodes_per_minute", "flickers", "lesion_time_share"),
    *("longest_s", "peak_share", "consistency", "episodes_unsmoothed", "flickers_unsmoothed"),
    *("consistency_unsmoothed", "scene_changes", "warnings", "folder"),
)


class VideoResults:
    """Writes ``videos/<name>/`` for each video: overlay.mp4, timeline.csv, timeline.png, episodes.csv; and videos.csv.

    With smoothing in time, masks, overlay and episodes are those of the smoothed prediction; figures without it stand
    beside them (share and consistency without it, and consistency with it, are taken on the network's grid). Memory
    holds numbers of each frame (62 bytes), never pictures.

    Args:
        sources: all files of the run if known, so that output names do not depend on their order.
        overlays: whether overlay.mp4 is made.
        masks: whether each frame's mask is written, ``masks/<name>/000012.png``.
        episode: arguments of find_episodes.
        draw: draws timeline.png (path, times_s, shares, smoothed_shares, episodes, title, failed_frames); None = none.
        provenance: written beside the outputs of each video; None = not.

    Raises:
        TypeError, ValueError: settings that find_episodes does not take.
    """

    def __init__(
        self,
        sources: Iterable[str] = (),
        overlays: bool = True,
        masks: bool = False,
        episode: Mapping[str, float] | None = None,
        draw: Callable[..., None] | None = None,
        provenance: Provenance | None = None,
    ) -> None:
        self.sources = tuple(sources)
        self.overlays = overlays
        self.masks = masks
        self.episode = dict(episode or {})
        find_episodes([], [], **self.episode)
        self.draw = draw
        self.provenance = provenance
        self.start(Path())

    def start(self, output_dir: Path) -> None:
        """Begin a new run."""
        self.output_dir = output_dir
        self.videos = Table(VIDEO_COLUMNS)
        self._namer = OutputNamer(self.sources, suffix="")
        self._begin()

    def _begin(self) -> None:
        self._source: tuple[str, str] | None = None  # file, path
        self._unread: str | None = None  # file of which a frame, or all, could not be read
        self._timeline = Timeline()
        self._steady, self._steady_raw = TemporalConsistency(), TemporalConsistency()
        self._scene_changes = 0
        self._clip: OverlayClip | None = None
        self._clip_start = (0, 0.0)  # number and seconds of its first frame
        self._display_fps: float | None = None

    def takes(self, kind: str) -> bool:
        """Videos, and DICOM files whose frames follow each other in time."""
        return kind in MOVING

    def add(self, result: FrameResult) -> None:
        """Take the next frame. Raises OutputError, MediaError."""
        self._source = (result.source, result.source_path)
        figures, grid = result.figures, result.grid_masks
        share = figures["lesion_share"]
        self._timeline.add(
            result.frame,
            result.time_s,
            lesion_px=figures["lesion_px"],
            lesion_share=share if grid is None else float(grid[0].mean()),
            lesion_share_smoothed=None if grid is None else share,
            mean_confidence=figures["mean_confidence"],
            agreement=figures["agreement"],
            quality=figures["quality"],
            scene_change=result.scene_change,
        )
        self._scene_changes += result.scene_change
        self._steady.update(result.mask if grid is None else grid[1], result.scene_change)
        if grid is not None:
            self._steady_raw.update(grid[0], result.scene_change)
        if self.masks:
            name = frame_name(self._namer(result.source), result.file, result.source, result.frame)
            write_mask_png(self.output_dir / "masks" / name, result.mask)
            if self.provenance is not None:
                self.provenance.write_beside(self.output_dir / "masks" / name, result.path)
        if self.overlays:
            self._add_overlay(result)

    def _add_overlay(self, result: FrameResult) -> None:
        if self._clip is None:
            self._clip = OverlayClip(self._folder(result.source) / OVERLAY, frame_rate(result.source_path))
            self._clip_start = (result.frame, result.time_s)
            self._display_fps = display_rate_of(open_media(Path(result.source_path)))
        text = f"{_clock(result.time_s)}  lesion {100 * result.figures['lesion_share']:.1f} %"
        shown_s = result.time_s - self._clip_start[1]
        if self._display_fps:  # of the overlay alone: all that is counted goes by the frames' own times
            shown_s = (result.frame - self._clip_start[0]) / self._display_fps
        self._clip.add(result.path, result.mask, text, shown_s)

    def failed(self, item: Mapping[str, Any], error: str) -> None:
        """Mark a frame that could not be read in the timeline; its mask of an earlier run goes."""
        time_s = float(item["time_s"])
        self._unread = source = str(item["source"])
        if time_s == time_s:  # nan: the file as a whole cannot be read
            self._source = (source, str(item["path"]).removesuffix(f"#{item['frame']}"))
            self._timeline.add_failed(int(item["frame"]), time_s, error)
        if self.masks:
            name = frame_name(self._namer(source), str(item["file"]), source, int(item["frame"]))
            remove_output(self.output_dir / "masks" / name)
        self._steady.reset()
        self._steady_raw.reset()

    def finish_source(self) -> None:
        """Write what belongs to the video as a whole; of one that cannot be read nothing is left of an earlier run.

        Raises:
            MediaError: something is wrong with the video as a whole (it breaks off); its outputs are written all the
                same.
        """
        source, timeline, clip, unread = self._source, self._timeline, self._clip, self._unread
        try:
            if source is None or len(timeline) == len(timeline.errors):  # no frame could be read
                if clip is not None:
                    clip.abort()
                for name in OUTPUTS if unread is not None else ():
                    remove_output(self._folder(unread) / name)
                return
            if clip is not None:
                clip.close()
            self._write(*source)
        finally:
            self._begin()

    def _write(self, file: str, path: str) -> None:
        timeline, folder = self._timeline, self._folder(file)
        times, raw, smoothed = timeline.times_s, timeline.shares, timeline.smoothed_shares
        shown = raw if smoothed is None else smoothed
        found = find_episodes(times, shown, frames=timeline.frames, **self.episode)
        timeline.write(folder / TIMELINE, found)
        write_episodes(folder / EPISODES, {file: found})
        if self.draw is not None:
            failed = [n for n, frame in enumerate(timeline.frames.tolist()) if frame in timeline.errors]
            self.draw(folder / PICTURE, times, raw, smoothed, found, title=file, failed_frames=failed)
        made = [
            TIMELINE,
            EPISODES,
            *([OVERLAY] if self.overlays else []),
            *([PICTURE] if self.draw is not None else []),
        ]
        for name in OUTPUTS:
            if name not in made:  # of an earlier run, of other weights perhaps
                remove_output(folder / name)
            elif self.provenance is not None and (folder / name).is_file():
                self.provenance.write_beside(folder / name, Path(path))
        warnings = " ".join(getattr(getattr(open_media(Path(path)), "info", None), "warnings", ()))
        summary = asdict(summarise_episodes(times, shown, **self.episode))
        plain = asdict(summarise_episodes(times, raw, **self.episode)) if smoothed is not None else {}
        self.videos.add(
            **{name: summary[name] for name in VIDEO_COLUMNS if name in summary},
            file=file,
            seconds=summary["total_s"],
            consistency=self._steady.value,
            episodes_unsmoothed=plain.get("episodes"),
            flickers_unsmoothed=plain.get("flickers"),
            consistency_unsmoothed=self._steady_raw.value,
            scene_changes=self._scene_changes,
            warnings=warnings,
            folder=folder.relative_to(self.output_dir).as_posix(),
        )
        if warnings:
            raise MediaError(f"{file}: {warnings}")

    def finish(self) -> None:
        """Write videos.csv, if there were videos. Raises OutputError."""
        if self.videos.rows:
            self.videos.write(self.output_dir / VIDEOS_FILE)

    def _folder(self, file: str) -> Path:
        return self.output_dir / "videos" / self._namer(file)


def frame_rate(path: str) -> float:
    """Frames/s at which a video or DICOM file is shown; 25 where it does not say (logged)."""
    media = open_media(Path(path))
    fps = display_rate_of(media) or frame_rate_of(media)
    if fps is None:
        logger.warning("%s: no frame rate; its overlay is shown at 25 frames/s", path)
        return 25.0
    return float(fps)


def _clock(seconds: float) -> str:
    """mm:ss.cc, with hours where there are."""
    minutes, rest = divmod(max(0.0, seconds), 60.0)
    hours, minutes = divmod(int(minutes), 60)
    return (f"{hours}:" if hours else "") + f"{minutes:02d}:{rest:05.2f}"
