"""TensorBoard and MLflow for those who live there: `--log`. One run per trial and per retraining, through their own libraries.

The run folder stays the truth. At each start of a search a tracker first catches up with what the folder has recorded, then
follows the events; so a killed driver leaves no hole, and a resume no point twice.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from winnow.search.optional import require
from winnow.search.storage.run_folder import RunFolder, trial_name
from winnow.spaces.epoch_figures import EPOCH_FIGURES
from winnow.spaces.errors import InputError
from winnow.spaces.grammar.problems import nearest
from winnow.spaces.space import Space

if TYPE_CHECKING:
    from winnow.search.study.trials import Event

FIGURES = tuple(figure.name for figure in EPOCH_FIGURES if figure.drawn)

Record = dict[str, Any]


class Tracker(Protocol):
    """`name` is that of a training: `trial-00007`, `retrain-00007-s123` or `retrain-baseline-s123`. `params` are the parameters of
    the space that are active in it, by config path."""

    errors: tuple[type[Exception], ...]
    """What its library raises when it cannot write."""

    def start(self, name: str, params: Record) -> None:
        """The training's run, new or known."""

    def epoch(self, name: str, record: Record) -> None:
        """One line of `epochs.jsonl`."""

    def end(self, name: str, status: str, found: dict[str, float]) -> None:
        """Nothing more will come of the training; `found` is its objective, or its figures on the test images."""

    def close(self) -> None:
        """Write what is held back."""


class TensorBoard:
    """Event files in RUN/tensorboard, a folder per training, with the plugin HParams. Written anew from the record at each start."""

    def __init__(self, folder: RunFolder, study: Record) -> None:
        self.errors: tuple[type[Exception], ...] = (OSError,)
        require("tensorboard", "--log tensorboard", "tensorboard")
        self._path = folder.path / "tensorboard"
        shutil.rmtree(self._path, ignore_errors=True)
        self._open: dict[str, tuple[Any, Record]] = {}

    def start(self, name: str, params: Record) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if name not in self._open:
            self._open[name] = (SummaryWriter(str(self._path / name)), params)

    def epoch(self, name: str, record: Record) -> None:
        writer, _ = self._open[name]
        for figure, value in figures(record).items():
            writer.add_scalar(figure, value, record["epoch"], walltime=record.get("time"))

    def end(self, name: str, status: str, found: dict[str, float]) -> None:
        from torch.utils.tensorboard.summary import hparams

        writer, params = self._open.pop(name)
        # By hand what `add_hparams` does: that would make a second run of it, in a folder of its own.
        for summary in hparams({**params, "status": status}, found):
            writer.file_writer.add_summary(summary)
        for figure, value in found.items():
            writer.add_scalar(figure, value)
        writer.close()

    def close(self) -> None:
        for writer, _ in self._open.values():
            writer.close()


class MLflow:
    """An experiment named after the run, where MLflow itself would write: MLFLOW_TRACKING_URI, else its default."""

    ENDINGS = {"completed": "FINISHED", "stopped": "KILLED"}  # else FAILED

    def __init__(self, folder: RunFolder, study: Record) -> None:
        mlflow = require("mlflow", "--log mlflow", "mlflow")
        self.errors: tuple[type[Exception], ...] = (mlflow.exceptions.MlflowException, OSError)
        self._entities = require("mlflow.entities", "--log mlflow", "mlflow")
        self._client = mlflow.MlflowClient()
        self._name = f"winnow/{folder.name}"
        # Tells this run from another of its name: its folder may have been moved, or made anew.
        self._identity = f"{study['name']} {study['created']}".replace("'", "")
        self._experiment: str | None = None
        self._runs: dict[str, str] = {}  # MLflow's ids
        self._ended: set[str] = set()
        self._epochs: dict[str, int] = {}  # the last one written

    def start(self, name: str, params: Record) -> None:
        if self._experiment is None:
            self._find()
        if name not in self._runs:
            entities = self._entities
            tags = {"winnow.run": self._identity, "winnow.training": name}
            run = self._client.create_run(self._experiment, run_name=name, tags=tags)
            self._runs[name] = run.info.run_id
            chosen = [entities.Param(key, str(value)) for key, value in params.items()]
            self._client.log_batch(run.info.run_id, params=chosen)

    def _find(self) -> None:
        """The experiment, and what an earlier start wrote of this run there."""
        found = self._client.get_experiment_by_name(self._name)
        self._experiment = found.experiment_id if found else self._client.create_experiment(self._name)
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.`winnow.run` = '{self._identity}'", max_results=1000, page_token=token
            )
            for run in page:
                name = run.data.tags["winnow.training"]
                self._runs[name] = run.info.run_id
                self._epochs[name] = int(run.data.metrics.get("epoch", 0))
                if run.info.status != "RUNNING":
                    self._ended.add(name)
            token = page.token
            if not token:
                return

    def epoch(self, name: str, record: Record) -> None:
        epoch = record["epoch"]
        if epoch <= self._epochs.get(name, 0):
            return
        milliseconds = int(1000 * record["time"])
        # `epoch` is last: where a writer dies within the batch, the epoch is written again as a whole.
        values = {**figures(record), "epoch": float(epoch)}
        metrics = [self._entities.Metric(figure, value, milliseconds, epoch) for figure, value in values.items()]
        self._client.log_batch(self._runs[name], metrics=metrics)
        self._epochs[name] = epoch

    def end(self, name: str, status: str, found: dict[str, float]) -> None:
        if name in self._ended:
            return
        for figure, value in found.items():
            self._client.log_metric(self._runs[name], figure, value)
        self._client.set_tag(self._runs[name], "winnow.status", status)
        self._client.set_terminated(self._runs[name], self.ENDINGS.get(status, "FAILED"))
        self._ended.add(name)

    def close(self) -> None:
        """Nothing is held back."""


