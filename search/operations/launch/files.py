"""Writes the file that starts a search on Slurm, Kubernetes or a cloud (`winnow launch`). Nothing is started, and no server is contacted."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from winnow.search.storage.remote import check_no_secret
from winnow.spaces import catalog
from winnow.spaces.errors import InputError

System = Literal["slurm", "kuberay", "sky"]
HEAD_CPUS = 2  # CPUs of the head node in rayjob.yaml
NAME = re.compile(r"(?=.{1,42}$)[a-z][a-z0-9]*(-{1,2}[a-z0-9]+)*")
"""Names that Kubernetes, Slurm and SkyPilot all accept. KubeRay's and SkyPilot's begin with a letter; SkyPilot's have no three '-' in a row."""


@dataclass(frozen=True)
class Cluster:
    """The nodes, devices and time that the user requests from a cluster.

    Attributes:
        nodes: Number of nodes with GPUs; the largest number if the cluster adds and removes nodes.
        gpus: GPUs of each node.
        cpus: CPUs of each node.
        gpu: Kind of GPU, by SkyPilot's name.
        image: Container image with Winnow, for Kubernetes.
        hours: Time limit in hours, for Slurm. The search ends one hour before it, or after 90 % of it if that is later.
    """

    nodes: int = 4
    gpus: int = 1
    cpus: int = 8
    gpu: str = "A10G"
    image: str = "your-registry/winnow:0.2.0"
    hours: float = 12.0


def launch_file(system: System, space: str, name: str, options: Sequence[str], cluster: Cluster) -> tuple[str, str]:
    """Return the text of the file, and the command that starts it.

    Args:
        system: The system to search on.
        space: The space, as an argument of `winnow run`.
        name: Name of the run.
        options: Further options of `winnow run`.
        cluster: The nodes, devices and time to request.

    Returns:
        The text of the file; and the command, with `{file}` in place of its path.

    Raises:
        InputError: The name is not valid for this system, or `--mps` is asked for on Kubernetes.
    """
    if not NAME.fullmatch(name):
        raise InputError(
            f"--name {name!r}: use at most 42 lower-case letters, digits and '-', as clusters require. Begin with a letter, do not end "
            "with '-', and put at most two '-' in a row"
        )
    text = resources.files(__package__).joinpath(FILES[system]).read_text(encoding="utf-8")
    passed = [option for option in options if option != MPS]
    text, start = MAKERS[system](text, shlex.join(["winnow", "run", space]), name, passed, cluster)
    return (text if MPS not in options else _with_mps(text, system)), start


def _check_no_secrets(options: Sequence[str]) -> None:
    """Check that no URI among the options holds a password or key. Both `--storage URI` and `--storage=URI` are possible."""
    name = ""
    for option in options:
        if option.startswith("-"):
            name, _, option = option.partition("=")
        check_no_secret(name, option, "the file")


def write_launch_file(path: Path, text: str) -> None:
    """Write the file, whole or not at all. An existing file is not overwritten.

    Args:
        path: The file.
        text: Its content.

    Raises:
        InputError: The file exists already, or cannot be written.
    """
    is_ours = False
    try:
        with path.open("x", encoding="utf-8") as file:
            is_ours = True
            file.write(text)
    except FileExistsError:
        raise InputError(f"{path}: exists already; choose another --output") from None
    except OSError as error:
        if is_ours:  # the disk is full; otherwise the next call would find the incomplete file
            path.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


def _slurm(text: str, command: str, name: str, options: list[str], cluster: Cluster) -> tuple[str, str]:
    minutes = round(60 * cluster.hours)
    budget = max(minutes - 60, round(0.9 * minutes))
    text = _replaced(
        text,
        ("--job-name=winnow", f"--job-name={name}"),
        ("--nodes=4", f"--nodes={cluster.nodes}"),
        ("--gpus-per-node=4", f"--gpus-per-node={cluster.gpus}"),
        ("--cpus-per-task=32", f"--cpus-per-task={cluster.cpus}"),
        ("--time=12:00:00", f"--time={minutes // 60}:{minutes % 60:02}:00"),
        ("NAME=${NAME:-winnow-$SLURM_JOB_ID}", f"NAME=${{NAME:-{name}}}"),
        ("BUDGET=${BUDGET:-11h}", f"BUDGET=${{BUDGET:-{budget}m}}"),
        (
            'command=(winnow run "$@" --runs-dir',
            f'command=({shlex.join([*shlex.split(command), *options])} "$@" --runs-dir',
        ),
        ("sbatch docs/cluster/slurm.sbatch SPACE [OPTIONS OF winnow run]", "sbatch FILE [MORE OPTIONS OF winnow run]"),
    )
    return text, "sbatch {file}"


