"""The execution of a command: its devices, its images, and the view that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.search.data.source import Source
from winnow.search.ray_backend.backend import backend, resolved
from winnow.search.resources.packing import Measure, RecordedPacking
from winnow.search.resources.plan import DeviceOptions, ResourcePlan
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
    """The view, devices and images of one command, as the command line or Python code requested them."""

    view: View
    devices: DeviceOptions
    data_dir: Path | None = None
    """Folder of CIFAR; None for `data/` in a new run, and for the recorded folder in an existing one."""
    download: bool = False
    """Whether to download a data set that is missing."""
    address: str | None = None
    """A running Ray cluster, as `auto` or `host:port`; None for this machine."""
    log: Sequence[str] = ()
    """Names of the trackers to write to; empty for those of the first start of the run."""
    command: str | None = None
    """The equivalent command line, for a run that Python code started."""

    @property
    def new_source(self) -> Source:
        """Location of the images for a new run."""
        return Source(self.data_dir or DATA_DIR, self.download)

    def recorded_source(self, study: dict[str, Any]) -> Source:
        """Return the location of the images of an existing run, given its `study.yaml`."""
        return Source(self.data_dir or Path(study.get("data_dir", DATA_DIR)), self.download)

    def connected(self) -> Execution:
        """Return a copy with `host:port` as its address. It is made first, so that a wrong address is rejected before data is read."""
        return replace(self, address=resolved(self.address))

    def workers(
        self,
        spaces: Sequence[Space],
        num_trainings: int,
        data: Sequence[ImageData],
        storage: str,
        *,
        measure: Callable[[Any], Measure] | None = None,
        recorded: RecordedPacking | None = None,
    ) -> AbstractContextManager[tuple[Any, ResourcePlan, list[SharedData]]]:
        """Start or join Ray, and put the images there; see `winnow.search.ray_backend.backend.backend`.

        Args:
            spaces: The spaces of the trainings; the user's code that they name is sent to the nodes.
            num_trainings: Largest number of trainings.
            data: Data sets to put into Ray.
            storage: Path or URI that workers write to.
            measure: Called with the `ray` module; returns the measurement that `auto` needs.
                Default: nothing is measured.
            recorded: Packing of an earlier start of the run. Default: there is none.

        Returns:
            A context manager that yields the `ray` module, the resource plan, and the shared data
            in the order of `data`.

        Raises:
            InputError: On entering: a node cannot run trainings, or an option does not fit the
                resources.
        """
        return backend(
            self.view.step, self.devices, self.address, spaces, num_trainings, data, storage, measure, recorded
        )


def packing_of(ray: Any, space: Space, data: ImageData, seed: int, say: Callable[[str], None]) -> Measure:
    """Create the function that measures which number of concurrent trainings is fastest, for `auto`.

    Nothing is imported or run before that function is called.

    Args:
        ray: The `ray` module, connected.
        space: Space whose configs are measured.
        data: Images of the space.
        seed: Seed of the measured trainings.
        say: Receives messages for the user.

    Returns:
        The function.
    """

    def measure(device: str, cpus: float, kind: str = "") -> Packing:
        from winnow.search.ray_backend.end_with_ray import ending_with_ray
        from winnow.search.ray_backend.measure_packing import measure_packing

        with ending_with_ray("Nothing is lost. Start the command again."):
            return measure_packing(ray, space, data, device, cpus, seed, say, kind)

    return measure


def job_of(folder: RunFolder, plan: ResourcePlan, settings: Settings, *, limited: bool = False) -> Job:
    """Collect the settings that every worker of a run receives.

    Args:
        folder: The run.
        plan: The resource plan of the trainings.
        settings: Settings of the run.
        limited: Whether the limits of the search apply. Default: they do not.

    Returns:
        The settings.
    """
    from winnow.search.ray_backend.shared_data import Job

    return Job(
        checkpoints=join(folder.shared, "checkpoints"),
        device=plan.device,
        threads=plan.threads,
        seed=settings.seed,
        cpus=plan.cpus_per_trial,
        gpus=plan.gpus_per_trial,
        by_kind=limited and bool(plan.kinds),
        limits=settings.limits if limited else None,
        latency=limited and settings.needs_latency,
        concurrent=plan.concurrent,
        checkpoint_seconds=settings.checkpoint_seconds,
        predictions=join(folder.shared, "predictions") if settings.keep_predictions else None,
    )


def recorded_gpus(study: dict[str, Any]) -> RecordedPacking | None:
    """Return how an earlier start of a run packed its trials on GPUs; None if it used none.

    Args:
        study: The content of its `study.yaml`.
    """
    devices = study.get("devices") or {}
    gpus, kinds = devices.get("gpus_per_trial"), devices.get("kinds") or {}
    return RecordedPacking(gpus, {kind: of["trials_per_gpu"] for kind, of in kinds.items()}) if gpus else None


@contextmanager
def storage_errors(folder: RunFolder, verb: str = "resume") -> Iterator[None]:
    """Convert an error of the disk (full, read-only, damaged) to an InputError that names the command that continues the run.

    At the end of the context the run folder must still exist, also if nothing failed.

    Args:
        folder: The run.
        verb: Name of that command. Default: `resume`.

    Raises:
        InputError: Reading or writing failed, or the run folder was deleted, also if a signal then interrupts the command. Otherwise what
            was written before is kept.
    """
    try:
        yield
        _check_not_deleted(folder)
    except KeyboardInterrupt:
        _check_not_deleted(folder)
        raise
    except OSError as error:
        _check_not_deleted(folder)
        raise InputError(
            f"{folder.path}: cannot write or read ({error.strerror or error}). Everything recorded so far is kept; "
            f"free some space or repair the folder, then: {folder.command(verb)}"
        ) from error


@contextmanager
def interrupted(folder: RunFolder) -> Iterator[None]:
    """Name the command that continues the search of a run if a signal interrupts what happens before or after the trials.

    Args:
        folder: The run.

    Raises:
        KeyboardInterrupt: A signal arrived; the message names the command.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"nothing is lost; continue with: {folder.command('resume')}") from error


def _check_not_deleted(folder: RunFolder) -> None:
    """Check that the run folder still exists. Files of a deleted folder can still be written while they are open.

    Raises:
        InputError: The run folder was deleted while it was in use.
    """
    if not folder.study.exists():
        raise InputError(
            f"{folder.path}: was deleted or moved while winnow worked on it; its records are no longer there"
        )
