"""The typed schema of one fully fixed training: every key a recipe may state, its range and its default.

A `Config` is what a space becomes when nothing is left open. It knows no torch: names here are the keys of the
registries in `models/` and `search/training/`, and a test holds the two equal. All durations are epochs, all rates are
fractions. Unknown keys are refused.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """Frozen, refuses unknown keys, and does not turn strings into numbers (an int where a float may stand is fine)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _bare_name(value: Any) -> Any:
    """`loss: margin` is short for `loss: {name: margin}`."""
    return {"name": value} if isinstance(value, str) else value


# --- data ---------------------------------------------------------------------------------------------------------


class Flip(Strict):
    name: Literal["flip"] = "flip"
    p: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5


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
    return [_bare_name(item) for item in value] if isinstance(value, list) else value


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
    std: list[Positive]

    @model_validator(mode="after")
    def _same_length(self) -> Normalization:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(f"mean and std need one value per channel, but got {len(self.mean)} and {len(self.std)}")
        return self


class Data(Strict):
    name: Literal["digits", "cifar10", "cifar100", "parquet", "npz", "image_folder"]
    path: str | None = None
    """Where `parquet` (a folder or file), `npz` (a file) or `image_folder` (a tree) lies; relative to the working directory."""
    validation: Annotated[float, Field(gt=0.0, lt=1.0)] | Literal["given"] = 0.2
    """Share of the training images held out for selection, or `given` where the data set brings a validation split."""
    stratified: bool = True
    limit: Count | None = None
    """Use only the first so many training images (before the split); the test images stay whole."""
    image_size: Annotated[int, Field(ge=4)] | None = None
    """Resize every image to this many pixels a side when it is read; needed where sizes differ."""
    channels: Literal[1, 3] | None = None
    normalize: Literal["none", "dataset", "computed"] | Normalization = "computed"
    """`dataset`: the published statistics of a known data set; `computed`: those of the training split."""
    augment: Augmentations = []
    extra: ExtraCopies | None = None

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


# --- models -------------------------------------------------------------------------------------------------------

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh"]
Initialization = Literal[
    "default", "kaiming_normal", "kaiming_uniform", "xavier_normal", "xavier_uniform", "orthogonal"
]
Norm = Literal["none", "batch"]
Pool = Literal["max", "avg", "none"]
Widths = list[Count]


class _Layered(Strict):
    """`depth` counts the list `_layers`. It is filled in where it is left out: two spellings of one network are one config."""

    _layers: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _depth_stated(cls, given: Any) -> Any:
        layers = given.get(cls._layers) if isinstance(given, dict) else None
        if isinstance(layers, list) and given.get("depth") is None:
            return {**given, "depth": len(layers)}
        return given

    @model_validator(mode="after")
    def _depth_agrees(self: Any) -> Any:
        num_layers = len(getattr(self, self._layers))
        if self.depth != num_layers:
            raise ValueError(f"depth is {self.depth}, but `{self._layers}` lists {num_layers}")
        return self


class Mlp(_Layered):
    """Flatten, then for each hidden width: linear, norm, activation, dropout; then the class layer."""

    _layers: ClassVar[str] = "hidden"
    name: Literal["mlp"]
    depth: Annotated[int, Field(ge=0)] | None = None
    """Number of hidden layers; filled in from the list where it is left out, and must agree with it."""
    hidden: Widths
    activation: Activation = "relu"
    norm: Norm = "none"
    dropout: Fraction = 0.0
    init: Initialization = "default"


class Stage(Strict):
    """One convolution with what follows it. `same` padding keeps the size; pooling is `pool_size` x `pool_size`, stride the same."""

    filters: Count
    kernel: Count = 3
    padding: Annotated[int, Field(ge=0)] | Literal["same"] = "same"
    stride: Count = 1
    pool: Pool = "max"
    pool_size: Annotated[int, Field(ge=2)] = 2


class Cnn(_Layered):
    """A stack of convolution stages, then a fully connected head."""

    _layers: ClassVar[str] = "stages"
    name: Literal["cnn"]
    depth: Annotated[int, Field(ge=0)] | None = None
    """Number of stages; filled in from the list where it is left out, and must agree with it."""
    stages: Annotated[list[Stage], Field(min_length=1)]
    activation: Activation = "relu"
    norm: Norm = "none"
    norm_place: Literal["after_conv", "after_activation", "after_pool"] = "after_conv"
    stage_dropout: Fraction = 0.0
    """Channel-wise dropout after every stage."""
    features: Literal["flatten", "avg"] = "flatten"
    """How the last feature map reaches the head: flattened, or averaged over its positions."""
    head: Widths = []
    """Hidden widths of the head; the class layer is added."""
    head_norm: Norm = "none"
    dropout: Fraction = 0.0
    dropout_place: Literal["hidden", "last"] = "hidden"
    """`hidden`: after every hidden layer of the head; `last`: once, before the class layer."""
    init: Initialization = "default"


