"""The `data` section: the images, and how they are split, normalised and augmented."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from winnow.spaces.schema.fields import Count, ImportPath, NonNegative, Positive, Strict, bare_name
from winnow.spaces.schema.own import OwnAugmentation, kind_of


class Flip(Strict):
    """Mirror the image left to right."""

    name: Literal["flip"] = "flip"
    p: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Probability of a flip."""
    alternate: bool = False
    """Alternating flip (Jordan, 2024): decide at random in the first epoch whether an image is flipped, then flip it in every other epoch, so that consecutive epochs never show the same view. A copy of `data.extra` shows the other view than its original. Needs p=0.5."""

    @model_validator(mode="after")
    def _half_alternates(self) -> Flip:
        if self.alternate and self.p != 0.5:
            raise ValueError(f"alternate needs p=0.5, but got {self.p}")
        return self


class Crop(Strict):
    """Random crop: pad by `padding` pixels on each side, then cut out a window of the original size at a random position."""

    name: Literal["crop"] = "crop"
    padding: Count = 4
    """Padding on each side, in pixels."""
    fill: Literal["zero", "reflect"] = "zero"
    """Padding mode: black pixels (`zero`), or the mirrored border of the image (`reflect`)."""


class ResizeCrop(Strict):
    """Resize the image so that its longer side has `size` pixels, then cut out a window of the original size at a random position."""

    name: Literal["resize_crop"] = "resize_crop"
    size: Count = 40
    """Longer side of the resized image, in pixels; at least that of the original."""


class Brightness(Strict):
    """Multiply the pixels by a factor drawn uniformly from [low, high], then clip."""

    name: Literal["brightness"] = "brightness"
    low: NonNegative = 0.7
    """Smallest factor."""
    high: NonNegative = 1.3
    """Largest factor."""

    @model_validator(mode="after")
    def _ordered(self) -> Brightness:
        return _check_order(self)


class Zoom(Strict):
    """Enlarge the image by a factor drawn uniformly from [low, high] and keep the centre."""

    name: Literal["zoom"] = "zoom"
    low: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] = 1.0
    """Smallest factor."""
    high: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] = 1.3
    """Largest factor."""

    @model_validator(mode="after")
    def _ordered(self) -> Zoom:
        return _check_order(self)


class Cutout(Strict):
    """Fill one square at a random position with the mean of the image, as in Cutout (DeVries & Taylor, 2017), which fills with the mean of the data set."""

    name: Literal["cutout"] = "cutout"
    size: Count = 8
    """Side of the square, in pixels."""


class TrivialAugment(Strict):
    """TrivialAugment (Müller & Hutter, 2021): apply one of 14 operations to each image, such as shear, shift, rotation or contrast; operation and strength are random."""

    name: Literal["trivial_augment"] = "trivial_augment"


class RandAugment(Strict):
    """RandAugment (Cubuk et al., 2020): apply `operations` random ones of 14 operations to each image in turn, all at the same strength."""

    name: Literal["rand_augment"] = "rand_augment"
    operations: Count = 2
    """Number of operations for each image."""
    strength: Annotated[float, Field(ge=0.0, le=1.0)] = 0.3
    """Strength of the operations, as a fraction of the largest."""


