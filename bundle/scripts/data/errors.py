"""Errors of the data layer, and how a long list of files is shown in one."""

from __future__ import annotations

from collections.abc import Sequence


class DatasetError(ValueError):
    """A dataset that cannot be used as it is; the message names the files and the cure."""


class LeakError(DatasetError):
    """The same picture, or one group, stands on both sides of a split."""


def listing(lines: Sequence[str], limit: int = 10) -> str:
    """Join up to `limit` lines, each on its own line and indented, and count the rest."""
    shown = "".join(f"\n  {line}" for line in lines[:limit])
    return shown + (f"\n  ... and {len(lines) - limit} more" if len(lines) > limit else "")
