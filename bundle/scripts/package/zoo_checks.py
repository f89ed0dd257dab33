"""The zoo's checks that run code, on a package and nothing else; a process of its own, see build.py.

    python -P zoo_checks.py PACKAGE SCRATCH

It imports MONAI and what the package brings: what only works beside the source tree fails here. Prints "ok NAME",
"skipped NAME: why" or "failed NAME: why", a line for each check.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, load, verify_net_in_out

#: largest difference of a logit between the network and its TorchScript
TOLERANCE = 1e-3


class Skipped(Exception):
    """A check that has nothing to work on; the message says why."""


class ZooChecks:
    """The checks, on one package.

    Args:
        package: folder with configs/, scripts/, models/.
        scratch: folder for what the checks write.
    """

    def __init__(self, package: Path, scratch: Path) -> None:
        self.package, self.scratch = package, scratch
        self.meta = str(package / "configs" / "metadata.json")
        self.shipped = package / "models" / "model.pt"
        self.weights = self.shipped if self.shipped.is_file() else scratch / "random" / "model.pt"
        if self.weights != self.shipped:  # Without weights the rest is checked with random ones.
            self.weights.parent.mkdir()
            torch.save(self._network().state_dict(), self.weights)

    def checks(self) -> dict[str, Callable[[], None]]:
        """Name -> check, in the zoo's order."""
        return {
            "verify_net_in_out": self.shapes,
            "ckpt_export and torch.jit.load": self.torchscript,
            "monai.bundle.load": self.loading,
            "check_properties of train": lambda: self.properties("train", "train"),
            "check_properties of inference": lambda: self.properties("inference", "inference"),
            "check_properties of evaluate": lambda: self.properties("train", "train", "evaluate"),
        }

    def shapes(self) -> None:
        """Channels and type of the output, as metadata.json declares them."""
        verify_net_in_out(
            net_id="network_def",
            meta_file=self.meta,
            config_file=self._config("inference"),
            device="cpu",
            bundle_root=str(self.package),
        )

    def torchscript(self) -> None:
        """Exported by MONAI, loaded again, and the same network."""
        file = self.scratch / "verify_model.ts"
        ckpt_export(
            net_id="network_def",
            filepath=str(file),
            ckpt_file=str(self.weights),
            meta_file=self.meta,
            config_file=self._config("inference"),
            bundle_root=str(self.package),
        )
        scripted = torch.jit.load(str(file)).eval()
        network = self._network()
        network.load_state_dict(torch.load(self.weights, weights_only=True))
        image = torch.rand(1, 3, 96, 64)
        with torch.no_grad():
            apart = float((scripted(image) - network(image)).abs().max())
        if not apart < TOLERANCE:
            raise ValueError(f"logits of the TorchScript differ by {apart:.2g}, expected less than {TOLERANCE}")

    def loading(self) -> None:
        """What a person calls who has downloaded the bundle: the network with the shipped weights."""
        if not self.shipped.is_file():
            raise Skipped("the package holds no weights")
        network = load(
            name=self.package.name, bundle_dir=str(self.package.parent), workflow_type="inference", device="cpu"
        )
        stored = torch.load(self.shipped, weights_only=True)
        found = network.state_dict()
        other = [name for name in found if not torch.equal(found[name], stored[name].to(found[name].dtype))]
        if other:
            raise ValueError(f"{len(other)} tensors of the loaded network are not those of model.pt, {other[0]} is one")

    def properties(self, kind: str, *layers: str) -> None:
        """What MONAI asks of a workflow; every part that it names is built."""
        from scripts.data.sample import make_sample_dataset

        data = make_sample_dataset(self.scratch / "frames", frames=24, labelled=12, size=64, groups=8)
        options = {"dataset_dir": str(data if kind == "train" else data / "images"), "encoder_weights": "none"}
        if layers != ("train",):
            options["checkpoint"] = str(self.weights)
        workflow = ConfigWorkflow(
            [self._config(layer) for layer in layers],
            meta_file=self.meta,
            logging_file=False,
            workflow_type=kind,
            bundle_root=str(self.package),
            device="cpu",
            output_dir=str(self.scratch / "output"),
            **options,
        )
        workflow.initialize()
        missing = workflow.check_properties()
        if missing:
            raise ValueError(f"properties are missing or have another id than MONAI expects: {', '.join(missing)}")

    def _config(self, name: str) -> str:
        return str(self.package / "configs" / f"{name}.json")

    def _network(self) -> torch.nn.Module:
        parser = ConfigParser()
        parser.read_config(self._config("inference"))
        return parser.get_parsed_content("network_def").eval()


def reason(error: BaseException) -> str:
    """The cause inside of MONAI's wrappers, on one line."""
    while type(error) is RuntimeError and error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def run_checks(package: Path, scratch: Path, lines: TextIO) -> None:
    """Run all checks; each is reported as soon as it is done."""
    try:
        checks = ZooChecks(package, scratch).checks()
    except Exception as error:
        print(f"failed network_def: {reason(error)}", file=lines)
        return
    for name, check in checks.items():
        try:
            check()
            print(f"ok {name}", file=lines)
        except Skipped as why:
            print(f"skipped {name}: {why}", file=lines)
        except Exception as error:
            print(f"failed {name}: {reason(error)}", file=lines)


def main() -> None:
    """The checks on the two folders of the command line."""
    warnings.simplefilter("ignore")
    package, scratch = (Path(one).resolve() for one in sys.argv[1:3])
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # What MONAI prints goes to the error stream: standard output holds the results alone.
    sys.path.insert(0, str(package))
    run_checks(package, scratch, lines)


if __name__ == "__main__":
    main()
