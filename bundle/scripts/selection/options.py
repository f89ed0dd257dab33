"""The strategies by name, and what each takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.selection.candidates import Candidate, Choice, Features
from scripts.selection.diverse import choose_diverse
from scripts.selection.plain import choose_first, choose_random
from scripts.selection.uncertain import PROPORTIONAL, choose_uncertain

STRATEGIES = ("uncertainty", "diversity", "random", "first")
GROUP_CAP = {"uncertainty": 3, "diversity": 1}  # frames of one group; the cold start wants to see as many as it can


@dataclass(frozen=True)
class ChoiceOptions:
    """How frames are chosen.

    Attributes:
        strategy: one of STRATEGIES. count: frames to choose, 1 or more. seed: of lots, noise and k-means.
        noise, strata_shares, min_distance: see choose_uncertain. foreground_share: see choose_diverse.
        group_cap: frames of one group, labelled ones counted; None = GROUP_CAP of the strategy, 0 = any number.

    Raises:
        ValueError: an unknown strategy, or numbers that it refuses.
    """

    strategy: str = "uncertainty"
    count: int = 20
    seed: int = 0
    noise: float = 0.2
    strata_shares: Mapping[str, float] | str | None = PROPORTIONAL
    min_distance: float = 0.0
    foreground_share: float = 0.5
    group_cap: int | None = None

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy is {self.strategy!r}; expected one of {', '.join(STRATEGIES)}")
        if isinstance(self.count, bool) or int(self.count) != self.count or self.count < 1:
            raise ValueError(f"count is {self.count}; expected how many frames to choose, 1 or more")
        self.choose([])  # The strategy looks at its own numbers: now, and not after an hour of looking at frames.

    @property
    def needs_network(self) -> bool:
        """Whether frames must be looked at before they can be chosen."""
        return self.strategy in GROUP_CAP

    @property
    def compares_with_labelled(self) -> bool:
        """Whether features of labelled frames play a part."""
        return self.strategy == "diversity" or (self.strategy == "uncertainty" and self.min_distance > 0)

    def choose(
        self,
        candidates: Sequence[Candidate],
        labelled_per_group: Mapping[str, int] | None = None,
        labelled_features: Sequence[Features] | NDArray[np.floating] | None = None,
        labelled_per_stratum: Mapping[str, int] | None = None,
    ) -> list[Choice]:
        """The frames to label next, best first; labelled_per_stratum is for those who choose one by one.

        Raises ValueError: see the strategy.
        """
        if self.strategy == "first":
            return choose_first(candidates, self.count)
        if self.strategy == "random":
            return choose_random(candidates, self.count, seed=self.seed)
        shared: dict[str, Any] = {
            "seed": self.seed,
            "group_cap": GROUP_CAP[self.strategy] if self.group_cap is None else self.group_cap or None,
            "labelled_per_group": labelled_per_group,
            "labelled_features": labelled_features,
            "labelled_per_stratum": labelled_per_stratum,
        }
        if self.strategy == "diversity":
            return choose_diverse(candidates, self.count, foreground_share=self.foreground_share, **shared)
        rules = {"noise": self.noise, "strata_shares": self.strata_shares, "min_distance": self.min_distance}
        return choose_uncertain(candidates, self.count, **rules, **shared)
