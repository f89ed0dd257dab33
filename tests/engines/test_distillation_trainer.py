"""Distillation against a bare PyTorch loop; one view for both; the teacher as it was; resumed exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kornia.augmentation as kornia_augmentation
import pytest
import torch
from ignite.engine import Events
from test_trainer import readings
from tiny_training import CPU, make_frames, same_state
from torch import Tensor, nn

from scripts.engines.checkpoints import RunCheckpoint
from scripts.engines.distillation_trainer import DistillationTrainer
from scripts.engines.run_directory import RunDirectory
from scripts.engines.schedules import warmup_poly
from scripts.engines.streams import stream_loader
from scripts.engines.teacher_agreement import TeacherAgreement, TeacherAgreementInferer
from scripts.losses import DistillationLoss, feature_similarity
from scripts.networks import DistillationNetwork, Matched
from scripts.transforms import view


class TinyStudent(nn.Module):
    """What a PictureEncoder is to a DistillationNetwork, with 100 parameters."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1), nn.BatchNorm2d(channels), nn.ReLU())
        self.encoder.reductions, self.encoder.channels = [2], [channels]
        self.length = channels
        self.encoder_weights_report = {"requested": "none", "used": "random", "substituted": False, "message": ""}

    def maps(self, image: Tensor) -> list[Tensor]:
        return [self.encoder(image)]


