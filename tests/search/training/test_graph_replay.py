"""CUDA graphs, with a stand-in for torch's recording that keeps its contract on a CPU: no GPU is at hand.

As in torch, a recording takes three passes for warming up, which change batch norms and random state, refuses the cache of autocast, and
gives inputs, outputs and gradients that the next replay overwrites.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers.tiny import CPU, figures, same_tensors, tiny_config, tiny_data
from winnow.search.training import graph_replay, loop, speed_probe
from winnow.search.training.device_data import DeviceData
from winnow.search.training.graph_replay import MEASURED_STEPS, SETTLING_STEPS, GraphReplay
from winnow.search.training.ranks import Rank
from winnow.search.training.speed_probe import measure
from winnow.spaces.identity import identity
from winnow.spaces.schema import Config

FIRST_REPLAY = SETTLING_STEPS + MEASURED_STEPS + 1
LONG = {"epochs": 14}  # of two full batches and a smaller one


class Recorder:
    """Stands in for `torch.cuda.make_graphed_callables`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, module: nn.Module, sample: tuple[torch.Tensor]) -> nn.Module:
        assert not (torch.is_autocast_enabled("cpu") and torch.is_autocast_cache_enabled())
        (static,) = sample
        parameters = tuple(module.parameters())
        passes = module.forward
        for _ in range(3):
            torch.autograd.grad(passes(static).sum(), parameters)
        if self.error:
            raise self.error
        outputs: list[torch.Tensor] = []
        gradients: list[torch.Tensor] = []
        enabled, number_type, shapes = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), self.shapes

        class Replay(torch.autograd.Function):
            @staticmethod
            def forward(context: Any, images: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
                shapes.append(tuple(images.shape))
                static.copy_(images)
                with torch.enable_grad(), torch.autocast("cpu", number_type, enabled, cache_enabled=False):
                    context.logits = passes(static)
                outputs[:] = outputs or [torch.empty_like(context.logits)]
                with torch.no_grad():
                    return outputs[0].copy_(context.logits).detach()

            @staticmethod
            def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
                found = torch.autograd.grad(context.logits, parameters, gradient)
                gradients[:] = gradients or [torch.empty_like(each) for each in found]
                for place, value in zip(gradients, found, strict=True):
                    place.copy_(value)
                return None, *(place.detach() for place in gradients)

        module.forward = lambda images: Replay.apply(images, *parameters)  # type: ignore[method-assign]
        return module


class Clock:
    """Each step takes a second, and a replayed one takes `replay`. Every other time an epoch ends, which takes ten seconds or none."""

    def __init__(self, replay: float) -> None:
        durations = [1.0, 11.0] * (MEASURED_STEPS // 2) + [100.0] + [replay] * MEASURED_STEPS
        self.times = accumulate(durations, initial=0.0)

    def __call__(self, device: torch.device) -> float:
        return next(self.times)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return pretend(monkeypatch, Recorder(), replay=0.5)


def pretend(monkeypatch: pytest.MonkeyPatch, recorder: Recorder, replay: float) -> Recorder:
    monkeypatch.setattr(loop, "has_graphs", lambda device: True)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", recorder)
    monkeypatch.setattr(graph_replay, "_now", Clock(replay))
    return recorder


def trained(config: Config, **more: Any) -> tuple[list[dict[str, Any]], list[bool], list[dict[str, Any]], Any]:
    """(figures of each epoch, whether it ended with replays, states, weights)"""
    data = DeviceData.build(tiny_data(), config.data, CPU, 0)
    found, replayed, states, weights = [], [], [], None
    for result in loop.train(config, data, CPU, 7, **more):
        found.append(figures(result))
        replayed.append(result.replays_graphs)
        states.append(result.state())
        weights = result.weights()
    return found, replayed, states, weights


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_replays_change_no_number(recorder: Recorder, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    """With dropout, batch norm, an average of the weights and clipped gradients; the last batch of an epoch has another size."""
    monkeypatch.setattr("winnow.search.training.precision.has_bfloat16", lambda device: True)
    changes = {"precision": precision, "gradient_clip": 1.0, "averaging": {"name": "ema", "decay": 0.9, "every": 2}}
    expected, _, _, weights = trained(tiny_config(**LONG, **changes))
    assert not recorder.shapes
    found, replayed, _, replayed_weights = trained(tiny_config(**LONG, **changes, cuda_graphs=True))
    assert found == expected
    assert same_tensors(replayed_weights, weights)
    assert recorder.shapes == [(16, 3, 8, 8)] * (14 * 2 - FIRST_REPLAY + 1)
    assert replayed == [False] * 6 + [True] * 8


def test_a_recording_that_fails_leaves_no_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch leaves the stream of the recording as the current one if the end of the recording fails."""
    current = ["before"]

    def fail(*_: Any) -> None:
        current.append("of the recording")
        raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    monkeypatch.setattr(graph_replay, "has_graphs", lambda device: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current[-1])
    monkeypatch.setattr(torch.cuda, "set_stream", current.append)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", fail)
    assert graph_replay._recorded(nn.Linear(3, 2), torch.zeros(1, 3)) is None
    assert current == ["before", "of the recording", "before"]


def test_a_resumed_training_measures_again(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(**LONG, cuda_graphs=True)
    expected, _, states, weights = trained(config)
    monkeypatch.setattr(graph_replay, "_now", Clock(replay=0.5))
    found, replayed, _, resumed_weights = trained(config, checkpoint=states[2])
    assert found == expected[3:]
    assert same_tensors(resumed_weights, weights)
    assert replayed == [False] * 6 + [True] * 5


def test_slower_replays_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = pretend(monkeypatch, Recorder(), replay=1.01)
    found, replayed, *_ = trained(tiny_config(**LONG, cuda_graphs=True))
    assert len(recorder.shapes) == SETTLING_STEPS + MEASURED_STEPS
    assert not replayed[-1]
    assert found == trained(tiny_config(**LONG))[0]


@pytest.mark.parametrize(
    "error", [torch.cuda.OutOfMemoryError("no memory"), RuntimeError("not permitted"), AssertionError()]
)
def test_a_network_that_cannot_be_recorded_is_trained_directly(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    pretend(monkeypatch, Recorder(error), replay=0.5)
    found, replayed, _, weights = trained(tiny_config(**LONG, cuda_graphs=True))
    expected, _, _, direct_weights = trained(tiny_config(**LONG))
    assert found == expected
    assert same_tensors(weights, direct_weights)
    assert not any(replayed)


def test_where_gradients_would_be_overwritten_nothing_is_replayed(recorder: Recorder) -> None:
    config = tiny_config(cuda_graphs=True)
    data = DeviceData.build(tiny_data(), config.data, CPU, 0)
    start = loop.TrainingState.start
    assert isinstance(start(config, data, CPU, 0, Rank(), 1).parallel, GraphReplay)
    assert not isinstance(start(config, data, CPU, 0, Rank(), 2).parallel, GraphReplay)
    assert not isinstance(start(tiny_config(), data, CPU, 0, Rank(), 1).parallel, GraphReplay)
    ahead = replace(
        data, train=replace(data.train, reads_ahead=True)
    )  # another thread would allocate during a recording
    assert not isinstance(start(config, ahead, CPU, 0, Rank(), 1).parallel, GraphReplay)


def test_a_custom_model_is_never_replayed(recorder: Recorder) -> None:
    """It may decide something in Python, which a recording would repeat."""
    config = tiny_config(model={"name": f"{__name__}:linear"}, cuda_graphs=True)
    data = DeviceData.build(tiny_data(), config.data, CPU, 0)
    assert not isinstance(loop.TrainingState.start(config, data, CPU, 0, Rank(), 1).parallel, GraphReplay)


def linear(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), num_classes))


def test_the_measured_memory_includes_the_graphs(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_probe, "has_graphs", lambda device: True)
    monkeypatch.setattr(speed_probe, "SLOW", math.inf)
    monkeypatch.setattr(graph_replay, "_now", lambda device: 0.0)
    measure(tiny_config(cuda_graphs=True), tiny_data(), CPU, seconds=0.0)
    assert recorder.shapes


def test_a_cpu_replays_nothing() -> None:
    assert trained(tiny_config(cuda_graphs=True))[:2] == (trained(tiny_config())[0], [False] * 4)


def test_a_config_with_graphs_is_the_same_training() -> None:
    with_graphs, without = (tiny_config(cuda_graphs=used).model_dump(mode="json") for used in (True, False))
    assert identity(with_graphs) == identity(without)
