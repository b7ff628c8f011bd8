"""Weights & Biases (`--log wandb`)."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import suppress
from hashlib import sha256
from typing import Any

import psutil

from winnow.search.optional import require
from winnow.search.resources.child_processes import child_processes
from winnow.search.storage.run_folder import RunFolder
from winnow.search.trackers.base import Record, figures
from winnow.spaces.errors import InputError

PROJECT = "winnow"
SERVICE = "wandb-core"
"""Name of the process that sends to the server, of which W&B starts one."""
TEARDOWN_SECONDS = 5.0


class WandB:
    """Writes one run per training, grouped by the name of the run, to the project WANDB_PROJECT or `winnow`.

    With WANDB_MODE=offline, each start rewrites RUN/wandb from the record; `wandb sync` uploads it.
    """

    def __init__(self, folder: RunFolder, study: Record) -> None:
        self._wandb = require("wandb", "--log wandb", "wandb")
        self.errors: tuple[type[Exception], ...] = (self._wandb.errors.Error, OSError)
        self._folder, self._group = folder.path, folder.name
        # The same training has the same id after a resume, and another one in a folder that was recreated under the same name.
        self._identity = f"{study['name']} {study['created']}"
        self._open: dict[str, Any] = {}
        if os.environ.get("WANDB_MODE", "online") == "offline":
            shutil.rmtree(self._folder / "wandb", ignore_errors=True)
        elif os.environ.get("WANDB_MODE", "online") == "online" and not self._wandb.api.api_key:
            raise InputError("--log wandb: no key for Weights & Biases; run `wandb login`, or set WANDB_MODE=offline")

    def start(self, name: str, params: Record) -> None:
        """Open a run in Weights & Biases, or continue the run that an earlier start created.

        Args:
            name: Name of the training and of the run.
            params: Active parameters of the space, by config path.
        """
        if name not in self._open:
            self._open[name] = self._wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                group=self._group,
                name=name,
                id=sha256(f"{self._identity} {name}".encode()).hexdigest()[:16],
                config=params,
                dir=str(self._folder),
                resume="allow",
                reinit="create_new",
                settings=self._wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True),
            )

    def epoch(self, name: str, record: Record) -> None:
        """Log the figures of one epoch.

        Args:
            name: Name of a training that was started.
            record: One line of `epochs.jsonl`; `epoch` is the step.
        """
        # W&B ignores an epoch that an earlier start has written, since its step is not above the last one.
        self._open[name].log(figures(record), step=record["epoch"])

    def end(self, name: str, status: str, results: dict[str, float]) -> None:
        """Write the summary of a run and finish it, with exit code 1 unless it completed or was stopped.

        Args:
            name: Name of a training that was started.
            status: Status of the training.
            results: Figures of the training, by name.
        """
        run = self._open.pop(name)
        run.summary.update({**results, "status": status})
        run.finish(exit_code=0 if status in ("completed", "stopped") else 1)

    def close(self) -> None:
        for run in self._open.values():
            run.finish()

    def abandon(self) -> None:
        """Kill W&B's own process. W&B would wait for it at the end of the process without a limit (wandb 0.31).

        It stays if the program has a run of its own in it.
        """
        if self._wandb.run is not None:
            return
        for process in child_processes([SERVICE]):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        # Afterwards W&B no longer waits at the end. In a thread, since nothing promises that this returns.
        thread = threading.Thread(target=self._teardown, daemon=True, name="teardown of wandb")
        thread.start()
        thread.join(TEARDOWN_SECONDS)

    def _teardown(self) -> None:
        with suppress(Exception, SystemExit):  # it exits with the code of the killed process
            self._wandb.teardown()