class ResidualStage(Strict):
    """`blocks` residual blocks of `filters` channels; `stride` is the first block's, pooling follows the last block."""

    blocks: Count
    filters: Count
    stride: Count = 1
    pool: Pool = "none"
    pool_size: Annotated[int, Field(ge=2)] = 2


class Residual(_Layered):
    """A 3x3 stem, stages of residual blocks (two 3x3 convolutions each), then a fully connected head.

    A block gives `scale * branch + input`; where width or size change, the input goes through a 1x1 convolution and the norm.
    """

    _layers: ClassVar[str] = "stages"
    name: Literal["residual"]
    depth: Annotated[int, Field(ge=0)] | None = None
    """Number of stages; filled in from the list where it is left out, and must agree with it."""
    stem: Count = 64
    """Filters of the first convolution."""
    stages: Annotated[list[ResidualStage], Field(min_length=1)]
    skip: bool = True
    """False: the same convolutions without the residual connection."""
    scale: Positive = 1.0
    groups: Count = 1
    """Groups of the blocks' 3x3 convolutions; every width must be a multiple of it."""
    activation: Activation = "relu"
    norm: Norm = "batch"
    norm_place: Literal["after_conv", "after_activation"] = "after_conv"
    features: Literal["flatten", "avg"] = "avg"
    head: Widths = []
    head_norm: Norm = "none"
    logits_norm: Norm = "none"
    """Norm of the class layer's outputs."""
    dropout: Fraction = 0.0
    dropout_place: Literal["hidden", "last"] = "hidden"
    init: Initialization = "default"

    @model_validator(mode="after")
    def _groups_divide(self) -> Residual:
        widths = [self.stem, *(stage.filters for stage in self.stages)]
        if any(width % self.groups for width in widths):
            raise ValueError(
                f"every width must be a multiple of groups={self.groups}, but got stem and filters {widths}"
            )
        return self


class MixtureBlock(Strict):
    """`filters` output channels, then pooling."""

    filters: Count
    pool: Pool = "max"
    pool_size: Annotated[int, Field(ge=2)] = 2


class Mixture(_Layered):
    """Blocks whose 3x3 convolution is a mixture of `convs` parallel ones, weighted anew for every image.

    The weights come from the block's averaged input through a linear layer and `mixing`. The sum, plus the input (through
    a 1x1 convolution and the norm where widths differ), is normed and activated. The head takes the averaged last map.
    """

    _layers: ClassVar[str] = "blocks"
    name: Literal["mixture"]
    depth: Annotated[int, Field(ge=0)] | None = None
    """Number of blocks; filled in from the list where it is left out, and must agree with it."""
    blocks: Annotated[list[MixtureBlock], Field(min_length=1)]
    convs: Count = 3
    mixing: Literal["softmax", "sigmoid", "relu", "tanh", "none"] = "softmax"
    activation: Activation = "relu"
    norm: Norm = "batch"
    head: Widths = []
    dropout: Fraction = 0.0
    """Before every linear layer of the head."""
    init: Initialization = "kaiming_normal"


class TrainedBackbone(Strict):
    """A network that Winnow trained: the winner's weight file and, where that does not bring it, the recipe or config."""

    weights: str
    config: str | None = None
    """YAML or JSON file with the network's config; None: the one stored in the weight file."""


class Transfer(Strict):
    """A trained backbone without its class layer, then a new head."""

    name: Literal["transfer"]
    backbone: str | TrainedBackbone
    """A torchvision classification model's name, or an earlier winner."""
    weights: str = "none"
    """`none`, torchvision's name (`IMAGENET1K_V1`; never downloaded), or a .pt, .pth or .safetensors file of a state dict."""
    frozen: bool = False
    """Train only the new head; the backbone stays in evaluation mode."""
    resize: Annotated[int, Field(ge=4)] | None = None
    """Resize the images to this many pixels a side, on the device."""
    head: Widths = []
    activation: Activation = "relu"
    dropout: Fraction = 0.0
    """Before every linear layer of the head."""
    head_lr_factor: Positive = 1.0
    """The head's learning rate is this times the optimizer's."""

    @model_validator(mode="after")
    def _weights_once(self) -> Transfer:
        if isinstance(self.backbone, TrainedBackbone) and self.weights != "none":
            raise ValueError("`weights` belongs to a torchvision backbone; this one states backbone.weights")
        return self


