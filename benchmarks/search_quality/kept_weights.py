"""Are the configs completed whose kept weights are the better, when `weights` keeps those of the lowest validation loss?

    python -m benchmarks.search_quality.kept_weights [--searches 5]

The ledger is driven without Ray, 30 trials of 27 epochs each. Configs with a learning rate above 0.01 have their best epoch early
(loss 0.67) and overfit from then on; the others end at 1.20. Prints how many configs of each kind were completed and writes
benchmarks/results/kept_weights.json. One minute on one core.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import RESULTS
from winnow import reports
from winnow.search.data.source import Source, describe_data, load_data
from winnow.search.settings import settings_for
from winnow.search.storage.provenance import hardware, versions
from winnow.search.storage.run_folder import create
from winnow.search.study.ledger import Ledger
from winnow.search.study.trials import Assignment
from winnow.spaces import catalog

TRIALS, EPOCHS = 30, 27
SAMPLERS = ("forecast", "tpe")
SHAPE = (1, 8, 8)


def overfits(config: dict[str, Any]) -> bool:
    """Whether a config is one of those whose kept weights are the better."""
    return math.log10(config["optimizer"]["lr"]) > -2


def loss_at(assignment: Assignment, epoch: int) -> float:
    """The validation loss after an epoch."""
    if overfits(assignment.config):
        return 0.6 + 2 * math.exp(-epoch / 1.2) + 0.25 * max(0, epoch - 4)
    return 1.2 + 2 * math.exp(-epoch / 3)


def drive(ledger: Ledger, loss: Callable[[Assignment, int], float]) -> None:
    """Train every trial on one worker, with these validation losses, and close the ledger."""
    losses: dict[int, dict[int, float]] = {}
    while (assignment := ledger.ask()) is not None:
        own, last = losses.setdefault(assignment.number, {}), assignment.config["epochs"]
        for epoch in range(assignment.recorded + 1, last + 1):
            own[epoch] = loss(assignment, epoch)
            figures = {"epoch": epoch, "validation_loss": own[epoch], "validation_accuracy": 1 - own[epoch] / 4}
            figures |= {"weights_epoch": min(own, key=own.__getitem__), "diverged": False}
            if not ledger.record(assignment.number, {**figures, "last": epoch == last}):
                break
    ledger.close()


def search(folder: Path, sampler: str, seed: int) -> dict[str, int]:
    """Search once; how many trials of each kind there were, and how many of them were completed."""
    adam = "optimizer={choice: {adam: {lr: {log: [0.001, 0.1]}}}}"
    space = catalog.load("digits", [f"epochs={EPOCHS}", "weights=lowest_validation_loss", adam])
    settings = settings_for(space, trials=TRIALS, sampler=sampler, objective="validation_loss", seed=seed)
    facts = describe_data(load_data(space, Source(Path("data"))), space, seed)
    about = {"schema_version": 1, "space": space.tree, "settings": settings.to_dict(), "data": facts}
    run = create(folder, None, f"{sampler}-{seed}", about)
    drive(Ledger(run, space, settings, SHAPE), loss_at)
    counts = dict.fromkeys(("better", "better_completed", "worse", "worse_completed"), 0)
    for row in reports.read(run.path).trial_rows():
        kind = "better" if overfits(json.loads(row["config"])) else "worse"
        counts[kind] += 1
        counts[f"{kind}_completed"] += row["status"] == "completed"
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=5)
    searches = parser.parse_args().searches
    rows = []
    print("| sampler | completed of the better configs | of the others |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for sampler in SAMPLERS:
            found = [search(Path(folder), sampler, seed) for seed in range(1, searches + 1)]
            rows += [{"sampler": sampler, "seed": seed, **counts} for seed, counts in enumerate(found, 1)]
            of_each = [
                ", ".join(f"{counts[f'{kind}_completed']} of {counts[kind]}" for counts in found)
                for kind in ("better", "worse")
            ]
            print(f"| {sampler} | " + " | ".join(of_each) + " |", flush=True)
    result = {"rows": rows, "hardware": hardware(), "versions": versions()}
    (RESULTS / "kept_weights.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
