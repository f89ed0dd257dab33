"""Item -> tensor -> views: resizing to the network's size and back, random views, mixing, smoothing in time."""

from scripts.transforms.frames import LesionMasksd
from scripts.transforms.mixing import CutMix
from scripts.transforms.resizing import RecordSized, ResizeTo, RestoreClassesd, RestoreLesionProbabilityd
from scripts.transforms.severity import SeverityLabel
from scripts.transforms.smoothing import SmoothInTimed
from scripts.transforms.views import View, view

__all__ = [
    "CutMix",
    "LesionMasksd",
    "RecordSized",
    "ResizeTo",
    "RestoreClassesd",
    "RestoreLesionProbabilityd",
    "SeverityLabel",
    "SmoothInTimed",
    "View",
    "view",
]
