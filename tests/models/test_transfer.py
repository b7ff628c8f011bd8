"""Transfer: torchvision's backbones and Winnow's own winners, weight files good and bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.models.test_timm import built_or_refused
from winnow.models import build, check_buildable, parameter_groups, summarize
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Model

torch.set_num_threads(1)

SHAPE = (3, 16, 16)
SMALL = "shufflenet_v2_x0_5"  # 1.4 million weights, with batch norms
CNN = {"name": "cnn", "stages": [{"filters": 4}, {"filters": 6}], "norm": "batch", "head": [8]}


def parse(**raw: Any) -> Model:
    model: Model = TypeAdapter(Model).validate_python(raw)
    return model


def transfer(**raw: Any) -> nn.Module:
    return build(parse(name="transfer", **raw), SHAPE, 5)


# --- torchvision ----------------------------------------------------------------------------------------------------

# One of each builder of torchvision, the smallest.
BUILDERS = {
    "alexnet": 64, "convnext_tiny": 32, "densenet121": 32, "efficientnet_b0": 32, "efficientnet_v2_s": 32, "googlenet": 32,
    "inception_v3": 80, "maxvit_t": 224, "mnasnet0_5": 32, "mobilenet_v2": 32, "mobilenet_v3_small": 32,
    "regnet_x_400mf": 32, "resnet18": 32, "shufflenet_v2_x0_5": 32, "squeezenet1_0": 32, "swin_t": 32, "swin_v2_t": 32,
    "vgg11": 32, "vit_b_32": 32,
}  # fmt: skip


@pytest.mark.parametrize("backbone", BUILDERS)
def test_every_builder_of_torchvision_gets_a_new_head(backbone: str) -> None:
    model = parse(name="transfer", backbone=backbone, resize=BUILDERS[backbone], head=[11])
    summary = summarize(model, SHAPE, 5)
    assert summary.layers[-1].output_shape == (5,)
    assert [layer.output_shape for layer in summary.layers if layer.name == "head.hidden.0.linear"] == [(11,)]


EVERY_BACKBONE = torchvision.models.list_models(module=torchvision.models)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", EVERY_BACKBONE)
def test_every_backbone_of_torchvision(backbone: str) -> None:
    check_buildable(parse(name="transfer", backbone=backbone, resize=224), SHAPE, 5)


@pytest.mark.slow
@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("backbone", EVERY_BACKBONE)
def test_small_images_are_taken_or_refused_in_a_sentence(backbone: str, side: int) -> None:
    assert built_or_refused(parse(name="transfer", backbone=backbone, resize=side), SHAPE, 5)


def test_hand_count_of_resnet18() -> None:
    """11,689,512 weights as published, with a class layer of 512 -> 5 in place of 512 -> 1000."""
    expected = 11_689_512 - (512 * 1000 + 1000) + (512 * 5 + 5)
    assert summarize(parse(name="transfer", backbone="resnet18"), SHAPE, 5).num_parameters == expected


def test_one_channel_is_repeated() -> None:
    model = parse(name="transfer", backbone="squeezenet1_1", resize=32)
    assert build(model, (1, 8, 8), 5)(torch.zeros(2, 1, 8, 8)).shape == (2, 5)
    with pytest.raises(InputError, match="3 channels"):
        build(model, (4, 8, 8), 5)


@pytest.mark.parametrize("size", [8, 24])
def test_resize_reaches_the_backbone(size: int) -> None:
    network = transfer(backbone="squeezenet1_1", resize=size)
    images = torch.full((2, *SHAPE), 0.5)
    resized = network.get_submodule("inputs")(images)
    assert resized.shape == (2, 3, size, size)
    torch.testing.assert_close(resized, torch.full_like(resized, 0.5))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A torch hub folder with one weight file of torchvision's name, and the network it came from."""
    folder = tmp_path_factory.mktemp("hub") / "checkpoints"
    folder.mkdir()
    torch.manual_seed(1)
    network = torchvision.models.get_model(SMALL).eval()
    with torch.no_grad():
        for buffer in network.buffers():
            if buffer.dtype == torch.float32:
                buffer.uniform_(0.5, 1.5)
    url = torchvision.models.get_model_weights(SMALL)["IMAGENET1K_V1"].url
    torch.save(network.state_dict(), folder / url.rpartition("/")[2])
    return folder, network


