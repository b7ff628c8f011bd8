"""The `model` section: one class for each family, discriminated on `name`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from winnow.spaces.schema.fields import Count, Fraction, Positive, Strict

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
    """Widths of the hidden layers, first to last."""
    activation: Activation = "relu"
    """After every hidden layer."""
    norm: Norm = "none"
    """Batch norm after every hidden layer, or none."""
    dropout: Fraction = 0.0
    """Probability, after every hidden layer."""
    init: Initialization = "default"
    """How the weights begin; `default`: as PyTorch does."""


class Stage(Strict):
    """One convolution with what follows it. `same` padding keeps the size; pooling is `pool_size` x `pool_size`, stride the same."""

    filters: Count
    """Output channels."""
    kernel: Count = 3
    """Pixels a side."""
    padding: Annotated[int, Field(ge=0)] | Literal["same"] = "same"
    """Zeros added at each side."""
    stride: Count = 1
    """Of the convolution."""
    pool: Pool = "max"
    """What follows the activation."""
    pool_size: Annotated[int, Field(ge=2)] = 2


class Cnn(_Layered):
    """A stack of convolution stages, then a fully connected head."""

    _layers: ClassVar[str] = "stages"
    name: Literal["cnn"]
    depth: Annotated[int, Field(ge=0)] | None = None
    """Number of stages; filled in from the list where it is left out, and must agree with it."""
    stages: Annotated[list[Stage], Field(min_length=1)]
    """First to last."""
    activation: Activation = "relu"
    """After every convolution and every hidden layer of the head."""
    norm: Norm = "none"
    """Batch norm in every stage, or none."""
    norm_place: Literal["after_conv", "after_activation", "after_pool"] = "after_conv"
    """Where in a stage."""
    stage_dropout: Fraction = 0.0
    """Channel-wise dropout after every stage."""
    features: Literal["flatten", "avg"] = "flatten"
    """How the last feature map reaches the head: flattened, or averaged over its positions."""
    head: Widths = []
    """Hidden widths of the head; the class layer is added."""
    head_norm: Norm = "none"
    """Batch norm after every hidden layer of the head, or none."""
    dropout: Fraction = 0.0
    """Probability, in the head."""
    dropout_place: Literal["hidden", "last"] = "hidden"
    """`hidden`: after every hidden layer of the head; `last`: once, before the class layer."""
    init: Initialization = "default"
    """How the weights begin; `default`: as PyTorch does."""


class ResidualStage(Strict):
    """`blocks` residual blocks of `filters` channels; `stride` is the first block's, pooling follows the last block."""

    blocks: Count
    filters: Count
    stride: Count = 1
    pool: Pool = "none"
    """What follows the last block."""
    pool_size: Annotated[int, Field(ge=2)] = 2
    """Pixels a side, and the stride."""


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
    """First to last."""
    skip: bool = True
    """False: the same convolutions without the residual connection."""
    scale: Positive = 1.0
    """Of the branch, before the input is added."""
    groups: Count = 1
    """Groups of the blocks' 3x3 convolutions; every width must be a multiple of it."""
    activation: Activation = "relu"
    """After every convolution and every hidden layer of the head."""
    norm: Norm = "batch"
    """Batch norm after every convolution, or none."""
    norm_place: Literal["after_conv", "after_activation"] = "after_conv"
    """Before or after the activation."""
    features: Literal["flatten", "avg"] = "avg"
    """How the last feature map reaches the head: flattened, or averaged over its positions."""
    head: Widths = []
    """Hidden widths of the head; the class layer is added."""
    head_norm: Norm = "none"
    """Batch norm after every hidden layer of the head, or none."""
    logits_norm: Norm = "none"
    """Norm of the class layer's outputs."""
    dropout: Fraction = 0.0
    """Probability, in the head."""
    dropout_place: Literal["hidden", "last"] = "hidden"
    """`hidden`: after every hidden layer of the head; `last`: once, before the class layer."""
    init: Initialization = "default"
    """How the weights begin; `default`: as PyTorch does."""

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
    """What follows the block."""
    pool_size: Annotated[int, Field(ge=2)] = 2
    """Pixels a side, and the stride."""


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
    """First to last."""
    convs: Count = 3
    """Parallel convolutions in each block."""
    mixing: Literal["softmax", "sigmoid", "relu", "tanh", "none"] = "softmax"
    """What makes weights of the linear layer's outputs."""
    activation: Activation = "relu"
    """After every block and every hidden layer of the head."""
    norm: Norm = "batch"
    """Batch norm in every block, or none."""
    head: Widths = []
    """Hidden widths of the head; the class layer is added."""
    dropout: Fraction = 0.0
    """Before every linear layer of the head."""
    init: Initialization = "kaiming_normal"
    """How the weights begin; `default`: as PyTorch does."""


class TrainedBackbone(Strict):
    """A network that Winnow trained: the winner's weight file and, where that does not bring it, the recipe or config."""

    weights: str
    """A .pt, .pth or .safetensors file."""
    config: str | None = None
    """YAML or JSON file with the network's config; null: the one stored in the weight file."""


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
    """Hidden widths of the head; the class layer is added."""
    activation: Activation = "relu"
    """After every hidden layer of the head."""
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
    """The import path; the module is installed, or lies in the working directory."""


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
