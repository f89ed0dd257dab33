"""What a pretraining on graded pictures minimises, by its name in configs: SEMISE, and what it is measured against."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from scripts.losses.global_contrastive import GlobalContrastiveLoss
from scripts.losses.named import build_named
from scripts.losses.pair_margin import PairMarginLoss
from scripts.losses.semise import SemiseLoss
from scripts.losses.supervised_contrastive import SupervisedContrastiveLoss


@dataclass
class GradedViews:
    """Embeddings of a batch and what is known of its pictures.

    Attributes:
        first, second: (B, C), two views of each picture.
        severity: (B,) 0 = healthy, NaN = not graded.
        group: (B,) whole number of the patient.
        reference: (C,) embedding of healthy.
        discriminating: the first phase, healthy against anomalous; objectives of one phase take no notice.
        picture: (B,) whole number of each picture, the same where one was drawn twice; None = all different.
    """

    first: Tensor
    second: Tensor
    severity: Tensor
    group: Tensor
    reference: Tensor
    discriminating: bool = False
    picture: Tensor | None = None


class SimclrObjective(nn.Module):
    """NT-Xent alone; no grade is looked at."""

    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__()
        self.loss = GlobalContrastiveLoss(temperature)

    def forward(self, views: GradedViews) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and readings."""
        return self.loss(views.first, views.second, views.picture), {}


class SupconObjective(nn.Module):
    """Supervised contrast between grades, which are names without an order.

    Args:
        temperature: of the similarities.
        edges: rising severities at which one grade ends and the next begins, for severities that are no grades, such as
            shares of lesion area; healthy (0) is a grade of its own. None = each severity is a grade.
    """

    def __init__(self, temperature: float = 0.1, edges: Sequence[float] | None = None) -> None:
        super().__init__()
        self.loss = SupervisedContrastiveLoss(temperature)
        self.edges = None if edges is None else [0.0, *edges]
        if self.edges is not None and any(high <= low for low, high in itertools.pairwise(self.edges)):
            raise ValueError(f"edges are {list(edges or [])}; expected rising severities above 0.")

    def forward(self, views: GradedViews) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and readings."""
        grade = views.severity
        if self.edges is not None:
            places = torch.bucketize(grade, torch.tensor(self.edges, dtype=grade.dtype, device=grade.device))
            grade = torch.where(grade.isnan(), grade, places.to(grade.dtype))
        return self.loss(views.first, views.second, grade, views.picture), {}


class SemiseObjective(nn.Module):
    """SEMISE (Tran et al., arXiv 2501.03848): healthy against anomalous, then the order of severity with NT-Xent.

    Args:
        had: the first phase; "pair_margin" = PairMarginLoss over the graded pictures, "ntxent" = NT-Xent over all. The
            published text allows both readings.
        margin, balanced: of PairMarginLoss. alpha, beta, temperature: of SemiseLoss.

    Raises:
        ValueError: another name for ``had``, options out of range.
    """

    #: the distance from healthy becomes the severity
    orders = True

    def __init__(
        self,
        had: Literal["pair_margin", "ntxent"] = "pair_margin",
        margin: float = 1.0,
        alpha: float = 0.5,
        beta: float = 5.0,
        temperature: float = 0.5,
        balanced: bool = True,
    ) -> None:
        super().__init__()
        if had not in ("pair_margin", "ntxent"):
            raise ValueError(f"had is {had!r}; expected 'pair_margin' or 'ntxent'.")
        self.had = had
        self.pair_margin = PairMarginLoss(margin, balanced)
        self.semise = SemiseLoss(alpha, beta, temperature)

    def forward(self, views: GradedViews) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and readings."""
        first, second, severity = views.first, views.second, views.severity
        if not views.discriminating:
            loss = self.semise(first, second, severity, views.reference, views.group, views.picture)
            return loss, {f"loss_{name}": term for name, term in self.semise.terms.items()}
        if self.had == "ntxent":
            return self.semise.ntxent(first, second, views.picture), {}
        both, severity = torch.cat([first, second]), severity.repeat(2)
        graded = ~severity.isnan()
        if not graded.any():  # a batch of ungraded pictures alone
            return both.sum() * 0.0, {}
        return self.pair_margin(both[graded], severity[graded] > 0), {}


SEVERITY_OBJECTIVES = {"semise": SemiseObjective, "simclr": SimclrObjective, "supcon": SupconObjective}


def build_severity_objective(name: str, options: Mapping[str, Any] | None = None) -> nn.Module:
    """The objective of that name.

    Args:
        name: a key of SEVERITY_OBJECTIVES.
        options: arguments of its class.

    Raises:
        ValueError: unknown name or option, with the nearest known one.
    """
    return build_named(name, SEVERITY_OBJECTIVES, options)
