"""Group B's recipes on image-folder trees as users have them: odd, damaged, incomplete. Refused before the first epoch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.cifar import write_tree
from winnow.search.cli.main import cli
from winnow.spaces.errors import InputError

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("trees") / "cinic10", train=8, valid=2, test=2)


@pytest.fixture
def tree(good: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(good, tmp_path / "tree"))


def train(tree: Path, output: Path, *overrides: str) -> None:
    changes = [f"data.path={tree}", "data.extra.copies=20", "epochs=1", *overrides]
    arguments = [argument for change in changes for argument in ("--set", change)]
    places = ["--output", str(output), "--data-dir", str(output.parent / "cache")]
    cli.main(
        args=["train", "recipes/cinic10-b2", *arguments, *places, "--device", "cpu", "--threads", "1"],
        standalone_mode=False,
    )


def refusal(tree: Path, output: Path, *overrides: str) -> str:
    with pytest.raises(InputError) as error:
        train(tree, output, *overrides)
    assert not (output / "epochs.jsonl").exists(), "nothing was trained"
    return str(error.value)


def one_image(tree: Path, split: str = "train") -> Path:
    return next((tree / split / "class3").iterdir())


def test_a_whole_tree(tree: Path, tmp_path: Path) -> None:
    train(tree, tmp_path / "out")
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    sizes = {key: result["data"][key] for key in ("num_train", "num_validation", "num_test")}
    assert sizes == {"num_train": 80, "num_validation": 20, "num_test": 20}


def test_without_valid(tree: Path, tmp_path: Path) -> None:
    shutil.rmtree(tree / "valid")
    message = refusal(tree, tmp_path / "out")
    assert "data.validation: `given`" in message
    assert f"{tree} has no validation split; give a fraction" in message
    train(tree, tmp_path / "out", "data.validation=0.25")


def test_a_class_that_valid_lacks_or_has_alone(tree: Path, tmp_path: Path) -> None:
    (tree / "valid" / "class3").rename(tree / "valid" / "dog")
    message = refusal(tree, tmp_path / "out")
    assert "validation has 1 class that train has not: dog" in message
    shutil.rmtree(tree / "valid" / "dog")
    train(tree, tmp_path / "out")


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_an_unreadable_image(split: str, tree: Path, tmp_path: Path) -> None:
    damaged = one_image(tree, split)
    damaged.write_bytes(damaged.read_bytes()[:60])
    assert f"{damaged}: not a readable image" in refusal(tree, tmp_path / "out")
    damaged.write_text("not an image at all")
    assert f"{damaged}: not a readable image" in refusal(tree, tmp_path / "out")


def test_an_image_of_another_size(tree: Path, tmp_path: Path) -> None:
    odd = one_image(tree)
    Image.open(odd).resize((40, 31)).save(odd)
    message = refusal(tree, tmp_path / "out")
    assert str(odd) in message
    assert "31x40" in message
    assert "sizes differ, so set `data.image_size`" in message
    train(tree, tmp_path / "out", "data.image_size=32")


def test_grey_images_among_coloured_ones_are_taken_as_they_look(tree: Path, tmp_path: Path) -> None:
    for split in ("train", "valid"):
        Image.open(one_image(tree, split)).convert("L").save(one_image(tree, split))
    train(tree, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "result.json").read_text())["data"]["image_shape"] == [3, 32, 32]


def test_a_tree_of_grey_images_has_one_channel(tree: Path, tmp_path: Path) -> None:
    for file in tree.rglob("*.png"):
        Image.open(file).convert("L").save(file)
    train(tree, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "result.json").read_text())["data"]["image_shape"] == [1, 32, 32]


def test_images_too_small_for_the_network(tree: Path, tmp_path: Path) -> None:
    message = refusal(tree, tmp_path / "out", "data.image_size=8")
    assert "model.stages.1" in message
    assert "leaves nothing" in message
