"""The axes of the label-efficiency grid: data sets, networks, methods, presets, and which of them go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Data:
    """A data set.

    Attributes:
        folder: below --data. fractions: shares of the training masks that are used, 0..1.
        more_unlabelled: frames without a mask beside the training frames, so that some are left at 100 %.
        severity: the set whose severities an encoder can be pretrained on for it; "" = none of its kind.
    """

    folder: str
    fractions: tuple[float, ...]
    more_unlabelled: bool = False
    severity: str = ""


@dataclass(frozen=True)
class Network:
    """A network.

    Attributes:
        layers: configs over the method's own. overrides: ids of the run.
        backbone: timm name of the encoder, which files of --weights are for; "" = none can be given.
        in_two: whether it has encode and decode. less_net: whether it is a LESSNet.
    """

    layers: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    backbone: str = ""
    in_two: bool = True
    less_net: bool = True


@dataclass(frozen=True)
class Method:
    """A way to train.

    Attributes:
        layer: config over train.json; for a chain the config itself.
        overrides: ids of the last stage. before: "local_contrast" or "semise", the stage before it.
        chain: whether the config is complete and runs stages of its own.
        unlabelled, in_two, of_less_net: what it needs: frames without masks, a network with encode and decode, LESSNet.
    """

    layer: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    before: str = ""
    chain: bool = False
    unlabelled: bool = True
    in_two: bool = False
    of_less_net: bool = False


@dataclass(frozen=True)
class Preset:
    """A scale.

    Attributes:
        train: ids of the stage that is measured. local_contrast, semise: ids of the stages before it.
        fine_tune_epochs: of each round of knowledge mining.
    """

    train: Mapping[str, Any]
    local_contrast: Mapping[str, Any]
    semise: Mapping[str, Any]
    fine_tune_epochs: int

    def in_precision(self, precision: str) -> Preset:
        """The same scale with another number format in every stage."""
        stages = ("train", "local_contrast", "semise")
        return replace(self, **{stage: {**getattr(self, stage), "precision": precision} for stage in stages})


DATA = {
    "kvasir": Data("kvasir_seg", (0.1, 0.25, 0.5, 1.0), severity="wce_bleeding"),
    "wce_bleeding": Data("wce_bleeding", (0.1, 0.25, 0.5, 1.0), more_unlabelled=True, severity="wce_bleeding"),
    "cxr_montgomery": Data("cxr_montgomery", (0.1, 0.5)),
}


def _lite(**changes: Any) -> Network:
    return Network(
        overrides={f"network_def::{name}": value for name, value in changes.items()}, backbone="mobilenetv2_100"
    )


#: parts of lite's fusion, off one by one, then together
FUSION = {
    "lite_no_fusion": _lite(fusion=False),
    "lite_no_attention": _lite(attention=False),
    "lite_no_context": _lite(context_layers=0),
    "lite_plain": _lite(fusion=False, context_layers=0),
}
SIZES = {
    "lite_mobilevit_xxs": Network((), {"network_def::preset": "lite_mobilevit_xxs"}, "mobilevit_xxs"),
    "lite_mobilevit_xs": Network((), {"network_def::preset": "lite_mobilevit_xs"}, "mobilevit_xs"),
    "lite_mobilevit_s": Network(
        (), {"network_def::preset": "lite_mobilevit_xs", "network_def::backbone": "mobilevit_s"}, "mobilevit_s"
    ),
}


def _rival(name: str, **more: Any) -> Network:
    return Network((name,), less_net=False, **more)


RIVALS = {
    "flexible_unet_b0": _rival("flexible_unet_b0"),
    "flexible_unet_b2": _rival("flexible_unet_b2"),
    "basic_unet_plus_plus": _rival("basic_unet_plus_plus", in_two=False),
    "smp_unet_r34": _rival("smp_unet_r34"),
    "smp_unet_plus_plus_r34": _rival("smp_unet_plus_plus_r34"),
}
#: decoders of others on lite's own encoder, from the very same weights
SAME_ENCODER = {
    "smp_unet_mobilenetv2": _rival("smp_unet_mobilenetv2", backbone="mobilenetv2_100"),
    "smp_unet_plus_plus_mobilenetv2": _rival("smp_unet_plus_plus_mobilenetv2", backbone="mobilenetv2_100"),
}
NETWORKS = {
    "lite": _lite(),
    "published": Network((), {"network_def::preset": "published"}, "mobilevit_s"),
    **SIZES,
    **FUSION,
    **RIVALS,
    **SAME_ENCODER,
}


def _steps(**changes: Any) -> Method:
    """weak_to_strong with some of its steps off; ids of objective_options, and ema_decay."""
    overrides = {
        name if name == "ema_decay" else f"objective_options::{name}": value for name, value in changes.items()
    }
    return Method("weak_to_strong", overrides, in_two=True)


#: each adds a step to the one before; the last but one is weak_to_strong.json as it is
CHAIN = {
    "fixmatch_no_ema": _steps(strong_views=1, complementary_dropout=0.0, cutmix=0.0, ema_decay=0.0),
    "fixmatch": _steps(strong_views=1, complementary_dropout=0.0, cutmix=0.0),
    "fixmatch_cutmix": _steps(strong_views=1, complementary_dropout=0.0),
    "two_views": _steps(complementary_dropout=0.0),
    "weak_to_strong": _steps(),
    "softmatch": _steps(weighting="softmatch"),
}
METHODS = {
    "supervised": Method("train_supervised", unlabelled=False),
    "less_net_published": Method("less_net_published", of_less_net=True),
    "less_net": Method("less_net", of_less_net=True),
    "mean_teacher": Method("mean_teacher"),
    **CHAIN,
    "local_contrast": Method("weak_to_strong", before="local_contrast", in_two=True, of_less_net=True),
    "semise": Method("weak_to_strong", before="semise", in_two=True, of_less_net=True),
    "knowledge_mining": Method("knowledge_mining", chain=True, of_less_net=True),
}
TITLES = {
    "supervised": "supervised",
    "less_net_published": "LESS-Net as released",
    "less_net": "LESS-Net, corrected",
    "mean_teacher": "mean teacher",
    "fixmatch_no_ema": "FixMatch, no EMA",
    "fixmatch": "+ EMA teacher",
    "fixmatch_cutmix": "+ CutMix",
    "two_views": "+ two strong views",
    "weak_to_strong": "+ complementary dropout = weak_to_strong",
    "softmatch": "+ SoftMatch",
    "local_contrast": "local contrast, then weak_to_strong",
    "semise": "SEMISE, then weak_to_strong",
    "knowledge_mining": "knowledge mining",
    "chosen": "the best of four on validation",
}


def short_title(method: str) -> str:
    """The method's name where the others are not the steps before it."""
    return TITLES[method].rpartition("= ")[2]


