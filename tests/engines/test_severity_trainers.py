"""Training on graded pictures against bare PyTorch loops; its phases, its reference, and that it resumes exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from test_trainer import readings
from tiny_training import CPU, make_frames, same_state
from torch import Tensor, nn
from torch.nn import functional

from scripts.engines.checkpoints import RunCheckpoint
from scripts.engines.grade_trainer import GradeTrainer
from scripts.engines.run_directory import RunDirectory
from scripts.engines.schedules import warmup_poly
from scripts.engines.severity_trainer import SeverityTrainer
from scripts.engines.streams import stream_loader
from scripts.losses import GradedViews, build_severity_objective, grade_loss
from scripts.transforms import view

NAN = float("nan")


class TinyEmbedder(nn.Module):
    """What a SeverityEmbedder is to its trainer, with 200 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.projection = nn.Linear(6, 4)
        self.register_buffer("healthy", torch.zeros(4))
        self.remembered: list[int] = []

    def forward(self, image: Tensor) -> Tensor:
        return self.projection(self.encoder(image))

    @torch.no_grad()
    def remember_healthy(self, embedding: Tensor) -> None:
        self.remembered.append(len(embedding))
        if len(embedding):
            self.healthy.copy_(0.5 * self.healthy + 0.5 * functional.normalize(embedding, dim=1).mean(dim=0))


def make_network(seed: int = 0) -> TinyEmbedder:
    torch.manual_seed(seed)
    return TinyEmbedder()


def graded(count: int = 8, severities: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0), seed: int = 0) -> list[dict[str, Any]]:
    frames = make_frames(count, seed=seed)
    for number, frame in enumerate(frames):
        frame |= {"label": torch.tensor([severities[number % len(severities)]]), "group": f"patient {number}"}
    return frames


