"""Item -> tensor -> views: resizing to the network's size and back, random views, mixing."""

from scripts.transforms.mixing import CutMix
from scripts.transforms.resizing import RecordSized, ResizeTo, RestoreLesionProbabilityd
from scripts.transforms.views import View, view

__all__ = ["CutMix", "RecordSized", "ResizeTo", "RestoreLesionProbabilityd", "View", "view"]
