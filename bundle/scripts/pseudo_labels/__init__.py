"""Promptable segmenters and the mining of their masks."""
