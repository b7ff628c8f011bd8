"""Layers that the model families share, by their config names, and the initialization of their weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,  # slope 0.01
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}

POOLS: dict[str, Callable[[int], nn.Module] | None] = {
    "max": nn.MaxPool2d,
    "avg": nn.AvgPool2d,
    "none": None,
}


def _group_norm(channels: int) -> nn.GroupNorm:
    """Return a group norm with up to 32 groups of at least 4 channels each, since a group of one value would be normalised to zero."""
    groups = max(num for num in range(1, 33) if channels % num == 0 and (num == 1 or channels // num >= 4))
    return nn.GroupNorm(groups, channels)


# (norm for feature maps, norm for vectors)
NORMS: dict[str, tuple[Callable[[int], nn.Module], Callable[[int], nn.Module]] | None] = {
    "batch": (nn.BatchNorm2d, nn.BatchNorm1d),
    "group": (_group_norm, nn.LayerNorm),
    "layer": (partial(nn.GroupNorm, 1), nn.LayerNorm),
    "none": None,
}


def _dirac(weight: Tensor) -> None:
    """Make the first output channels of an ungrouped convolution copy its input channels. Other weights are unchanged."""
    if weight.ndim == 4:
        nn.init.dirac_(weight.detach()[: weight.shape[1]])


INITIALIZATIONS: dict[str, Callable[[Tensor], object] | None] = {
    "default": None,  # PyTorch's own initialization of weights and biases
    "kaiming_normal": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "kaiming_uniform": partial(nn.init.kaiming_uniform_, nonlinearity="relu"),
    "xavier_normal": nn.init.xavier_normal_,
    "xavier_uniform": nn.init.xavier_uniform_,
    "orthogonal": nn.init.orthogonal_,
    "dirac": _dirac,
    "normal": partial(nn.init.normal_, std=0.02),  # as in BERT, ViT and ConvNeXt
}


NORM_LAYERS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm)


def sequence(**layers: nn.Module | None) -> nn.Sequential:
    """Return the named layers in order, without those that are None."""
    return nn.Sequential(OrderedDict((name, layer) for name, layer in layers.items() if layer is not None))


def conv(
    in_channels: int,
    out_channels: int,
    kernel: int,
    padding: int | Literal["same"] = "same",
    stride: int = 1,
    groups: int = 1,
    bias: bool = True,
) -> nn.Conv2d:
    """Return a convolution. With `same` padding, its output size is ceil(size / stride), even for even kernels.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel: Pixels per side of the kernel.
        padding: Border in pixels, or `same`.
        stride: Step of the kernel in pixels.
        groups: Number of groups of channels that are convolved separately. Default: 1.
        bias: Whether the layer has a bias.
    """
    if padding == "same" and kernel % 2 == 0:
        return SameConv2d(in_channels, out_channels, kernel, stride, groups=groups, bias=bias)
    width = kernel // 2 if padding == "same" else padding
    return nn.Conv2d(in_channels, out_channels, kernel, stride, width, groups=groups, bias=bias)


def separable_conv(
    in_channels: int,
    out_channels: int,
    kernel: int,
    padding: int | Literal["same"] = "same",
    stride: int = 1,
    bias: bool = True,
) -> nn.Sequential:
    """Return a depthwise-separable convolution: one filter for each input channel, then a 1x1 convolution.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel: Pixels per side of the kernel.
        padding: Border in pixels, or `same`.
        stride: Step of the kernel in pixels.
        bias: Whether the layers have a bias.
    """
    return sequence(
        depthwise=conv(in_channels, in_channels, kernel, padding, stride, groups=in_channels, bias=False),
        pointwise=conv(in_channels, out_channels, 1, bias=bias),
    )


class SameConv2d(nn.Conv2d):
    """Convolution with `same` padding for an even kernel, with one more pixel of padding at the right and the bottom."""

    def forward(self, images: Tensor) -> Tensor:
        before = (self.kernel_size[0] - 1) // 2
        after = self.kernel_size[0] // 2
        return super().forward(F.pad(images, (before, after, before, after)))


def pool(kind: str, size: int) -> nn.Module | None:
    """Return a pooling layer; None for `none`.

    Args:
        kind: `max`, `avg` or `none`.
        size: Size and stride of the window, in pixels per side.
    """
    build = POOLS[kind]
    return None if build is None else build(size)


def norm_2d(kind: str, channels: int) -> nn.Module | None:
    """Return a norm for feature maps [N, C, H, W]; None for `none`.

    Args:
        kind: Kind of norm, a value of `model.norm`.
        channels: C, the number of channels.
    """
    pair = NORMS[kind]
    return None if pair is None else pair[0](channels)


class ChannelNorm(nn.LayerNorm):
    """Layer norm of [N, C, H, W] over the channels at each position, as in ConvNeXt. `layer` in NORMS normalizes over positions too."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def norm_1d(kind: str, width: int) -> nn.Module | None:
    """Return a norm for vectors [N, width]; None for `none`.

    Args:
        kind: Kind of norm, a value of `model.norm`.
        width: Length of the vectors.
    """
    pair = NORMS[kind]
    return None if pair is None else pair[1](width)


