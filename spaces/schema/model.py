"""The `model` section, with one class for each model family, discriminated on `name`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from winnow.spaces.schema.fields import Count, Fraction, Positive, Strict
from winnow.spaces.schema.layers import Activation, Features, Initialization, Layered, Norm, Pool, Widths
from winnow.spaces.schema.own import OwnPart
from winnow.spaces.schema.patches import ConvNext, Vit


class Mlp(Layered):
    """Multi-layer perceptron: the flattened image, then hidden layers (linear, norm, activation, dropout), then the class layer."""

    _layers: ClassVar[str] = "hidden"
    name: Literal["mlp"]
    depth: Annotated[int, Field(ge=0)] | None = None
    """Number of hidden layers; defaults to the length of the list, and must equal it."""
    hidden: Widths
    """Units in each hidden layer, first to last."""
    activation: Activation = "relu"
    """Activation after every hidden layer."""
    norm: Norm = "none"
    """Normalization after every hidden layer."""
    dropout: Fraction = 0.0
    """Dropout probability after every hidden layer."""
    init: Initialization = "default"
    """Weight initialization; `default` is PyTorch's own."""


class Stage(Strict):
    """One convolutional stage: convolution, norm, activation, pooling."""

    filters: Count
    """Number of output channels."""
    kernel: Count = 3
    """Kernel size, in pixels per side."""
    padding: Annotated[int, Field(ge=0)] | Literal["same"] = "same"
    """Zero padding on each side, in pixels; `same` keeps the image size (divided by the stride, rounded up)."""
    stride: Count = 1
    """Stride of the convolution."""
    pool: Pool = "max"
    """Pooling after the activation."""
    pool_size: Annotated[int, Field(ge=2)] = 2
    """Size and stride of the pooling window, in pixels per side."""
    separable: bool = False
    """Depthwise-separable convolution: one filter for each input channel, then a 1x1 convolution (Chollet, 2017)."""
    squeeze: Count | None = None
    """Reduction ratio of a squeeze-and-excitation block before the pooling (Hu et al., 2018). null: no such block."""


class Cnn(Layered):
    """Convolutional network: a stack of convolutional stages, then a fully connected head."""

    _layers: ClassVar[str] = "stages"
    name: Literal["cnn"]
    whitening: Annotated[int, Field(ge=2)] | None = None
    """Kernel size of a whitening layer: a first convolution without padding (Page, 2019). Its fixed weights whiten the patches of the training images, once with each sign; its bias is trained. null: no such layer."""
    depth: Annotated[int, Field(ge=0)] | None = None
    """Number of stages; defaults to the length of the list, and must equal it."""
    stages: Annotated[list[Stage], Field(min_length=1)]
    """The convolutional stages, first to last."""
    activation: Activation = "relu"
    """Activation after every convolution and every hidden layer of the head."""
    norm: Norm = "none"
    """Normalization in every stage."""
    norm_place: Literal["after_conv", "after_activation", "after_pool"] = "after_conv"
    """Position of the norm within a stage."""
    norm_momentum: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    """Momentum of the running statistics of batch norm: the weight of each new batch."""
    norm_gain: bool = True
    """Train the gains of the norms; false: fix them at 1 (Jordan, 2024)."""
    pool_place: Literal["after_activation", "after_conv"] = "after_activation"
    """Position of the pooling within a stage. Pooling directly after the convolution leaves fewer values for norm and activation."""
    stage_dropout: Fraction = 0.0
    """Probability of channel-wise dropout after every stage."""
    features: Features = "flatten"
    """Input of the head: the last feature map flattened, its global average (`avg`), or its global maximum (`max`)."""
    head: Widths = []
    """Units in each hidden layer of the head, which the class layer follows."""
    head_norm: Norm = "none"
    """Normalization after every hidden layer of the head."""
    dropout: Fraction = 0.0
    """Dropout probability in the head."""
    dropout_place: Literal["hidden", "last"] = "hidden"
    """Position of the dropout: after every hidden layer of the head (`hidden`), or once, before the class layer (`last`)."""
    logits_scale: Positive = 1.0
    """Factor by which the logits are multiplied."""
    init: Initialization = "default"
    """Weight initialization; `default` is PyTorch's own, `dirac` makes every convolution pass on its input channels (Zagoruyko & Komodakis, 2017)."""