def make_trainer(network: TinyEmbedder, epochs: int = 2, objective: Any = None, **changes: Any) -> SeverityTrainer:
    """Two iterations an epoch of four pictures."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    settings: dict[str, Any] = {
        "device": CPU,
        "max_epochs": epochs,
        "train_data_loader": stream_loader(graded(), 4, 2),
        "network": network,
        "optimizer": optimizer,
        "lr_scheduler": warmup_poly(optimizer, 20, warmup=2),
        "loss_function": objective or build_severity_objective("semise"),
        "views": view(horizontal_flip=0.5, brightness=0.4),
        "discrimination_epochs": min(1, epochs - 1),
    }
    return SeverityTrainer(**(settings | changes))


def test_pretraining_equals_a_bare_loop_to_the_last_bit() -> None:
    network, bare = make_network(), make_network()
    trainer = make_trainer(network)
    torch.manual_seed(1)
    logged = [row["loss"] for row in readings(trainer)]

    optimizer = torch.optim.AdamW(bare.parameters(), lr=0.01)
    scheduler = warmup_poly(optimizer, 20, warmup=2)
    views, objective = trainer.views, build_severity_objective("semise")
    loader, losses = stream_loader(graded(), 4, 2), []
    torch.manual_seed(1)
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            image, severity = batch["image"].float() / 255, batch["label"][:, 0]
            first, second = bare(torch.cat([views(image).image, views(image).image])).chunk(2)
            bare.remember_healthy(torch.cat([first, second])[severity.repeat(2) == 0])
            group = torch.arange(4)  # all of different patients
            if epoch == 0:
                both, grade = torch.cat([first, second]), severity.repeat(2)
                loss = objective.pair_margin(both, grade > 0)
            else:
                loss = objective.semise(first, second, severity, bare.healthy.clone(), group)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
    assert logged == losses
    assert same_state(network.state_dict(), bare.state_dict())


class Spy(nn.Module):
    """Keeps what it is asked."""

    orders = True

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[GradedViews] = []

    def forward(self, views: GradedViews) -> tuple[Tensor, dict[str, Tensor]]:
        self.seen.append(views)
        return views.first.square().mean(), {}


def test_ungraded_pictures_stand_beside_the_graded() -> None:
    spy = Spy()
    others = graded(6, (NAN,), seed=5)
    make_trainer(make_network(), 1, spy, unlabeled_data_loader=stream_loader(others, 3, 2)).run()
    for seen in spy.seen:
        assert seen.first.shape == seen.second.shape == (7, 4)
        assert seen.severity[:4].isfinite().all() and seen.severity[4:].isnan().all()
    assert not torch.equal(spy.seen[0].first, spy.seen[0].second), "two views"


def test_phases_patients_and_reference() -> None:
    spy, network = Spy(), make_network()
    frames = graded()
    for frame in frames[4:]:
        frame["group"] = "one patient"
    make_trainer(network, 3, spy, train_data_loader=stream_loader(frames, 8, 1), discrimination_epochs=2).run()
    assert [seen.discriminating for seen in spy.seen] == [True, True, False]
    assert sorted(spy.seen[0].group.bincount().tolist()) == [1, 1, 1, 1, 4]
    assert network.remembered == [4, 4, 4], "both views of two healthy pictures"
    assert not spy.seen[0].reference.requires_grad and spy.seen[0].reference.any()
    assert torch.equal(spy.seen[-1].reference, network.healthy)


def test_without_an_order_no_healthy_picture_is_remembered() -> None:
    network = make_network()
    for name in ("simclr", "supcon"):
        make_trainer(network, 1, build_severity_objective(name)).run()
    assert network.remembered == [] and not network.healthy.any()


def test_an_image_as_reference() -> None:
    spy = Spy()
    frames = graded()
    make_trainer(make_network(), 1, spy, train_data_loader=stream_loader(frames, 8, 1), reference="image").run()
    (seen,) = spy.seen
    both = torch.cat([seen.first, seen.second])[seen.severity.repeat(2) == 0]
    assert any(torch.equal(seen.reference, one) for one in both) and not seen.reference.requires_grad
    spy = Spy()
    network = make_network()
    network.healthy.fill_(0.5)
    ill = stream_loader(graded(8, (1.0, 2.0)), 8, 1)
    make_trainer(network, 1, spy, train_data_loader=ill, reference="image").run()
    assert spy.seen[0].reference.tolist() == [0.5] * 4, "the mean where the batch has none"


def test_the_share_of_pairs_in_order() -> None:
    class Ordered(TinyEmbedder):
        """Embeddings that turn away from (1, 0, 0, 0) with the green of the picture."""

        def forward(self, image: Tensor) -> Tensor:
            angle = image[:, 1].mean(dim=(1, 2)) * 3 + 0 * self.projection.weight.sum()
            return torch.stack([angle.cos(), angle.sin(), angle * 0, angle * 0], dim=1)

    frames = graded(4)
    for frame, green in zip(frames, (10, 80, 160, 40), strict=True):  # severities 0, 1, 2, 4
        frame["image"] = torch.full((3, 16, 16), green, dtype=torch.uint8)
    loader = stream_loader(frames, 4, 1)
    trainer = make_trainer(Ordered(), 1, train_data_loader=loader, views=view(), discrimination_epochs=0)
    (row,) = readings(trainer)
    # In order: the three pairs with the healthy one, and 2 over 1; 4 over 1 and 4 over 2 are not.
    assert row["order_share"] == pytest.approx(4 / 6)


def test_it_resumes_exactly(tmp_path: Path) -> None:
    def run(folder: str, epochs: int, seed: int) -> TinyEmbedder:
        network = make_network()
        directory = RunDirectory(tmp_path / folder, {"max_epochs": 3})
        trainer = make_trainer(network, 3, train_handlers=[RunCheckpoint(directory)], discrimination_epochs=1)
        torch.manual_seed(seed)
        if epochs < 3:
            trainer.add_event_handler(Events.EPOCH_COMPLETED(once=epochs), lambda engine: engine.terminate())
        trainer.run()
        return network

    whole = run("whole", 3, seed=1)
    run("parts", 1, seed=1)
    continued = run("parts", 3, seed=7)
    assert same_state(whole.state_dict(), continued.state_dict())
    assert torch.load(tmp_path / "whole" / "model.pt", weights_only=True)["model"]["healthy"].any()


def test_a_run_that_is_made_longer_does_not_go_back_into_its_first_phase(tmp_path: Path) -> None:
    phases: list[bool] = []

    def spy(views: GradedViews) -> tuple[Tensor, dict[str, Tensor]]:
        phases.append(views.discriminating)
        return views.first.square().mean(), {}

    for epochs, discriminating in ((4, 1), (8, 2)):
        directory = RunDirectory(tmp_path / "run", {"max_epochs": epochs})
        handlers = [RunCheckpoint(directory)]
        loader = stream_loader(graded(), 4, 1)
        trainer = make_trainer(
            make_network(),
            epochs,
            spy,
            train_data_loader=loader,
            train_handlers=handlers,
            discrimination_epochs=discriminating,
        )
        if epochs == 4:
            trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda engine: engine.terminate())
        trainer.run()
    assert phases == [True] + [False] * 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_data_loader": None}, "no pictures to pretrain on"),
        ({"reference": "median"}, "reference is 'median'; expected 'mean' or 'image'"),
        ({"discrimination_epochs": 3}, "discrimination_epochs is 3; expected 0 to 1"),
    ],
)
def test_bad_options(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_trainer(make_network(), **changes)


def make_grader(network: nn.Module, loader: Any, **changes: Any) -> GradeTrainer:
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    settings = {"views": view(), "loss_function": grade_loss([0, 1, 2, 2], 3), **changes}
    return GradeTrainer(
        device=CPU, max_epochs=2, train_data_loader=loader, network=network, optimizer=optimizer, **settings
    )


def test_grading_equals_a_bare_loop_to_the_last_bit() -> None:
    def classifier() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))

    network, bare = classifier(), classifier()
    frames = graded(8, (0.0, 1.0, 2.0, 2.0))
    logged = [row["loss"] for row in readings(make_grader(network, stream_loader(frames, 4, 2)))]
    optimizer = torch.optim.AdamW(bare.parameters(), lr=0.01)
    weight = torch.tensor([2.0, 2.0, 2**0.5])  # (N / n_g) ** 0.5 of 1, 1 and 2 of 4 pictures
    loader, losses = stream_loader(frames, 4, 2), []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            logits = bare(batch["image"].float() / 255)
            loss = functional.cross_entropy(logits, batch["label"][:, 0].long(), weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert logged == losses
    assert same_state(network.state_dict(), bare.state_dict())


def test_grading_needs_pictures() -> None:
    with pytest.raises(ValueError, match="no graded pictures to train on"):
        make_grader(nn.Linear(1, 1), None)


class TestGradeLoss:
    def test_a_grade_without_pictures_has_no_weight(self) -> None:
        assert grade_loss([0, 0, 2], 3, balance=1.0).weight.tolist() == [1.5, 0.0, 3.0]

    def test_without_balance_it_is_cross_entropy(self) -> None:
        torch.manual_seed(0)
        logits, grades = torch.randn(5, 3), torch.tensor([0, 1, 2, 2, 1])
        found = grade_loss(grades.tolist(), 3, balance=0.0, label_smoothing=0.1)(logits, grades)
        torch.testing.assert_close(found, functional.cross_entropy(logits, grades, label_smoothing=0.1))

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"balance": 2}, "balance is 2"), ({"label_smoothing": 1}, "label_smoothing 1"), ({}, "of the grade 3")],
    )
    def test_bad_options(self, options: dict[str, float], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            grade_loss([0, 3], 3, **options)
