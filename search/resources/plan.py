"""Plans the resources: which device, how many trials at once, and how much of the machine each trial gets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from winnow.search.resources.gpus import gpus_of_this_machine
from winnow.search.resources.inventory import Inventory, gpus_here, read_inventory
from winnow.search.resources.packing import KindOfGpu, Measure, RecordedPacking, fraction_of
from winnow.spaces.errors import InputError

RELAY_CPUS = 0.0001  # CPUs of the process that forwards the reports of ranks; the smallest amount that Ray counts
DeviceName = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True)
class DeviceOptions:
    """The device options of a user; None leaves a choice to Winnow. Raises InputError if two options contradict each other."""

    device: DeviceName = "auto"
    """Device that trials train on; `auto`: GPUs if Ray has any."""
    concurrent: int | Literal["auto"] | None = None
    """Trials at once; `auto`: measure how many trials on the CPUs of a node train fastest."""
    cpus_per_trial: int | None = None
    """CPUs of each trial, also its number of threads."""
    gpus_per_trial: float | None = None
    """GPUs of each trial: a whole number, or one divided by a whole number."""
    num_cpus: int | None = None
    """CPUs of a Ray started on this machine; None: all."""
    num_gpus: int | None = None
    """GPUs of a Ray started on this machine; None: all that are visible."""
    trials_per_gpu: int | Literal["auto"] | None = None
    """Trials on one GPU at once; `auto`: measure, also where an earlier start of the run did."""
    mps: bool = False
    """Whether a daemon of CUDA MPS is started on this machine for trials that share a GPU."""

    def __post_init__(self) -> None:
        if self.trials_per_gpu is not None and self.gpus_per_trial is not None:
            raise InputError("--trials-per-gpu and --gpus-per-trial set the same thing; give only one of them")
        if self.gpus_per_trial:
            _check_divides(self.gpus_per_trial)
        if self.mps and self.device in ("cpu", "mps"):
            raise InputError(f"--mps is for NVIDIA GPUs, not for --device {self.device}; leave it out")

    def check_one_gpu(self, command: str) -> None:
        """Refuse several GPUs for a training in a command that has no support for that.

        Args:
            command: Name of the command for the message, such as `winnow train`.

        Raises:
            InputError: `gpus_per_trial` is above 1.
        """
        if (self.gpus_per_trial or 0) > 1:
            raise InputError(
                f"--gpus-per-trial {self.gpus_per_trial:g}: {command} trains on one GPU; use 1, or a fraction of one"
            )

    def check_here(self) -> None:
        """Raise InputError if this machine lacks GPUs that the options ask for. Not called for a cluster."""
        if self.device == "cpu":
            return
        usable = gpus_here()
        if self.num_gpus and self.num_gpus > usable:
            raise InputError(
                f"--num-gpus {self.num_gpus}: this machine has {usable} that torch can use "
                f"({gpus_of_this_machine().line}); leave it out"
            )
        if (self.gpus_per_trial or 0) > 1 and gpus_of_this_machine().slices:
            raise InputError(
                f"--gpus-per-trial {self.gpus_per_trial:g}: the GPUs of this machine are MIG slices, which cannot train together; "
                "use 1, or a fraction of one"
            )
        if self.device == "cuda" and not usable:
            raise InputError(f"--device cuda: {gpus_of_this_machine().line}; use --device cpu")


@dataclass(frozen=True)
class ResourcePlan:
    """The resources of each trial, with the reason."""

    device: str
    """`cpu`, `cuda` or `mps`."""
    concurrent: int
    """Largest number of trials at once."""
    cpus_per_trial: float
    gpus_per_trial: float
    threads: int
    """Threads of each training process."""
    explanation: str
    trials_per_gpu: int | None = None
    """Trials on one GPU at once; None without GPUs, or with several for each trial."""
    ranks: int = 1
    """Processes that train one trial, with a GPU each."""
    kinds: Mapping[str, KindOfGpu] = field(default_factory=dict)
    """The kinds of GPU, if a cluster has several that take different numbers of trials; then `gpus_per_trial` is the share that fits all."""

    @property
    def shares(self) -> dict[str, float]:
        """The fraction of a GPU for each trial, by kind of GPU."""
        return {kind: fraction_of(of.trials_per_gpu) for kind, of in self.kinds.items()}

    @property
    def per_trial(self) -> dict[str, float]:
        """Resources that Ray reserves for the worker of a trial; almost none if ranks train it."""
        if self.ranks > 1:
            return {"cpu": RELAY_CPUS, "gpu": 0.0}
        return {"cpu": self.cpus_per_trial, "gpu": self.gpus_per_trial}

    @property
    def per_rank(self) -> dict[str, float]:
        """Resources that Ray reserves for one rank; some CPU is left on each node for the workers of all trials."""
        cpus = self.cpus_per_trial / self.ranks - self.concurrent * RELAY_CPUS
        return {"CPU": max(0.0, math.floor(cpus * 10_000 + 1e-6) / 10_000), "GPU": self.gpus_per_trial / self.ranks}

    @property
    def bundles(self) -> list[dict[str, float]]:
        """Resources of all trials at once; each item must fit on one node."""
        if self.ranks > 1:
            return [self.per_rank] * (self.ranks * self.concurrent)
        if self.kinds:
            return [
                {"CPU": self.cpus_per_trial, "GPU": fraction_of(of.trials_per_gpu)}
                for of in self.kinds.values()
                for _ in range(of.gpus * of.trials_per_gpu)
            ]
        return [{key.upper(): amount for key, amount in self.per_trial.items() if amount}] * self.concurrent


def plan_resources(
    ray: Any,
    options: DeviceOptions,
    num_trials: int,
    measure: Measure | None = None,
    recorded: RecordedPacking | None = None,
) -> ResourcePlan:
    """Divide the resources of a running Ray among trials.

    Args:
        ray: The `ray` module, connected.
        options: What the user asks for.
        num_trials: Number of trials in all; concurrency never exceeds it.
        measure: Called if the options leave the packing of trials on a device open. Default: one trial on a GPU.
        recorded: Packing of an earlier start of the run, used again if the options leave it open.

    Returns:
        The plan.

    Raises:
        InputError: The options ask for more than there is, or would leave GPUs idle.
    """
    return share_out(read_inventory(ray), options, num_trials, measure, recorded)


def share_out(
    inventory: Inventory,
    options: DeviceOptions,
    num_trials: int,
    measure: Measure | None = None,
    recorded: RecordedPacking | None = None,
) -> ResourcePlan:
    """Divide a known inventory among trials.

    `--device cpu --num-gpus 4 --gpus-per-trial 2` reserves declared GPUs for each trial, which
    trains on the CPU; this tests a plan for GPUs on a machine without any.

    Args:
        inventory: CPUs and GPUs of each node.
        options: What the user asks for.
        num_trials: Number of trials in all; concurrency never exceeds it.
        measure: Called if the options leave the packing of trials on a device open. Default: one
            trial on a GPU.
        recorded: Packing of an earlier start of the run, used again if the options leave it open.

    Returns:
        The plan.

    Raises:
        InputError: The options ask for more than there is, or would leave GPUs idle.
    """
    if options.device == "cpu" and options.gpus_per_trial and options.num_gpus:
        return replace(share_out(inventory, replace(options, device="cuda"), num_trials), device="cpu")
    device = _choose_device(options, inventory)
    if device == "cuda":
        return _on_gpus(inventory, options, num_trials, measure, recorded)
    for option, value in (
        ("--trials-per-gpu", options.trials_per_gpu),
        ("--gpus-per-trial", options.gpus_per_trial),
    ):
        if value:
            why = f"with --device {device}" if options.device == device else "no GPU is available, so"
            raise InputError(f"{option} {value}: {why} trials train on {device}; leave it out")
    return _on_cpus(inventory, device, options, num_trials, measure)


# --- without GPUs -----------------------------------------------------------------------------------------------------


def _on_cpus(
    inventory: Inventory, device: str, options: DeviceOptions, num_trials: int, measure: Measure | None
) -> ResourcePlan:
    num_cpus, most = int(inventory.num_cpus), int(max(inventory.cpus_of_nodes))
    if (options.cpus_per_trial or 1) > most:
        raise InputError(f"--cpus-per-trial {options.cpus_per_trial}: {_largest_node(inventory)}")
    concurrent, why = options.concurrent, ""
    if concurrent == "auto":
        concurrent = None
        if measure is not None and options.cpus_per_trial is None:
            packing = measure(device, float(most))
            # Measured on one node; trials on the other nodes get as many CPUs each.
            concurrent = max(1, min(_slots(inventory, most / packing.at_once), num_trials))
            why = f" ({packing.explanation})"
    if concurrent is None and device == "mps":
        concurrent = 1  # there is one GPU, and trials that share it would only wait for each other
    if concurrent is None:
        concurrent = max(1, min(_slots(inventory, options.cpus_per_trial or 1), num_trials))
    cpus = options.cpus_per_trial or _share(inventory, concurrent)
    if _slots(inventory, cpus) < concurrent or cpus < 1:
        raise InputError(
            f"--concurrent {concurrent} trials with {max(1, int(cpus))} CPUs each need {concurrent * max(1, int(cpus))} CPUs, "
            f"but Ray has {num_cpus}" + (f" on {len(inventory.nodes)} nodes" if len(inventory.nodes) > 1 else "")
        )
    threads = max(1, int(cpus))
    text = f"{concurrent} trials at once on {device}, {threads} CPU{'s' * (threads > 1)} each{why}"
    # Ray limits concurrency only by resources, so a trial is given its share of all CPUs.
    return ResourcePlan(device, concurrent, _share(inventory, concurrent), 0.0, threads, text)


def _slots(inventory: Inventory, cpus: float) -> int:
    """Return the number of trials with this many CPUs that fit on the nodes; a trial never spans nodes."""
    return sum(math.floor(node / cpus + 1e-9) for node in inventory.cpus_of_nodes)


def _share(inventory: Inventory, concurrent: int) -> float:
    """Return the most CPUs that each of `concurrent` trials can have at once; 0 if they do not fit."""
    shares = {node / k for node in inventory.cpus_of_nodes for k in range(1, concurrent + 1)}
    return max((share for share in shares if _slots(inventory, share) >= concurrent), default=0.0)


def _largest_node(inventory: Inventory) -> str:
    where = "the largest node of Ray" if len(inventory.nodes) > 1 else "Ray"
    return f"{where} has {int(max(inventory.cpus_of_nodes))} CPUs"


# --- with GPUs --------------------------------------------------------------------------------------------------------


def _on_gpus(
    inventory: Inventory,
    options: DeviceOptions,
    num_trials: int,
    measure: Measure | None,
    recorded: RecordedPacking | None,
) -> ResourcePlan:
    gpus_per_trial = options.gpus_per_trial
    earlier = recorded.gpus_per_trial if recorded else 0
    if gpus_per_trial is None and options.trials_per_gpu is None and 1 < earlier <= inventory.num_gpus:
        gpus_per_trial = earlier
    if (gpus_per_trial or 0) > 1:
        return _several_gpus_each(inventory, options, int(gpus_per_trial or 0), num_trials)
    per_gpu, why = _trials_per_gpu(inventory, options, measure, recorded)
    if isinstance(options.concurrent, int):
        concurrent = options.concurrent
        per_gpu = dict.fromkeys(per_gpu, _spread(concurrent, min(per_gpu.values()), inventory.num_gpus))
    else:
        # With fewer trials than slots, each trial gets a larger part: Ray fills a GPU before it uses the next one.
        most = max(1, num_trials // inventory.num_gpus)
        per_gpu = {kind: min(number, most) for kind, number in per_gpu.items()}
        slots = sum(_gpus_of(inventory, kind, per_gpu) * number for kind, number in per_gpu.items())
        concurrent = min(slots, max(1, num_trials))
    fewest = min(per_gpu.values())
    cpus = min(
        _cpus_beside(inventory.cpus_beside(kind), options.cpus_per_trial, number) for kind, number in per_gpu.items()
    )
    threads = max(1, int(cpus))
    kinds = {}
    if len(set(per_gpu.values())) > 1:
        kinds = {kind: KindOfGpu(_gpus_of(inventory, kind, per_gpu), number) for kind, number in per_gpu.items()}
        named = ((kind or "other GPU", of) for kind, of in kinds.items() if of.gpus)
        shared = ", ".join(f"{of.trials_per_gpu} on each {name}" for name, of in named)
    else:
        shared = "one GPU each" if fewest == 1 else f"{fewest} on each GPU"
    text = (
        f"{concurrent} trials at once on {inventory.num_gpus} GPU{'s' * (inventory.num_gpus > 1)}, {shared}, "
        f"{threads} CPU{'s' * (threads > 1)} each{why}"
    )
    if not inventory.gpus_now:
        text += f"; the first trial waits until the cluster has its first GPU, and the cluster may grow to {inventory.num_gpus}"
    elif inventory.gpus_now < inventory.num_gpus:
        text += f"; {inventory.gpus_now} of the GPUs are there now, the cluster may grow to {inventory.num_gpus}"
    return ResourcePlan("cuda", concurrent, cpus, fraction_of(fewest), threads, text, fewest, kinds=kinds)


def _gpus_of(inventory: Inventory, kind: str, others: Iterable[str]) -> int:
    """Return the number of GPUs of a kind; the empty kind stands for all GPUs of none of the `others`."""
    if kind:
        return sum(int(gpus) for _, gpus in inventory.of_kind(kind))
    return inventory.num_gpus - sum(_gpus_of(inventory, other, ()) for other in others if other)


def _trials_per_gpu(
    inventory: Inventory, options: DeviceOptions, measure: Measure | None, recorded: RecordedPacking | None
) -> tuple[dict[str, int], str]:
    """Return the trials on one GPU at once, by kind of GPU, and the reason as a text.

    The options decide, else an earlier start, else a measurement; without any of these it is one. The empty kind stands for any
    other GPU, and gets the smallest number of the measured kinds.
    """
    if options.gpus_per_trial is not None:
        if not options.gpus_per_trial:
            raise InputError("--gpus-per-trial 0: must be above 0 on GPUs; or use --device cpu")
        return {"": round(1 / options.gpus_per_trial)}, ""
    if isinstance(options.trials_per_gpu, int):
        return {"": options.trials_per_gpu}, ""
    if isinstance(options.concurrent, int):
        return {"": math.ceil(options.concurrent / inventory.num_gpus)}, ""
    if recorded is not None and options.trials_per_gpu is None:
        here = {kind: number for kind, number in recorded.trials_per_gpu.items() if kind in inventory.kinds}
        return {**here, "": max(1, round(1 / recorded.gpus_per_trial))}, ""
    if measure is None:
        return {"": 1}, ""
    if not inventory.gpus_now:
        return {"": 1}, " (not measured, as there is no GPU yet; --trials-per-gpu sets another number)"
    if len(inventory.kinds_now) < 2:
        packing = measure("cuda", inventory.cpus_per_gpu)
        return {"": packing.at_once}, f" ({packing.explanation}{_turns(options, packing.at_once)})"
    packings = {kind: measure("cuda", inventory.cpus_beside(kind), kind) for kind in sorted(inventory.kinds_now)}
    why = "; ".join(f"{kind}: {packing.explanation}" for kind, packing in packings.items())
    per_gpu = {kind: packing.at_once for kind, packing in packings.items()}
    return {**per_gpu, "": min(per_gpu.values())}, f" ({why}{_turns(options, max(per_gpu.values()))})"


def _turns(options: DeviceOptions, per_gpu: int) -> str:
    """Return a clause about CUDA MPS if several trials share a GPU without it."""
    return "; they take turns on the GPU unless CUDA MPS runs (--mps)" if per_gpu > 1 and not options.mps else ""


def _spread(concurrent: int, most: int, num_gpus: int) -> int:
    """Return the trials on each GPU, at most `most`, if `concurrent` trials use all GPUs; InputError if a GPU would be idle."""
    if concurrent > most * num_gpus:
        raise InputError(
            f"--concurrent {concurrent}: {num_gpus} GPUs with {most} trials each hold {most * num_gpus} at once"
        )
    per_gpu = math.ceil(concurrent / num_gpus)
    used = math.ceil(concurrent / per_gpu)
    if per_gpu > 1 and used < num_gpus:
        raise InputError(
            f"--concurrent {concurrent} does not divide among {num_gpus} GPUs: {per_gpu} on each would leave "
            f"{num_gpus - used} idle; use {(per_gpu - 1) * num_gpus} or {per_gpu * num_gpus}"
        )
    return per_gpu


def _cpus_beside(cpus_per_gpu: float, cpus_per_trial: int | None, per_gpu: int) -> float:
    """Return the CPUs of a trial that shares a GPU with others: a whole number if there are enough."""
    cpus = float(cpus_per_trial or int(cpus_per_gpu / per_gpu) or cpus_per_gpu / per_gpu)
    if cpus * per_gpu > cpus_per_gpu + 1e-9:
        raise InputError(
            f"--cpus-per-trial {cpus_per_trial}: {per_gpu} trials on a GPU need {cpus * per_gpu:g} CPUs, but there are "
            f"{cpus_per_gpu:g} for each GPU"
        )
    return cpus


def _several_gpus_each(inventory: Inventory, options: DeviceOptions, ranks: int, num_trials: int) -> ResourcePlan:
    """Plan trials on `ranks` GPUs each, on one node if they fit (search/ray_backend/rank_groups.py)."""
    num_gpus, option = inventory.num_gpus, f"--gpus-per-trial {ranks}"
    if ranks > num_gpus:
        raise InputError(f"{option}: only {num_gpus} GPUs are available")
    slots, idle = divmod(num_gpus, ranks)
    chosen = options.concurrent if isinstance(options.concurrent, int) else None
    if idle and chosen is None:
        fitting = [str(n) for n in range(2, num_gpus + 1) if num_gpus % n == 0]
        raise InputError(
            f"{option} does not divide the {num_gpus} GPUs: {idle} would be idle; use {' or '.join(fitting)}, or confirm with "
            f"--concurrent {slots}"
        )
    concurrent = chosen or max(1, min(slots, num_trials))
    if concurrent > slots:
        raise InputError(f"--concurrent {concurrent}: {num_gpus} GPUs, {ranks} for each trial, hold {slots} at once")
    all_cpus = inventory.cpus_per_gpu * ranks
    cpus = float(options.cpus_per_trial or int(all_cpus) or all_cpus)
    if cpus > all_cpus + 1e-9:
        raise InputError(f"--cpus-per-trial {cpus:g}: there are {all_cpus:g} CPUs for {ranks} GPUs")
    threads = max(1, int(cpus))
    text = f"{concurrent} trial{'s' * (concurrent > 1)} at once, each on {ranks} of {num_gpus} GPUs and {cpus:g} CPUs"
    spanning = concurrent - sum(int(gpus) // ranks for _, gpus in inventory.nodes)
    if spanning > 0:
        text += f"; {'each' if spanning == concurrent else spanning} spans several nodes"
    return ResourcePlan("cuda", concurrent, cpus, float(ranks), threads, text, ranks=ranks)


# --- what the options leave open --------------------------------------------------------------------------------------


def _check_divides(gpus: float) -> None:
    """Raise InputError for a `--gpus-per-trial` that is neither a whole number nor one divided by a whole number."""
    if gpus > 1 and gpus != int(gpus):
        raise InputError(f"--gpus-per-trial {gpus:g}: above 1 it must be a whole number of GPUs")
    parts = 1 / gpus
    if gpus < 1 and abs(parts - round(parts)) > 0.05:
        below = math.floor(parts)
        raise InputError(
            f"--gpus-per-trial {gpus:g} does not divide a GPU: {below} trials would leave {1 - below * gpus:.2g} of it unused; "
            f"use {1 / below:.4g} ({below} on a GPU) or {fraction_of(below + 1):g} ({below + 1})"
        )


def _choose_device(options: DeviceOptions, inventory: Inventory) -> str:
    if options.device == "cuda" and not inventory.num_gpus:
        raise InputError("--device cuda: Ray sees no GPU here; use --device cpu, or check CUDA_VISIBLE_DEVICES")
    if options.device != "auto":
        return options.device
    if inventory.num_gpus:
        return "cuda"
    import platform

    if platform.system() == "Darwin" and platform.machine() == "arm64":
        import torch

        return "mps" if torch.backends.mps.is_available() else "cpu"
    return "cpu"
