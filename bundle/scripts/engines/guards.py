"""Stops a run that has gone wrong before it wastes the night."""

from __future__ import annotations

from ignite.engine import Engine, Events


class CollapseError(RuntimeError):
    """The predicted lesion share left its plausible range for too long."""


class CollapseGuard:
    """Stop when the lesion share on unlabelled frames falls to nothing or grows far above the labelled prior.

    Self-training has two dead ends: everything background, or everything lesion; both look like a falling loss.

    Args:
        prior: lesion share of the labelled training masks, 0..1.
        patience: consecutive iterations out of range before the run is stopped.
        lowest: share of the prior under which the prediction counts as nothing.
        highest: multiple of the prior over which it counts as everything; None = no bound.
        start: iterations before the guard looks, since a fresh network predicts anything.
    """

    def __init__(
        self, prior: float, patience: int = 200, lowest: float = 0.02, highest: float | None = 3.0, start: int = 200
    ) -> None:
        self.prior = prior
        self.patience = patience
        self.lowest = lowest * prior
        self.highest = 1.0 if highest is None else min(highest * prior, 0.98)
        self.start = start
        self.out_of_range = 0

    def attach(self, engine: Engine) -> None:
        """Look after every iteration."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Count iterations out of range.

        Raises:
            CollapseError: the patience is at its end.
        """
        share = engine.state.output[0].get("lesion_share")
        if share is None or engine.state.iteration <= self.start or self.prior <= 0:
            return
        share = float(share)
        inside = self.lowest <= share <= self.highest
        self.out_of_range = 0 if inside else self.out_of_range + 1
        if self.out_of_range < self.patience:
            return
        what = "almost no lesion" if share < self.lowest else "far too much lesion"
        raise CollapseError(
            f"Collapse: {what} on the unlabelled frames for {self.patience} iterations (share {share:.4f}, labelled "
            f"prior {self.prior:.4f}, accepted {self.lowest:.4f} to {self.highest:.4f}). The last checkpoints are "
            "kept. Try more labels, --unsupervised_start later, --unsupervised_weight lower, or --objective "
            "supervised; if the unlabelled frames really hold that little or that much lesion, widen "
            "--collapse_lowest or --collapse_highest."
        )
