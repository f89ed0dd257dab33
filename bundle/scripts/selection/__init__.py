"""Which frames a person should label next."""

from scripts.selection.candidates import Candidate, Choice
from scripts.selection.diverse import choose_diverse
from scripts.selection.options import STRATEGIES, ChoiceOptions
from scripts.selection.plain import choose_first, choose_random
from scripts.selection.uncertain import choose_uncertain
from scripts.selection.uncertainty import lesion_band_entropy, pixel_uncertainty, stratum

__all__ = [
    "STRATEGIES",
    "Candidate",
    "Choice",
    "ChoiceOptions",
    "choose_diverse",
    "choose_first",
    "choose_random",
    "choose_uncertain",
    "lesion_band_entropy",
    "pixel_uncertainty",
    "stratum",
]
