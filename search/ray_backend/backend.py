"""Provides the Ray that trials run on: a local one on this machine, or a cluster whose nodes have been checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from winnow.search.resources.gpus import gpus_of_this_machine
from winnow.search.resources.packing import Measure, RecordedPacking
from winnow.search.resources.plan import DeviceOptions, ResourcePlan, plan_resources
from winnow.spaces.errors import InputError
from winnow.spaces.space import Space

if TYPE_CHECKING:
    from winnow.search.data.image_data import ImageData
    from winnow.search.ray_backend.shared_data import RankGroups, SharedData


@contextmanager
def backend(
    say: Callable[[str], None],
    devices: DeviceOptions,
    address: str | None,
    spaces: Sequence[Space],
    num_trials: int,
    data: Sequence[ImageData],
    place: str,
    measure: Callable[[Any], Measure] | None = None,
    recorded: RecordedPacking | None = None,
) -> Iterator[tuple[Any, ResourcePlan, list[SharedData]]]:
    """Start Ray or join a cluster, and put the images there. A Ray that was started here ends with the block.

    Args:
        say: Receives messages for the user.
        devices: The user's options for resources.
        address: `host:port` of a cluster; None for this machine.
        spaces: The spaces of the trainings; the user's code that they name is sent to the nodes.
        num_trials: Largest number of trials.
        data: The data sets.
        place: Path or URI that workers will write to.
        measure: Called with the `ray` module; returns the measurement that `plan_resources` needs. Default: nothing is measured.
        recorded: Packing of an earlier start, as in `plan_resources`. Default: there is none.

    Yields:
        The `ray` module, the resource plan, and the shared images in the order of `data`.

    Raises:
        InputError: A node cannot run trials; raised before any trial.
    """
    from winnow.search.ray_backend.local_start import name_home, open_to_others
    from winnow.search.ray_backend.session import import_meanwhile, is_running, put_once, ray_session
    from winnow.search.ray_backend.shared_data import SharedData

    if address is None:
        devices.check_here()
        report = gpus_of_this_machine()
        if devices.device != "cpu" and (report.usable or report.problems):
            say(report.line)
    if not is_running():
        if address is None and (note := open_to_others()):
            say(note)
        say("starting Ray" if address is None else f"joining the cluster at {address}")
    name_home()
    import_meanwhile("winnow.search.ray_backend.tune")
    if address is None:
        several = (devices.gpus_per_trial or (recorded.gpus_per_trial if recorded else 0)) > 1
        # Ray's processes inherit the environment variables that locate the daemon.
        with (
            _mps(devices, bool(report.usable)),
            ray_session(devices.num_cpus, devices.num_gpus, warm=not several) as ray,
        ):
            plan = plan_resources(ray, devices, num_trials, measure and measure(ray), recorded)
            _check_loops(plan, spaces)
            with _groups(plan) as groups:
                yield ray, plan, [SharedData(put_once(ray, images.fingerprint, images), groups) for images in data]
        return
    if devices.mps:
        raise InputError(
            "--mps: Winnow starts a daemon on this machine only; on a cluster run `nvidia-cuda-mps-control -d` on each node before "
            "`ray start`, and leave --mps out. With --mps, `winnow launch` writes this into its files for Slurm and clouds"
        )
    from winnow.search.ray_backend.cluster import grown, plan_on_cluster
    from winnow.search.ray_backend.preflight import check_nodes
    from winnow.search.ray_backend.runtime_env import runtime_env

    with ExitStack() as stack:
        with runtime_env(spaces) as shipped:  # sent while Ray connects, and not needed afterwards
            ray = stack.enter_context(ray_session(address=address, runtime_env=shipped))
        # The first plan is made without measuring: no training may run on nodes that have not been checked.
        plan = plan_on_cluster(ray, devices, num_trials, address, None, recorded)
        _check_loops(plan, spaces)
        references = [put_once(ray, images.fingerprint, images) for images in data]
        say("checking every node of the cluster")
        sent = [(reference, images.fingerprint) for reference, images in zip(references, data, strict=True)]
        checked = check_nodes(ray, sent, place, plan.device)
        say("1 node is ready" if len(checked) == 1 else f"{len(checked)} nodes are ready")
        if measure is not None:
            plan = plan_on_cluster(ray, devices, num_trials, address, measure(ray), recorded)
        with grown(plan), _groups(plan) as groups:
            yield ray, plan, [SharedData(reference, groups, fingerprint, checked) for reference, fingerprint in sent]


def _mps(devices: DeviceOptions, has_gpu: bool) -> AbstractContextManager[None]:
    """Return a context that runs the MPS daemon if `--mps` asks for it.

    Raises:
        InputError: The daemon is requested, but this machine has no GPU that torch can use.
    """
    if not devices.mps:
        return nullcontext()
    if not has_gpu:
        raise InputError("--mps: this machine has no GPU that torch can use; leave it out")
    from winnow.search.resources.mps import mps_daemon

    return mps_daemon()


def _check_loops(plan: ResourcePlan, spaces: Sequence[Space]) -> None:
    """Refuse several GPUs for each trial if a space names a custom loop, which trains on one device."""
    own = [space.source for space in spaces if space.tree.get("train") is not None]
    if plan.ranks > 1 and own:
        raise InputError(
            f"{own[0]}: `train` names a custom loop, which trains on one GPU, but each trial would get {plan.ranks}; "
            "use --gpus-per-trial 1 or less"
        )


def _groups(plan: ResourcePlan) -> AbstractContextManager[RankGroups | None]:
    """Return a context that provides groups of ranks if a trial has several GPUs, or None if its worker trains alone."""
    if plan.ranks == 1:
        return nullcontext()
    from winnow.search.ray_backend.rank_groups import RankGroupSpec, rank_groups

    return rank_groups(RankGroupSpec.of(plan), plan.concurrent)


def resolved(address: str | None) -> str | None:
    """Return `host:port` of a cluster, checked early so that a wrong address is reported before data is read.

    Args:
        address: The value of `--address`; None, which is returned, for this machine.

    Raises:
        InputError: No cluster answers there.
    """
    if address is None:
        return None
    from winnow.search.ray_backend.cluster import resolve

    return resolve(address)
