"""How a run learned: the charts over its epochs."""

from __future__ import annotations

import math

from scripts.reports.figures import STYLES, Chart, Line, epoch_chart
from scripts.reports.overlays import labelled_lesion_share
from scripts.reports.page import percent
from scripts.reports.run_files import RunFiles


def epoch_charts(run: RunFiles) -> list[Chart]:
    """The charts of metrics.csv that have anything to show; writes figures/*.png."""
    folder, rows = run.path / "figures", run.epochs
    if not rows:
        return []
    shipped = (run.test_metrics.get("best") or run.test_metrics.get("validation") or {}).get("epoch")
    chosen = "Chosen on validation only; the test split is read once, at the end."
    semi = any(math.isfinite(row.get("lesion_share", math.nan)) for row in rows)
    prior = labelled_lesion_share(run) if semi else None
    return present(
        epoch_chart(
            folder, "validation", "Validation", chosen if run.was_chosen else "No epoch was chosen by it.",
            rows, _validation_lines(run),
            best_epoch=shipped if run.was_chosen else None,
        ),
        epoch_chart(
            folder, "loss", "Loss", "Mean over the epoch.", rows,
            [
                Line("loss", "total"),
                *([Line("loss_ntxent", "NT-Xent"), Line("loss_preference", "preference")] if run.of_severity else []),
                *([Line("loss_features", "maps"), Line("loss_logits", "logits")] if run.of_distillation else []),
                Line("loss_supervised", "supervised"),
                Line("loss_unsupervised", "unsupervised"),
            ],
        ),
        epoch_chart(
            folder, "confident_share", "Confident share", "Share of unlabelled pixels that teach.", rows,
            [Line("confident_share", "confident share"), Line("unsupervised_weight", "weight of their loss")],
            from_zero=True,
        ) if semi else None,
        epoch_chart(
            folder, "lesion_share", "Predicted lesion share",
            "Far below the labelled share the model forgets the lesion, far above it floods the frame.", rows,
            [Line("lesion_share", "predicted, unlabelled")],
            level=None if prior is None else (prior, f"labelled masks, {percent(prior)}"), from_zero=True,
        ),
        epoch_chart(
            folder, "view_similarity", "Similarity of the two views",
            "Cosine between the embeddings of one place in both views: high = the network sees past the view.", rows,
            [Line("view_similarity", "mean cosine"), Line("foreground_share", "share of anchors among the pixels")],
            from_zero=True,
        ),
        epoch_chart(
            folder, "teacher_agreement", "Agreement with the teacher",
            "On frames of validation: cosine of the standardised maps, and how often both have the same top class.",
            rows, [Line("val_feature_similarity", "cosine"), Line("val_top1_agreement", "same top class")],
            from_zero=True,
        ),
        epoch_chart(
            folder, "order_share", "Order of severity",
            "Share of the pairs of a batch in which the more severe picture is further from healthy; .5 = by chance.",
            rows, [Line("order_share", "pairs in order")], level=(0.5, "by chance"),
        ),
        epoch_chart(
            folder, "accuracy", "Training accuracy", "Of one random view each.", rows, [Line("accuracy", "share")]
        ),
        epoch_chart(folder, "learning_rate", "Learning rate", "", rows, [Line("lr", "learning rate")]),
    )  # fmt: skip


def present(*charts: Chart | None) -> list[Chart]:
    """Those that there are."""
    return [chart for chart in charts if chart is not None]


def _validation_lines(run: RunFiles) -> list[Line]:
    """Of volumes the mean and each structure; the mean alone where there are more structures than line styles."""
    if run.of_severity:
        return [
            Line("val_kappa", "quadratic kappa"),
            Line("val_macro_f1", "macro F1"),
            Line("val_spearman", "Spearman of the score"),
        ]
    if not run.of_classes:
        return [
            Line("val_dice", "Dice"),
            Line("val_dice_pooled", "Dice, pooled"),
            Line("val_iou_pooled", "IoU, pooled"),
        ]
    names = [name for name in run.epochs[0] if name.startswith("val_dice_") and name != "val_dice_pooled"]
    each = [Line(name, name.removeprefix("val_dice_")) for name in names if len(names) < len(STYLES)]
    return [Line("val_dice", "Dice, mean"), *each]
