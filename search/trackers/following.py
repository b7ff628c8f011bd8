"""Writes a search to TensorBoard, MLflow and Weights & Biases (`--log`), as one run per trial and per retraining.

The run folder stays the source of truth. At each start of a search a tracker first catches up with what the folder has recorded,
then follows the events, so a killed driver leaves no gap and a resume writes nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from winnow.search.optional import require
from winnow.search.storage.remote import masked
from winnow.search.storage.run_folder import RunFolder, trial_name
from winnow.search.trackers.base import Record, Tracker
from winnow.search.trackers.mlflow import MLflow
from winnow.search.trackers.tensorboard import TensorBoard
from winnow.search.trackers.wandb import WandB
from winnow.spaces.errors import InputError, printable
from winnow.spaces.grammar.problems import nearest
from winnow.spaces.space import Space

if TYPE_CHECKING:
    from winnow.search.study.trials import Event

TRACKERS: dict[str, Callable[[RunFolder, Record], Tracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WandB,
}


def check_installed(names: Sequence[str]) -> None:
    """Check that the packages of the trackers are installed, before anything is launched.

    Raises:
        InputError: A name is unknown, or its package is missing; the message says how to install it.
    """
    for name in names:
        if name not in TRACKERS:
            raise InputError(f"log: unknown tracker {name!r}{nearest(name, TRACKERS)}; allowed: {', '.join(TRACKERS)}")
        require(name, f"--log {name}", name)


@contextmanager
def following(
    names: Sequence[str], folder: RunFolder, space: Space, say: Callable[[str], None]
) -> Iterator[Callable[[Event], None]]:
    """Bring the trackers up to date with the run folder, then yield a listener that writes the events of search and retraining to them.

    The trackers write in their own thread, so a slow server delays no trial. A tracker that fails is dropped for the rest of
    this start, since the search matters more than its copy; the next start catches up.

    Args:
        names: Keys of `TRACKERS`. With no name, the listener does nothing.
        folder: The run.
        space: Its space, which knows the parameters of a config.
        say: Receives a message if a tracker fails.
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
                reason = printable(masked(" ".join(str(error).split())))[:200]  # may name the URI of the tracker
                say(f"--log {name}: cannot write ({reason}); Winnow continues without it")

    def listen(event: Event) -> None:
        written.append(thread.submit(on_all, lambda tracker: _write_event(event, tracker, space)))

    written: list[Future[None]] = []
    try:
        on_all(lambda tracker: _catch_up(tracker, folder))
        yield listen
    finally:
        thread.shutdown(wait=True)
        on_all(lambda tracker: tracker.close())
    for future in written:
        future.result()  # any other error is a bug and must not be lost in the thread


def _catch_up(tracker: Tracker, folder: RunFolder) -> None:
    """Write everything that the folder has recorded."""
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


def _write_event(event: Event, tracker: Tracker, space: Space) -> None:
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
    """Write a whole retraining at once, since it reports nothing before it ends."""
    source = "baseline" if result["baseline"] else f"{result['trial']:05d}"
    name = f"retrain-{source}-s{result['seed']}"
    tracker.start(name, _params(space, result["config"]))
    for record in curve:
        tracker.epoch(name, record)
    tracker.end(name, result["status"], _known({key: result.get(key) for key in ("test_accuracy", "test_loss")}))


def _params(space: Space, config: Record) -> Record:
    from winnow.reports.tables.build import config_values

    return _known(config_values(space, config, space.columns()))


def _known(values: Record) -> Record:
    return {key: value for key, value in values.items() if value is not None}
