"""The `data` section: which images, how they are split, normalised and augmented."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, model_validator

from winnow.spaces.schema.fields import Count, NonNegative, Positive, Strict, bare_name


class Flip(Strict):
    name: Literal["flip"] = "flip"
    p: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Probability."""


class Crop(Strict):
    """Zero-pad by `padding` pixels on each side, then crop the original size at random."""

    name: Literal["crop"] = "crop"
    padding: Count = 4


class ResizeCrop(Strict):
    """Resize the image to `size` x `size` pixels, then crop the original size at random."""

    name: Literal["resize_crop"] = "resize_crop"
    size: Count = 40


class Brightness(Strict):
    """Multiply the pixels by a factor drawn uniformly from [low, high], then clip."""

    name: Literal["brightness"] = "brightness"
    low: NonNegative = 0.7
    high: NonNegative = 1.3

    @model_validator(mode="after")
    def _ordered(self) -> Brightness:
        return _check_order(self)


class Zoom(Strict):
    """Enlarge by a factor drawn uniformly from [low, high] and keep the centre."""

    name: Literal["zoom"] = "zoom"
    low: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] = 1.0
    high: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] = 1.3

    @model_validator(mode="after")
    def _ordered(self) -> Zoom:
        return _check_order(self)


class Cutout(Strict):
    """Erase one square of `size` pixels at a random place (DeVries & Taylor, 2017)."""

    name: Literal["cutout"] = "cutout"
    size: Count = 8


def _check_order(self: Any) -> Any:
    if self.low > self.high:
        raise ValueError(f"`low <= high` must hold, but got low={self.low}, high={self.high}")
    return self


Augmentation = Annotated[Flip | Crop | ResizeCrop | Brightness | Zoom | Cutout, Discriminator("name")]

AUGMENTATION_PRESETS: dict[str, list[str]] = {
    "none": [],
    "flip": ["flip"],
    "crop": ["crop"],
    "flip_crop": ["flip", "crop"],
    "flip_crop_cutout": ["flip", "crop", "cutout"],
}


def _augmentations(value: Any) -> Any:
    """A preset's name stands for its list; a bare name in a list for that augmentation with its defaults."""
    if isinstance(value, str):
        value = AUGMENTATION_PRESETS.get(value, [value])
    return [bare_name(item) for item in value] if isinstance(value, list) else value


Augmentations = Annotated[list[Augmentation], BeforeValidator(_augmentations)]


class ExtraCopies(Strict):
    """Augmented copies of training images, chosen and drawn anew every epoch and added to the originals."""

    copies: Count
    """How many images an epoch grows by."""
    augment: Annotated[Augmentations, Field(min_length=1)]
    """Done to the copies, in place of `data.augment`."""


class Normalization(Strict):
    """Given channel statistics, of pixels scaled to [0, 1]; one value per channel."""

    mean: list[float]
    """Taken off."""
    std: list[Positive]
    """Divided by."""

    @model_validator(mode="after")
    def _same_length(self) -> Normalization:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(f"mean and std need one value per channel, but got {len(self.mean)} and {len(self.std)}")
        return self


class Data(Strict):
    name: Literal["digits", "cifar10", "cifar100", "parquet", "npz", "image_folder"]
    """Where the images come from: a known data set, or files of your own."""
    path: str | None = None
    """Where `parquet` (a folder or file), `npz` (a file) or `image_folder` (a tree) lies; relative to the working directory."""
    validation: Annotated[float, Field(gt=0.0, lt=1.0)] | Literal["given"] = 0.2
    """Share of the training images held out for selection, or `given` where the data set brings a validation split."""
    stratified: bool = True
    """Hold out the same share of each class."""
    limit: Count | None = None
    """Use only the first so many training images (before the split); the test images stay whole."""
    image_size: Annotated[int, Field(ge=4)] | None = None
    """Resize every image to this many pixels a side when it is read; needed where sizes differ."""
    channels: Literal[1, 3] | None = None
    """1: grey, 3: colour; null: as the files are."""
    normalize: Literal["none", "dataset", "computed"] | Normalization = "computed"
    """`dataset`: the published statistics of a known data set; `computed`: those of the training split."""
    augment: Augmentations = []
    """Done to training images, anew in every epoch: a list, or the name of a preset."""
    extra: ExtraCopies | None = None
    """Augmented copies beside the originals."""

    @model_validator(mode="after")
    def _path_where_needed(self) -> Data:
        needs_path = self.name in ("parquet", "npz", "image_folder")
        if needs_path and self.path is None:
            raise ValueError(f"data set {self.name} needs `path`")
        if self.name in ("digits", "cifar10", "cifar100") and self.path is not None:
            raise ValueError(f"data set {self.name} takes no `path`; where it is stored is --data-dir")
        if self.validation == "given" and self.name in ("digits", "cifar10", "cifar100"):
            raise ValueError(f"data set {self.name} brings no validation split; give `validation` a fraction")
        if self.normalize == "dataset" and needs_path:
            raise ValueError(
                f"no published statistics are known for {self.name}; use `computed`, `none` or mean and std"
            )
        return self
