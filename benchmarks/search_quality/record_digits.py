"""Records trainings of random configs of the space `digits`, which is conditional: the family "digits" of `tasks.py`.

    python -m benchmarks.search_quality.record_digits --configs 400

One thread and float32, so that the curves are the same on every machine but for rounding. A file that exists is continued.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.search_quality.tasks import DIGITS, digits_space
from winnow.search.data.image_data import ImageData
from winnow.search.data.source import Source, load_data
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import train
from winnow.spaces.space import Space

SAVE_EVERY = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", type=int, default=400)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    space = digits_space()
    data = load_data(space, Source(Path("data")))
    rows: list[dict[str, Any]] = pq.read_table(DIGITS).to_pylist() if DIGITS.exists() else []
    for number in range(len(rows), asked.configs):
        rows.append(_record(space, data, number))
        if number % SAVE_EVERY == SAVE_EVERY - 1 or number == asked.configs - 1:
            schema = pa.schema({"params": pa.string(), "curve": pa.list_(pa.float32())})
            pq.write_table(pa.Table.from_pylist(rows, schema), DIGITS, compression="zstd")
            print(number, flush=True)


def _record(space: Space, data: ImageData, number: int) -> dict[str, Any]:
    """The study parameters of a random config as JSON, and its validation accuracy after each epoch; 0 once it has diverged."""
    sampler = optuna.samplers.RandomSampler(seed=number)
    for _ in range(1000):
        trial = optuna.create_study(sampler=sampler).ask()
        raw = space.suggest(trial)
        if not space.infeasible(raw, data.image_shape):
            break
    config = space.config(raw)
    device = torch.device("cpu")
    on_device = DeviceData.build(data, config.data, device, seed=0)
    curve = [0.0] * config.epochs
    for result in train(config, on_device, device, seed=number):
        curve[result.epoch - 1] = 0.0 if result.diverged else float(result.validation_accuracy or 0.0)
    return {"params": json.dumps(trial.params), "curve": curve}


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    main()
