"""The loop against a bare PyTorch loop, its two streams, its accumulation and what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from tiny_training import make_frames, make_network, make_trainer, same_state
from torch import nn

from scripts.engines.precision import resolve_precision
from scripts.engines.schedules import SigmoidRampUp, warmup_poly
from scripts.engines.streams import stream_loader
from scripts.engines.trainer import NonFiniteLossError
from scripts.losses import build_objective, supervised_loss
from scripts.transforms import view


def readings(trainer: Any) -> list[dict[str, float]]:
    """Run; the output of every iteration as numbers."""
    found: list[dict[str, float]] = []

    def read(engine: Any) -> None:
        found.append({name: float(value) for name, value in engine.state.output[0].items()})

    trainer.add_event_handler(Events.ITERATION_COMPLETED, read)
    trainer.run()
    return found


def test_supervised_equals_a_bare_loop_to_the_last_bit() -> None:
    network, bare = make_network(), make_network()
    trainer = make_trainer(network, max_epochs=3, teacher=None)
    assert isinstance(trainer, SupervisedTrainer)
    logged = [row["loss"] for row in readings(trainer)]

    optimizer = torch.optim.AdamW(bare.parameters(), lr=0.01)
    scheduler = warmup_poly(optimizer, 8, warmup=2)
    loader, loss_function, losses = stream_loader(make_frames(8), 2, 2), supervised_loss(), []
    bare.train()
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            optimizer.zero_grad()
            loss = loss_function(bare(batch["image"].float() / 255), batch["label"])
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
    assert logged == losses
    assert same_state(network.state_dict(), bare.state_dict())
    assert same_state(trainer.optimizer.state_dict(), optimizer.state_dict())


def test_training_learns() -> None:
    losses = [row["loss"] for row in readings(make_trainer(make_network(), max_epochs=30, total=120, batch_size=4))]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_two_halves_make_the_step_of_the_whole() -> None:
    """Mean loss over pixels: the mean of two halves' gradients is the gradient of the whole batch."""

    def train(batch_size: int, accumulation_steps: int) -> nn.Module:
        network = make_network(norm=False)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
        trainer = make_trainer(
            network,
            max_epochs=2,
            iterations=4 // batch_size,
            batch_size=batch_size,
            optimizer=optimizer,
            lr_scheduler=None,
            loss_function=lambda logits, label: nn.functional.cross_entropy(logits, label[:, 0].long()),
            accumulation_steps=accumulation_steps,
        )
        trainer.run()
        assert int(trainer.teacher.updates) == 2, "the teacher moves once a step of the optimizer"
        return network

    whole, halves = train(4, 1), train(2, 2)
    for one, other in zip(whole.parameters(), halves.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    assert not same_state(whole.state_dict(), make_network(norm=False).state_dict())


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_longer_gradients_are_scaled_down(accumulation_steps: int) -> None:
    """A step of plain SGD is learning rate times gradient: its length is told by hand."""

    def gradient(max_gradient_norm: float | None) -> torch.Tensor:
        network = make_network(norm=False)
        before = nn.utils.parameters_to_vector(network.parameters()).detach().clone()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
        trainer = make_trainer(
            network,
            max_epochs=1,
            iterations=accumulation_steps,
            optimizer=optimizer,
            lr_scheduler=None,
            accumulation_steps=accumulation_steps,
            max_gradient_norm=max_gradient_norm,
        )
        trainer.run()
        moved = before - nn.utils.parameters_to_vector(network.parameters()).detach()
        return moved / optimizer.param_groups[0]["lr"]

    free = gradient(None)
    norm = float(free.norm())
    torch.testing.assert_close(gradient(norm / 10), free / 10, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(gradient(norm * 10), free)


@pytest.mark.parametrize("norm", [0, -1.0])
def test_a_norm_that_is_not_above_0_is_refused(norm: float) -> None:
    with pytest.raises(ValueError, match=f"max_gradient_norm is {norm}; expected a number above 0"):
        make_trainer(make_network(), max_gradient_norm=norm)


def test_accumulation_must_divide_the_epoch() -> None:
    with pytest.raises(ValueError, match="accumulation_steps is 3 and an epoch has 4 iterations"):
        make_trainer(make_network(), iterations=4, accumulation_steps=3)


@pytest.mark.parametrize("objective", ["less_net", "mean_teacher", "weak_to_strong"])
def test_loss_is_supervised_plus_weighted_objective(objective: str) -> None:
    ramp = SigmoidRampUp(weight=3.0, start=2, length=2)
    rows = readings(make_trainer(make_network(), max_epochs=3, objective=objective, unsupervised_weight=ramp))
    assert [row["unsupervised_weight"] for row in rows] == [ramp(number) for number in range(1, 7)]
    for row in rows[:2]:
        assert row["loss"] == row["loss_supervised"] and "loss_unsupervised" not in row
    for row in rows[2:]:
        expected = row["loss_supervised"] + row["unsupervised_weight"] * row["loss_unsupervised"]
        assert row["loss"] == pytest.approx(expected, rel=1e-5)
        assert 0 <= row["lesion_share"] <= 1 and 0 <= row["confident_share"] <= 1


def test_processes_share_what_weighs_their_pseudo_labels() -> None:
    """The moving figures of SoftMatch: ranks must not weigh by different rules, nor a resumed run jump."""
    trainer = make_trainer(make_network(), objective="weak_to_strong", options={"weighting": "softmatch"})
    shared = {id(buffer) for module in trainer.modules_with_buffers() for buffer in module.buffers()}
    own = {name: id(buffer) for name, buffer in trainer.objective.named_buffers()}
    assert any(name.endswith("variance") for name in own) and set(own.values()) <= shared


def test_weight_zero_is_supervised_training() -> None:
    """The unlabelled stream is read, and nothing else of it is felt."""
    plain, beside = make_network(), make_network()
    make_trainer(plain).run()
    make_trainer(beside, objective="mean_teacher", unsupervised_weight=lambda iteration: 0.0).run()
    assert same_state(plain.state_dict(), beside.state_dict())


def test_views_are_drawn_for_image_and_label_together() -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    loss = supervised_loss()

    class Recorder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.view = view(horizontal_flip=0.5, rotation=30)

        def forward(self, image: torch.Tensor, label: torch.Tensor) -> Any:
            result = self.view(image, label)
            seen.append((result.image, result.label))
            return result

    make_trainer(make_network(), labeled_view=Recorder(), loss_function=lambda a, b: loss(a, b)).run()
    assert len(seen) == 4
    for image, label in seen:
        inside = image[:, :1][label == 1]
        assert label.max() == 1 and inside.mean() > 0.8, "the square that the label names is the red one"


@pytest.mark.parametrize("objective", ["supervised", "mean_teacher"])
def test_a_loss_that_is_not_finite_stops_before_the_step(objective: str) -> None:
    network = make_network()
    trainer = make_trainer(network, objective=objective)
    kept: dict[str, Any] = {}

    def spoil(engine: Any) -> None:
        with torch.no_grad():
            network.head.bias[0] = float("inf")
        kept["weights"] = copy.deepcopy([parameter.detach() for parameter in network.parameters()])
        kept["optimizer"] = copy.deepcopy(trainer.optimizer.state_dict())
        kept["files"] = engine.data_loader

    trainer.add_event_handler(Events.EPOCH_STARTED(once=2), spoil)
    with pytest.raises(NonFiniteLossError) as caught:
        trainer.run()
    message = str(caught.value)
    assert "iteration 3 (epoch 2)" in message and "--learning_rate" in message and "checkpoint is kept" in message
    # Iteration 3 of batches of two reads items 4 and 5 of the first pass.
    sampler = stream_loader(make_frames(8), 2, 2).sampler
    expected = [f"labelled_{sampler.index_at(position)}.png" for position in (4, 5)]
    assert all(f"'{name}'" in message for name in expected)
    assert message.count(".png") == (2 if objective == "supervised" else 4), "the batch's files and no others"
    assert all(map(torch.equal, kept["weights"], network.parameters()))
    assert same_state(kept["optimizer"], trainer.optimizer.state_dict())


def test_an_objective_needs_unlabelled_frames() -> None:
    with pytest.raises(ValueError, match="needs unlabelled frames and there are none.*--objective supervised"):
        make_trainer(make_network(), objective="mean_teacher", unlabeled_data_loader=None)


def test_an_objective_may_need_masks_that_were_mined() -> None:
    with pytest.raises(ValueError, match="learns from masks that were mined.*configs/knowledge_mining.json"):
        make_trainer(make_network(), objective="pseudo_labels")


@pytest.mark.parametrize("name", ["mean_teacher", "weak_to_strong"])
def test_an_objective_may_need_a_teacher(name: str) -> None:
    with pytest.raises(ValueError, match="needs a teacher"):
        make_trainer(make_network(), objective=name, teacher=None)
    assert make_trainer(make_network(), objective="less_net", teacher=None).teacher is None


@pytest.mark.parametrize("name", ["less_net", "weak_to_strong"])
def test_an_objective_may_need_the_maps_inside(name: str) -> None:
    """MONAI's UNet has no encode and decode; found out before training, not at the objective's first iteration."""
    network = nn.Conv2d(3, 2, 1)
    with pytest.raises(ValueError, match="Conv2d has no encode and decode.*supervised, mean_teacher"):
        make_trainer(network, objective=name)
    make_trainer(network, objective="mean_teacher").run()


def test_streams_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 batches an epoch, the unlabelled one 3"):
        make_trainer(
            make_network(), objective="mean_teacher", unlabeled_data_loader=stream_loader(make_frames(6, False), 2, 3)
        )


def test_bf16_on_a_cpu_computes_in_bf16_and_keeps_weights_and_loss_in_fp32() -> None:
    types = set()
    network = make_network()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output: types.add(output.dtype))
    trainer = make_trainer(network, max_epochs=10, total=20, objective="mean_teacher", precision="bf16")
    losses = [row["loss"] for row in readings(trainer)]
    assert types == {torch.bfloat16}
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    assert trainer.state.output[0]["loss"].dtype == torch.float32
    assert sum(losses[-4:]) < sum(losses[:4])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_precisions_on_a_gpu(precision: str) -> None:
    device = torch.device("cuda")
    assert resolve_precision("auto", device) in ("bf16", "fp16")
    trainer = make_trainer(
        make_network().to(device), max_epochs=10, total=20, objective="mean_teacher", device=device, precision=precision
    )
    losses = [row["loss"] for row in readings(trainer)]
    assert trainer.grad_scaler.is_enabled() == (precision == "fp16")
    assert sum(losses[-4:]) < sum(losses[:4])


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'mean_teacher'"):
        build_objective("meanteacher")


def test_weights_that_others_put_in_begin_a_new_average() -> None:
    """Federated learning trains round after round, each from the server's weights."""
    network = make_network()
    trainer = make_trainer(network, max_epochs=1, iterations=3, objective="mean_teacher")
    with torch.no_grad():
        network.head.bias.add_(5.0)  # before the first round: the teacher was made earlier
    seen: list[float] = []
    trainer.add_event_handler(Events.STARTED, lambda engine: seen.append(engine.teacher.network.head.bias[0].item()))
    given = network.head.bias[0].item()
    trainer.run()
    assert seen == [given] and int(trainer.teacher.updates) == 3

    trainer.state.max_epochs = 2
    trainer.run()
    assert int(trainer.teacher.updates) == 6, "nobody touched the weights: the average goes on"

    with torch.no_grad():
        network.head.bias.add_(5.0)
    given = network.head.bias[0].item()
    trainer.state.max_epochs = 3
    trainer.run()
    assert seen[2] == given and int(trainer.teacher.updates) == 3
