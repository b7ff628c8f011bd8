"""Every shipped recipe of a reference experiment: as published, buildable, counted by hand, and able to learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from tests.helpers.cifar import write_some, write_tree
from tests.helpers.tiny import CPU
from winnow import models
from winnow.models import summarize
from winnow.search.data.source import load
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import train
from winnow.search.training.losses import build_loss
from winnow.spaces import catalog
from winnow.spaces.schema import Config, Reference, Transfer
from winnow.spaces.space import Space

SHAPE = (3, 32, 32)
NUM_CLASSES = {"cifar100": 100, "cifar10": 10, "cinic10": 10}
RECIPES = [name for name in catalog.recipe_names() if catalog.load(name).reference]

# The published table, in percent.
PUBLISHED = {
    "A1": 43.68, "A2": 46.76, "A3": 49.50, "A4": 38.40, "A5": 56.87, "A6": 51.23, "A7": 48.44, "A8": 40.44, "A9": 41.44,
    "A10": 46.16, "B1": 50.73, "B2": 52.25, "B3": 64.38, "C1": 52.92, "C2": 80.79, "D1": 62.6, "D2": 36.04, "D3": 56.31,
    "E1": 26, "E2": 29, "E3a": 33, "E3b": 34, "E3c": 36, "E4a": 40, "E4b": 41, "E4c": 40, "E5a": 36, "E5b": 38, "E6": 79,
    "E7": 52,
    **{f"D-ablation-{step}": value for step, value in enumerate([23, 31, 38, 42, 17, 48, 42, 50, 59, 65], start=1)},
}  # fmt: skip

# Groups D and E are too large for a quick test at 32x32 (E3c has a thousand million parameters): at this size the
# convolutions are the same, the first fully connected layer is smaller.
SMALL_SIDE = 4
HANDFUL = 20


def group(space: Space) -> str:
    reference = space.reference
    assert reference is not None
    return reference.row[0]


def without_weight_file(config: Config) -> Config:
    if not isinstance(config.model, Transfer):
        return config
    return config.model_copy(update={"model": config.model.model_copy(update={"weights": "none"})})


# --- as published -------------------------------------------------------------------------------------------------------


def test_every_row_is_there_with_its_figure() -> None:
    references = [catalog.load(name).reference for name in RECIPES]
    assert {r.row: r.accuracy for r in references if r} == PUBLISHED
    assert len(references) == len(PUBLISHED)
    assert {r.row for r in references if r and r.split == "validation"} == {f"D-ablation-{k}" for k in range(1, 11)}


@pytest.mark.parametrize("name", RECIPES)
def test_the_first_line_names_row_and_figure(name: str) -> None:
    reference = catalog.load(name).reference
    assert isinstance(reference, Reference)
    description = dict(catalog.listing())[name]
    start, _, rest = description.partition(" (")
    assert start == f"Reference row {reference.row}"
    assert float(rest.split(" ")[0]) == reference.accuracy
    assert rest.split(" ")[2] == reference.split


@pytest.mark.parametrize("name", RECIPES)
def test_parameters_as_calculated_on_paper(name: str) -> None:
    """`reference.parameters` is the sum that the recipe's comment writes out."""
    space = catalog.load(name)
    model = without_weight_file(space.example()).model
    num_classes = NUM_CLASSES[space.name.split("-")[0]]
    assert space.reference is not None
    assert summarize(model, SHAPE, num_classes).num_parameters == space.reference.parameters
    text = (Path(catalog.__file__).parent / f"{name}.yaml").read_text()
    assert f" = {space.reference.parameters:,}" in text.partition("reference:")[0]


def test_what_the_published_tables_say_of_training() -> None:
    def config(name: str) -> Config:
        return catalog.load(f"recipes/{name}").example()

    lengths = {"cinic10-b1": 16, "cinic10-b2": 10, "cinic10-b3": 5, "cifar10-c1": 30, "cifar10-c2": 40}
    lengths |= {"cifar100-d1": 100, "cifar100-d2": 30, "cifar100-d3": 30, "cifar100-e6": 10, "cifar100-e3c": 20}
    assert {name: config(name).epochs for name in lengths} == lengths
    batches = {"cinic10-b1": 64, "cifar10-c1": 64, "cifar10-c2": 128, "cifar100-d2": 32, "cifar100-e2": 256}
    batches |= {"cifar100-e4b": 128, "cifar100-e6": 128, "cifar100-e7": 128}
    assert {name: config(name).batch_size for name in batches} == batches
    rates = {"cifar10-c1": 0.01, "cifar10-c2": 0.001, "cifar100-d2": 5e-4, "cifar100-e1": 1e-4, "cifar100-e7": 1e-3}
    assert {name: config(name).optimizer.lr for name in rates} == rates
    for name in ("cinic10-b1", "cinic10-b2", "cinic10-b3"):
        data = config(name).data
        assert (data.name, data.validation, data.normalize) == ("image_folder", "given", "computed")
        assert data.extra is not None
        assert data.extra.copies == 30_000
    assert [step.name for step in config("cifar100-e5b").data.augment] == ["resize_crop"]
    assert [step.name for step in config("cifar100-e5a").data.augment] == ["flip"]
    frozen = {name: config(f"cifar100-{name}").model.frozen for name in ("d2", "d3", "e6")}
    assert frozen == {"d2": True, "d3": False, "e6": False}