class ResidualStage(Strict):
    """One stage of residual blocks, all of the same width."""

    blocks: Count
    """Number of residual blocks."""
    filters: Count
    """Number of output channels of each block."""
    stride: Count = 1
    """Stride of the first block."""
    pool: Pool = "none"
    """Pooling after the last block."""
    pool_size: Annotated[int, Field(ge=2)] = 2
    """Size and stride of the pooling window, in pixels per side."""


class Residual(Layered):
    """Residual network: a 3x3 stem, stages of residual blocks (two 3x3 convolutions each), then a fully connected head.

    A block computes `scale * branch + input`. If the width or the size changes, the shortcut is a 1x1 convolution and the norm.
    """

    _layers: ClassVar[str] = "stages"
    name: Literal["residual"]
    depth: Annotated[int, Field(ge=0)] | None = None
    """Number of stages; defaults to the length of the list, and must equal it."""
    stem: Count = 64
    """Number of output channels of the first convolution."""
    stages: Annotated[list[ResidualStage], Field(min_length=1)]
    """The stages, first to last."""
    skip: bool = True
    """Use residual connections; false: the same convolutions without them."""
    scale: Positive = 1.0
    """Factor by which the branch is multiplied before the shortcut is added."""
    stochastic_depth: Fraction = 0.0
    """Probability that an image skips the branch of the last block in training; it rises linearly over the blocks (Huang et al., 2016)."""
    squeeze: Count | None = None
    """Reduction ratio of a squeeze-and-excitation block at the end of each branch (Hu et al., 2018). null: no such block."""
    groups: Count = 1
    """Number of groups of the blocks' 3x3 convolutions; every width must be a multiple of it."""
    separable: bool = False
    """Depthwise-separable 3x3 convolutions in the blocks: one filter for each input channel, then a 1x1 convolution (Chollet, 2017)."""
    activation: Activation = "relu"
    """Activation after every convolution and every hidden layer of the head."""
    norm: Norm = "batch"
    """Normalization after every convolution."""
    norm_place: Literal["after_conv", "after_activation"] = "after_conv"
    """Position of the norm: before the activation (`after_conv`) or after it."""
    norm_momentum: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    """Momentum of the running statistics of batch norm: the weight of each new batch."""
    norm_gain: bool = True
    """Train the gains of the norms; false: fix them at 1 (Jordan, 2024)."""
    features: Features = "avg"
    """Input of the head: the last feature map flattened, its global average (`avg`), or its global maximum (`max`)."""
    head: Widths = []
    """Units in each hidden layer of the head, which the class layer follows."""
    head_norm: Norm = "none"
    """Normalization after every hidden layer of the head."""
    logits_norm: Norm = "none"
    """Normalization of the logits."""
    dropout: Fraction = 0.0
    """Dropout probability in the head."""
    dropout_place: Literal["hidden", "last"] = "hidden"
    """Position of the dropout: after every hidden layer of the head (`hidden`), or once, before the class layer (`last`)."""
    init: Initialization = "default"
    """Weight initialization; `default` is PyTorch's own."""

    @model_validator(mode="after")
    def _groups_divide(self) -> Residual:
        widths = [self.stem, *(stage.filters for stage in self.stages)]
        if any(width % self.groups for width in widths):
            raise ValueError(
                f"every width must be a multiple of groups={self.groups}, but got stem and filters {widths}"
            )
        if self.separable and self.groups > 1:
            raise ValueError(f"separable needs groups: 1, but got {self.groups}; it has one group for each channel")
        if self.stochastic_depth and not self.skip:
            raise ValueError("stochastic_depth needs skip: true, since without shortcuts no branch can be skipped")
        return self