def dropout(p: float) -> nn.Module | None:
    """Return dropout with probability `p`; None for 0."""
    return nn.Dropout(p) if p > 0 else None


def flatten(kind: str) -> nn.Module:
    """Return a layer that maps feature maps [N, C, H, W] to vectors.

    Args:
        kind: `flatten` keeps all values; `avg` and `max` take the average or the maximum over the positions.
    """
    if kind == "flatten":
        return nn.Flatten()
    pool = nn.AdaptiveAvgPool2d(1) if kind == "avg" else nn.AdaptiveMaxPool2d(1)
    return nn.Sequential(pool, nn.Flatten())


def head(
    in_features: int,
    widths: Sequence[int],
    num_classes: int,
    activation: str,
    norm: str = "none",
    dropout_rate: float = 0.0,
    dropout_place: Literal["hidden", "last", "inputs"] = "hidden",
    logits_norm: str = "none",
    logits_scale: float = 1.0,
) -> nn.Sequential:
    """Return a head that maps vectors [N, in_features] to logits [N, num_classes].

    Each hidden layer consists of a linear layer, a norm and an activation. A linear layer before a norm has no bias, which the norm
    would remove.

    Args:
        in_features: Width of the input.
        widths: Widths of the hidden layers.
        num_classes: Number of logits.
        activation: Name of the activation of the hidden layers.
        norm: Name of the norm of the hidden layers. Default: none.
        dropout_rate: Dropout probability in [0, 1). Default: 0.
        dropout_place: Position of the dropout: after every hidden layer (`hidden`, the default), once before the class layer
            (`last`), or before every linear layer (`inputs`).
        logits_norm: Name of the norm of the logits. Default: none.
        logits_scale: Factor by which the logits are multiplied. Default: 1.
    """
    hidden: list[nn.Module] = []
    for width in widths:
        layer = sequence(
            dropout_before=dropout(dropout_rate) if dropout_place == "inputs" else None,
            linear=nn.Linear(in_features, width, bias=norm == "none"),
            norm=norm_1d(norm, width),
            activation=ACTIVATIONS[activation](),
            dropout=dropout(dropout_rate) if dropout_place == "hidden" else None,
        )
        hidden.append(layer)
        in_features = width
    return sequence(
        hidden=nn.Sequential(*hidden) if hidden else None,
        dropout=dropout(dropout_rate) if dropout_place != "hidden" else None,
        classes=nn.Linear(in_features, num_classes, bias=logits_norm == "none"),
        norm=norm_1d(logits_norm, num_classes),
        scale=Scale(logits_scale) if logits_scale != 1 else None,
    )


class Scale(nn.Module):
    """A layer that multiplies by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, values: Tensor) -> Tensor:
        return values * self.factor


def set_norms(module: nn.Module, momentum: float, gain: bool) -> None:
    """Set the momentum of a network's norms, and whether their gains are trained.

    Args:
        module: The network; it is changed in place.
        momentum: Weight of a batch in the running statistics of batch norms, in (0, 1].
        gain: Whether the gains are trained; otherwise they stay 1.
    """
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.momentum = momentum
        if isinstance(layer, NORM_LAYERS):
            layer.weight.requires_grad_(gain)


def initialize(module: nn.Module, scheme: str) -> None:
    """Initialize all convolutions and linear layers. Weights are drawn from torch's global generator, and biases are set to zero.

    Args:
        module: The network; it is changed in place.
        scheme: A value of `model.init`.
    """
    draw = INITIALIZATIONS[scheme]
    if draw is None:
        return
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            # Each group of a convolution copies its own channels.
            num_parts = layer.groups if scheme == "dirac" and isinstance(layer, nn.Conv2d) else 1
            for part in layer.weight.chunk(num_parts):
                draw(part)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
