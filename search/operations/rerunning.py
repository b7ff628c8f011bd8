"""Trains a trial of a run again with the code of the workers, and compares it epoch by epoch (`winnow verify`).

The same seed gives bit-for-bit equal figures with the same hardware, device, number of threads and versions (a test checks this). If
the figures differ, every recorded difference in the environment is listed.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.search.operations.trust import own_code_hashes
from winnow.search.resources.inventory import gpus_here
from winnow.search.storage import provenance
from winnow.search.storage.json_lines import read_epochs
from winnow.search.storage.leftovers import temporary_folder
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.trials import Assignment
from winnow.spaces.epoch_figures import EPOCH_FIGURES
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Config

if TYPE_CHECKING:
    from winnow.reports.reading.journal import Trial
    from winnow.search.data.image_data import ImageData
    from winnow.search.data.source import Source
    from winnow.search.ray_backend.shared_data import SharedData

COMPARED = tuple(figure.name for figure in EPOCH_FIGURES if figure.reproducible)

Row = dict[str, Any]


@dataclass(frozen=True)
class Divergence:
    """A figure that differs from the recorded one."""

    epoch: int
    figure: str
    recorded: float | None
    now: float | None

    @property
    def size(self) -> float | None:
        """The difference `now - recorded`; None unless both are numbers."""
        return None if self.recorded is None or self.now is None else self.now - self.recorded


@dataclass(frozen=True)
class Rerun:
    """The result of training a trial again."""

    trial: int
    epochs: int
    """Number of epochs that were compared."""
    first: Divergence | None
    """The first difference; None if all figures are bit-for-bit equal."""
    largest: dict[str, float]
    """The largest absolute difference over the epochs, by figure."""
    changed: tuple[str, ...]
    """Differences in hardware, versions or code since the trial was trained."""

    @property
    def equal(self) -> bool:
        """Whether all figures are bit-for-bit equal."""
        return self.first is None


def rerun(folder: RunFolder, number: int, source: Source | None, device: str | None, threads: int | None) -> Rerun:
    """Train a trial again for as many epochs as it had. Nothing is written to the run.

    Args:
        folder: The run.
        number: Number of the trial, from 0.
        source: Location of the images; None for the recorded location.
        device: `cpu`, `cuda` or `mps`; None for the device of the trial.
        threads: Number of CPU threads, at least 1; None for the number of the trial.

    Returns:
        The comparison with the recorded figures.

    Raises:
        InputError: There is no such trial, it has no finished epoch, or the images are not those of the run.
    """
    study = folder.read_study()
    trial, recorded = _trial(folder, number), _recorded(folder, number)
    if not recorded:
        status = trial.user_attrs.get("status", "running")
        raise InputError(
            f"{folder.path}: trial {number} ({status}) has no finished epoch, so there is nothing to compare"
        )
    starts = _starts(study, trial)
    device = device or starts[0]["devices"]["device"]
    threads = threads or starts[0]["devices"]["threads"]
    ranks = _ranks(starts[0], device)
    trained = list(_train_again(folder, study, trial, recorded, source, device, threads, ranks))
    differences = list(_differences(recorded, trained))
    return Rerun(
        trial=number,
        epochs=min(len(recorded), len(trained)),
        first=differences[0] if differences else None,
        largest=_largest(differences),
        changed=tuple(dict.fromkeys(_changed(starts, recorded, device, threads, ranks))),
    )


def _trial(folder: RunFolder, number: int) -> Trial:
    from winnow.reports.reading.journal import read_trials

    trials = {trial.number: trial for trial in read_trials(folder.journal)[0]}
    if number not in trials:
        existing = f"has the trials 0 to {max(trials)}" if trials else "has no trial yet"
        raise InputError(f"--trial {number}: {folder.path} {existing}")
    return trials[number]


def _recorded(folder: RunFolder, number: int) -> list[Row]:
    """Return the recorded lines of a trial's epochs. If an epoch was written twice, the first line counts."""
    lines: dict[int, Row] = {}
    for line in read_epochs(folder.epochs):
        if line["phase"] == "search" and line["trial"] == number:
            lines.setdefault(line["epoch"], line)
    return [lines[epoch] for epoch in sorted(lines)]


def _train_again(
    folder: RunFolder,
    study: Row,
    trial: Trial,
    recorded: list[Row],
    source: Source | None,
    device: str,
    threads: int,
    ranks: int,
) -> Iterator[Row]:
    from winnow.search.data.source import Source
    from winnow.search.operations.build_check import check_own_parts
    from winnow.search.operations.checks import load_recorded
    from winnow.search.operations.execution import DATA_DIR
    from winnow.search.ray_backend.shared_data import Job
    from winnow.search.ray_backend.worker import trial_reports
    from winnow.search.storage.run_folder import space_of

    data = load_recorded(
        folder, study, space_of(folder, study), source or Source(Path(study.get("data_dir", DATA_DIR)))
    )
    seed = study["settings"]["seed"]
    attrs = trial.user_attrs
    config = Config.model_validate(attrs["config"])
    check_own_parts(
        [config], data.image_shape, data.num_classes, study["settings"].get("trial_timeout")
    )  # one may end its process
    assignment = Assignment(
        number=trial.number,
        seed=int(recorded[0]["seed"]),
        config=attrs["config"],
        micro_batches=attrs.get("micro_batches", 1),
    )
    with (
        temporary_folder("rerun") as checkpoints,
        _on_ranks(data, ranks, device, threads) as images,
    ):
        for report in trial_reports(assignment, images, Job(checkpoints, device, threads, seed)):
            if "status" in report:
                raise InputError(f"trial {trial.number} ended as {report['status']} this time:\n{report['error']}")
            yield report
            if report["epoch"] >= len(recorded):
                return


