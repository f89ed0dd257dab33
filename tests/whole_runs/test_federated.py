"""One round of federated learning by MONAI's own client, two sites in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, FlStatistics
from monai.fl.utils.exchange_object import ExchangeObject
from torch import Tensor
from whole_run import BUNDLE, RunConfig, write_frames


def make_site(name: str, first: int, folder: Path, tiny: dict[str, Any]) -> MonaiAlgo:
    """A client with 16 labelled and 4 unlabelled frames of its own."""
    write_frames(folder / name, 16, labelled=True, first=first)
    write_frames(folder / name, 4, labelled=False, first=first + 50)
    options = tiny | {"dataset_dir": str(folder / name), "output_dir": str(folder / f"runs {name}")}
    site = MonaiAlgo(str(BUNDLE), send_weight_diff=False, train_kwargs=dict(options), eval_kwargs=dict(options))
    site.initialize({ExtraItems.CLIENT_NAME: name})
    return site


def average(several: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """What a server does; counters (whole numbers) are the same everywhere."""
    return {
        name: torch.stack([one[name].double() for one in several]).mean(dim=0).to(value.dtype)
        for name, value in several[0].items()
    }


def test_two_sites_train_a_round_and_their_average_evaluates(
    run_config: RunConfig, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(BUNDLE)  # the client itself does not make scripts/ importable
    sites = [make_site(name, first, tmp_path, tiny) for name, first in (("north", 100), ("south", 300))]
    start = {name: value.clone() for name, value in sites[0].trainer.network.state_dict().items()}
    returned = []
    for site in sites:
        site.train(ExchangeObject(weights={name: value.clone() for name, value in start.items()}))
        answer = site.get_weights()
        assert answer.statistics[FlStatistics.NUM_EXECUTED_ITERATIONS] == tiny["iterations_per_epoch"]
        assert answer.weights.keys() == start.keys()
        returned.append({name: value.clone() for name, value in answer.weights.items()})
        (run,) = (tmp_path / f"runs {site.client_name}").glob(f"{site.client_name}_*")
        assert (run / "model.pt").is_file() and (run / "metrics.csv").is_file()
    head = "head.weight"
    assert not torch.equal(returned[0][head], start[head]) and not torch.equal(returned[0][head], returned[1][head])

    together = average(returned)
    torch.testing.assert_close(together[head], (returned[0][head] + returned[1][head]) / 2)
    torch.save(together, tmp_path / "average.pt")
    for site in sites:
        found = site.evaluate(ExchangeObject(weights=together)).metrics
        # evaluate.json measures the same weights on the same validation frames
        run_config(
            "train", "evaluate", **tiny, dataset_dir=str(tmp_path / site.client_name),
            checkpoint=str(tmp_path / "average.pt"), evaluation_dir=str(tmp_path / f"evaluation {site.client_name}"),
        )  # fmt: skip
        measured = json.loads((tmp_path / f"evaluation {site.client_name}" / "test_metrics.json").read_text())
        for name in ("dice", "iou_pooled", "dice_pooled"):
            assert found[f"val_{name}"] == pytest.approx(measured["validation"]["figures"][name]["value"], abs=1e-6)
        site.finalize()