class TinyTeacher(nn.Module):
    """What a FrozenTeacher is; it keeps the pictures that it is shown."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.student = TinyStudent(6)
        self.encoder = self.student.encoder
        self.linear = nn.Linear(6, classes) if classes else None
        self.classes = classes
        self.shown: list[Tensor] = []
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> TinyTeacher:
        return super().train(False)

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor | None]:
        self.shown.append(image)
        maps = self.student.maps(image)
        return maps, None if self.linear is None else self.linear(maps[-1].mean(dim=(2, 3)))


def make_network(classes: int = 5) -> DistillationNetwork:
    torch.manual_seed(0)
    return DistillationNetwork(TinyStudent(), TinyTeacher(classes))


def trained(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def make_trainer(network: DistillationNetwork, epochs: int = 2, **changes: Any) -> DistillationTrainer:
    """Two iterations an epoch of four frames."""
    optimizer = torch.optim.AdamW(trained(network), lr=0.01)
    settings: dict[str, Any] = {
        "device": CPU,
        "max_epochs": epochs,
        "train_data_loader": stream_loader(make_frames(8, labelled=False), 4, 2),
        "network": network,
        "optimizer": optimizer,
        "lr_scheduler": warmup_poly(optimizer, 20, warmup=2),
        "loss_function": DistillationLoss(),
        "views": view(horizontal_flip=0.5, brightness=0.4),
    }
    return DistillationTrainer(**(settings | changes))


def test_it_equals_a_bare_loop_to_the_last_bit() -> None:
    network, bare = make_network(), make_network()
    trainer = make_trainer(network)
    torch.manual_seed(1)
    logged = [row["loss"] for row in readings(trainer)]

    optimizer = torch.optim.AdamW(trained(bare), lr=0.01)
    scheduler = warmup_poly(optimizer, 20, warmup=2)
    loader, losses, objective = stream_loader(make_frames(8, labelled=False), 4, 2), [], DistillationLoss()
    torch.manual_seed(1)
    bare.train()
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            loss, _ = objective(bare(trainer.views(batch["image"].float() / 255).image))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
    assert logged == losses
    assert same_state(network.state_dict(), bare.state_dict())


def test_the_teacher_is_as_it_was_and_the_student_is_not() -> None:
    network = make_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rows = readings(make_trainer(network))
    assert all(set(row) >= {"loss", "loss_features", "loss_logits"} for row in rows)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith("teacher.") for name in changed), "buffers too"
    for part in ("student.encoder", "heads.adapters", "heads.classifier"):
        assert any(name.startswith(part) for name in changed), part


def test_the_distance_to_the_teacher_falls() -> None:
    rows = readings(make_trainer(make_network(), epochs=60, views=view(horizontal_flip=0.5), lr_scheduler=None))
    for name in ("loss_features", "loss_logits"):
        first, last = (sum(float(row[name]) for row in part) / 8 for part in (rows[:8], rows[-8:]))
        assert last < 0.7 * first, name


def test_both_see_one_view_and_mixed_frames() -> None:
    network, seen = make_network(), []
    network.student.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    frames = make_frames(4, labelled=False)
    options = {"train_data_loader": stream_loader(frames, 4, 1), "views": view()}
    make_trainer(network, 1, mixup=kornia_augmentation.RandomMixUpV2(p=1.0, data_keys=["input"]), **options).run()
    assert torch.equal(seen[0], network.teacher.shown[0])
    plain = torch.stack([frame["image"] for frame in frames]).float() / 255
    for mixed in seen[0]:
        pairs = [
            (mixed - (1 - share) * one - share * other).abs().max() < 1e-5
            for one in plain
            for other in plain
            for share in [((mixed - one) * (other - one)).sum() / (other - one).square().sum().clamp_min(1e-9)]
        ]
        assert any(pairs), "a share of one frame and the rest of another"
    assert not all(any(torch.allclose(mixed, one) for one in plain) for mixed in seen[0])


def test_it_resumes_exactly(tmp_path: Path) -> None:
    def run(folder: str, epochs: int, seed: int) -> DistillationNetwork:
        network = make_network()
        directory = RunDirectory(tmp_path / folder, {"max_epochs": 3})
        mixup = kornia_augmentation.RandomMixUpV2(p=0.5, data_keys=["input"])
        trainer = make_trainer(network, 3, train_handlers=[RunCheckpoint(directory)], mixup=mixup)
        torch.manual_seed(seed)
        if epochs < 3:
            trainer.add_event_handler(Events.EPOCH_COMPLETED(once=epochs), lambda engine: engine.terminate())
        trainer.run()
        return network

    whole = run("whole", 3, seed=1)
    run("parts", 1, seed=1)
    assert same_state(whole.state_dict(), run("parts", 3, seed=7).state_dict())
    shipped = torch.load(tmp_path / "whole" / "model.pt", weights_only=True)["model"]
    assert shipped.keys() == whole.student.state_dict().keys(), "neither heads nor teacher"


def test_no_frames() -> None:
    with pytest.raises(ValueError, match="no frames to distil on.*--unlabeled_data"):
        make_trainer(make_network(), train_data_loader=None)


def test_more_than_one_process_is_refused() -> None:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(make_network())
        with pytest.raises(ValueError, match="Distillation runs in one process.*without torchrun"):
            make_trainer(wrapped)
    finally:
        torch.distributed.destroy_process_group()


class TestAgreement:
    def test_of_each_picture(self) -> None:
        torch.manual_seed(0)
        maps = torch.randn(2, 3, 4, 8, 8).unbind()
        logits = torch.tensor([[1.0, 2, 0], [3, 1, 0], [0, 0, 1]]), torch.tensor([[0.0, 9, 0], [0, 1, 0], [0, 0, 1]])
        found = TeacherAgreementInferer()(torch.zeros(3), lambda _: Matched([maps[0]], [maps[1]], *logits))
        assert found[:, 1].tolist() == [1.0, 0.0, 1.0]
        torch.testing.assert_close(found[:, 0], feature_similarity([maps[0]], [maps[1]]))
        found = TeacherAgreementInferer()(torch.zeros(3), lambda _: Matched([maps[0]], [maps[0]]))
        assert found[:, 0].tolist() == pytest.approx([1.0] * 3, abs=1e-5) and found[:, 1].isnan().all()

    @pytest.mark.parametrize(("agreement", "expected"), [((1.0, 0.0), 0.5), ((torch.nan, torch.nan), None)])
    def test_their_means(self, agreement: tuple[float, float], expected: float | None) -> None:
        class State:
            metrics: dict[str, float] = {}

        class Engine:
            state = State()

        metric, engine = TeacherAgreement(), Engine()
        engine.state.metrics = {}
        metric.update([{"pred": torch.tensor([0.25, agreement[0]])}, {"pred": torch.tensor([0.75, agreement[1]])}])
        metric.completed(engine, "val_feature_similarity")
        assert engine.state.metrics["val_feature_similarity"] == 0.5
        assert engine.state.metrics.get("val_top1_agreement") == expected
        metric.reset()
        with pytest.raises(ValueError, match="no frame of validation was seen"):
            metric.compute()
