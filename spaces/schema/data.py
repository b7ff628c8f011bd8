"""The `data` section: which images, how they are split, normalised and augmented."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from winnow.spaces.schema.fields import Count, ImportPath, NonNegative, Positive, Strict, bare_name
from winnow.spaces.schema.own import OwnAugmentation, kind_of


class Flip(Strict):
    name: Literal["flip"] = "flip"
    p: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Probability."""
    alternate: bool = False
    """Draw each image once, in the first epoch, and flip it in every other epoch from then on, so that no view repeats in two epochs in a row (Jordan, 2024). Needs p=0.5."""

    @model_validator(mode="after")
    def _half_alternates(self) -> Flip:
        if self.alternate and self.p != 0.5:
            raise ValueError(f"alternate needs p=0.5, but got {self.p}")
        return self


class Crop(Strict):
    """Pad by `padding` pixels on each side, then crop the original size at random."""

    name: Literal["crop"] = "crop"
    padding: Count = 4
    fill: Literal["zero", "reflect"] = "zero"
    """Padding with black, or with the mirrored border of the image."""


class ResizeCrop(Strict):
    """Resize the image so that its longer side has `size` pixels, then crop the original size at random."""

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
    """Fill one square of `size` pixels at a random place with the mean of the image (DeVries & Taylor, 2017)."""

    name: Literal["cutout"] = "cutout"
    size: Count = 8


class TrivialAugment(Strict):
    """One random operation of 14 for each image, at a random strength (Müller & Hutter, 2021): shears, shifts, rotation, colours, contrast."""

    name: Literal["trivial_augment"] = "trivial_augment"


class RandAugment(Strict):
    """`operations` random operations of 14 for each image, one after the other, all at one strength (Cubuk et al., 2020)."""

    name: Literal["rand_augment"] = "rand_augment"
    operations: Count = 2
    """Number of operations for each image."""
    strength: Annotated[float, Field(ge=0.0, le=1.0)] = 0.3
    """Share of the largest strength."""


