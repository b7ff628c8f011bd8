"""Peer of `benchmarks.reliability.reliability`: stock Ray Tune over the same network, wired and restored as its documentation says.

`OptunaSearch` + `ASHAScheduler`, a checkpoint with every report, `FailureConfig(max_failures=3)`, `Tuner.restore` where there is
something to restore.

    python -m benchmarks.peers.stock_search FOLDER CONCURRENT [ADDRESS]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from benchmarks.reliability.faulty import BATCH_SIZE, EPOCHS, TRIALS, build

NUM_TRAIN, NUM_VALIDATION = 1150, 287  # as Winnow splits digits


def trainable(config: dict[str, Any]) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target)
    held_out = slice(NUM_TRAIN, NUM_TRAIN + NUM_VALIDATION)
    model = build((1, 8, 8), 10, config["width"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    start = 1
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder, "state.pt"))
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["epoch"] + 1
    for epoch in range(start, EPOCHS + 1):
        model.train()
        for batch in torch.randperm(NUM_TRAIN).split(BATCH_SIZE):
            loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            accuracy = (model(images[held_out]).argmax(1) == labels[held_out]).float().mean().item()
        with tempfile.TemporaryDirectory() as folder:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
            torch.save(state, Path(folder, "state.pt"))
            tune.report({"accuracy": accuracy, "epoch": epoch}, checkpoint=tune.Checkpoint.from_directory(folder))


def main(folder: str, concurrent: int, address: str | None = None) -> None:
    path = Path(folder).resolve()
    ray.init(address=address or "local", num_cpus=None if address else concurrent, include_dashboard=False)
    one_cpu = tune.with_resources(trainable, {"cpu": 1})
    if tune.Tuner.can_restore(path):
        tuner = tune.Tuner.restore(str(path), one_cpu, resume_unfinished=True, resume_errored=True)
    else:
        space = {"width": tune.randint(4, 513), "lr": tune.loguniform(0.0003, 0.03)}
        tuner = tune.Tuner(
            one_cpu,
            param_space=space,
            tune_config=tune.TuneConfig(
                metric="accuracy",
                mode="max",
                num_samples=TRIALS,
                search_alg=OptunaSearch(seed=0),
                scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=1, reduction_factor=3),
                max_concurrent_trials=concurrent,
            ),
            run_config=tune.RunConfig(
                name=path.name,
                storage_path=str(path.parent),
                failure_config=tune.FailureConfig(max_failures=3),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
                verbose=1,
            ),
        )
    results = tuner.fit()
    ended = [
        {
            "trial_id": (result.metrics or {}).get("trial_id"),
            "epochs": (result.metrics or {}).get("epoch", 0),
            "error": str(result.error) if result.error else None,
        }
        for result in map(results.__getitem__, range(len(results)))
    ]
    (path / "ended.json").write_text(json.dumps(ended))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