@contextmanager
def _on_ranks(data: ImageData, ranks: int, device: str, threads: int) -> Iterator[ImageData | SharedData]:
    """Yield the images for this process, or for several ranks in a Ray that is started for them."""
    if ranks == 1:
        yield data
        return
    from winnow.search.ray_backend.session import ray_session
    from winnow.search.ray_backend.shared_data import SharedData

    with ray_session(warm=False) as ray:
        from winnow.search.ray_backend.rank_groups import RankGroupSpec, rank_groups

        resources = {"GPU": 1.0} if device == "cuda" else {"CPU": 0.1}  # nothing else runs there
        with rank_groups(RankGroupSpec(ranks, device, max(1, threads // ranks), resources), 1) as lent:
            yield SharedData(ray.put(data), lent)


def _differences(recorded: list[Row], trained: list[Row]) -> Iterator[Divergence]:
    for before, now in zip(recorded, trained, strict=False):
        for figure in COMPARED:
            left, right = _number(before.get(figure)), _number(now.get(figure))
            if left != right:
                yield Divergence(before["epoch"], figure, left, right)
    if len(trained) < len(recorded):  # the training ended earlier this time
        yield Divergence(len(trained) + 1, "epochs", float(len(recorded)), float(len(trained)))


def _number(value: Any) -> float | None:
    """Return a value as epochs.jsonl records it, which is null if the value is not finite."""
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _largest(differences: list[Divergence]) -> dict[str, float]:
    largest: dict[str, float] = {}
    for each in differences:
        if each.size is not None:
            largest[each.figure] = max(largest.get(each.figure, 0.0), abs(each.size))
    return largest


def _starts(study: Row, trial: Trial) -> list[Row]:
    """Return the starts of the search during which the trial was trained, from study.yaml and its amendments.

    Raises:
        InputError: The study.yaml lacks something about a start.
    """
    for key in ("created", "devices"):
        if key not in study:
            raise InputError(f"study.yaml: damaged or cut short: {key} is missing; take it from a copy of the run")
    records = [{**study, "time": study["created"]}, *(study.get("amendments") or [])]
    times = [datetime.fromisoformat(record["time"]).timestamp() for record in records]
    began = trial.user_attrs["started"]
    ended = trial.user_attrs.get("ended", math.inf)
    first = max((i for i, time in enumerate(times) if time <= began), default=0)
    return [record for i, record in enumerate(records) if i == first or (i > first and times[i] <= ended)]


def _ranks(start: Row, device: str) -> int:
    """Return the number of processes that trained the trial, each on its own GPU; 1 if this machine has too few GPUs."""
    ranks = int(start["devices"].get("ranks", 1))
    return ranks if device == "cpu" or ranks <= gpus_here() else 1


def _changed(starts: list[Row], recorded: list[Row], device: str, threads: int, ranks: int) -> Iterator[str]:
    """List the differences in hardware, versions or code since the trial was trained."""
    origin = provenance.origin()
    for start in starts:
        facts = [
            ("device", start["devices"]["device"], device),
            ("threads", start["devices"]["threads"], threads),
            ("GPUs of a trial", start["devices"].get("ranks", 1), ranks),
            *_facts(start.get("versions") or {}, origin["versions"]),
            *_facts(start.get("hardware") or {}, origin["hardware"]),
            *_code(start.get("own_code") or {}),
            ("winnow", start.get("winnow_version"), origin["winnow_version"]),
            ("git revision", start.get("git_revision"), origin["git_revision"]),
        ]
        yield from (f"{name}: {before} then, {now} now" for name, before, now in facts if before != now)
    nodes = sorted({str(line["node"]) for line in recorded if line.get("node")})
    if nodes and nodes != [platform.node()]:
        yield f"machine: {', '.join(nodes)} then, {platform.node()} now"
    devices = sorted({str(line["device"]) for line in recorded if line.get("device")})
    if len(devices) > 1:
        yield f"the trial moved between devices while it ran: {', '.join(devices)}"


def _code(before: Row) -> list[tuple[str, Any, Any]]:
    now = own_code_hashes(list(before))
    return [(name, recorded, now.get(name, "not found")) for name, recorded in before.items()]


def _facts(before: Row, now: Row) -> list[tuple[str, Any, Any]]:
    return [(key, before[key], now.get(key)) for key in before if key in now]
