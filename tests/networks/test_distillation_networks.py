"""A teacher is timm's own model and never changes; what a student is compared by, and what LESSNet takes over."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from scripts.losses import DistillationLoss, FeatureMatchingLoss
from scripts.networks import CheckpointError, DistillationNetwork, FrozenTeacher, LESSNet, PictureEncoder

BACKBONE = "mobilenetv2_035"  # small; no weights of it are published


def teacher_file(folder: Path, backbone: str = BACKBONE, half: bool = False, **options: object) -> str:
    """A whole timm model of random numbers, with batch statistics that are no identity."""
    torch.manual_seed(1)
    model = timm.create_model(backbone, **options).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 3, 64, 64))
    path = folder / f"{backbone}.safetensors"
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    state = {name: value.half() if half and value.is_floating_point() else value for name, value in state.items()}
    save_file(state, str(path), metadata={"mean": "[0.25, 0.5, 0.5]", "std": "[0.5, 0.5, 0.25]"})
    return str(path)


@pytest.fixture(scope="module")
def teacher_weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return teacher_file(tmp_path_factory.mktemp("teacher"))


def normalised(image: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor([0.25, 0.5, 0.5]), torch.tensor([0.5, 0.5, 0.25])
    return (image - mean.view(3, 1, 1)) / std.view(3, 1, 1)


class TestTeacher:
    @torch.no_grad()
    @pytest.mark.parametrize("backbone", [BACKBONE, "mobilevit_xxs", "resnet10t"])
    def test_its_logits_are_those_of_the_whole_timm_model(self, backbone: str, tmp_path: Path) -> None:
        path = teacher_file(tmp_path, backbone)
        model = timm.create_model(backbone, checkpoint_path=path).eval()
        image = torch.rand(2, 3, 64, 64)
        taps, logits = FrozenTeacher(backbone, path)(image)
        torch.testing.assert_close(logits, model(normalised(image)), atol=1e-4, rtol=1e-4)
        assert [tap.shape[2] for tap in taps] == [64 // stride for stride in (2, 4, 8, 16, 32)][-len(taps) :]

    @torch.no_grad()
    def test_padding_of_its_weights_and_float16(self, tmp_path: Path) -> None:
        """mobilenetv2_100 was trained with TensorFlow's padding; another one gives other logits."""
        path = teacher_file(tmp_path, "mobilenetv2_100", half=True)
        image = torch.rand(2, 3, 64, 64)
        same, plain = (
            timm.create_model("mobilenetv2_100", checkpoint_path=path, **options).eval()(normalised(image))
            for options in ({"pad_type": "same"}, {})
        )
        found = FrozenTeacher("mobilenetv2_100", path)(image)[1]
        torch.testing.assert_close(found, same, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(found, plain, atol=1e-3, rtol=1e-3)

    def test_the_real_file(self, shared_dir: Path) -> None:
        teacher = FrozenTeacher("mobilenetv2_100", str(shared_dir / "weights" / "mobilenetv2_100.in1k.safetensors"))
        assert teacher.classes == 1000 and teacher.normalize.mean.flatten().tolist() == [0.5] * 3
        assert "306 of 306 tensors" in teacher.weights_report["message"]

    def test_another_number_of_classes(self, tmp_path: Path) -> None:
        assert FrozenTeacher(BACKBONE, teacher_file(tmp_path, num_classes=7)).classes == 7

    def test_without_a_classifier(self, teacher_weights: str) -> None:
        teacher = FrozenTeacher(BACKBONE, teacher_weights, classifier=False)
        assert teacher.classes == 0 and teacher(torch.rand(1, 3, 64, 64))[1] is None

    def test_it_stays_in_evaluation_and_gives_no_gradient(self, teacher_weights: str) -> None:
        teacher = FrozenTeacher(BACKBONE, teacher_weights).train()
        assert not any(module.training for module in teacher.modules())
        assert not any(parameter.requires_grad for parameter in teacher.parameters())
        taps, logits = teacher(torch.rand(2, 3, 64, 64, requires_grad=True))
        assert not logits.requires_grad and not any(tap.requires_grad for tap in taps)

    @pytest.mark.parametrize("weights", ["none", "auto", ""])
    def test_random_numbers_are_refused(self, weights: str) -> None:
        with pytest.raises(ValueError, match=f"teacher_weights is '{weights}': a teacher of random numbers"):
            FrozenTeacher(BACKBONE, weights)

    def test_weights_without_a_classifier(self, tmp_path: Path) -> None:
        torch.save({"model": LESSNet(backbone=BACKBONE, encoder_weights="none").state_dict()}, tmp_path / "model.pt")
        with pytest.raises(CheckpointError, match=r"holds no classifier: classifier.weight.*set logit_weight 0"):
            FrozenTeacher(BACKBONE, str(tmp_path / "model.pt"))
        assert FrozenTeacher(BACKBONE, str(tmp_path / "model.pt"), classifier=False).classes == 0

    def test_a_classifier_of_another_model(self, tmp_path: Path) -> None:
        model = timm.create_model(BACKBONE).state_dict()
        model["classifier.weight"] = torch.zeros(1000, 5)
        torch.save(model, tmp_path / "other.pt")
        with pytest.raises(CheckpointError, match=r"is not that of mobilenetv2_035.*set logit_weight 0"):
            FrozenTeacher(BACKBONE, str(tmp_path / "other.pt"))

    def test_an_architecture_whose_classifier_is_not_known(self, tmp_path: Path) -> None:
        torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), tmp_path / "v3.pt")
        with pytest.raises(ValueError, match="is a MobileNetV3, whose classifier cannot be run.*set logit_weight 0"):
            FrozenTeacher("mobilenetv3_small_050", str(tmp_path / "v3.pt"))
        assert FrozenTeacher("mobilenetv3_small_050", str(tmp_path / "v3.pt"), classifier=False).classes == 0

    def test_the_hub_or_an_error(self) -> None:
        with pytest.raises(CheckpointError, match=f"{BACKBONE} cannot be had.*give the path"):
            FrozenTeacher(BACKBONE, "imagenet")