# --- on real images -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Overrides that bring each data set, by the first word of a recipe's name."""
    folder = tmp_path_factory.mktemp("cifar")
    # Ten classes of CIFAR-100 too: a sample of 50 images cannot hold a hundred.
    files = {name: write_some(folder / f"{name}.npz", name, 20, num_classes=10) for name in ("cifar10", "cifar100")}
    tree = write_tree(folder / "cinic10", train=24)
    found = {name: ["data.name=npz", f"data.path={file}"] for name, file in files.items()}
    return {**found, "cinic10": [f"data.path={tree}", "data.extra.copies=60"]}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A torch hub folder with a file of torchvision's name for resnet18: the tensors are random, the format is its own."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "checkpoints").mkdir()
    torch.manual_seed(0)
    url = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    network = torchvision.models.resnet18(weights=None)
    torch.save(network.state_dict(), folder / "checkpoints" / url.rpartition("/")[2])
    return folder


def quick(name: str, sources: dict[str, list[str]]) -> list[str]:
    """Overrides that make a recipe quick: few images, few epochs, and for the largest networks small images."""
    space = catalog.load(name)
    config = space.example()
    overrides = [*sources[space.name.split("-")[0]], "epochs=2", "batch_size=20"]
    if isinstance(config.model, Transfer):
        return [*overrides, "model.resize=32", "data.limit=50"]
    if group(space) in "DE" and config.model.name != "mlp":
        overrides += [f"data.image_size={SMALL_SIDE}", "data.limit=50"]
    if config.model.name == "residual":
        overrides += [f"data.limit={HANDFUL}", "epochs=8"]
        if not config.model.skip:
            overrides.append("optimizer.lr=0.0002")  # at its own rate, one batch teaches such a deep network nothing
    if any(step.name == "crop" for step in config.data.augment):
        overrides.append("data.augment=[flip, {name: crop, padding: 1}]")  # 4 pixels would be the whole small image
    if config.optimizer.name == "sgd":
        overrides += ["epochs=6", "optimizer.lr=0.02"]  # at its own rate a few hundred steps are noise
    if group(space) == "A" and config.model.name == "cnn" and config.model.dropout:
        overrides.append("epochs=6")  # half of the units dropped in four layers is more noise than two epochs teach
    return overrides


@pytest.mark.data
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_learns(
    name: str, sources: dict[str, list[str]], hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each parameter that trains receives a gradient, and the loss on real images falls."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub))
    config = catalog.load(name, quick(name, sources)).example()
    data = DeviceData.build(load(config.data, tmp_path), config.data, CPU, seed=0)
    check_gradients(config, data)
    losses = [result.train_loss for result in train(config, data, CPU, seed=0)]
    assert losses[-1] < losses[0]
    assert all(np.isfinite(losses))


def check_gradients(config: Config, data: DeviceData) -> None:
    torch.manual_seed(0)
    model = models.build(config.model, data.image_shape, data.num_classes).train()
    order = torch.Generator().manual_seed(0)
    images, labels = next(data.train_chunks(4, order, torch.Generator(), torch.channels_last))
    build_loss(config.loss)(model(images[:8]), labels[:8]).backward()
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert weights
    assert [name for name, weight in weights.items() if weight.grad is None or not weight.grad.any()] == []
    if isinstance(config.model, Transfer) and config.model.frozen:
        assert {name.split(".")[0] for name in weights} == {"head"}
    assert isinstance(model, nn.Module)


@pytest.mark.data
def test_the_given_validation_split_and_the_copies_of_group_b(sources: dict[str, list[str]], tmp_path: Path) -> None:
    config = catalog.load("recipes/cinic10-b1", sources["cinic10"]).example()
    images = load(config.data, tmp_path)
    data = DeviceData.build(images, config.data, CPU, seed=0)
    assert data.validation is not None
    assert (len(data.train), data.num_train, len(data.validation), len(images.test_labels)) == (240, 300, 50, 50)
    pixels = images.train_images.reshape(-1, 3) / 255
    assert data.mean == pytest.approx(pixels.mean(0), abs=1e-6)
    assert data.std == pytest.approx(pixels.std(0), abs=1e-6)
    one = Image.open(next((Path(config.data.path or "") / "valid" / "class0").iterdir()))
    assert images.validation_images is not None
    assert any(np.array_equal(np.asarray(one), image) for image in images.validation_images)