def _kuberay(text: str, command: str, name: str, options: list[str], cluster: Cluster) -> tuple[str, str]:
    cpus = HEAD_CPUS + cluster.nodes * cluster.cpus
    line = f"{command} --address auto --data-dir /shared/data --runs-dir /shared/runs --name {name}"
    sizes = f"--num-gpus {cluster.nodes * cluster.gpus} --num-cpus {cpus} {shlex.join(options)}".rstrip()
    old = text[text.index("    winnow run cifar100-cnn") : text.index("  shutdownAfterJobFinishes")]
    text = _replaced(
        text,
        (old, f"    {line}\n    {sizes}\n"),
        ("  name: winnow\n", f"  name: {name}\n"),
        ("winnow resume /shared/runs/first", f"winnow resume /shared/runs/{name}"),
        ("your-registry/winnow:0.1.0", cluster.image),
        ("maxReplicas: 8", f"maxReplicas: {cluster.nodes}"),
        ('requests: {cpu: "4", memory: 16Gi}', f'requests: {{cpu: "{cluster.cpus}", memory: 16Gi}}'),
        ('nvidia.com/gpu: "1"', f'nvidia.com/gpu: "{cluster.gpus}"'),
        ("kubectl apply -f docs/cluster/rayjob.yaml", "kubectl apply -f FILE"),
    )
    started = f"kubectl wait --for=create job/{name} --timeout=30m"  # KubeRay makes the job once the head runs
    return text, f"kubectl apply -f {{file}}; {started}; kubectl logs -f job/{name} --pod-running-timeout=30m"


def _sky(text: str, command: str, name: str, options: list[str], cluster: Cluster) -> tuple[str, str]:
    text = _replaced(
        text,
        ("name: winnow\n", f"name: {name}\n"),
        ("num_nodes: 4", f"num_nodes: {cluster.nodes}"),
        ("accelerators: A10G:1", f"accelerators: {cluster.gpu}:{cluster.gpus}"),
        ("cpus: 8+", f"cpus: {cluster.cpus}+"),
        ("NAME=first", f"NAME={name}"),
        (
            "winnow run cifar100-cnn --data-dir /shared/data --download",
            shlex.join([*shlex.split(command), "--data-dir", "/shared/data", *options]),
        ),
    )
    secret = "--secret RAY_AUTH_TOKEN=$(openssl rand -hex 32)"
    return text, f"sky launch -c {name} {{file}} --env NFS=HOST:/PATH {secret}"


def _with_mps(text: str, system: System) -> str:
    """Let every node start an MPS daemon before its Ray, and stop it afterwards."""
    if system not in MPS_BEFORE:
        raise InputError(
            f"{MPS}: in Kubernetes, NVIDIA's device plugin starts the daemons (its setting `sharing.mps`); set it there, and leave "
            f"{MPS} out"
        )
    place, ray_start = MPS_BEFORE[system]
    indentation = " " * (len(place) - len(place.lstrip()))
    daemon = textwrap.indent(MPS_DAEMON, indentation)
    return _replaced(text, (place, daemon + place), (ray_start, f'bash -c "$with_mps" mps {ray_start}'))


def _replaced(text: str, *changes: tuple[str, str]) -> str:
    """Replace passages of a template, each of which it must contain exactly once."""
    for old, new in changes:
        if text.count(old) != 1:
            raise ValueError(f"the template holds {old!r} {text.count(old)} times")
        text = text.replace(old, new)
    return text


MPS = "--mps"
MPS_DAEMON = """\
# One CUDA MPS daemon on every node, with pipes of its own. It starts before Ray, whose workers find it, and ends after it.
with_mps='
set -e
CUDA_MPS_PIPE_DIRECTORY=$(mktemp -d)
export CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY="$CUDA_MPS_PIPE_DIRECTORY"
nvidia-cuda-mps-control -d
end() { echo quit | nvidia-cuda-mps-control; rm -rf "$CUDA_MPS_PIPE_DIRECTORY"; }
trap end EXIT
trap : TERM INT  # these signals reach Ray too; its end is awaited
"$@"'
"""
MPS_BEFORE = {"slurm": ("# Since Slurm 22.05", "ray symmetric-run"), "sky": ("  set -m", "ray start --block")}
"""The passage of each template before which the daemon is defined, and the command that runs under it."""
FILES: dict[str, str] = {"slurm": "slurm.sbatch", "kuberay": "rayjob.yaml", "sky": "sky.yaml"}
MAKERS: dict[str, Callable[[str, str, str, list[str], Cluster], tuple[str, str]]] = {
    "slurm": _slurm,
    "kuberay": _kuberay,
    "sky": _sky,
}
SUFFIXES = {"slurm": ".sbatch", "kuberay": ".rayjob.yaml", "sky": ".sky.yaml"}


def launch(
    system: System, space: str, name: str | None, options: Sequence[str], cluster: Cluster, output: Path | None
) -> tuple[Path, str]:
    """Write the file that searches a space on a cluster. Nothing is started.

    Args:
        system: The system to search on.
        space: The space, as an argument of `winnow run`.
        name: Name of the run; None for the name of the space.
        options: Further options of `winnow run`.
        cluster: The nodes, devices and time to request.
        output: The file to write; None for a file in the current folder that is named after the run.

    Returns:
        The file, and the command that starts the search, quoted so that it can be pasted into a shell.

    Raises:
        InputError: The space or the name cannot be used, an option holds a password or key, or the file exists or cannot be written.
    """
    _check_no_secrets(options)
    name = name or catalog.load(space).name
    text, command = launch_file(system, space, name, options, cluster)
    path = output or Path(name + SUFFIXES[system])
    write_launch_file(path, text)
    return path, command.format(file=shlex.quote(str(path)))