class TestDistillationNetwork:
    def test_shapes(self, teacher_weights: str) -> None:
        student = PictureEncoder("mobilevit_xxs", "none")
        network = DistillationNetwork(student, FrozenTeacher(BACKBONE, teacher_weights))
        matched = network(torch.rand(2, 3, 64, 96))
        assert network.strides == [2, 4, 8, 16, 32]
        assert [one.shape for one in matched.student] == [one.shape for one in matched.teacher]
        assert matched.student_logits.shape == matched.teacher_logits.shape == (2, 1000)
        assert network.encoder is student.encoder and network.encoder_weights_report["used"] == "random"
        assert not any("heads" in name or "teacher" in name for name in student.state_dict())

    def test_only_the_strides_that_both_have(self, tmp_path: Path) -> None:
        """ConvNeXt begins at stride 4."""
        torch.save(timm.create_model("convnext_atto").state_dict(), tmp_path / "next.pt")
        teacher = FrozenTeacher("convnext_atto", str(tmp_path / "next.pt"), classifier=False)
        network = DistillationNetwork(PictureEncoder(BACKBONE, "none"), teacher)
        matched = network(torch.rand(2, 3, 64, 64))
        assert network.strides == [4, 8, 16, 32] and matched.teacher_logits is None and matched.student_logits is None
        assert FeatureMatchingLoss()(matched.student, matched.teacher) > 0, "their shapes fit"

    def test_strides_that_do_not_meet(self, teacher_weights: str) -> None:
        student, teacher = PictureEncoder(BACKBONE, "none"), FrozenTeacher(BACKBONE, teacher_weights)
        student.encoder.reductions, teacher.encoder.reductions = [2, 4], [8, 16, 32]
        with pytest.raises(ValueError, match=r"strides \[2, 4\], the teacher's \[8, 16, 32\]: none is common"):
            DistillationNetwork(student, teacher)

    def test_a_student_that_is_its_teacher_has_nothing_to_learn(self, teacher_weights: str) -> None:
        student = PictureEncoder(BACKBONE, teacher_weights)
        network = DistillationNetwork(student, FrozenTeacher(BACKBONE, teacher_weights)).eval()
        with torch.no_grad():
            for adapter in network.heads["adapters"]:
                torch.nn.init.dirac_(adapter.weight)
                adapter.bias.zero_()
            matched = network(torch.rand(4, 3, 64, 64))
        assert FeatureMatchingLoss()(matched.student, matched.teacher).item() == pytest.approx(0.0, abs=1e-5)
        matched.student_logits = matched.teacher_logits
        assert DistillationLoss()(matched)[0].item() == pytest.approx(0.0, abs=1e-5)

    def test_less_net_takes_over_the_encoder(self, teacher_weights: str, tmp_path: Path) -> None:
        student = PictureEncoder("mobilevit_xxs", "none")
        DistillationNetwork(student, FrozenTeacher(BACKBONE, teacher_weights)).train()(torch.rand(2, 3, 64, 64))
        torch.save({"model": student.state_dict()}, tmp_path / "model.pt")
        started = LESSNet("lite_mobilevit_xxs", encoder_weights=str(tmp_path / "model.pt"))
        for name, value in student.encoder.state_dict().items():
            assert torch.equal(value, started.encoder.state_dict()[name]), name
        assert torch.equal(started.normalize.mean, student.normalize.mean)
