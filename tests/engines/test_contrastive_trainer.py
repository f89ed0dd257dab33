"""Pretraining against a bare PyTorch loop; which label it reads, what it refuses, and that it resumes exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.networks.nets import UNet
from test_trainer import readings
from tiny_training import CPU, make_frames, same_state
from torch import Tensor, nn

from scripts.engines.checkpoints import RunCheckpoint, load_into
from scripts.engines.contrastive_trainer import ContrastiveTrainer
from scripts.engines.frame_trainer import NonFiniteLossError
from scripts.engines.run_directory import RunDirectory
from scripts.engines.schedules import parameter_groups, warmup_poly
from scripts.engines.streams import stream_loader
from scripts.losses import GlobalContrastiveLoss, SupervisedLocalContrastiveLoss
from scripts.networks import ContrastNetwork, load_weights
from scripts.networks.checkpoints import ready_network
from scripts.transforms import view

COLOURS = {"brightness": 0.4, "contrast": 0.4}
LOSSES: dict[str, Callable[[], nn.Module]] = {
    "image": GlobalContrastiveLoss,
    "pixels": lambda: SupervisedLocalContrastiveLoss("stride", stride=2),
}


def make_network(level: str, seed: int = 0, stride: int = 1) -> ContrastNetwork:
    torch.manual_seed(seed)
    network = UNet(2, 3, 2, channels=(8, 12), strides=(stride,))
    return ContrastNetwork(ready_network(network, CPU), level, (16, 8))


def make_trainer(network: ContrastNetwork, epochs: int = 2, **changes: Any) -> ContrastiveTrainer:
    """Two iterations an epoch of two frames of 16 px."""
    optimizer = torch.optim.AdamW(parameter_groups(network, 0.01), lr=0.01)
    settings: dict[str, Any] = {
        "device": CPU,
        "max_epochs": epochs,
        "train_data_loader": stream_loader(make_frames(8), 2, 2),
        "network": network,
        "optimizer": optimizer,
        "lr_scheduler": warmup_poly(optimizer, 20, warmup=2),
        "loss_function": LOSSES[network.level](),
        "views": view(**COLOURS) if network.level == "pixels" else view(horizontal_flip=0.5, rotation=20, **COLOURS),
    }
    return ContrastiveTrainer(**(settings | changes))


@pytest.mark.parametrize("level", LOSSES)
def test_pretraining_equals_a_bare_loop_to_the_last_bit(level: str) -> None:
    network, bare = make_network(level), make_network(level)
    trainer = make_trainer(network)
    torch.manual_seed(1)
    logged = [row["loss"] for row in readings(trainer)]

    optimizer = torch.optim.AdamW(parameter_groups(bare, 0.01), lr=0.01)
    scheduler = warmup_poly(optimizer, 20, warmup=2)
    views, loss_function = trainer.views, LOSSES[level]()
    loader, losses = stream_loader(make_frames(8), 2, 2), []
    torch.manual_seed(1)
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            image = batch["image"].float() / 255
            embedding = bare(torch.cat([views(image).image, views(image).image]))
            if level == "image":
                loss = loss_function(embedding[:2], embedding[2:])
            else:
                loss = loss_function(embedding, torch.cat([batch["label"], batch["label"]]).long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
    assert logged == losses
    assert same_state(network.state_dict(), bare.state_dict())


@pytest.mark.parametrize("level", LOSSES)
def test_bf16_on_a_cpu_comes_near_fp32(level: str) -> None:
    torch.manual_seed(1)
    exact = [row["loss"] for row in readings(make_trainer(make_network(level)))]
    torch.manual_seed(1)
    rounded = [row["loss"] for row in readings(make_trainer(make_network(level), precision="bf16"))]
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("level", LOSSES)
def test_pretraining_learns(level: str) -> None:
    losses = [row["loss"] for row in readings(make_trainer(make_network(level), epochs=15))]
    assert sum(losses[-6:]) < 0.95 * sum(losses[:6])


def test_labels_are_shared_by_both_views_at_the_size_of_the_map() -> None:
    """The map has half the image's side; of each two pixels nearest-exact keeps the second."""
    seen: list[tuple[Tensor, Tensor]] = []

    def loss(embedding: Tensor, label: Tensor) -> Tensor:
        seen.append((embedding, label))
        return embedding.square().mean()

    frames = make_frames(8)
    trainer = make_trainer(make_network("pixels", stride=2), epochs=1, loss_function=loss)
    rows = readings(trainer)
    order = stream_loader(frames, 2, 2).sampler
    for number, (embedding, label) in enumerate(seen):
        given = torch.stack([frames[order.index_at(2 * number + place)]["label"] for place in range(2)])
        assert embedding.shape == (4, 8, 8, 8)
        assert torch.equal(label, torch.cat([given[..., 1::2, 1::2]] * 2).long())
        assert not torch.equal(embedding[:2], embedding[2:]), "two views"
        assert rows[number]["foreground_share"] == pytest.approx(label.float().mean().item())


