"""The loop on a GPU: exact resume, the same numbers twice, bfloat16 where the GPU has it."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.tiny import figures, same_tensors, tiny_config, tiny_data
from winnow.search.training import graph_replay
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
AUGMENTATIONS = ["flip", "crop", "brightness", "zoom", "cutout"]


@pytest.mark.parametrize("precision", ["float32", "auto", "float16"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_a_resumed_training_is_the_undisturbed_one(optimizer: str, precision: str) -> None:
    device = torch.device("cuda")
    data_settings = {"name": "npz", "path": "x", "augment": AUGMENTATIONS}
    config = tiny_config(data=data_settings, optimizer={"name": optimizer, "lr": 0.01}, precision=precision)
    data = DeviceData.build(tiny_data(), config.data, device, 0)
    whole, states = [], []
    for result in train(config, data, device, 7):
        whole.append(figures(result))
        states.append(result.state())
    weights = result.weights()
    assert all(tensor.device.type == "cpu" for tensor in weights.values())
    resumed = []
    for result in train(config, data, device, 7, checkpoint=states[1]):
        resumed.append(figures(result))
    assert resumed == whole[2:]
    assert same_tensors(result.weights(), weights)


@pytest.mark.parametrize("precision", ["float32", "auto", "float16"])
def test_graphs_change_no_number(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_replay, "_shortest", lambda starts: 0.0)  # no replay is given up
    device = torch.device("cuda")
    found = []
    for cuda_graphs in (False, True):
        config = tiny_config(epochs=40, precision=precision, cuda_graphs=cuda_graphs)
        data = DeviceData.build(tiny_data(), config.data, device, 0)
        results = []
        for result in train(config, data, device, 7):
            results.append(figures(result))
        found.append((results, result.weights()))
        assert result.replays_graphs is cuda_graphs
    (direct, weights), (replayed, replayed_weights) = found
    assert replayed == direct
    assert same_tensors(replayed_weights, weights)


def test_the_order_is_that_of_the_cpu() -> None:
    config = tiny_config(model={"name": "mlp", "hidden": []}, precision="float32")
    losses = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        data = DeviceData.build(tiny_data(), config.data, device, 0)
        losses.append(next(train(config, data, device, 0)).batch_losses)
    assert torch.allclose(*losses, rtol=1e-2)  # TensorFloat-32 keeps ten bits