class MixtureBlock(Strict):
    """One block of parallel convolutions, then pooling."""

    filters: Count
    """Number of output channels."""
    pool: Pool = "max"
    """Pooling after the block."""
    pool_size: Annotated[int, Field(ge=2)] = 2
    """Size and stride of the pooling window, in pixels per side."""


class Mixture(Layered):
    """Network of blocks that mix `convs` parallel 3x3 convolutions with weights computed for each image (CondConv, Yang et al., 2019).

    A linear layer and `mixing` compute the weights from the global average of the block's input. The weighted sum plus the
    shortcut (a 1x1 convolution and the norm if the width changes) is normalized and activated. The head takes the global
    average of the last feature map.
    """

    _layers: ClassVar[str] = "blocks"
    name: Literal["mixture"]
    depth: Annotated[int, Field(ge=0)] | None = None
    """Number of blocks; defaults to the length of the list, and must equal it."""
    blocks: Annotated[list[MixtureBlock], Field(min_length=1)]
    """The blocks, first to last."""
    convs: Count = 3
    """Number of parallel convolutions in each block."""
    mixing: Literal["softmax", "sigmoid", "relu", "tanh", "none"] = "softmax"
    """Function that maps the outputs of the linear layer to mixing weights."""
    activation: Activation = "relu"
    """Activation after every block and every hidden layer of the head."""
    norm: Norm = "batch"
    """Normalization in every block."""
    head: Widths = []
    """Units in each hidden layer of the head, which the class layer follows."""
    dropout: Fraction = 0.0
    """Dropout probability before every linear layer of the head."""
    init: Initialization = "kaiming_normal"
    """Weight initialization; `default` is PyTorch's own."""


class TrainedBackbone(Strict):
    """A network trained by Winnow: its weight file, and its config if the weight file contains none."""

    weights: str
    """Weight file: .pt, .pth or .safetensors."""
    config: str | None = None
    """YAML or JSON file with the network's config; null: the config stored in the weight file."""


class Transfer(Strict):
    """Transfer learning: a named network or an earlier winner, with a new head in place of its class layer. `weights: none` trains it from scratch."""

    name: Literal["transfer"]
    backbone: str | TrainedBackbone
    """Name of a torchvision classification model, `timm/NAME` for a model of timm (extra `timm`), or an earlier winner."""
    weights: str = "none"
    """Weights of a named backbone: `none` (from scratch), a .pt, .pth or .safetensors file with a state dict, or for torchvision a name such as `IMAGENET1K_V1`. Never downloaded."""
    frozen: bool = False
    """Freeze the backbone and train only the new head; the backbone stays in evaluation mode."""
    resize: Annotated[int, Field(ge=4)] | None = None
    """Side of the backbone's input, in pixels; images are resized on the device. null: no resizing."""
    head: Widths = []
    """Units in each hidden layer of the head, which the class layer follows."""
    activation: Activation = "relu"
    """Activation after every hidden layer of the head."""
    dropout: Fraction = 0.0
    """Dropout probability before every linear layer of the head."""
    head_lr_factor: Positive = 1.0
    """Learning rate of the head, as a multiple of the optimizer's."""

    @model_validator(mode="after")
    def _weights_once(self) -> Transfer:
        if isinstance(self.backbone, TrainedBackbone) and self.weights != "none":
            raise ValueError("`weights` is for a named backbone, but this one has backbone.weights")
        return self


class Custom(OwnPart):
    """A custom model: `package.module:function`, called as `function(image_shape, num_classes, **other_keys)`."""


def _model_tag(value: Any) -> str | None:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return "custom" if isinstance(name, str) and ":" in name else name


Model = Annotated[
    Annotated[Mlp, Tag("mlp")]
    | Annotated[Cnn, Tag("cnn")]
    | Annotated[Residual, Tag("residual")]
    | Annotated[Mixture, Tag("mixture")]
    | Annotated[ConvNext, Tag("convnext")]
    | Annotated[Vit, Tag("vit")]
    | Annotated[Transfer, Tag("transfer")]
    | Annotated[Custom, Tag("custom")],
    Discriminator(_model_tag),
]
