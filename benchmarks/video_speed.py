"""How fast a clip goes through decoder, resizing, network and mask, each alone and all together; latency; memory.

    python benchmarks/video_speed.py [--seconds 20] [--rounds 3] [--memory]

The clip is 1280 x 720, H.264, 25 frames/s, made here. One process, the stages in turns, medians over the rounds:
decode-only (every frame to RGB), network-only (batches of resized frames), end to end (inference.json with
inference_video.json: read-ahead, network, smoothing, masks at 1280 x 720, timeline; no overlay clip), the same with the
overlay clip, and one frame at a time (latency). --memory runs a clip of 1 minute and one of 30 minutes, each in a
process of its own, and compares their peak memory. Writes benchmarks/results/video_speed.csv and video_memory.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from monai.bundle import ConfigWorkflow

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bundle"))

from scripts.engines.run_directory import processor  # noqa: E402
from scripts.io.media import close_media  # noqa: E402
from scripts.io.video_reader import VideoFile  # noqa: E402
from scripts.networks import LESSNet  # noqa: E402
from scripts.transforms import ResizeTo, RestoreLesionProbabilityd  # noqa: E402

SIZE, FPS, BATCH, SIDE = (720, 1280), 25, 8, 256
MEMORY_STRIDE = 10  # of the clips whose memory is compared: all frames are decoded, every tenth goes to the network
COLUMNS = ("case", "frames_per_s", "p50_ms", "p95_ms", "ratio", "bar", "met", "threads", "machine")


def make_clip(path: Path, seconds: float) -> Path:
    """A pink texture that wanders, a dark red disc on it and noise, so that the encoder has work like mucosa's."""
    random = np.random.default_rng(0)
    height, width = SIZE
    small = random.integers(120, 230, (height // 16 + 40, width // 16 + 40, 3)).astype(np.uint8)
    texture = np.kron(small, np.ones((16, 16, 1), np.uint8))
    texture = (texture * np.array([1.0, 0.62, 0.55])).astype(np.uint8)
    noise = random.integers(0, 12, (8, height, width, 3)).astype(np.uint8)
    rows, columns = np.mgrid[:height, :width]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "23"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.gop_size = 50
        for number in range(round(seconds * FPS)):
            dy, dx = int(200 + 150 * np.sin(number / 40)), int(200 + 150 * np.cos(number / 55))
            frame = texture[dy : dy + height, dx : dx + width] + noise[number % 8]
            frame[(rows - 360) ** 2 + (columns - 640 - 3 * (number % 100)) ** 2 < 90**2] = [120, 20, 20]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def repeat_clip(path: Path, source: Path, times: int) -> Path:
    """The same packets `times` over, without encoding them again."""
    with av.open(str(source)) as given, av.open(str(path), "w") as container:
        template = given.streams.video[0]
        stream = container.add_stream_from_template(template)
        packets = [packet for packet in given.demux(template) if packet.dts is not None]
        length = round(Fraction(len(packets), FPS) / template.time_base)
        stored = [(bytes(packet), packet.pts, packet.dts, packet.is_keyframe) for packet in packets]
        for turn in range(times):
            for data, pts, dts, key in stored:
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, template.time_base
                packet.pts, packet.dts, packet.is_keyframe = pts + turn * length, dts + turn * length, key
                container.mux(packet)
    return path


def decode_only(clip: Path) -> int:
    """Every frame to upright RGB."""
    with VideoFile(clip) as video:
        for index in range(len(video)):
            video.frame(index)
        return len(video)


def network_only(network: torch.nn.Module, frames: int) -> int:
    """Batches of frames that are there already."""
    batch = torch.rand(BATCH, 3, SIDE, SIDE)
    with torch.inference_mode():
        for _ in range(frames // BATCH):
            network(batch)
    return frames // BATCH * BATCH


class TimedWorkflow(ConfigWorkflow):
    """The command, in this process; `seconds` are those of the evaluator, without imports and set-up."""

    def run(self) -> int:
        """Run and return the number of frames."""
        frames = len(self.parser.get_parsed_content("datalist"))
        self.parser.get_parsed_content("checkpointloader")
        evaluator = self.parser.get_parsed_content("evaluator")
        begin = time.perf_counter()
        evaluator.run()
        self.seconds = time.perf_counter() - begin
        close_media()
        return frames


def end_to_end(clip: Path, folder: Path, checkpoint: Path, **changes: Any) -> tuple[int, float]:
    """Frames and seconds of inference.json with inference_video.json."""
    os.chdir(ROOT / "bundle")
    settings = {"dataset_dir": str(clip), "output_dir": str(folder / "out"), "checkpoint": str(checkpoint)}
    made = TimedWorkflow(
        ["configs/inference.json", "configs/inference_video.json"],
        meta_file="configs/metadata.json",
        logging_file=False,
        **({"overlays": False} | settings | changes),
    )
    made.initialize()
    return made.run(), made.seconds


def timed(run: Callable[[], int]) -> tuple[int, float]:
    """What `run` returns, and its seconds."""
    begin = time.perf_counter()
    return run(), time.perf_counter() - begin


def latencies(clip: Path, network: torch.nn.Module, frames: int = 100) -> list[float]:
    """Seconds of single frames: decode, resize, network, mask at the clip's size."""
    resize, restore = ResizeTo("image", (SIDE, SIDE)), RestoreLesionProbabilityd("pred")
    found = []
    with VideoFile(clip) as video, torch.inference_mode():
        for index in range(min(frames, len(video))):
            begin = time.perf_counter()
            picture = torch.as_tensor(video.frame(index)).permute(2, 0, 1)
            image = resize({"image": picture})["image"][None].float() / 255
            logits = network(image)[0]
            _ = restore({"pred": logits, "original_size": torch.tensor(SIZE)})["pred"] > 0.5
            found.append(time.perf_counter() - begin)
    return found[5:]


def speed(seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Rows of video_speed.csv."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = make_clip(folder / "clip.mp4", seconds)
        network = LESSNet(preset="lite", encoder_weights="none").eval()
        torch.save(network.state_dict(), folder / "model.pt")
        frames = round(seconds * FPS)
        cases: dict[str, Callable[[], tuple[int, float]]] = {
            "decode only": lambda: timed(lambda: decode_only(clip)),
            "network only": lambda: timed(lambda: network_only(network, frames)),
            "end to end": lambda: end_to_end(clip, folder, folder / "model.pt"),
            "end to end with overlay clip": lambda: end_to_end(clip, folder, folder / "model.pt", overlays=True),
        }
        rates: dict[str, list[float]] = {case: [] for case in cases}
        for turn in range(rounds + 1):
            for case, run in cases.items():
                count, taken = run()
                if turn:  # the first round warms up
                    rates[case].append(count / taken)
        times = sorted(1000 * value for value in latencies(clip, network))
    shared = {"threads": torch.get_num_threads(), "machine": f"{processor()}, {os.cpu_count()} threads"}
    medians = {case: statistics.median(found) for case, found in rates.items()}
    rows = [{"case": case, "frames_per_s": round(rate, 1), **shared} for case, rate in medians.items()]
    ratio = medians["end to end"] / min(medians["decode only"], medians["network only"])
    rows[2] |= {"bar": 15, "met": medians["end to end"] >= 15}
    rows.append({"case": "end to end / slower stage", "ratio": round(ratio, 3), "bar": 0.8, "met": ratio >= 0.8})
    rows.append(
        {
            "case": "one frame, decode to mask",
            "p50_ms": round(statistics.median(times), 1),
            "p95_ms": round(times[int(0.95 * len(times))], 1),
            **shared,
        }
    )
    return rows


def memory() -> list[dict[str, Any]]:
    """Rows of video_memory.csv: peak resident memory of 1 and of 30 minutes."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(LESSNet(preset="lite", encoder_weights="none").state_dict(), folder / "model.pt")
        minute = make_clip(folder / "1.mp4", 60)
        for minutes in (1, 30):
            clip = minute if minutes == 1 else repeat_clip(folder / "30.mp4", minute, 30)
            command = [sys.executable, __file__, "--one", str(clip), str(folder / "model.pt"), str(folder / "out")]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            frames, peak = done.stdout.split()[-2:]
            rows.append({"minutes": minutes, "frames": frames, "stride": MEMORY_STRIDE, "peak_mib": peak})
            print(rows[-1], flush=True)
    growth = round(float(rows[1]["peak_mib"]) - float(rows[0]["peak_mib"]), 1)
    return [*rows, {"minutes": "30 - 1", "peak_mib": growth, "bar": 50, "met": growth <= 50}]


def one(clip: str, checkpoint: str, out: str) -> None:
    """Run one clip and print its frames and the peak memory of this process, MiB."""
    count, _ = end_to_end(Path(clip), Path(out), Path(checkpoint), stride=MEMORY_STRIDE)
    print(count, round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1))


def write(name: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    """Write a CSV of results and print it."""
    path = ROOT / "benchmarks" / "results" / name
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    print(path.read_text())


def main() -> None:
    """See the file's first lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="length of the clip")
    parser.add_argument("--rounds", type=int, default=3, help="how often each stage is measured")
    parser.add_argument("--memory", action="store_true", help="compare the memory of 1 and 30 minutes instead")
    parser.add_argument("--one", nargs=3, metavar=("CLIP", "CHECKPOINT", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(*args.one)
    elif args.memory:
        write("video_memory.csv", ("minutes", "frames", "stride", "peak_mib", "bar", "met"), memory())
    else:
        write("video_speed.csv", COLUMNS, speed(args.seconds, args.rounds))


if __name__ == "__main__":
    main()