#: pooled recalls at which false alarms are compared
RECALLS = (0.6, 0.7, 0.8)


def at_recall(recall: float) -> str:
    """Name of the figure: false-positive frames at that recall."""
    return f"false_positive_frames_at_recall_{100 * recall:.0f}"


_CPU = Preset(
    train={
        "image_size": 128, "max_epochs": 16, "iterations_per_epoch": 50, "labeled_batch_size": 8,
        "unlabeled_batch_size": 6, "unsupervised_start": 100, "unsupervised_rampup": 200, "precision": "bf16",
        "val_interval": 2,
    },
    local_contrast={"image_size": 128, "max_epochs": 6, "iterations_per_epoch": 50, "precision": "bf16"},
    semise={"image_size": 128, "max_epochs": 8, "iterations_per_epoch": 50, "precision": "bf16"},
    fine_tune_epochs=8,
)  # fmt: skip
PRESETS = {
    "cpu": _CPU,
    # Four times the steps: with few labels, frames without masks gain more by them than supervision does.
    "cpu_long": replace(_CPU, train={**_CPU.train, "max_epochs": 64}, fine_tune_epochs=32),
    "gpu": Preset(
        train={
            "image_size": 256, "max_epochs": 100, "iterations_per_epoch": 200, "labeled_batch_size": 8,
            "unlabeled_batch_size": 8, "unsupervised_start": 1000, "unsupervised_rampup": 3000,
            "warmup_iterations": 500, "ema_decay": 0.996, "precision": "bf16", "val_interval": 2,
        },
        local_contrast={"image_size": 256, "max_epochs": 20, "iterations_per_epoch": 100, "precision": "bf16"},
        semise={"image_size": 256, "max_epochs": 20, "iterations_per_epoch": 100, "precision": "bf16"},
        fine_tune_epochs=40,
    ),
}  # fmt: skip


def refusal(data: str, network: str, method: str, fraction: float) -> str:
    """Why these do not go together, with what would; "" where they do.

    Raises:
        KeyError: an unknown name.
    """
    chosen, of, way = DATA[data], NETWORKS[network], METHODS[method]
    if way.of_less_net and not of.less_net:
        able = "supervised, mean_teacher" + (" and weak_to_strong with its steps" if of.in_two else "")
        return f"{method} is made for LESSNet and {network} is none: compare it by {able}"
    if way.in_two and not of.in_two:
        return f"{method} perturbs maps between encoder and decoder and {network} cannot be cut: use mean_teacher"
    if way.unlabelled and fraction == 1 and not chosen.more_unlabelled:
        return f"{method} needs frames without masks and {data} has none at 100 %: use supervised, or fewer labels"
    if way.before == "semise" and not chosen.severity:
        return f"semise needs pictures of a known severity and there are none like {data}: use kvasir or wce_bleeding"
    return ""