class RandomErasing(Strict):
    """Random erasing (Zhong et al., 2020): fill one rectangle at a random position. Rectangles larger than the image are clipped to it."""

    name: Literal["random_erasing"] = "random_erasing"
    p: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Probability that an image is changed."""
    low: Annotated[float, Field(ge=0.0, le=1.0)] = 0.02
    """Smallest area of the rectangle, as a fraction of the image."""
    high: Annotated[float, Field(ge=0.0, le=1.0)] = 0.33
    """Largest area of the rectangle, as a fraction of the image."""
    fill: Literal["mean", "zero", "noise"] = "mean"
    """Content of the rectangle: the mean of the image, black (`zero`), or random pixels (`noise`)."""

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
    """Expand the name of a preset into its list, and a bare name in a list into that augmentation with its defaults."""
    if isinstance(value, str):
        value = AUGMENTATION_PRESETS.get(value, [value])
    return [bare_name(item) for item in value] if isinstance(value, list) else value


Augmentations = Annotated[list[Augmentation], BeforeValidator(_augmentations)]


class ExtraCopies(Strict):
    """Augmented copies of training images, which are added to the originals. Every epoch chooses and augments other ones."""

    copies: Count
    """Number of copies that are added to each epoch."""
    augment: Annotated[Augmentations, Field(min_length=1)]
    """Augmentation of the copies, in place of `data.augment`."""


class Normalization(Strict):
    """Channel statistics of pixels that are scaled to [0, 1], one value per channel."""

    mean: list[float]
    """Mean, which is subtracted."""
    std: list[Positive]
    """Standard deviation, by which the difference is divided."""

    @model_validator(mode="after")
    def _same_length(self) -> Normalization:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(f"mean and std need one value per channel, but got {len(self.mean)} and {len(self.std)}")
        return self


KNOWN_DATA_SETS = ("digits", "cifar10", "cifar100")
DEFAULT_VALIDATION = 0.2

Pixels = Annotated[int, Field(ge=4)]


class Data(Strict):
    """The data set, its splits, and how its images are normalised and augmented."""

    name: Literal["digits", "cifar10", "cifar100", "parquet", "npz", "image_folder"] | ImportPath
    """Source of the images: a known data set, a format of your own files, or a custom function (`package.module:function`)."""
    path: str | None = None
    """Location of the data, relative to the working directory: a file or folder for `parquet`, a file for `npz`, a folder or a table of paths for `image_folder`."""
    arguments: dict[str, Any] = {}
    """Keyword arguments of a custom function; `path` is passed too if it is set."""
    validation: Annotated[float, Field(gt=0.0, lt=1.0)] | Literal["given"] | None = None
    """Fraction of the training images that is held out for validation, or `given`: the validation split of the data set. null: that split if there is one, else 0.2."""
    stratified: bool = True
    """Stratified split: hold out the same fraction of each class."""
    groups: str | None = None
    """Key that groups related images, such as those of one patient; a group is never divided between splits. A column, or a regular expression that is searched in the path and whose parenthesized part is the key. null: no groups."""
    limit: Count | None = None
    """Use only a stratified sample of this many training images, drawn before the validation split. All test images are used. null: use all training images."""
    image_size: Pixels | Annotated[list[Pixels], Field(min_length=2, max_length=2)] | None = None
    """Size to which images are resized when they are read: pixels per side, or [height, width]. Required if their sizes differ. null: no resizing."""
    channels: Literal[1, 3] | None = None
    """Number of channels, 1 (greyscale) or 3 (RGB), to which images are converted. null: that of the files."""
    image_column: str | None = None
    """Column of encoded images or of paths, in Parquet files and tables. null: the only suitable column."""
    label_column: str | Annotated[list[str], Field(min_length=2)] | None = None
    """Column of the classes, or a list of one-hot columns with one per class, in Parquet files and tables. null: the only suitable column."""
    one_hot: bool = False
    """Read the labels of an npz file as a one-hot matrix [N, K]."""
    remap_labels: bool = False
    """Renumber the integer labels of the training images from 0 without gaps."""
    pixel_range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """Pixel values [black, white] of 16-bit and float images, which are scaled to 0..255 and clipped. Such images are refused without it."""
    skip_damaged: bool = False
    """Leave out images that cannot be read, and report their number; false: refuse the data set."""
    normalize: Literal["none", "dataset", "computed"] | Normalization = "computed"
    """Normalization of the channels. `dataset`: by the published statistics of a known data set; `computed`: by those of the training split; `none`: no normalization; a mapping: by the given statistics."""
    augment: Augmentations = []
    """Augmentation of the training images: a list of steps, or the name of a preset. Random draws differ from epoch to epoch."""
    extra: ExtraCopies | None = None
    """Augmented copies that are added to the training images. null: none."""
    sampling: Literal["uniform", "balanced"] = "uniform"
    """Sampling of the training images of an epoch. `uniform`: each image once. `balanced`: as many images in total, but the same number per class; images of rare classes repeat, and some of the others are left for later epochs."""

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
        """Fill in the default fraction for known data sets, which have no validation split."""
        if isinstance(value, dict) and value.get("name") in KNOWN_DATA_SETS and value.get("validation") is None:
            return {**value, "validation": DEFAULT_VALIDATION}
        return value

    @model_validator(mode="after")
    def _path_where_needed(self) -> Data:
        is_known, is_own = self.name in KNOWN_DATA_SETS, ":" in self.name
        if not is_known and not is_own and self.path is None:
            raise ValueError(f"data set {self.name} needs `path`")
        if is_known and self.path is not None:
            raise ValueError(f"data set {self.name} takes no `path`; its folder is set by --data-dir")
        if self.arguments and not is_own:
            raise ValueError(f"`arguments` are for a custom function, but the data set is {self.name}")
        if self.validation == "given" and is_known:
            raise ValueError(f"data set {self.name} has no validation split; give `validation` a fraction")
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
                raise ValueError(f"groups: {self.groups!r} is not a valid regular expression ({error})") from error
            if num_groups != 1:
                raise ValueError(f"groups: {self.groups!r} needs one group in parentheses, but has {num_groups}")
        return self