class RandomErasing(Strict):
    """Fill one rectangle of an image at a random place (Zhong et al., 2020). One that is higher or wider than the image is cut."""

    name: Literal["random_erasing"] = "random_erasing"
    p: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Probability."""
    low: Annotated[float, Field(ge=0.0, le=1.0)] = 0.02
    """Smallest area, as a share of the image."""
    high: Annotated[float, Field(ge=0.0, le=1.0)] = 0.33
    """Largest area, as a share of the image."""
    fill: Literal["mean", "zero", "noise"] = "mean"
    """Filling: the mean of the image, black, or random pixels."""

    @model_validator(mode="after")
    def _ordered(self) -> RandomErasing:
        return _check_order(self)


def _check_order(self: Any) -> Any:
    if self.low > self.high:
        raise ValueError(f"`low <= high` must hold, but got low={self.low}, high={self.high}")
    return self


BuiltInAugmentation = (
    Flip | Crop | ResizeCrop | Brightness | Zoom | Cutout | TrivialAugment | RandAugment | RandomErasing
)
Augmentation = Annotated[
    Annotated[BuiltInAugmentation, Discriminator("name"), Tag("built_in")] | Annotated[OwnAugmentation, Tag("own")],
    Discriminator(kind_of),
]

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
    """Augmented copies of training images, chosen and drawn again every epoch, and added to the originals."""

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


KNOWN_DATA_SETS = ("digits", "cifar10", "cifar100")
DEFAULT_VALIDATION = 0.2

Pixels = Annotated[int, Field(ge=4)]


class Data(Strict):
    name: Literal["digits", "cifar10", "cifar100", "parquet", "npz", "image_folder"] | ImportPath
    """Where the images come from: a known data set, files of your own, or your own function (`package.module:function`)."""
    path: str | None = None
    """Where `parquet` (a folder or file), `npz` (a file) or `image_folder` (a tree, or a table of paths) lies; relative to the working directory."""
    arguments: dict[str, Any] = {}
    """Keyword arguments of your own function; `path` is passed too where it is set."""
    validation: Annotated[float, Field(gt=0.0, lt=1.0)] | Literal["given"] | None = None
    """Share of the training images held out for selection, or `given`: the validation split of the data set. Null: that split where there is one, else 0.2."""
    stratified: bool = True
    """Hold out the same share of each class."""
    groups: str | None = None
    """Images of one group are never in two splits: a column, or a regular expression whose first group is searched in the path."""
    limit: Count | None = None
    """Use only a sample of this many training images (before the validation split), with the same share of each class; the test images stay whole."""
    image_size: Pixels | Annotated[list[Pixels], Field(min_length=2, max_length=2)] | None = None
    """Resize every image when it is read: pixels a side, or [height, width]; needed where sizes differ."""
    channels: Literal[1, 3] | None = None
    """1: grey, 3: colour; null: as the files are."""
    image_column: str | None = None
    """Parquet and tables: the column of encoded images or of paths; null: the only one that can be meant."""
    label_column: str | Annotated[list[str], Field(min_length=2)] | None = None
    """Parquet and tables: the column of the classes, or a list of one-hot columns, one per class; null: the only one that can be meant."""
    one_hot: bool = False
    """npz: the labels are a one-hot matrix [N, K]."""
    remap_labels: bool = False
    """Number the integer labels that occur in the training images from 0, where they start elsewhere or have gaps."""
    pixel_range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """16-bit and float images: [black, white], scaled to 0..255 and clipped; without it they are refused."""
    skip_damaged: bool = False
    """Leave out images that cannot be read, and say how many; otherwise they are refused."""
    normalize: Literal["none", "dataset", "computed"] | Normalization = "computed"
    """`dataset`: the published statistics of a known data set; `computed`: those of the training split."""
    augment: Augmentations = []
    """Random changes of the training images, drawn again in every epoch: a list, or the name of a preset."""
    extra: ExtraCopies | None = None
    """Augmented copies beside the originals."""
    sampling: Literal["uniform", "balanced"] = "uniform"
    """Training images of an epoch. `uniform`: each once; `balanced`: as many, the same number of each class, so images of rare classes repeat and others wait for a later epoch."""

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of every image in pixels, where `image_size` is set."""
        if self.image_size is None:
            return None
        height, width = [self.image_size] * 2 if isinstance(self.image_size, int) else self.image_size
        return height, width

    @model_validator(mode="before")
    @classmethod
    def _fifth_of_known_sets(cls, value: Any) -> Any:
        """Known data sets bring no validation split, so the default is always the share."""
        if isinstance(value, dict) and value.get("name") in KNOWN_DATA_SETS and value.get("validation") is None:
            return {**value, "validation": DEFAULT_VALIDATION}
        return value

    @model_validator(mode="after")
    def _path_where_needed(self) -> Data:
        is_known, is_own = self.name in KNOWN_DATA_SETS, ":" in self.name
        if not is_known and not is_own and self.path is None:
            raise ValueError(f"data set {self.name} needs `path`")
        if is_known and self.path is not None:
            raise ValueError(f"data set {self.name} takes no `path`; where it is stored is --data-dir")
        if self.arguments and not is_own:
            raise ValueError(f"`arguments` belong to a function of your own, but the data set is {self.name}")
        if self.validation == "given" and is_known:
            raise ValueError(f"data set {self.name} brings no validation split; give `validation` a fraction")
        if self.normalize == "dataset" and not is_known:
            raise ValueError(
                f"no published statistics are known for {self.name}; use `computed`, `none` or mean and std"
            )
        return self

    @model_validator(mode="after")
    def _usable_values(self) -> Data:
        if self.pixel_range is not None and not self.pixel_range[0] < self.pixel_range[1]:
            raise ValueError(f"`black < white` must hold in pixel_range, but got {self.pixel_range}")
        if self.groups is not None and "(" in self.groups:
            try:
                num_groups = re.compile(self.groups).groups
            except re.error as error:
                raise ValueError(f"groups: {self.groups!r} is no regular expression ({error})") from error
            if num_groups != 1:
                raise ValueError(f"groups: {self.groups!r} needs one group in parentheses, but has {num_groups}")
        return self
