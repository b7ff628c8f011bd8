"""Measures the cost of a network layer by layer, by building it without initial values and running it once.

Networks of torchvision are built and run on torch's meta device, which needs neither their memory nor their time. The imports of the
meta device take 1.5 s of CPU time in every worker, so other networks run on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from winnow.models.build import build
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Custom, Model, TrainedBackbone, Transfer
from winnow.spaces.shapes import trace

BATCH = 2  # a batch norm in training mode does not accept a single vector
RANDOM_FILLS = (Tensor.uniform_, Tensor.normal_, nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_)


@dataclass(frozen=True)
class LayerSummary:
    """One layer of a network. `output_shape` does not include the batch dimension."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    num_parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Summary:
    """Counts of the whole network for one image. Norms, activations and pools count as zero multiply-adds."""

    num_parameters: int
    multiply_adds: int
    layers: list[LayerSummary]


def summarize(model: Model, image_shape: tuple[int, int, int], num_classes: int) -> Summary:
    """Count the parameters and multiply-adds of a network.

    Args:
        model: The `model` section of a config.
        image_shape: (channels, height, width) of the images.
        num_classes: Number of logits.

    Returns:
        The number of parameters, and of multiply-adds for one image.

    Raises:
        InputError: The network cannot be built for such images, or does not return `num_classes` logits.
    """
    trace(model, image_shape, num_classes)  # the message of its error names the stage that does not fit
    with torch.random.fork_rng(devices=[]):
        # Torch's counter fails on parameters that a network expands, such as class tokens, if they require gradients.
        network = _blank(model, image_shape, num_classes).requires_grad_(False)
        device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
        images = torch.zeros(BATCH, *image_shape, device=device)
        layers, logits, flops = _run(network, images, f"model {model.name}")
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (BATCH, num_classes):
        raise InputError(
            f"model {model.name}: must return logits of shape {(BATCH, num_classes)}, but returned {shape}"
        )
    return Summary(sum(weight.numel() for weight in network.parameters()), flops // (2 * BATCH), layers)


def check_buildable(model: Model, image_shape: tuple[int, int, int], num_classes: int) -> None:
    """Build the network and run one batch, to check that this is possible.

    Args:
        model: The `model` section of a config.
        image_shape: (channels, height, width) of the images.
        num_classes: Number of logits.

    Raises:
        InputError: The network cannot be built for such images, or does not return `num_classes` logits.
    """
    summarize(model, image_shape, num_classes)


def _blank(model: Model, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    if isinstance(model, Custom):
        return build(model, image_shape, num_classes)
    if not isinstance(model, Transfer) or isinstance(model.backbone, TrainedBackbone):
        with _Unfilled():
            return build(model, image_shape, num_classes)
    with _Hollow():
        return build(model, image_shape, num_classes).to("meta")


class _Unfilled(TorchFunctionMode):
    """A mode that skips random initial values. Counts do not depend on them, and drawing those of a large head takes a second."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in RANDOM_FILLS:
            return (*args, *(kwargs or {}).values())[0]
        return func(*args, **(kwargs or {}))


class _Hollow(TorchFunctionMode):
    """A mode that puts weights on the meta device. Other tensors stay real, since torchvision's RegNet computes its widths with them."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return func(*args, **{**(kwargs or {}), "device": "meta"} if func is torch.empty else kwargs or {})


def _run(network: nn.Module, images: Tensor, where: str) -> tuple[list[LayerSummary], object, int]:
    recorder = _Recorder(network)
    try:
        with recorder.attached(), torch.no_grad():
            logits = network(images)
    except Exception as error:  # a user's network may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        shape = "x".join(map(str, images.shape[1:]))
        raise InputError(f"{where}: cannot take images of {shape}: layer {recorder.innermost()}: {reason}") from error
    return recorder.layers, logits, recorder.counter.get_total_flops()


class _Recorder:
    """Records a row, with forward hooks, for each module that is a leaf, has its own parameters, or computes something itself.

    Parameters of a layer that is never called, such as the projections of attention, are counted for the module that uses them.
    """

    def __init__(self, network: nn.Module) -> None:
        self.layers: list[LayerSummary] = []
        self.counter = FlopCounterMode(display=False)
        self._names = {module: name or "(whole)" for name, module in network.named_modules()}
        self._open: list[list[int]] = []  # FLOPs at the start and FLOPs of the children, for each running module
        self._entered: list[str] = []
        self._counted: set[nn.Parameter] = set()

    @contextmanager
    def attached(self) -> Iterator[None]:
        hooks = [module.register_forward_pre_hook(self._enter) for module in self._names]
        hooks += [module.register_forward_hook(self._leave) for module in self._names]
        try:
            with self.counter:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def innermost(self) -> str:
        """Name of the layer that was running when the forward pass failed."""
        return self._entered[-1] if self._entered else "(whole)"

    def _enter(self, module: nn.Module, inputs: object) -> None:
        self._open.append([self.counter.get_total_flops(), 0])
        self._entered.append(self._names[module])

    def _leave(self, module: nn.Module, inputs: object, output: object) -> None:
        start, of_children = self._open.pop()
        name = self._entered.pop()
        total = self.counter.get_total_flops() - start
        if self._open:
            self._open[-1][1] += total
        new = set(module.parameters()) - self._counted
        self._counted |= new
        own_parameters = sum(weight.numel() for weight in new)
        is_leaf = next(module.children(), None) is None and not isinstance(module, nn.Identity)
        own = (total - of_children) // (2 * BATCH)
        if is_leaf or own_parameters or own:
            shape = tuple(output.shape[1:]) if isinstance(output, Tensor) else ()
            self.layers.append(LayerSummary(name, type(module).__name__, shape, own_parameters, own))