@pytest.fixture(params=["name", "pt", "data parallel", "safetensors"])
def weights(
    request: pytest.FixtureRequest,
    pretrained: tuple[Path, nn.Module],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The same weights in each way they can be given."""
    folder, network = pretrained
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder.parent))
    if request.param == "name":
        return "IMAGENET1K_V1"
    if request.param == "pt":
        return str(next(folder.iterdir()))
    if request.param == "safetensors":
        save_file(network.state_dict(), tmp_path / "w.safetensors")
        return str(tmp_path / "w.safetensors")
    kept = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    wrapped = {f"module.{name}": value for name, value in kept.items()}  # as old files of DataParallel are
    torch.save({"state_dict": wrapped, "epoch": 3}, tmp_path / "w.pth")
    return str(tmp_path / "w.pth")


def test_weights_arrive(weights: str, pretrained: tuple[Path, nn.Module]) -> None:
    network = transfer(backbone=SMALL, weights=weights, frozen=True)
    original = pretrained[1]
    images = torch.randn(2, 3, 32, 32)
    seen: list[Tensor] = []
    original.get_submodule("fc").register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        original(images)
        features = network.get_submodule("backbone")(images)
    torch.testing.assert_close(features, seen[0])
    check_buildable(parse(name="transfer", backbone=SMALL, weights=weights), SHAPE, 5)


def test_old_names_of_densenet(tmp_path: Path) -> None:
    tensors = torchvision.models.densenet121().state_dict()
    for old, new in (
        (".norm1.", ".norm.1."),
        (".norm2.", ".norm.2."),
        (".conv1.", ".conv.1."),
        (".conv2.", ".conv.2."),
    ):
        tensors = {name.replace(old, new) if "denselayer" in name else name: value for name, value in tensors.items()}
    torch.save(tensors, tmp_path / "d.pth")
    check_buildable(parse(name="transfer", backbone="densenet121", weights=str(tmp_path / "d.pth")), (3, 32, 32), 5)


# --- what trains ----------------------------------------------------------------------------------------------------


def test_frozen_backbone_neither_learns_nor_counts() -> None:
    network = transfer(backbone=SMALL, frozen=True).train()
    before = {name: value.clone() for name, value in network.get_submodule("backbone").state_dict().items()}
    (group,) = parameter_groups(network, 0.1)
    optimizer = torch.optim.SGD([group], lr=0.1)
    head = network.get_parameter("head.classes.weight").clone()
    nn.functional.cross_entropy(network(torch.randn(4, *SHAPE)), torch.arange(4)).backward()
    optimizer.step()
    after = network.get_submodule("backbone").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), "weights and norm statistics"
    assert not torch.equal(head, network.get_parameter("head.classes.weight"))
    assert not network.get_submodule("backbone").training
    assert network.get_submodule("head").training
    assert network.train(False).training is False


def test_whole_network_learns_at_two_rates() -> None:
    network = transfer(backbone=SMALL, head_lr_factor=10.0).train()
    backbone, head = parameter_groups(network, 0.01)
    assert (backbone["lr"], head["lr"]) == (0.01, pytest.approx(0.1))
    assert len(backbone["params"]) + len(head["params"]) == len(list(network.parameters()))
    nn.functional.cross_entropy(network(torch.randn(8, 3, 64, 64)), torch.arange(8) % 5).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []
    assert network.get_submodule("backbone").training


# --- winners of earlier runs ----------------------------------------------------------------------------------------

OLD_MODELS = {
    "cnn": CNN,
    "mlp": {"name": "mlp", "hidden": [8]},
    "residual": {"name": "residual", "stem": 4, "stages": [{"blocks": 1, "filters": 6}], "logits_norm": "batch"},
    "mixture": {"name": "mixture", "blocks": [{"filters": 4}]},
    "convnext": {"name": "convnext", "stages": [{"blocks": 1, "filters": 4}]},
    "vit": {"name": "vit", "width": 8, "depth": 1},
    "transfer": {"name": "transfer", "backbone": "squeezenet1_1", "frozen": True, "resize": 32, "weights": "gone.pt"},
    "custom": {"name": "tests.models.test_registries:tiny", "width": 5},
}


def winner(path: Path, raw: dict[str, Any], num_classes: int = 10) -> nn.Module:
    """Write the file that retraining writes; returns the network."""
    torch.manual_seed(2)
    buildable = {**raw, "weights": "none"} if raw["name"] == "transfer" else raw
    network = build(parse(**buildable), SHAPE, num_classes).eval()
    torch.save({"weights": network.state_dict(), "config": {"epochs": 3, "model": raw}}, path)
    return network


@pytest.mark.parametrize("family", OLD_MODELS)
def test_winner_becomes_a_backbone(family: str, tmp_path: Path) -> None:
    path = tmp_path / "winner-t1-s0.pt"
    old = winner(path, OLD_MODELS[family])
    network = transfer(backbone={"weights": str(path)}, head=[7]).eval()
    seen: list[Tensor] = []
    classes = [layer for layer in old.modules() if isinstance(layer, nn.Linear)][-1]
    classes.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = torch.randn(3, *SHAPE)
    with torch.no_grad():
        old(images)
        torch.testing.assert_close(network.get_submodule("backbone")(images), seen[0])
        assert network(images).shape == (3, 5)
    assert all(weight.requires_grad for weight in network.parameters())
    check_buildable(parse(name="transfer", backbone={"weights": str(path)}), SHAPE, 5)


@pytest.mark.parametrize("whole", [True, False], ids=["config", "model alone"])
@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_config_in_a_file_of_its_own(kind: str, whole: bool, tmp_path: Path) -> None:
    network = winner(tmp_path / "w.pt", CNN)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    tree = {"epochs": 3, "model": CNN} if whole else CNN
    (tmp_path / f"c.{kind}").write_text(json.dumps(tree))
    backbone = {"weights": str(tmp_path / "w.pt"), "config": str(tmp_path / f"c.{kind}")}
    assert transfer(backbone=backbone)(torch.zeros(2, *SHAPE)).shape == (2, 5)
    with pytest.raises(InputError, match="contains no config; set `config`"):
        transfer(backbone={"weights": str(tmp_path / "w.pt")})


# --- refusals -------------------------------------------------------------------------------------------------------


def refusal(**raw: Any) -> str:
    with pytest.raises(InputError) as error:
        check_buildable(parse(name="transfer", **raw), SHAPE, 5)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_unknown_backbone_gets_the_nearest_spelling() -> None:
    message = refusal(backbone="resnet_18")
    assert message.startswith("model.backbone: torchvision has no 'resnet_18'; did you mean resnet18")


def test_unknown_weight_name_lists_what_there_is() -> None:
    message = refusal(backbone="resnet50", weights="IMAGENET_V2")
    assert "did you mean IMAGENET1K_V2" in message
    assert "none, IMAGENET1K_V1, IMAGENET1K_V2" in message


def test_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    message = refusal(backbone="resnet18", weights="IMAGENET1K_V1")
    assert str(tmp_path / "checkpoints" / "resnet18-f37072fd.pth") in message
    assert "does not download" in message


def test_missing_file() -> None:
    assert "model.weights: no such file: nowhere/w.pt" in refusal(backbone="resnet18", weights="nowhere/w.pt")
    assert "model.backbone.weights: no such file: w.pt" in refusal(backbone={"weights": "w.pt"})


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04torn", b"\x80\x02garbage", b"\xff" * 64])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_unreadable_file(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(content)
    assert f"{path} is not readable as a state dict" in refusal(backbone="resnet18", weights=str(path))


def test_cut_off_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(9)}, path)
    path.write_bytes(path.read_bytes()[:-4])
    assert "not readable as a state dict" in refusal(backbone="resnet18", weights=str(path))


def test_file_with_more_than_tensors(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "w.pt")
    assert "torch.save(network.state_dict(), path)" in refusal(backbone="resnet18", weights=str(tmp_path / "w.pt"))
    torch.save([1, 2], tmp_path / "w.pt")
    assert "contains a list" in refusal(backbone="resnet18", weights=str(tmp_path / "w.pt"))
    torch.save({"epoch": 2}, tmp_path / "w.pt")
    assert "contains no tensors" in refusal(backbone="resnet18", weights=str(tmp_path / "w.pt"))


def test_weights_of_another_architecture(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(torchvision.models.squeezenet1_1().state_dict(), path)
    message = refusal(backbone=SMALL, weights=str(path))
    assert f"model.weights: {path} does not fit backbone {SMALL}" in message
    assert "are missing (conv1.0.weight" in message
    assert "unknown to the network (features.0.weight" in message


def test_winner_of_another_image_size_or_width(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    winner(path, CNN)
    message = refusal(backbone={"weights": str(path)}, resize=32)
    assert "head.hidden.0.linear.weight is 8x96 in the file, 8x384 in the network" in message
    assert "`resize`" in message


def test_winner_with_a_config_that_is_not_fixed(tmp_path: Path) -> None:
    winner(tmp_path / "w.pt", CNN)
    (tmp_path / "c.yaml").write_text("model: {name: mlp, hidden: {choice: [[8], [9]]}}")
    message = refusal(backbone={"weights": str(tmp_path / "w.pt"), "config": str(tmp_path / "c.yaml")})
    assert "c.yaml is not a config with a fixed model: model.mlp.hidden" in message
    message = refusal(backbone={"weights": str(tmp_path / "w.pt"), "config": "gone.yaml"})
    assert "model.backbone.config: no such file: gone.yaml" in message


def test_image_that_a_backbone_cannot_take() -> None:
    assert "vit_b_16 cannot take images of 30x30" in refusal(backbone="vit_b_16", resize=30)
    assert "cannot take images of 3x16x16: layer" in refusal(backbone="alexnet")


def test_weights_are_stated_once() -> None:
    with pytest.raises(ValidationError, match=r"backbone\.weights"):
        parse(name="transfer", backbone={"weights": "w.pt"}, weights="v.pt")
