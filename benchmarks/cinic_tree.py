"""Writes CIFAR-10 as a tree of image files in the layout of CINIC-10, so that the recipes of rows B1 to B3 can be trained.

    python -m benchmarks.cinic_tree [--data-dir data] [--output cifar10-as-cinic10] [--validation 10000]
    winnow bench-recipes 'cinic10-b*' --set data.path=cifar10-as-cinic10

The tree has the folders train, valid and test, each with one folder of PNG files per class. The test images are those of CIFAR-10.
The validation images are drawn from its training images, the same number of each class (give or take one); CINIC-10 itself has
90,000 images in each of its three parts, most of them from ImageNet. Figures on this tree are therefore not figures on CINIC-10: the
file ORIGIN.txt in it says so, and the table of `bench-recipes` names a folder that is not called `cinic10`. An interrupted call leaves no folder of the name OUTPUT.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from winnow.search.data.image_data import ImageData
from winnow.search.data.source import load
from winnow.spaces.schema import Data

ORIGIN = "CIFAR-10 in the layout of CINIC-10, made by benchmarks/cinic_tree.py. Figures on these images are not figures on CINIC-10.\n"


def write_tree(data: ImageData, folder: Path, num_validation: int) -> dict[str, int]:
    """Write the images of a data set as PNG files.

    Args:
        data: The data set, whose training images are divided.
        folder: The tree, which must not exist.
        num_validation: Number of training images that become validation images.

    Returns:
        The number of images in each part: `train`, `valid` and `test`.

    Raises:
        ValueError: There is no training image left of a class, or no validation image.
        FileExistsError: The folder exists.
    """
    is_validation = drawn(data.train_labels, num_validation, len(data.class_names))
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose another --output, or remove it")
    parts = {
        "train": (data.train_images, data.train_labels, np.flatnonzero(~is_validation)),
        "valid": (data.train_images, data.train_labels, np.flatnonzero(is_validation)),
        "test": (data.test_images, data.test_labels, np.arange(len(data.test_labels))),
    }
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    for part, (images, labels, chosen) in parts.items():
        for name in data.class_names:
            (unfinished / part / name).mkdir(parents=True, exist_ok=True)
        source = "test" if part == "test" else "train"
        for number in chosen.tolist():
            place = unfinished / part / data.class_names[labels[number]]
            Image.fromarray(images[number]).save(place / f"cifar10-{source}-{number}.png")
    (unfinished / "ORIGIN.txt").write_text(ORIGIN)
    unfinished.rename(folder)
    return {part: len(chosen) for part, (*_, chosen) in parts.items()}


def drawn(labels: np.ndarray, number: int, num_classes: int) -> np.ndarray:
    """Draw images with the same number of each class, give or take one; every call draws the same.

    Args:
        labels: int64 [N].
        number: How many images are drawn.
        num_classes: Number of classes.

    Returns:
        bool [N]: whether each image is drawn.

    Raises:
        ValueError: No image of a class would be drawn, or none would be left.
    """
    random = np.random.default_rng(0)
    chosen = np.zeros(len(labels), dtype=bool)
    for label in range(num_classes):
        of_class = random.permutation(np.flatnonzero(labels == label))
        share = number // num_classes + (label < number % num_classes)
        if not 0 < share < len(of_class):
            raise ValueError(
                f"--validation must leave between 1 and {len(of_class) - 1} of the {len(of_class)} images of each class as "
                f"validation images, but {number} give {share}"
            )
        chosen[of_class[:share]] = True
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=Path, default=Path("data"), help="folder of the data sets, which holds cifar10"
    )
    parser.add_argument("--output", type=Path, default=Path("cifar10-as-cinic10"))
    parser.add_argument("--validation", type=int, default=10_000, help="number of validation images")
    options = parser.parse_args()
    data = load(Data(name="cifar10"), options.data_dir)
    try:
        counts = write_tree(data, options.output, options.validation)
    except (ValueError, FileExistsError) as error:
        parser.error(str(error))
    print(f"{options.output}: {', '.join(f'{number:,} {part}' for part, number in counts.items())}")


if __name__ == "__main__":
    main()
