"""TensorBoard (`--log tensorboard`)."""

from __future__ import annotations

import shutil
from typing import Any

from winnow.search.optional import require
from winnow.search.storage.run_folder import RunFolder
from winnow.search.trackers.base import Record, figures


class TensorBoard:
    """Writes event files with hyper-parameters to RUN/tensorboard, one folder per training. Each start rewrites them from the record."""

    def __init__(self, folder: RunFolder, study: Record) -> None:
        self.errors: tuple[type[Exception], ...] = (OSError,)
        require("tensorboard", "--log tensorboard", "tensorboard")
        self._path = folder.path / "tensorboard"
        shutil.rmtree(self._path, ignore_errors=True)
        self._open: dict[str, tuple[Any, Record]] = {}

    def start(self, name: str, params: Record) -> None:
        """Open a folder of event files, unless it is open.

        Args:
            name: Name of the training and of the folder.
            params: Active parameters of the space, by config path; written when the training ends.
        """
        from torch.utils.tensorboard import SummaryWriter

        if name not in self._open:
            self._open[name] = (SummaryWriter(str(self._path / name)), params)

    def epoch(self, name: str, record: Record) -> None:
        """Write the figures of one epoch as scalars.

        Args:
            name: Name of a training that was started.
            record: One line of `epochs.jsonl`; `epoch` is the step.
        """
        writer, _ = self._open[name]
        for figure, value in figures(record).items():
            writer.add_scalar(figure, value, record["epoch"], walltime=record.get("time"))

    def end(self, name: str, status: str, results: dict[str, float]) -> None:
        """Write hyper-parameters and results, and close the event files of a training.

        Args:
            name: Name of a training that was started.
            status: Status of the training; written as a hyper-parameter.
            results: Figures of the training, by name.
        """
        from torch.utils.tensorboard.summary import hparams

        writer, params = self._open.pop(name)
        # Not `add_hparams`: that would write a second run, in its own folder.
        for summary in hparams({**params, "status": status}, results):
            writer.file_writer.add_summary(summary)
        for figure, value in results.items():
            writer.add_scalar(figure, value)
        writer.close()

    def close(self) -> None:
        for writer, _ in self._open.values():
            writer.close()

    def abandon(self) -> None:
        """Do nothing, since nothing waits for it when the process ends."""
