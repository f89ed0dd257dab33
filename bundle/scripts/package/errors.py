"""What a package is refused for."""

from __future__ import annotations

from collections.abc import Sequence


class PackageError(ValueError):
    """The bundle cannot be packaged; ``problems`` names each fault with its cure."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))
