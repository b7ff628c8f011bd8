"""The model families that first divide an image into patches: ConvNeXt and the vision transformer."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from winnow.spaces.schema.fields import Count, Fraction, Positive, Strict
from winnow.spaces.schema.layers import Activation, Initialization, Layered


class ConvNextStage(Strict):
    """One stage of ConvNeXt blocks, all of the same width."""

    blocks: Count
    """Number of blocks."""
    filters: Count
    """Number of output channels of each block."""
    kernel: Count = 7
    """Kernel size of the depthwise convolutions, in pixels per side."""


class ConvNext(Layered):
    """ConvNeXt (Liu et al., 2022): patches, stages of blocks, global average, norm, class layer.

    A block adds to its input a depthwise convolution, a layer norm, and two 1x1 convolutions with `expansion` times as many
    channels between them. A norm and a 2x2 convolution with stride 2 halve the map before every stage except the first.
    """

    _layers: ClassVar[str] = "stages"
    name: Literal["convnext"]
    patch: Count = 2
    """Kernel size and stride of the first convolution, in pixels per side."""
    depth: Annotated[int, Field(ge=0)] | None = None
    """Number of stages; defaults to the length of the list, and must equal it."""
    stages: Annotated[list[ConvNextStage], Field(min_length=1)]
    """The stages, first to last."""
    expansion: Count = 4
    """Channels between the two 1x1 convolutions of a block, as a multiple of its width."""
    layer_scale: Positive | None = 1e-6
    """Layer scale (Touvron et al., 2021): initial value of the trained factor of each channel of a branch. null: no such factors."""
    stochastic_depth: Fraction = 0.0
    """Probability that an image skips the branch of the last block in training; it rises linearly over the blocks (Huang et al., 2016)."""
    activation: Activation = "gelu"
    """Activation between the two 1x1 convolutions of a block."""
    dropout: Fraction = 0.0
    """Dropout probability before the class layer."""
    init: Initialization = "normal"
    """Weight initialization; `normal` draws with standard deviation 0.02, `default` is PyTorch's own."""


class Vit(Strict):
    """Vision transformer (Dosovitskiy et al., 2021): patches, position embedding, pre-norm encoder blocks, norm, class layer."""

    name: Literal["vit"]
    patch: Count = 4
    """Side of a patch in pixels; the height and the width of the images must be multiples of it."""
    width: Count = 128
    """Embedding dimension; must be a multiple of `heads`."""
    depth: Count = 6
    """Number of encoder blocks."""
    heads: Count = 4
    """Number of attention heads in each block."""
    mlp_ratio: Positive = 4.0
    """Hidden units of a block's MLP, as a multiple of `width`, rounded down."""
    features: Literal["class_token", "avg"] = "avg"
    """Input of the class layer: the output at an extra token (`class_token`), or the average over the patches (`avg`)."""
    stochastic_depth: Fraction = 0.0
    """Probability that an image skips a branch of the last block in training; it rises linearly over the blocks (Huang et al., 2016)."""
    activation: Activation = "gelu"
    """Activation of each block's MLP."""
    dropout: Fraction = 0.0
    """Dropout probability after the position embedding and after each linear layer of a block, except the projections to queries, keys and values."""
    init: Initialization = "normal"
    """Weight initialization; `normal` draws with standard deviation 0.02, `default` is PyTorch's own."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Vit:
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads={self.heads}, but got {self.width}")
        if int(self.width * self.mlp_ratio) < 1:
            raise ValueError(f"width * mlp_ratio must be at least 1, but got {self.width} * {self.mlp_ratio}")
        return self