def test_what_moves_the_frame_moves_its_label_and_leaves_out_the_border() -> None:
    seen: dict[str, Tensor] = {}

    class Watch(nn.Module):
        def forward(self, embedding: Tensor, label: Tensor) -> Tensor:
            seen["label"] = label
            return embedding.mean()

    def label_after(shared: nn.Module | None) -> tuple[Tensor, Tensor]:
        trainer = make_trainer(make_network("pixels"), loss_function=Watch(), shared_view=shared)
        batch = next(iter(trainer.data_loader))
        batch["labeled"]["label"] = torch.arange(512).reshape(2, 1, 16, 16).remainder(7).clamp(max=1).to(torch.uint8)
        trainer.compute_loss(batch)
        return seen["label"], torch.cat([batch["labeled"]["label"]] * 2).long()

    still, original = label_after(None)
    assert torch.equal(still, original) and original.any()
    flipped, original = label_after(view(horizontal_flip=1.0))
    assert torch.equal(flipped, original.flip(-1)) and not torch.equal(flipped, original)
    small, original = label_after(view(scale=(0.5, 0.5)))
    assert (small[..., 0, :] == 255).all() and (small[..., 8, 8] != 255).all(), "half the size, a border all round"
    assert set(small.unique().tolist()) <= {0, 1, 255}


def test_global_contrast_refuses_a_shared_view() -> None:
    with pytest.raises(ValueError, match="no shared_view"):
        make_trainer(make_network("image"), shared_view=view(horizontal_flip=0.5))


def test_ignored_pixels_are_no_foreground() -> None:
    frames = make_frames(8)
    for frame in frames:
        frame["label"][:] = 255
        frame["label"][:, :4] = 2
    rows = readings(make_trainer(make_network("pixels"), epochs=1, train_data_loader=stream_loader(frames, 2, 2)))
    assert [row["foreground_share"] for row in rows] == [0.25, 0.25]


def test_without_a_change_both_views_are_alike() -> None:
    rows = readings(make_trainer(make_network("pixels"), epochs=1, views=view()))
    assert [row["view_similarity"] for row in rows] == pytest.approx([1.0, 1.0])


def test_global_contrast_reads_no_label() -> None:
    networks = [make_network("image") for _ in range(2)]
    for network, labelled in zip(networks, (True, False), strict=True):
        frames = [
            {key: value for key, value in frame.items() if labelled or key != "label"} for frame in make_frames(8)
        ]
        torch.manual_seed(1)
        rows = readings(make_trainer(network, train_data_loader=stream_loader(frames, 2, 2)))
        assert "foreground_share" not in rows[0]
    assert same_state(networks[0].state_dict(), networks[1].state_dict())


