"""MLflow (`--log mlflow`)."""

from __future__ import annotations

from winnow.search.optional import require
from winnow.search.storage.run_folder import RunFolder
from winnow.search.trackers.base import Record, figures


class MLflow:
    """Writes an experiment named after the run to MLFLOW_TRACKING_URI, or to MLflow's default location."""

    END_STATUSES = {"completed": "FINISHED", "stopped": "KILLED", "infeasible": "KILLED"}  # any other status: FAILED

    def __init__(self, folder: RunFolder, study: Record) -> None:
        mlflow = require("mlflow", "--log mlflow", "mlflow")
        self.errors: tuple[type[Exception], ...] = (mlflow.exceptions.MlflowException, OSError)
        self._entities = require("mlflow.entities", "--log mlflow", "mlflow")
        self._client = mlflow.MlflowClient()
        self._name = f"winnow/{folder.name}"
        # Distinguishes this run from another of the same name: the folder may have been moved or recreated.
        self._identity = f"{study['name']} {study['created']}".replace("'", "")
        self._experiment: str | None = None
        self._runs: dict[str, str] = {}  # ids in MLflow
        self._ended: set[str] = set()
        self._epochs: dict[str, int] = {}  # last epoch written

    def start(self, name: str, params: Record) -> None:
        """Create a run in MLflow, unless an earlier start has created it.

        Args:
            name: Name of the training and of the run.
            params: Active parameters of the space, by config path; written as text.
        """
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
        """Find or create the experiment, and read what an earlier start wrote to it."""
        experiment = self._client.get_experiment_by_name(self._name)
        self._experiment = experiment.experiment_id if experiment else self._client.create_experiment(self._name)
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
        """Write the figures of one epoch as metrics, unless they are written already.

        Args:
            name: Name of a training that was started.
            record: One line of `epochs.jsonl`.
        """
        epoch = record["epoch"]
        if epoch <= self._epochs.get(name, 0):
            return
        milliseconds = int(1000 * record["time"])
        # `epoch` is last: if the writer dies within the batch, the whole epoch is written again.
        values = {**figures(record), "epoch": float(epoch)}
        metrics = [self._entities.Metric(figure, value, milliseconds, epoch) for figure, value in values.items()]
        self._client.log_batch(self._runs[name], metrics=metrics)
        self._epochs[name] = epoch

    def end(self, name: str, status: str, results: dict[str, float]) -> None:
        """End a run in MLflow, unless it has ended already.

        Args:
            name: Name of a training that was started.
            status: Status of the training; written as the tag `winnow.status`.
            results: Figures to write as metrics without a step.
        """
        if name in self._ended:
            return
        for figure, value in results.items():
            self._client.log_metric(self._runs[name], figure, value)
        self._client.set_tag(self._runs[name], "winnow.status", status)
        self._client.set_terminated(self._runs[name], self.END_STATUSES.get(status, "FAILED"))
        self._ended.add(name)

    def close(self) -> None:
        """Do nothing, since figures are sent at once."""

    def abandon(self) -> None:
        """Do nothing, since nothing waits for it when the process ends."""
