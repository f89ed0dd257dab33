"""Networks of severities: shapes, the memory of healthy, a frozen encoder, and what LESSNet takes over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scripts.networks import LESSNet, SeverityClassifier, SeverityEmbedder

BACKBONE = "mobilenetv2_100"


def make_embedder(**options: object) -> SeverityEmbedder:
    torch.manual_seed(0)
    return SeverityEmbedder(encoder_weights="none", channels=(16, 8), **options)


def test_shapes_and_ranges() -> None:
    image = torch.rand(3, 3, 64, 96)
    embedder = make_embedder().eval()
    assert embedder(image).shape == (3, 8)
    embedder.remember_healthy(embedder(image[:1]))
    score = embedder.assess(image)
    assert score.shape == (3, 1, 1)
    assert score[0, 0, 0].item() == pytest.approx(0.0, abs=1e-6) and score.min() >= -1e-6 and score.max() <= 2
    classifier = SeverityClassifier(4, encoder_weights="none").eval()
    assert classifier(image).shape == (3, 4)
    assessed = classifier.assess(image)
    assert assessed.shape == (3, 1, 5)
    torch.testing.assert_close(assessed[:, 0, 1:], classifier(image).softmax(dim=1))
    torch.testing.assert_close(assessed[:, 0, 0], assessed[:, 0, 1:] @ torch.arange(4.0))


def test_the_memory_of_healthy() -> None:
    embedder = make_embedder(momentum=0.75)
    axes = torch.eye(8) * 5  # of any length
    embedder.remember_healthy(axes[:0])
    assert not embedder.healthy.any(), "none leave it as it is"
    embedder.remember_healthy(axes[:2])
    assert embedder.healthy.tolist() == [0.5, 0.5, 0, 0, 0, 0, 0, 0], "the first are taken as they are"
    embedder.remember_healthy(axes[2:3])
    assert embedder.healthy.tolist() == [0.375, 0.375, 0.25, 0, 0, 0, 0, 0]
    assert "healthy" in embedder.state_dict()


def test_without_a_healthy_picture_there_is_no_severity() -> None:
    with pytest.raises(RuntimeError, match="knows no healthy picture.*pretrain_severity.json"):
        make_embedder().assess(torch.rand(1, 3, 64, 64))


def test_a_frozen_encoder_does_not_move() -> None:
    torch.manual_seed(0)
    network = SeverityClassifier(3, encoder_weights="none", freeze_encoder=True)
    before = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    network.train()
    optimizer = torch.optim.SGD([value for value in network.parameters() if value.requires_grad], 1.0)
    for _ in range(2):
        network(torch.rand(4, 3, 64, 64)).logsumexp(dim=1).sum().backward()
        optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in network.encoder.state_dict().items())
    assert network.head.training and not network.encoder.training
    free = SeverityClassifier(3, encoder_weights="none").train()
    free(torch.rand(4, 3, 64, 64))
    assert any(not torch.equal(value, before[name]) for name, value in free.encoder.state_dict().items())


@pytest.mark.parametrize("backbone", [BACKBONE, "mobilevit_xxs"])
def test_less_net_starts_from_its_encoder(backbone: str, tmp_path: Path) -> None:
    embedder = make_embedder(backbone=backbone)
    embedder.normalize.mean.fill_(0.25)
    torch.save({"model": embedder.state_dict()}, tmp_path / "model.pt")
    started = LESSNet(backbone=backbone, encoder_weights=str(tmp_path / "model.pt"))
    for name, value in embedder.encoder.state_dict().items():
        assert torch.equal(value, started.encoder.state_dict()[name]), name
    assert started.normalize.mean.flatten().tolist() == [0.25] * 3, "and sees pictures as it did"
    classifier = SeverityClassifier(3, backbone=backbone, encoder_weights=str(tmp_path / "model.pt"))
    assert torch.equal(classifier.vector(torch.ones(1, 3, 64, 64)), embedder.vector(torch.ones(1, 3, 64, 64)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SeverityClassifier(1, encoder_weights="none"), "grades is 1; expected at least 2"),
        (lambda: SeverityEmbedder(encoder_weights="none", channels=(4,)), "expected two numbers above 0"),
        (lambda: SeverityEmbedder(encoder_weights="none", momentum=1.0), "momentum is 1.0"),
        (lambda: SeverityEmbedder(backbone="mobilenetv2_1000", encoder_weights="none"), "timm has no backbone"),
    ],
)
def test_bad_options(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
