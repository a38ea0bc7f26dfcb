"""The network: the golden outputs, the order of its averages, the teacher's rule and the student's start."""

import copy
import socket

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.filled import described, filled_net, filled_state, relative
from vkd.models import network
from vkd.models.backbones import BACKBONES
from vkd.models.network import (
    NoImageNetWeights,
    ReIDNet,
    batch_statistics,
    build_on_meta,
    check_state_dict,
    student_of,
)
from vkd.models.reference import to_authors

PUBLISHED = [name for name in BACKBONES if name != "tiny"]
TAUGHT = ["resnet18", "mobilenet", "resnet50bam"]  # golden outputs with batch statistics exist for these


@pytest.fixture(scope="module")
def golden_outputs(golden) -> dict[str, np.ndarray]:
    with np.load(golden / "models.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def images(golden_outputs) -> Tensor:
    return torch.from_numpy(golden_outputs["input"])


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


# Golden


def test_the_fill_rule_and_the_input_are_reproduced(images: Tensor):
    draw = np.random.default_rng(505)
    a = draw.standard_normal((2, 3, 3, 64, 32), dtype=np.float32)
    o = draw.standard_normal((2, 3, 3, 1, 1), dtype=np.float32)
    np.testing.assert_allclose(images.numpy(), a + np.float32(1.5) * o, rtol=1e-6)


@pytest.mark.parametrize("name", PUBLISHED)
def test_golden_network(name: str, golden_outputs, images: Tensor):
    """Names, shapes, kinds, counts and outputs of each published network, in float64 and float32."""
    golden, state = described()[name], filled_state(name)
    values = torch.cat([tensor.double().flatten() for tensor in state.values()])
    check = golden["fill_check"]
    assert values.numel() == check["count"]
    assert values.sum().item() == pytest.approx(check["sum"], rel=1e-9)
    assert values.abs().sum().item() == pytest.approx(check["abs_sum"], rel=1e-9)
    first = state[check["first_weight_key"]].double().flatten()[:4]
    assert first.tolist() == pytest.approx(check["first_weight_values"], rel=1e-6)

    net = filled_net(name, torch.float32, state)
    theirs = to_authors(net)
    kinds = [
        [key, list(tensor.shape), str(tensor.dtype).removeprefix("torch.")] for key, tensor in theirs.items()
    ]
    assert kinds == golden["state_dict"]
    assert all(torch.equal(theirs[key], tensor) for key, tensor in state.items())
    assert sum(p.numel() for p in net.parameters()) == golden["num_parameters"]
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == golden["num_trainable"]
    frozen = [key for key, tensor in net.named_parameters() if not tensor.requires_grad]
    assert frozen == ["neck.bias"]

    for dtype, suffix, tolerance in ((torch.float32, "_f32", 1e-5), (torch.float64, "", 1e-9)):
        net.to(dtype)
        with torch.no_grad():
            out = net(images.to(dtype))
        assert relative(out.embedding, golden_outputs[f"{name}__eval__emb{suffix}"]) < tolerance
        assert relative(out.logits, golden_outputs[f"{name}__eval__logits{suffix}"]) < tolerance


@pytest.mark.parametrize("name", TAUGHT)
def test_golden_teacher_and_student(name: str, golden_outputs, images: Tensor):
    """Batch statistics: the teacher leaves its running statistics alone, the student updates its own."""
    net = filled_net(name)
    before = copy.deepcopy(net)
    for dtype, suffix, tolerance in ((torch.float64, "", 1e-8), (torch.float32, "_f32", 1e-3)):
        net.to(dtype)
        with batch_statistics(net):
            out = net(images.to(dtype))
        assert relative(out.embedding, golden_outputs[f"{name}__teacher__emb{suffix}"]) < tolerance
        assert relative(out.logits, golden_outputs[f"{name}__teacher__logits{suffix}"]) < tolerance
    net.double()
    assert same(net, before)
    out = net.train()(images.double())
    assert relative(out.logits, golden_outputs[f"{name}__teacher__logits"]) < 1e-8
    for kind in ("mean", "var"):
        theirs = golden_outputs[f"{name}__student__bottleneck_running_{kind}"]
        assert relative(net.neck.get_buffer(f"running_{kind}"), theirs) < 1e-8


# The chain


def test_the_averages_against_one_view_at_a_time(generator):
    """Embedding: mean over views before the neck. Logits: mean over views after the classifier."""
    net = ReIDNet("tiny", 5, generator=generator).double().train()
    net.neck.weight.data.uniform_(0.5, 2)
    images = torch.randn(3, 4, 3, 32, 16, dtype=torch.float64)
    flat = net.backbone(images.reshape(12, 3, 32, 16)).mean((2, 3))
    centred = (flat - flat.mean(0)) / (flat.var(0, unbiased=False) + net.neck.eps).sqrt() * net.neck.weight
    logits = centred @ net.classifier.weight.T
    out = net(images)
    torch.testing.assert_close(out.views, flat.reshape(3, 4, -1))
    torch.testing.assert_close(out.embedding, flat.reshape(3, 4, -1).mean(1))
    torch.testing.assert_close(out.logits, logits.reshape(3, 4, 5).mean(1))


@pytest.mark.parametrize("views", [1, 2, 7])
def test_any_number_of_views(views: int, generator):
    net = ReIDNet("tiny", 5, generator=generator).eval()
    images = torch.randn(2, views, 3, 48, 24)
    out = net(images)
    assert out.embedding.shape == (2, 32)
    assert out.logits.shape == (2, 5)
    assert out.views.shape == (2, views, 32)
    assert net.maps(images).shape == (2, views, 32, 12, 6)
    torch.testing.assert_close(net.embed(images), out.embedding)
    one_by_one = torch.stack([net.embed(images[:, v : v + 1]) for v in range(views)]).mean(0)
    torch.testing.assert_close(out.embedding, one_by_one)


@pytest.mark.parametrize("shape", [(3, 32, 16), (2, 3, 32, 16), (2, 2, 1, 32, 16)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"\(tracklets, views, 3, height, width\)"):
        ReIDNet("tiny", 2)(torch.zeros(shape))


def test_new_neck_and_classifier(generator):
    net = ReIDNet("tiny", 4000, generator=generator)
    assert net.neck.weight.eq(1).all()
    assert net.neck.bias.eq(0).all()
    assert not net.neck.bias.requires_grad
    assert net.classifier.bias is None
    assert net.classifier.weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert net.classifier.weight.mean().abs().item() < 1e-5


def test_a_network_needs_identities():
    with pytest.raises(ValueError, match="at least one training identity"):
        ReIDNet("tiny", 0)


def test_the_same_generator_gives_the_same_network():
    one, two = (ReIDNet("tiny", 3, generator=torch.Generator().manual_seed(9)) for _ in range(2))
    assert same(one, two)


def test_channels_last_gives_the_same(generator):
    net = ReIDNet("resnet18", 3, generator=generator).eval()
    images = torch.randn(2, 2, 3, 64, 32)
    clips = (
        images.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    )  # as decoded pictures lie in memory
    with torch.no_grad():
        expected = net(images)
        net.to(memory_format=torch.channels_last)
        maps = net.maps(clips)
        out = net(clips)
    assert maps.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out.logits, expected.logits, rtol=1e-4, atol=1e-6)


def test_autocast_pools_and_classifies_in_full_precision(generator):
    net = ReIDNet("tiny", 3, generator=generator).eval()
    images = torch.randn(2, 2, 3, 32, 16)
    with torch.no_grad():
        expected = net(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert net.maps(images).dtype == torch.bfloat16
            out = net(images)
    assert {tensor.dtype for tensor in out} == {torch.float32}
    torch.testing.assert_close(out.embedding, expected.embedding, rtol=0.05, atol=0.02)


def test_compile_traces_the_whole_network(generator):
    """One graph, no breaks (the backend that only traces: no compiler is needed)."""
    net = ReIDNet("tiny", 3, generator=generator)
    images = torch.randn(2, 2, 3, 32, 16)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    with batch_statistics(net):
        torch.testing.assert_close(compiled(images).logits, net(images).logits)
    net.eval()
    torch.testing.assert_close(compiled(images).logits, net(images).logits)


# The teacher


@pytest.mark.parametrize("training", [True, False])
def test_batch_statistics_leaves_the_network_as_it_was(training: bool, generator):
    net = ReIDNet("tiny", 3, generator=generator).train(training)
    before = copy.deepcopy(net)
    images = torch.randn(2, 2, 3, 32, 16) * 3 + 5
    with batch_statistics(net):
        taught = net(images)
    assert not taught.logits.requires_grad
    assert same(net, before)
    assert net.training is training
    assert all(norm.track_running_stats for norm in net.modules() if isinstance(norm, nn.BatchNorm2d))
    torch.testing.assert_close(taught.logits, copy.deepcopy(net).train()(images).logits)
    assert not torch.allclose(taught.logits, copy.deepcopy(net).eval()(images).logits)


def test_batch_statistics_survives_an_error(generator):
    net = ReIDNet("tiny", 3, generator=generator).eval()
    with pytest.raises(RuntimeError, match="stop"), batch_statistics(net):
        raise RuntimeError("stop")
    assert not any(norm.training for norm in net.modules())
    assert torch.is_grad_enabled()


def test_statistics_that_are_not_finite_do_not_reach_the_teacher(generator):
    net = ReIDNet("tiny", 3, generator=generator)
    with batch_statistics(net):
        net(torch.full((2, 2, 3, 32, 16), torch.inf))
    assert all(tensor.isfinite().all() for tensor in net.state_dict().values())


# The student


@pytest.mark.parametrize("name", ["tiny", "resnet18", "mobilenet"])
def test_a_student_copies_all_but_its_last_stage_and_head(name: str, generator):
    teacher = ReIDNet(name, 3, generator=generator)
    with torch.no_grad():
        for tensor in teacher.state_dict().values():
            tensor.add_(1)
    student = student_of(teacher, 7, pretrained=False, generator=generator)
    assert student.identities == 7
    assert student.classifier.weight.shape == (7, teacher.width)
    assert student.neck.weight.eq(1).all()
    for stage, module in teacher.backbone.stages.named_children():
        assert same(module, student.backbone.stages.get_submodule(stage)) is (
            stage not in BACKBONES[name].restart
        )
    assert student.neck.bias.requires_grad is False
    memory = {tensor.data_ptr() for tensor in teacher.state_dict().values()}
    assert not memory & {tensor.data_ptr() for tensor in student.state_dict().values()}


def test_a_student_may_keep_the_last_stage(generator):
    teacher = ReIDNet("resnet18", 3, generator=generator)
    assert same(teacher.backbone, student_of(teacher, 3, pretrained=False, restart=False).backbone)


def test_densenet_restarts_its_last_block_and_keeps_the_final_norm():
    assert BACKBONES["densenet121"].restart == ("denseblock4",)


def test_the_last_stage_goes_back_to_imagenet(tmp_path, monkeypatch, generator):
    from torchvision import models

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    imagenet = models.resnet18(weights=None)
    torch.save(imagenet.state_dict(), tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
    teacher = ReIDNet("resnet18", 3, generator=generator)
    student = student_of(teacher, 3, pretrained=True, generator=generator)
    assert same(student.backbone.stages.get_submodule("layer4"), imagenet.layer4)
    assert same(
        student.backbone.stages.get_submodule("layer3"), teacher.backbone.stages.get_submodule("layer3")
    )


def test_no_weights_no_failure(tmp_path, monkeypatch, generator):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    teacher = ReIDNet("resnet18", 3, generator=generator)
    with pytest.warns(NoImageNetWeights):
        student = student_of(teacher, 3, pretrained=True, generator=generator)
    stages, old = student.backbone.stages, teacher.backbone.stages
    assert same(stages.get_submodule("layer3"), old.get_submodule("layer3"))
    assert not same(stages.get_submodule("layer4"), old.get_submodule("layer4"))


def test_silent_weights_server(tmp_path, monkeypatch):
    """A proxy that accepts the connection and never answers."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(network, "_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.warns(NoImageNetWeights):
            ReIDNet("resnet18", 3, pretrained=True)
    assert socket.getdefaulttimeout() is None


def test_a_student_has_its_teachers_precision(generator):
    teacher = ReIDNet("tiny", 3, generator=generator).double()
    assert student_of(teacher, 3, pretrained=False).classifier.weight.dtype == torch.float64


# Shapes without memory


def test_an_empty_network_has_shapes_and_no_memory(tmp_path):
    net = build_on_meta("resnet101", 1_000_000)
    assert all(tensor.is_meta for tensor in net.state_dict().values())
    check_state_dict({name: tensor.shape for name, tensor in net.state_dict().items()}, net, tmp_path)
    assert not net.neck.bias.requires_grad


def test_what_does_not_fit_is_named(tmp_path):
    net = build_on_meta("tiny", 3)
    shapes = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    with pytest.raises(ValueError, match=r"'classifier.weight' has shape \[4, 32\].*needs \[3, 32\]"):
        check_state_dict({**shapes, "classifier.weight": [4, 32]}, net, tmp_path)
    with pytest.raises(
        ValueError, match=r"1 missing \(such as 'neck.bias'\) and 1 unknown \(such as 'neck.bios'\)"
    ):
        check_state_dict(
            {name.replace("neck.bias", "neck.bios"): shape for name, shape in shapes.items()}, net, tmp_path
        )
