"""The execution of a command: its devices, its images, and the view that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.search.data.source import Source
from winnow.search.ray_backend.backend import backend, resolved
from winnow.search.resources.plan import DeviceOptions, Measure, ResourcePlan
from winnow.search.storage.remote import join
from winnow.search.storage.run_folder import RunFolder
from winnow.search.views.view import View
from winnow.spaces.errors import InputError
from winnow.spaces.space import Space

if TYPE_CHECKING:
    from winnow.search.data.image_data import ImageData
    from winnow.search.ray_backend.shared_data import Job, SharedData
    from winnow.search.resources.packing import Packing
    from winnow.search.settings import Settings

DATA_DIR = Path("data")
"""Default folder of CIFAR."""


@dataclass(frozen=True)
class Execution:
    """The view, devices and images of one command, as the command line or Python code asked for them."""

    view: View
    devices: DeviceOptions
    data_dir: Path | None = None
    """Folder of CIFAR; None: `data/` for a new run, the recorded folder for an existing one."""
    download: bool = False
    """Whether to download a data set that is not there."""
    address: str | None = None
    """A running Ray cluster, `auto` or `host:port`; None: this machine."""
    log: Sequence[str] = ()
    """Names of trackers to write to; empty: those that the run began with."""
    command: str | None = None
    """The command line that would do the same, for a run that Python code started."""

    @property
    def new_source(self) -> Source:
        """Location of the images for a new run."""
        return Source(self.data_dir or DATA_DIR, self.download)

    def recorded_source(self, study: dict[str, Any]) -> Source:
        """Location of the images of an existing run, given its `study.yaml`."""
        return Source(self.data_dir or Path(study["data_dir"]), self.download)

    def connected(self) -> Execution:
        """The same with `host:port` as address; called first, so that a wrong address is refused before data is read."""
        return replace(self, address=resolved(self.address))

    def workers(
        self,
        spaces: Sequence[Space],
        num_trainings: int,
        data: Sequence[ImageData],
        storage: str,
        *,
        measure: Callable[[Any], Measure] | None = None,
        recorded: float | None = None,
    ) -> AbstractContextManager[tuple[Any, ResourcePlan, list[SharedData]]]:
        """Start or join Ray; see `winnow.search.ray_backend.backend.backend`."""
        return backend(
            self.view.step, self.devices, self.address, spaces, num_trainings, data, storage, measure, recorded
        )


def packing_of(ray: Any, space: Space, data: ImageData, seed: int, say: Callable[[str], None]) -> Measure:
    """The measurement behind `auto`, for this space; nothing is imported or run before it is called."""

    def measure(device: str, cpus: float) -> Packing:
        from winnow.search.ray_backend.measure_packing import measure_packing

        return measure_packing(ray, space, data, device, cpus, seed, say)

    return measure


def job_of(folder: RunFolder, plan: ResourcePlan, settings: Settings, *, limited: bool = False) -> Job:
    """The job that every worker of a run receives.

    Args:
        folder: The run.
        plan: The resources of each training.
        settings: Settings of the run.
        limited: Whether the limits of the search apply.
    """
    from winnow.search.ray_backend.shared_data import Job

    return Job(
        checkpoints=join(folder.shared, "checkpoints"),
        device=plan.device,
        threads=plan.threads,
        seed=settings.seed,
        cpus=plan.cpus_per_trial,
        gpus=plan.gpus_per_trial,
        limits=settings.limits if limited else None,
        latency=limited and settings.needs_latency,
        predictions=join(folder.shared, "predictions") if settings.keep_predictions else None,
    )


def recorded_gpus(study: dict[str, Any]) -> float | None:
    """GPUs per trial of an earlier start of this run, measured or asked for; None without GPUs."""
    return (study.get("devices") or {}).get("gpus_per_trial") or None


@contextmanager
def storage_errors(folder: RunFolder, verb: str = "resume") -> Iterator[None]:
    """Turn a disk that fails (full, read-only, damaged) into an InputError: what was written stays good, and the command `verb` goes on.

    Args:
        folder: The run.
        verb: Command that continues it, named in the message.
    """
    try:
        yield
    except OSError as error:
        check_not_deleted(folder)
        raise InputError(
            f"{folder.path}: cannot write or read ({error.strerror or error}). Everything recorded so far is kept; "
            f"free some space or repair the folder, then: {folder.command(verb)}"
        ) from error


def check_not_deleted(folder: RunFolder) -> None:
    """Refuse to call a run kept that is gone: open files of it can still be written.

    Raises:
        InputError: The run folder was deleted while it was in use.
    """
    if not folder.study.exists():
        raise InputError(
            f"{folder.path}: was deleted or moved while winnow worked on it; what was recorded is there no more"
        )
