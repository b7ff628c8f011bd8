"""The LCBench surrogate: learning curves of networks on 34 OpenML tasks (YAHPO Gym's ONNX model, Apache-2.0)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from benchmarks import REPOSITORY

EPOCHS = 50

SPACE: dict[str, BaseDistribution] = {
    "batch_size": IntDistribution(16, 512, log=True),
    "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
    "momentum": FloatDistribution(0.1, 0.99),
    "weight_decay": FloatDistribution(1e-5, 1e-1),
    "num_layers": IntDistribution(1, 5),
    "max_units": IntDistribution(64, 1024, log=True),
    "max_dropout": FloatDistribution(0.0, 1.0),
}


class LcBench:
    """`curves` in accuracy, 0 to 1; tasks in numerical order of their OpenML ids. One thread."""

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(folder / "lcbench_model.onnx"), options)
        codes = json.loads((folder / "lcbench_encoding.json").read_text())["OpenML_task_id"]
        known = json.loads((folder / "lcbench_config_space.json").read_text())["hyperparameters"][0]["choices"]
        self._codes = {task: codes[task] for task in sorted(known, key=int)}

    @property
    def tasks(self) -> list[str]:
        return list(self._codes)

    def curve(self, task: str, params: dict[str, Any]) -> np.ndarray:
        """[50]: the validation accuracy after each epoch."""
        config = np.array([[params[name] for name in SPACE]])
        return self._predict(task, config, np.arange(1, EPOCHS + 1))[0]

    def regret_scale(self, task: str, num_samples: int = 20_000) -> tuple[float, float]:
        """(best, median) accuracy after the last epoch.

        The median of a random sample; the best of that sample and of a local search from its 20 best, so that no searcher
        gets below a regret of 0 merely because the sample is sparse.
        """
        rng = np.random.default_rng(0)
        points = rng.random((num_samples, len(SPACE)))
        values = self._final(task, points)
        median = float(np.median(values))
        keep = np.argsort(-values)[:20]
        points, values = points[keep], values[keep]
        for step in range(30):
            moves = rng.normal(0, 0.2 * 0.85**step, (400, len(SPACE))) * (rng.random((400, len(SPACE))) < 0.4)
            near = np.clip(np.repeat(points, 20, axis=0) + moves, 0, 1)
            points, values = np.concatenate([points, near]), np.concatenate([values, self._final(task, near)])
            keep = np.argsort(-values)[:20]
            points, values = points[keep], values[keep]
        return float(values[0]), median

    def _final(self, task: str, points: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [self._predict(task, to_configs(part), np.array([EPOCHS]))[:, 0] for part in batches(points)]
        )

    def _predict(self, task: str, configs: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        """[n, 7] configs and [e] epochs (1 to 50) -> [n, e] accuracies."""
        inputs = np.empty((len(configs), len(epochs), 1 + len(SPACE)), np.float32)
        inputs[:, :, 0] = epochs + 1  # the surrogate's epoch 1 is the untrained network
        inputs[:, :, 1:] = configs[:, None]
        flat = inputs.reshape(-1, 1 + len(SPACE))
        codes = np.full((len(flat), 1), self._codes[task], np.int32)
        output = self._session.run(None, {"x_cat": codes, "x_cont": flat})[0]
        return output[:, 1].reshape(len(configs), len(epochs)).astype(float) / 100


def to_configs(points: np.ndarray) -> np.ndarray:
    """Points of the unit cube -> values, integers rounded."""
    configs = np.empty_like(points)
    for i, domain in enumerate(SPACE.values()):
        assert isinstance(domain, FloatDistribution | IntDistribution)
        low, high = float(domain.low), float(domain.high)
        values = low * (high / low) ** points[:, i] if domain.log else low + points[:, i] * (high - low)
        configs[:, i] = np.round(values) if isinstance(domain, IntDistribution) else values
    return configs


def batches(points: np.ndarray, size: int = 1000) -> list[np.ndarray]:
    return [points[start : start + size] for start in range(0, len(points), size)]


def default_folder() -> Path:
    """WINNOW_LCBENCH, or `shared/benchmarks/lcbench` beside the repository."""
    beside = REPOSITORY.parent / "shared" / "benchmarks" / "lcbench"
    return Path(os.environ.get("WINNOW_LCBENCH", beside))