class Custom(BaseModel):
    """A user's own model: `package.module:function`, called as `function(image_shape, num_classes, **other_keys)`."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    name: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]


def _model_tag(value: Any) -> str | None:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return "custom" if isinstance(name, str) and ":" in name else name


Model = Annotated[
    Annotated[Mlp, Tag("mlp")]
    | Annotated[Cnn, Tag("cnn")]
    | Annotated[Residual, Tag("residual")]
    | Annotated[Mixture, Tag("mixture")]
    | Annotated[Transfer, Tag("transfer")]
    | Annotated[Custom, Tag("custom")],
    Discriminator(_model_tag),
]


# --- optimizer, schedule, loss --------------------------------------------------------------------------------------


class Sgd(Strict):
    name: Literal["sgd"]
    lr: Positive
    momentum: Fraction = 0.0
    nesterov: bool = False
    weight_decay: NonNegative = 0.0

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Sgd:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Adam(Strict):
    name: Literal["adam"]
    lr: Positive
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0
    """Added to the gradient (L2), as in torch.optim.Adam; decoupled in `adamw`."""


class AdamW(Adam):
    name: Literal["adamw"]  # type: ignore[assignment]
    weight_decay: NonNegative = 0.01


class RmsProp(Strict):
    name: Literal["rmsprop"]
    lr: Positive
    alpha: Fraction = 0.99
    eps: Positive = 1e-8
    momentum: Fraction = 0.0
    weight_decay: NonNegative = 0.0


Optimizer = Annotated[Sgd | Adam | AdamW | RmsProp, Discriminator("name")]


class _Schedule(Strict):
    warmup: NonNegative = 0.0
    """Epochs over which the learning rate first rises linearly from 0."""


class Constant(_Schedule):
    name: Literal["constant"] = "constant"


class StepDecay(_Schedule):
    """Times `gamma` every `every` epochs."""

    name: Literal["step"]
    every: Count
    gamma: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1


class MultiStep(_Schedule):
    """Times `gamma` after each of the epochs in `milestones`."""

    name: Literal["multistep"]
    milestones: Annotated[list[Count], Field(min_length=1)]
    gamma: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1

    @model_validator(mode="after")
    def _ascending(self) -> MultiStep:
        if sorted(set(self.milestones)) != self.milestones:
            raise ValueError(f"milestones must ascend, but got {self.milestones}")
        return self


class Exponential(_Schedule):
    """Times `gamma` every epoch."""

    name: Literal["exponential"]
    gamma: Annotated[float, Field(gt=0.0, le=1.0)]


class Cosine(_Schedule):
    """From lr to `final` * lr along half a cosine over the whole training (Loshchilov & Hutter, 2017)."""

    name: Literal["cosine"]
    final: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0


class OneCycle(Strict):
    """Up from `initial` * lr to lr until `peak` (a share of the training), then down to `final` * lr (Smith & Topin, 2018)."""

    name: Literal["one_cycle"]
    peak: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    initial: Annotated[float, Field(ge=0.0, le=1.0)] = 0.04
    final: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0001


class Plateau(_Schedule):
    """Times `factor` when the validation loss has not improved for more than `patience` epochs."""

    name: Literal["plateau"]
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    patience: Annotated[int, Field(ge=0)] = 5


Schedule = Annotated[
    Constant | StepDecay | MultiStep | Exponential | Cosine | OneCycle | Plateau, Discriminator("name")
]


class CrossEntropy(Strict):
    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Fraction = 0.0


class Margin(Strict):
    """Multi-class margin loss: mean over classes of max(0, margin - x[true] + x[i]) ** p."""

    name: Literal["margin"]
    p: Literal[1, 2] = 1
    margin: Positive = 1.0


Loss = Annotated[CrossEntropy | Margin, Discriminator("name")]


# --- the whole ------------------------------------------------------------------------------------------------------


class EarlyStopping(Strict):
    """End the training when the validation loss has not improved for `patience` epochs."""

    patience: Count


class Config(Strict):
    """Everything about one training."""

    data: Annotated[Data, BeforeValidator(_bare_name)]
    epochs: Count
    batch_size: Count
    model: Model
    optimizer: Optimizer
    schedule: Annotated[Schedule, BeforeValidator(_bare_name)] = Constant()
    loss: Annotated[Loss, BeforeValidator(_bare_name)] = CrossEntropy()
    gradient_clip: Positive | None = None
    """Largest global L2 norm of the gradient."""
    early_stopping: EarlyStopping | None = None
    weights: Literal["last", "lowest_validation_loss", "highest_validation_accuracy"] = "last"
    """The epoch whose weights are kept and tested."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


class SearchSettings(Strict):
    """The optional `search:` section of a space; every key is also an option of `winnow search`."""

    trials: Count = 50
    objective: Literal["validation_accuracy", "validation_loss"] = "validation_accuracy"
    sampler: Literal["tpe", "gp", "random", "qmc"] = "tpe"
    grace_epochs: Count | None = None
    """First rung; None: a sixteenth of the epochs, at least 1."""
    reduction_factor: Annotated[float, Field(gt=1.0)] = 3.0


class RetrainSettings(Strict):
    """The optional `retrain:` section of a space."""

    top: Count = 3
    seeds: Count = 3
