"""One definition of every figure that is reported: counts, outlines, calibration, intervals."""

from scripts.metrics.confusion import confusion_counts, overlap_figures, pooled_figures
from scripts.metrics.evaluation import LesionEvaluation
from scripts.metrics.lesion_metric import LesionDice
from scripts.metrics.severity_evaluation import SeverityEvaluation
from scripts.metrics.volume_evaluation import VolumeEvaluation

__all__ = [
    "LesionDice",
    "LesionEvaluation",
    "SeverityEvaluation",
    "VolumeEvaluation",
    "confusion_counts",
    "overlap_figures",
    "pooled_figures",
]
