"""Where the images of a space lie, and what a run records of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.spaces.space import Space

if TYPE_CHECKING:
    from winnow.search.data.image_data import ImageData


@dataclass(frozen=True)
class Source:
    """Where the images lie on this machine; not part of the space, since it differs between machines."""

    data_dir: Path
    download: bool = False


def load_data(space: Space, source: Source) -> ImageData:
    """The images of a space. What decides which images are read is fixed in a space, so any config of it will do."""
    from winnow.search.data.image_data import load

    return load(space.example().data, source.data_dir, source.download)


def describe_data(data: ImageData, space: Space, seed: int) -> dict[str, Any]:
    from winnow.search.data.image_data import split

    config = space.example().data
    parts = split(data, config.validation, config.stratified, seed)
    return {
        "name": data.name,
        "image_shape": list(data.image_shape),
        "num_classes": data.num_classes,
        "class_names": list(data.class_names),
        "num_train": len(parts.train_index),
        "num_validation": len(parts.validation_index),
        "num_test": len(data.test_labels),
        "fingerprint": data.fingerprint,
        "notes": list(data.notes),
    }
