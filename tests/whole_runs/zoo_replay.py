"""What the zoo's CI and a person who downloads do with a package, in order, by MONAI's own functions.

    python zoo_replay.py PACKAGE ZIP FRAMES SCRATCH OPTIONS

PACKAGE is the unzipped folder, OPTIONS the JSON of a tiny training. Each step prints its name when it has passed.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import torch
from monai.bundle import ConfigWorkflow, ckpt_export, download, load, verify_net_in_out


def main() -> None:
    package, zipped, frames, scratch = (Path(one) for one in sys.argv[1:5])
    tiny = json.loads(sys.argv[5])
    sys.path.insert(0, str(package))
    config = {
        name: str(package / "configs" / f"{name}.json") for name in ("metadata", "train", "inference", "evaluate")
    }
    exact = {"meta_file": config["metadata"], "config_file": config["inference"], "bundle_root": str(package)}

    verify_net_in_out(net_id="network_def", device="cpu", **exact)
    print("passed verify_net_in_out")

    model, script = package / "models" / "model.pt", scratch / "verify_model.ts"
    ckpt_export(net_id="network_def", filepath=str(script), ckpt_file=str(model), **exact)
    print("passed ckpt_export")
    scripted = torch.jit.load(str(script))
    print("passed torch.jit.load")

    def whole(kind: str, *layers: str, **options: object) -> None:
        workflow = ConfigWorkflow(
            [config[layer] for layer in layers], meta_file=config["metadata"], workflow_type=kind,
            bundle_root=str(package), **options,
        )  # fmt: skip
        workflow.initialize()
        assert workflow.check_properties() == []
        workflow.run()
        workflow.finalize()
        print("passed", layers[-1])

    # The default checkpoint of the last two is what the package brings.
    whole("train", "train", dataset_dir=str(frames), output_dir=str(scratch / "runs"), run_name="tiny", **tiny)
    assert (scratch / "runs" / "tiny" / "report.html").is_file()
    output = scratch / "evaluation"
    whole(
        "train", "train", "evaluate", dataset_dir=str(frames), output_dir=str(scratch / "runs"),
        evaluation_dir=str(output), **tiny,
    )  # fmt: skip
    assert json.loads((output / "test_metrics.json").read_text())["checkpoint"] == str(model)
    output = scratch / "masks of frames"
    options = {"dataset_dir": str(frames / "unlabeled"), "output_dir": str(output), "image_size": 64}
    whole("infer", "inference", **options)
    with (output / "results.csv").open(newline="") as file:
        assert {row["agreement_of"] for row in csv.DictReader(file)} == {"network+companion+flip"}

    place = scratch / "downloaded bundles"
    download(name=package.name, url=zipped.as_uri(), bundle_dir=str(place), progress=False)
    network = load(name=package.name, bundle_dir=str(place), workflow_type="inference", device="cpu").eval()
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(network(image), scripted.eval()(image), atol=1e-4, rtol=1e-4)
    print("passed monai.bundle.load")


if __name__ == "__main__":
    main()
