"""Vision transformer (Dosovitskiy et al., 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from winnow.models.branches import skip_probabilities, survivors
from winnow.models.layers import ACTIVATIONS, conv, dropout, head, initialize, sequence
from winnow.spaces.schema import Vit
from winnow.spaces.shapes import trace


def vit(model: Vit, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build the network.

    Args:
        model: The `model` section of the config.
        image_shape: (channels, height, width) of an image.
        num_classes: Number of classes, the width of the last layer.

    Raises:
        ShapeError: The height or the width of the image is not a multiple of the patch size.
    """
    shapes = dict(trace(model, image_shape, num_classes))
    skips = skip_probabilities(model.stochastic_depth, model.depth)
    network = sequence(
        patches=conv(image_shape[0], model.width, model.patch, 0, model.patch),
        tokens=Tokens(model, math.prod(shapes["patches"][1:])),
        blocks=nn.Sequential(*(EncoderBlock(model, skip) for skip in skips)),
        norm=nn.LayerNorm(model.width),
        features=Features(model.features),
        head=head(model.width, [], num_classes, model.activation),
    )
    initialize(network, model.init)
    return network


class Tokens(nn.Module):
    """Turns patches [N, C, H, W] into tokens [N, T, C]: prepends the class token, if there is one, and adds the position embedding.

    Both are vectors, so that optimizers treat them like biases, without the weight decay or orthogonalization of matrices.
    """

    def __init__(self, model: Vit, num_patches: int) -> None:
        super().__init__()
        has_class_token = model.features == "class_token"
        self.class_token = nn.Parameter(torch.empty(model.width)) if has_class_token else None
        self.positions = nn.Parameter(torch.empty((num_patches + has_class_token) * model.width))
        for vector in self.parameters(recurse=False):
            nn.init.normal_(vector, std=0.02)
        self.dropout = nn.Dropout(model.dropout)

    def forward(self, patches: Tensor) -> Tensor:
        tokens = patches.flatten(2).transpose(1, 2)
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.to(tokens.dtype).expand(len(tokens), 1, -1), tokens], dim=1)
        return self.dropout(tokens + self.positions.view(tokens.shape[1:]))


class EncoderBlock(nn.Module):
    """Pre-norm encoder block for tokens [N, T, C]: adds the attention of the normalized tokens, then an MLP of the normalized tokens."""

    def __init__(self, model: Vit, skip_probability: float) -> None:
        super().__init__()
        hidden = int(model.width * model.mlp_ratio)
        self.attention = sequence(
            norm=nn.LayerNorm(model.width),
            attention=Attention(model.width, model.heads),
            dropout=dropout(model.dropout),
        )
        self.perceptron = sequence(
            norm=nn.LayerNorm(model.width),
            expand=nn.Linear(model.width, hidden),
            activation=ACTIVATIONS[model.activation](),
            dropout=dropout(model.dropout),
            project=nn.Linear(hidden, model.width),
            dropout_after=dropout(model.dropout),
        )
        self.skip_probability = skip_probability

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + survivors(self.attention(tokens), self.skip_probability, self.training)
        return tokens + survivors(self.perceptron(tokens), self.skip_probability, self.training)


class Attention(nn.Module):
    """Multi-head self-attention of tokens [N, T, C] (Vaswani et al., 2017).

    It does not use torch's fused attention, which is slow on a CPU for so few tokens: with 64 tokens of 64 values, batch 64, 1 core and
    torch 2.15, a training step of three blocks took 139 ms with it and 49 ms without in bfloat16, 99 and 91 ms in float32.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(width, 3 * width)
        self.outputs = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        parts = self.inputs(tokens).unflatten(2, (3, self.heads, -1))  # [N, T, 3, heads, C / heads]
        queries, keys, values = parts.permute(2, 0, 3, 1, 4).unbind(0)
        shares = (queries * queries.shape[-1] ** -0.5 @ keys.transpose(2, 3)).softmax(-1)  # [N, heads, T, T]
        return self.outputs((shares @ values).transpose(1, 2).flatten(2))


class Features(nn.Module):
    """Reduces tokens [N, T, C] to a vector [N, C]: the first token (`class_token`), or the average (`avg`)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0] if self.kind == "class_token" else tokens.mean(1)
