"""LesionDice: formats, MONAI's handler, gathering over two processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler
from monai.metrics import DiceMetric
from monai.networks.utils import one_hot
from torch import distributed, multiprocessing

from scripts.metrics import LesionDice, LesionEvaluation

SHAPE = (5, 1, 8, 6)


def labels(seed: int) -> torch.Tensor:
    return (torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed)) > 0.6).long()


def test_by_hand() -> None:
    prediction, truth = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    prediction[0, 0, 0, :2] = 1  # finds 2 of 4
    truth[0, 0, 0] = 1
    metric = LesionDice()
    metric(prediction, truth)
    assert metric.aggregate().item() == pytest.approx((2 / 3 + 1) / 2)
    assert metric.aggregate("dice_pooled").item() == pytest.approx(2 / 3)
    assert metric.aggregate("miou").item() == pytest.approx((2 / 4 + 28 / 30) / 2)


@pytest.mark.parametrize("form", ["index", "one_hot", "scores", "list", "list_one_hot", "bool"])
def test_every_form_gives_the_same(form: str) -> None:
    prediction, truth = labels(0), labels(1)
    expected = DiceMetric(ignore_empty=False)(prediction.float(), truth.float()).mean().item()
    given = {
        "index": lambda x: x,
        "one_hot": lambda x: one_hot(x, 2),
        "scores": lambda x: one_hot(x, 2) * 3.0 - 1.0,
        "list": list,
        "list_one_hot": lambda x: list(one_hot(x, 2)),
        "bool": lambda x: x.bool(),
    }[form]
    metric = LesionDice()
    metric(given(prediction), given(truth))
    assert metric.aggregate().item() == pytest.approx(expected, rel=1e-6)


def test_images_of_different_sizes_and_batches_add_up() -> None:
    random = np.random.default_rng(0)
    metric, evaluation = LesionDice(), LesionEvaluation()
    for i, shape in enumerate([(4, 9), (16, 5), (7, 7)]):
        probability, truth = random.random(shape), random.random(shape) > 0.5
        metric([torch.from_numpy(probability > 0.5)[None]], [torch.from_numpy(truth)[None]])
        evaluation.add(str(i), str(i), probability, truth)
    figures = evaluation.figures()
    for kind in ("dice", "iou", "recall", "precision", "dice_pooled", "iou_pooled", "miou", "mrecall"):
        assert metric.aggregate(kind).item() == pytest.approx(figures[kind]["value"], rel=1e-6), kind
    metric.reset()
    with pytest.raises(ValueError, match="seen no image"):
        metric.aggregate()


def test_as_key_metric_of_an_engine() -> None:
    prediction, truth = labels(2), labels(3)
    engine = Engine(lambda engine, batch: (list(prediction), list(truth)))
    engine.state.metric_details = {}
    IgniteMetricHandler(metric_fn=LesionDice("iou_pooled")).attach(engine, "val_iou_pooled")
    engine.run([0])
    both, either = (prediction & truth).sum().item(), (prediction | truth).sum().item()
    assert engine.state.metrics["val_iou_pooled"] == pytest.approx(both / either)
    assert engine.state.metric_details["val_iou_pooled"].shape == (5, 4)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="kind is 'dyce', expected one of dice, iou"):
        LesionDice("dyce")
    with pytest.raises(ValueError, match=r"prediction of one channel ranges over 0\.2\.\.0\.2.*threshold"):
        LesionDice()(torch.full((1, 1, 4, 4), 0.2), torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match=r"label of one channel ranges over 0\.\.255"):
        LesionDice()(labels(0), labels(1) * 255)
    with pytest.raises(ValueError, match=r"prediction is \(4, 4\), expected \(B, C, H, W\)"):
        LesionDice()(torch.zeros(4, 4), torch.zeros(4, 4))
    with pytest.raises(ValueError, match="got no label"):
        LesionDice()(labels(0))


def _process(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    prediction, truth = labels(4), labels(5)
    mine = slice(0, 3) if rank == 0 else slice(3, 5)  # uneven on purpose
    metric, evaluation = LesionDice(), LesionEvaluation()
    metric(prediction[mine], truth[mine])
    for i in [*range(5)[mine], 0]:  # image 0 is on both, as a padding sampler does
        if f"{i}" not in {row["file"] for row in evaluation.rows}:
            evaluation.add(f"{i}", f"{i}", prediction[i, 0].float(), truth[i, 0])
    evaluation.gather()
    torch.save([metric.aggregate().item(), len(metric), evaluation.figures()["dice"]["value"], len(evaluation)],
               Path(folder) / f"{rank}.pt")  # fmt: skip
    distributed.destroy_process_group()


def test_gathers_over_two_processes(tmp_path: Path) -> None:
    multiprocessing.spawn(_process, (str(tmp_path),), nprocs=2)
    metric = LesionDice()
    metric(labels(4), labels(5))
    whole = metric.aggregate().item()
    for rank in range(2):
        dice, images, evaluated, files = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert (images, files) == (5, 5)
        assert dice == pytest.approx(whole)
        assert evaluated == pytest.approx(whole)
