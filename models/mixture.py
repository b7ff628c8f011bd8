"""Networks of blocks that mix parallel convolutions with weights for each image, as in CondConv (Yang et al., 2019)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from winnow.models.layers import ACTIVATIONS, conv, flatten, head, initialize, norm_2d, pool, sequence
from winnow.spaces.schema import Mixture
from winnow.spaces.shapes import trace
from winnow.spaces.sizes import KERNEL_MIXING_POSITIONS

# Functions from logits [N, K] to mixing weights [N, K].
MIXINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits: logits.softmax(dim=1),
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "none": lambda logits: logits,
}


def mixture(model: Mixture, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build the network.

    Args:
        model: The `model` section of the config.
        image_shape: (channels, height, width) of an image.
        num_classes: Number of classes, the width of the last layer.

    Raises:
        ShapeError: The pooling shrinks the image to nothing.
    """
    trace(model, image_shape, num_classes)
    widths = [image_shape[0], *(block.filters for block in model.blocks)]
    blocks = [
        sequence(block=MixtureBlock(model, channels, block.filters), pool=pool(block.pool, block.pool_size))
        for block, channels in zip(model.blocks, widths, strict=False)
    ]
    classifier = head(
        widths[-1], model.head, num_classes, model.activation, dropout_rate=model.dropout, dropout_place="inputs"
    )
    network = sequence(blocks=nn.Sequential(*blocks), features=flatten("avg"), head=classifier)
    initialize(network, model.init)
    return network


class MixtureBlock(nn.Module):
    """Block that maps [N, in, H, W] to [N, out, H, W]: a mixed convolution plus a shortcut, then norm and activation."""

    def __init__(self, model: Mixture, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = MixedConv2d(in_channels, out_channels, model.convs, model.mixing)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            norm = norm_2d(model.norm, out_channels)
            self.shortcut = sequence(conv=conv(in_channels, out_channels, 1, bias=norm is None), norm=norm)
        self.after = sequence(norm=norm_2d(model.norm, out_channels), activation=ACTIVATIONS[model.activation]())

    def forward(self, images: Tensor) -> Tensor:
        return self.after(self.conv(images) + self.shortcut(images))


class MixedConv2d(nn.Module):
    """Mixture of K 3x3 convolutions: sum_k a[n, k] * conv_k(x[n]) with a[n] = mixing(linear(mean of x[n] over its positions)).

    The K outputs are never computed; the sum is computed as one convolution, in one of two ways. Mixing the *inputs* (a[n, k] * x[n]
    concatenated, and the kernels concatenated) gives one dense convolution, without K feature maps of `out` channels to write,
    store and add. Mixing the *kernels* (one per image, as a grouped convolution) needs 1/K of the arithmetic, but N kernels in
    memory.

    Measured with K = 3, forward and backward, batch 64, float32 channels_last, 2 CPU cores, torch 2.15, median of 7, in ms
    (K outputs / inputs / kernels): 3-64 channels at 32x32 72 / 41 / 16; 64-64 at 16x16 59 / 56 / 27; 64-128 at 16x16
    114 / 102 / 50; 128-128 at 8x8 50 / 48 / 80. On a CPU, kernels are therefore mixed if the maps are large, and inputs otherwise.
    On a GPU, inputs are always mixed, since grouped convolutions cannot use the tensor-core kernels of the dense one (this was not
    measured).
    """

    def __init__(self, in_channels: int, out_channels: int, num_convs: int, mixing: str) -> None:
        super().__init__()
        self.mixer = nn.Linear(in_channels, num_convs)
        self.convs = nn.ModuleList(conv(in_channels, out_channels, 3) for _ in range(num_convs))
        self.mixing = mixing

    def forward(self, images: Tensor) -> Tensor:
        shares = MIXINGS[self.mixing](self.mixer(images.mean(dim=(2, 3))))  # [N, K]
        kernels = torch.stack([layer.get_parameter("weight") for layer in self.convs])  # [K, out, in, 3, 3]
        biases = shares @ torch.stack([layer.get_parameter("bias") for layer in self.convs])  # [N, out]
        large = images.shape[2] * images.shape[3] >= KERNEL_MIXING_POSITIONS
        mixed = mix_kernels if images.device.type == "cpu" and large else mix_inputs
        return mixed(images, shares, kernels) + biases[:, :, None, None]


def mix_inputs(images: Tensor, shares: Tensor, kernels: Tensor) -> Tensor:
    """Convolve images with a mixture of kernels for each image, as one dense convolution.

    Args:
        images: The images, float [N, in, H, W].
        shares: Share of each kernel for each image, [N, K].
        kernels: The kernels, [K, out, in, 3, 3].

    Returns:
        float [N, out, H, W].
    """
    columns = shares.to(images.dtype)[:, :, None, None, None].unbind(1)
    scaled = torch.cat([images * column for column in columns], dim=1)  # [N, K * in, H, W]
    return F.conv2d(scaled, kernels.transpose(0, 1).flatten(1, 2), padding=1)


def mix_kernels(images: Tensor, shares: Tensor, kernels: Tensor) -> Tensor:
    """Compute the same as `mix_inputs`, with one mixed kernel for each image.

    Args:
        images: The images, float [N, in, H, W].
        shares: Share of each kernel for each image, [N, K].
        kernels: The kernels, [K, out, in, 3, 3].

    Returns:
        float [N, out, H, W].
    """
    num, channels, height, width = images.shape
    own = (shares @ kernels.flatten(1)).view(num * kernels.shape[1], channels, 3, 3)
    return F.conv2d(images.reshape(1, -1, height, width), own, padding=1, groups=num).view(num, -1, height, width)
