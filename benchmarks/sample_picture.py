"""The README's picture: test frames of a run on the sample set, best and median ones, side by side.

python benchmarks/sample_picture.py bundle/runs/sample_weak_to_strong_labels1_seed0
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
HEIGHT, GAP = 240, 6  # pixels


def main() -> None:
    """Paste overlay_best_1, overlay_best_2, overlay_median_1 and overlay_median_2 into one row."""
    figures = Path(sys.argv[1]) / "figures"
    pictures = [Image.open(figures / f"overlay_{name}.png") for name in ("best_1", "best_2", "median_1", "median_2")]
    pictures = [picture.resize((round(picture.width * HEIGHT / picture.height), HEIGHT)) for picture in pictures]
    row = Image.new("RGB", (sum(p.width for p in pictures) + GAP * (len(pictures) - 1), HEIGHT), "white")
    left = 0
    for picture in pictures:
        row.paste(picture, (left, 0))
        left += picture.width + GAP
    target = ROOT / "bundle" / "docs" / "figures" / "sample_overlays.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    row.save(target, optimize=True)
    print(target)


if __name__ == "__main__":
    main()