TRACKERS: dict[str, Callable[[RunFolder, Record], Tracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow}


def check_installed(names: Sequence[str]) -> None:
    """InputError with the command to type, before anything is launched."""
    for name in names:
        if name not in TRACKERS:
            raise InputError(f"log: no tracker {name!r}{nearest(name, TRACKERS)}; there are {', '.join(TRACKERS)}")
        require(name, f"--log {name}", name)


def figures(record: Record) -> dict[str, float]:
    """What there is to draw of an epoch; a figure that is not finite is null in the record, and left out."""
    return {name: float(record[name]) for name in FIGURES if record.get(name) is not None}


@contextmanager
def following(
    names: Sequence[str], folder: RunFolder, space: Space, say: Callable[[str], None]
) -> Iterator[Callable[[Event], None]]:
    """A listener for events of the ledger, and of retraining, that writes to the trackers, once they have caught up with the run folder.

    They write in a thread of their own: a slow server holds up no trial. One that fails is left out from then on, since a
    search is worth more than its copy; the next start catches up.
    """
    if not names:
        yield lambda event: None
        return
    study = folder.read_study()
    trackers = {name: TRACKERS[name](folder, study) for name in names}
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trackers")

    def on_all(write: Callable[[Tracker], None]) -> None:
        for name, tracker in list(trackers.items()):
            try:
                write(tracker)
            except tracker.errors as error:
                del trackers[name]
                say(f"--log {name}: cannot write ({' '.join(str(error).split())[:200]}); Winnow goes on without it")

    def listen(event: Event) -> None:
        written.append(thread.submit(on_all, lambda tracker: _pass_on(event, tracker, space)))

    written: list[Future[None]] = []
    try:
        on_all(lambda tracker: _catch_up(tracker, folder))
        yield listen
    finally:
        thread.shutdown(wait=True)
        on_all(lambda tracker: tracker.close())
    for future in written:
        future.result()  # an error that is none of the library's is a bug, and not to be lost in the thread


def _catch_up(tracker: Tracker, folder: RunFolder) -> None:
    """Pass on all that the folder holds."""
    from winnow import reports
    from winnow.reports.reading.run import read_records

    run, records = reports.read(folder.path), read_records(folder.path)
    columns = run.space.columns()
    for trial in run.rows("trials"):
        name = trial_name(trial["trial"])
        tracker.start(name, {path: trial[path] for path in columns if trial[path] is not None})
        for line in records.epoch_lines:
            if line["phase"] == "search" and line["trial"] == trial["trial"]:
                tracker.epoch(name, line)
        if trial["status"] not in ("running", "skipped"):
            tracker.end(name, trial["status"], _known({"objective": trial["objective"]}))
    for result in records.retrain_lines:
        same = {key: result[key] for key in ("trial", "seed")} | {"phase": "retrain"}
        curve = [line for line in records.epoch_lines if all(line[key] == value for key, value in same.items())]
        _retraining(tracker, run.space, result, curve)


def _pass_on(event: Event, tracker: Tracker, space: Space) -> None:
    name = trial_name(event.number)
    if event.kind == "started":
        tracker.start(name, _params(space, event.config))
    elif event.kind == "epoch" and event.record["phase"] == "search":
        tracker.epoch(name, event.record)
    elif event.kind == "ended":
        assert event.status is not None
        tracker.end(name, event.status, _known({"objective": event.value}))
    elif event.kind == "retrained":
        _retraining(tracker, space, event.record["result"], event.record["curve"])


def _retraining(tracker: Tracker, space: Space, result: Record, curve: Sequence[Record]) -> None:
    """All of it at once: a retraining tells nothing before it ends."""
    of = "baseline" if result["baseline"] else f"{result['trial']:05d}"
    name = f"retrain-{of}-s{result['seed']}"
    tracker.start(name, _params(space, result["config"]))
    for record in curve:
        tracker.epoch(name, record)
    tracker.end(name, result["status"], _known({key: result.get(key) for key in ("test_accuracy", "test_loss")}))


def _params(space: Space, config: Record) -> Record:
    from winnow.reports.tables.build import config_values

    return _known(config_values(space, config, space.columns()))


def _known(values: Record) -> Record:
    return {key: value for key, value in values.items() if value is not None}
