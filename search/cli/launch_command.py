"""`winnow launch`, the command that writes the file that starts a search on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from winnow.search.cli.common import DONE
from winnow.search.cli.options import complete_space

if TYPE_CHECKING:
    from winnow.search.operations.launch.files import System

COUNT = click.IntRange(min=1)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("space", shell_complete=complete_space)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.option("--on", "system", type=click.Choice(["slurm", "kuberay", "sky"]), required=True, help="Where to search.")
@click.option("--name", help="Name of the run: letters, digits and '-'.  [default: the space's]")
@click.option("--nodes", type=COUNT, default=4, show_default=True, help="Largest number of nodes with GPUs.")
@click.option("--gpus-per-node", "gpus", type=COUNT, default=1, show_default=True, help="Number of GPUs of each node.")
@click.option("--cpus-per-node", "cpus", type=COUNT, default=8, show_default=True, help="Number of CPUs of each node.")
@click.option("--gpu", default="A10G", show_default=True, help="Type of GPU, for SkyPilot.")
@click.option(
    "--image", default="your-registry/winnow:0.2.0", show_default=True, help="Container image, for Kubernetes."
)
@click.option(
    "--hours", type=click.FloatRange(min=0.2, max=720), default=12.0, show_default=True, help="Limit, for Slurm."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="File to write.  [default: named after the run, in the working directory]",
)
def launch(
    space: str,
    options: tuple[str, ...],
    system: System,
    name: str | None,
    output: Path | None,
    nodes: int,
    gpus: int,
    cpus: int,
    gpu: str,
    image: str,
    hours: float,
) -> int:
    """Write the file that starts a search of SPACE on Slurm, Kubernetes (KubeRay) or a cloud (SkyPilot).

    Nothing is started.

    OPTIONS are those of `winnow run`, such as --trials 200.
    """
    from winnow.search.operations.launch.files import Cluster
    from winnow.search.operations.launch.files import launch as write

    _check_options([space, *options])
    path, command = write(system, space, name, options, Cluster(nodes, gpus, cpus, gpu, image, hours), output)
    click.echo(f"wrote {path}; review it, then: {command}")
    return DONE


def _check_options(words: list[str]) -> None:
    """Reject options that `winnow run` would reject on the cluster, and options that the file sets itself."""
    from winnow.search.cli.common import device_options
    from winnow.search.cli.search_commands import SEARCH_COMMANDS
    from winnow.spaces.errors import InputError

    run = next(command for command in SEARCH_COMMANDS if command.name == "run")
    values = run.make_context("run", list(words)).params
    device_options(values)
    for name in ("address", "name"):
        if values.get(name):
            raise InputError(f"--{name}: the file sets this option itself; leave it out")