@pytest.mark.parametrize("level", LOSSES)
def test_a_resumed_pretraining_is_the_unbroken_one(tmp_path: Path, level: str) -> None:
    def train(folder: str, stop_after: int | None = None) -> ContrastiveTrainer:
        torch.manual_seed(0)
        options = {"loss_function": SupervisedLocalContrastiveLoss("exact", anchors_per_class=20)}
        trainer = make_trainer(make_network(level), epochs=4, **(options if level == "pixels" else {}))
        RunCheckpoint(RunDirectory(tmp_path / folder, {})).attach(trainer)
        if stop_after:
            trainer.add_event_handler(Events.EPOCH_COMPLETED(once=stop_after), lambda engine: engine.terminate())
        trainer.run()
        return trainer

    whole = train("unbroken")
    train("broken", stop_after=2)
    assert torch.load(tmp_path / "broken" / "last.pt", weights_only=True)["epoch"] == 2
    train("broken")
    for name in ("last.pt", "model.pt"):
        one, other = (torch.load(tmp_path / run / name, weights_only=True) for run in ("unbroken", "broken"))
        assert same_state(one, other), name
    last = torch.load(tmp_path / "broken" / "last.pt", weights_only=True)
    assert same_state(last["parts"]["projection"], whole.network.projection.state_dict())


def test_the_head_is_dropped_at_the_hand_over(tmp_path: Path) -> None:
    contrast = make_network("pixels")
    trainer = make_trainer(contrast)
    RunCheckpoint(RunDirectory(tmp_path, {})).attach(trainer)
    trainer.run()
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    assert content.keys() == {"model", "epoch", "value"} and content["epoch"] == 2, "no validation: the last epoch"
    for load in (load_weights, load_into):
        for name in ("model.pt",) if load is load_weights else ("model.pt", "last.pt"):
            fresh = make_network("pixels", seed=3).network
            load(fresh, tmp_path / name)
            assert same_state(fresh.state_dict(), contrast.network.state_dict())


def test_views_that_move_pixels_are_refused_for_pixels() -> None:
    with pytest.raises(ValueError, match="must not move pixels: leave flips, rotation, scale"):
        make_trainer(make_network("pixels"), views=view(horizontal_flip=0.5))
    make_trainer(make_network("image"), views=view(horizontal_flip=0.5))


def test_no_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="no frames to pretrain on.*--split"):
        make_trainer(make_network("pixels"), train_data_loader=stream_loader([], 2, 2))


def test_more_than_one_process_is_refused() -> None:
    """A wrapper for several processes is enough: it is what multi_gpu_train.json puts around the network."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        contrast = make_network("pixels")
        wrapped = nn.parallel.DistributedDataParallel(contrast)
        optimizer = torch.optim.SGD(contrast.parameters())
        options = {"loss_function": LOSSES["pixels"](), "views": view(), "train_data_loader": None}
        with pytest.raises(ValueError, match="runs in one process.*without torchrun and multi_gpu_train.json"):
            ContrastiveTrainer(device=CPU, max_epochs=1, network=wrapped, optimizer=optimizer, **options)
    finally:
        torch.distributed.destroy_process_group()


def test_more_frames_a_batch_than_there_are_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    make_trainer(make_network("image"), train_data_loader=stream_loader(make_frames(2), 2, 2))
    assert "batches of" not in caplog.text
    make_trainer(make_network("image"), train_data_loader=stream_loader(make_frames(2), 4, 2))
    assert "batches of 4 from 2 frames" in caplog.text and "--labeled_batch_size to 2 or less" in caplog.text
    caplog.clear()
    make_trainer(make_network("pixels"), train_data_loader=stream_loader(make_frames(2), 4, 2))
    assert "batches of" not in caplog.text, "pixels of a frame are each other's negatives by their class"


def test_a_single_picture_has_no_negatives() -> None:
    with pytest.raises(ValueError, match="--labeled_batch_size"):
        make_trainer(make_network("image"), train_data_loader=stream_loader(make_frames(8), 1, 2)).run()


def test_a_loss_that_is_not_finite_names_its_frames() -> None:
    contrast = make_network("pixels")
    with torch.no_grad():
        contrast.projection[0].bias[0] = float("nan")
    with pytest.raises(NonFiniteLossError, match=r"iteration 1 .*\['labelled_\d.png', 'labelled_\d.png'\]"):
        make_trainer(contrast).run()
