"""Promptable segmenters and the mining of their masks."""

from scripts.pseudo_labels.miner import DECISIONS, GIVEN, MinedLabel, MiningRules, PseudoLabelMiner
from scripts.pseudo_labels.promptable import PromptableSegmenter, Proposals, SegmenterError
from scripts.pseudo_labels.prompts import PromptBuilder, Prompts
from scripts.pseudo_labels.segmenters import SEGMENTERS, build_segmenter

__all__ = [
    "DECISIONS",
    "GIVEN",
    "SEGMENTERS",
    "MinedLabel",
    "MiningRules",
    "PromptBuilder",
    "PromptableSegmenter",
    "Prompts",
    "Proposals",
    "PseudoLabelMiner",
    "SegmenterError",
    "build_segmenter",
]
