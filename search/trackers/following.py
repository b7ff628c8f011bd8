"""Writes a search to TensorBoard, MLflow and Weights & Biases (`--log`), as one run per trial and per retraining.

The run folder stays the source of truth. At each start of a search a tracker first catches up with what the folder has recorded,
then follows the events, so a killed driver leaves no gap and a resume writes nothing twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import methodcaller
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from winnow.reports.masking import masked
from winnow.search.optional import require
from winnow.search.storage.run_folder import RunFolder, trial_name
from winnow.search.trackers.base import Record, Tracker
from winnow.search.trackers.mlflow import MLflow
from winnow.search.trackers.tensorboard import TensorBoard
from winnow.search.trackers.wandb import WandB
from winnow.spaces.epoch_figures import TEST_METRICS
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
PATIENCE = 10.0
"""Seconds without an answer after which a tracker is no longer waited for at the end."""
SHORT_PATIENCE = 0.5
"""Seconds for all that a tracker still has to write, if the user wants to stop at once."""


def check_installed(names: Sequence[str]) -> None:
    """Check that the packages of the trackers are installed, before anything is launched.

    Raises:
        InputError: A name is unknown, or its package is missing; the message says how to install it.
    """
    for name in names:
        if name not in TRACKERS:
            raise InputError(f"log: unknown tracker {name!r}{nearest(name, TRACKERS)}; allowed: {', '.join(TRACKERS)}")
        require(name, f"--log {name}", name)


Call = Callable[[Tracker], object]
"""A call of a method of a tracker, such as `methodcaller("end", "trial-00007", "completed", {})`."""


class Trackers:
    """The trackers of one start. Called with an event of search or retraining, it has each of them write it.

    Attributes:
        at_once: Whether the end waits for no tracker, since the user wants to stop at once. Default: it waits while they write.
    """

    def __init__(self, writers: Sequence[_Writer], space: Space) -> None:
        self.at_once = False
        self._writers = writers
        self._space = space

    def __call__(self, event: Event) -> None:
        if self._writers:
            self.write(_calls(event, self._space))

    def write(self, calls: Iterable[Call]) -> None:
        """Have each tracker write something, after everything that was given before."""
        for call in calls:
            for writer in self._writers:
                writer.write(call)


@contextmanager
def following(names: Sequence[str], folder: RunFolder, space: Space, say: Callable[[str], None]) -> Iterator[Trackers]:
    """Bring the trackers up to date with the run folder, and yield a listener that writes the events of search and retraining to them.

    Each tracker writes in its own thread, so a server that is slow or does not answer delays no trial and no other tracker. A
    tracker that fails, or that gives no answer for `PATIENCE` seconds at the end, is dropped for the rest of this start, since the
    search matters more than its copy; the next start catches up.

    Args:
        names: Keys of `TRACKERS`. With no name, the listener does nothing.
        folder: The run.
        space: Its space, which knows the parameters of a config.
        say: Receives a message if a tracker fails, or is waited for.
    """
    if not names:
        yield Trackers([], space)
        return
    study = folder.read_study()
    trackers = {name: TRACKERS[name](folder, study) for name in names}
    past = list(_past(folder))  # read here, since the search continues to write
    writers = [_Writer(name, tracker, say) for name, tracker in trackers.items()]
    listener = Trackers(writers, space)
    listener.write(past)
    try:
        yield listener
    finally:
        for writer in writers:
            writer.finish(listener.at_once)
    for writer in writers:
        writer.raise_bug()


class _Writer:
    """Writes to one tracker in a thread that never keeps the process from ending."""

    def __init__(self, name: str, tracker: Tracker, say: Callable[[str], None]) -> None:
        self._name = name
        self._tracker = tracker
        self._say = say
        self._todo: SimpleQueue[Call | None] = SimpleQueue()
        self._num_written = 0
        self._dropped = False
        self._bug: Exception | None = None
        self._thread = Thread(target=self._work, daemon=True, name=f"tracker {name}")
        self._thread.start()

    def write(self, call: Call) -> None:
        """Write after everything that was given before."""
        self._todo.put(call)

    def finish(self, at_once: bool = False) -> None:
        """Wait until everything is written, for as long as the tracker gets on. Then it writes nothing more.

        Args:
            at_once: Whether to wait only for `SHORT_PATIENCE` seconds. Default: no.
        """
        self._todo.put(None)
        if at_once:
            self._thread.join(SHORT_PATIENCE)
        else:
            self._wait()
        if self._thread.is_alive():
            self._dropped = True
            why = "it is not waited for" if at_once else f"no answer for {PATIENCE:.0f} s"
            self._say(f"--log {self._name}: {why}; Winnow ends without it, and the next start catches up")
        if self._dropped:
            self._tracker.abandon()

    def _wait(self) -> None:
        before = -1
        while self._thread.is_alive() and before != self._num_written:
            if before >= 0:
                self._say(f"--log {self._name}: still writing")
            before = self._num_written
            self._thread.join(PATIENCE)

    def raise_bug(self) -> None:
        """Raise the error that ended the thread, unless it means that the tracker cannot write. It is a bug, and must not be lost."""
        if self._bug is not None:
            raise self._bug

    def _work(self) -> None:
        while (call := self._todo.get()) is not None:
            self._call(call)
        self._call(methodcaller("close"))

    def _call(self, call: Call) -> None:
        if self._dropped:
            return
        try:
            call(self._tracker)
            self._num_written += 1
        except Exception as error:
            if self._dropped:  # it was given up while this call was waiting
                return
            self._dropped = True
            if isinstance(error, self._tracker.errors):
                reason = printable(masked(" ".join(str(error).split())))[:200]  # may name the URI of the tracker
                self._say(f"--log {self._name}: cannot write ({reason}); Winnow continues without it")
            else:
                self._bug = error


def _past(folder: RunFolder) -> Iterator[Call]:
    """Yield the calls for everything that the folder has recorded."""
    from winnow import reports
    from winnow.reports.reading.run import read_records

    run, records = reports.read(folder.path), read_records(folder.path)
    searched: dict[int, list[Record]] = defaultdict(list)
    retrained: dict[tuple[int, int], list[Record]] = defaultdict(list)
    for line in records.epoch_lines:
        if line["phase"] == "search":
            searched[line["trial"]].append(line)
        elif line["phase"] == "retrain":
            retrained[line["trial"], line["seed"]].append(line)
    columns = run.space.columns()
    for trial in run.rows("trials"):
        name = trial_name(trial["trial"])
        yield methodcaller("start", name, {path: trial[path] for path in columns if trial[path] is not None})
        for line in searched[trial["trial"]]:
            yield methodcaller("epoch", name, line)
        if trial["status"] not in ("running", "skipped"):
            yield methodcaller("end", name, trial["status"], _known({"objective": trial["objective"]}))
    for result in records.retrain_lines:
        yield from _retraining(run.space, result, retrained[result["trial"], result["seed"]])


def _calls(event: Event, space: Space) -> Iterator[Call]:
    """Yield the calls for an event."""
    name = trial_name(event.number)
    if event.kind == "started":
        yield methodcaller("start", name, _params(space, event.config))
    elif event.kind == "epoch" and event.record["phase"] == "search":
        yield methodcaller("epoch", name, event.record)
    elif event.kind == "ended":
        assert event.status is not None
        yield methodcaller("end", name, event.status, _known({"objective": event.value}))
    elif event.kind == "retrained":
        yield from _retraining(space, event.record["result"], event.record["curve"])


def _retraining(space: Space, result: Record, curve: Sequence[Record]) -> Iterator[Call]:
    """Yield the calls for a whole retraining, since it reports nothing before it ends."""
    source = "baseline" if result["baseline"] else f"{result['trial']:05d}"
    name = f"retrain-{source}-s{result['seed']}"
    yield methodcaller("start", name, _params(space, result["config"]))
    for record in curve:
        yield methodcaller("epoch", name, record)
    figures = {key: result.get(key) for key in ("test_accuracy", "test_loss", *TEST_METRICS)}
    yield methodcaller("end", name, result["status"], _known(figures))


def _params(space: Space, config: Record) -> Record:
    from winnow.reports.tables.build import config_values

    return _known(config_values(space, config, space.columns()))


def _known(values: Record) -> Record:
    return {key: value for key, value in values.items() if value is not None}
