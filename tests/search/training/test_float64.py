"""Nothing computes in float64 on the device: Apple's GPUs have none. The GPU is pretended, by tensors without values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from winnow.models.whitening import Whitening
from winnow.search.training.losses import class_weights
from winnow.search.training.metrics import all_metrics

GPU = torch.device("cuda")  # torch for Linux cannot pretend "mps"


class NoFloat64(TorchDispatchMode):
    """Refuses float64 on the GPU, as MPS does."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == GPU.type and tensor.dtype == torch.float64:
                raise TypeError("Cannot convert a MPS Tensor to float64")
        return out


def weigh_classes() -> None:
    assert class_weights("balanced", torch.ones(10, dtype=torch.int64, device=GPU)).device.type == GPU.type


def fit_whitening() -> None:
    with GPU:
        layer = Whitening(3, 2)
    layer.fit_images(torch.ones(8, 3, 8, 8, device=GPU))
    assert layer.weight.device.type == GPU.type


def compute_metrics() -> None:
    labels = torch.zeros(20, dtype=torch.int64, device=GPU)
    assert all_metrics(torch.ones(20, 10, device=GPU), labels)["validation_accuracy"] == 1


@pytest.mark.parametrize("compute", [weigh_classes, fit_whitening, compute_metrics])
def test_what_needs_float64_is_computed_on_the_cpu(
    compute: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.Tensor, "numpy", lambda tensor: np.zeros(tuple(tensor.shape), dtype=np.int64))
    with FakeTensorMode(), NoFloat64():
        compute()


def test_the_stand_in_refuses_float64() -> None:
    with FakeTensorMode(), NoFloat64(), pytest.raises(TypeError, match="float64"):
        torch.ones(2, device=GPU).double()
