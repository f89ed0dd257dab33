"""Run directory -> curves, overlays, tables and one self-contained HTML page."""

from scripts.reports.report import write_report

__all__ = ["write_report"]
