"""The options of the command line, in the groups that several commands share."""

from __future__ import annotations

import glob
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from winnow.spaces.samplers import SAMPLERS

Option = Callable[[Any], Any]


class NumberOrAuto(click.IntRange):
    """A whole number from 1, or `auto`."""

    name = "number"

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value != "auto" and not str(value).isdigit():
            self.fail(f"{value!r} is neither a whole number from 1 nor auto", param, ctx)
        return value if value == "auto" else super().convert(value, param, ctx)


def _together(*options: Option) -> Option:
    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def complete_space(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For the shell: names of the catalog, and YAML files."""
    from winnow.spaces import catalog

    found = [CompletionItem(name, help=about) for name, about in catalog.listing() if name.startswith(incomplete)]
    # First: click's script for bash forgets what came before an item of this type.
    return [CompletionItem(incomplete, type="file"), *found]


def complete_run(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For the shell: names under runs/, and folders."""
    names = sorted(file.parent.name for file in Path("runs").glob(f"{glob.escape(incomplete)}*/study.yaml"))
    return [CompletionItem(incomplete, type="dir"), *map(CompletionItem, names)]


space_options = _together(
    click.argument("space", shell_complete=complete_space),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="PATH=VALUE",
        help="Override any key, e.g. --set optimizer.lr=0.01; may be repeated.",
    ),
)
change_options = _together(
    click.option(
        "--space",
        metavar="SPACE",
        help="Go on in this space instead. Trials that lie in it inform the search; the others stay in the report only.",
    ),
    click.option(
        "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change any key of the space; may be repeated."
    ),
    click.option(
        "--accept-space-change",
        is_flag=True,
        help="Without it a changed space is only described, and nothing happens (exit code 2).",
    ),
)
extension_options = _together(
    click.option(
        "--trials",
        type=click.IntRange(min=1),
        help="So many trials more than were asked for until now, those still to come not counted twice; within the time "
        "budget of the run, if it has one.",
    ),
    click.option(
        "--time-budget",
        metavar="TIME",
        help="Go on for this long from now. Alone: with as many new trials as fit; with --trials: with at most so many.",
    ),
    click.option(
        "--max-epochs",
        type=click.IntRange(min=1),
        help="Train for so many epochs in all, with rungs added above. Trials that had reached the end are tried again "
        "first, from their first epoch; they come on top of --trials.",
    ),
)
data_options = _together(
    click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        envvar="WINNOW_DATA_DIR",
        help="Where cifar10 and cifar100 are stored.  [default: data]",
    ),
    click.option("--download", is_flag=True, help="Download the data set if it is not there."),
)
run_options = _together(
    click.option("--name", help="Name of the run folder.  [default: the space's]"),
    click.option("--runs-dir", type=click.Path(path_type=Path), default=Path("runs"), show_default=True),
    click.option(
        "--storage",
        metavar="URI",
        help="Where workers write, for clusters: s3://..., gs://..., or a folder all nodes mount.  [default: the run folder]",
    ),
)
search_options = _together(
    click.option("--trials", type=click.IntRange(min=1), help="How many trials to run.  [default: the space's]"),
    click.option("--time-budget", metavar="TIME", help="Stop in order after this long: 90s, 5m, 2h."),
    click.option("--objective", type=click.Choice(["validation_accuracy", "validation_loss"])),
    click.option(
        "--sampler",
        type=click.Choice(list(SAMPLERS)),
        help="Who suggests configs.  [default: the space's, or forecast]",
    ),
    click.option(
        "--grace-epochs", type=click.IntRange(min=1), help="First rung of ASHA.  [default: a sixteenth of the epochs]"
    ),
    click.option(
        "--reduction-factor", type=click.FloatRange(min=1, min_open=True), help="Ratio between rungs.  [default: 3]"
    ),
    click.option(
        "--repeats",
        type=click.IntRange(min=1),
        help="How often one config may run, each time with another seed.  [default: 1]",
    ),
    click.option(
        "--warm-start",
        metavar="OLD_RUN",
        help="Let the sampler know the trials of another run of the same data, split, epochs and objective.",
    ),
    click.option(
        "--checkpoint-quota",
        type=click.FloatRange(min=0, min_open=True),
        metavar="GB",
        help="What the checkpoints of paused trials may take; beyond it the worst of them are stopped.  [default: 20]",
    ),
    click.option(
        "--audit",
        type=click.FloatRange(min=0, max=1),
        metavar="SHARE",
        help="Let this share of the stopped trials finish, to see how often a stop was wrong.  [default: 0]",
    ),
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Fixes splits, suggestions, initial weights and data order.",
    ),
)
retrain_options = _together(
    click.option(
        "--top",
        type=click.IntRange(min=1),
        help="How many of the best configs to retrain.  [default: the space's, or 3]",
    ),
    click.option(
        "--seeds", type=click.IntRange(min=1), help="How many fresh seeds each.  [default: the space's, or 3]"
    ),
)
device_options = _together(
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True),
    click.option(
        "--concurrent",
        type=NumberOrAuto(),
        metavar="N|auto",
        help="Trials at once; auto measures which number trains the most images per second.",
    ),
    click.option("--cpus-per-trial", type=click.IntRange(min=1)),
    click.option(
        "--trials-per-gpu",
        type=NumberOrAuto(),
        metavar="N|auto",
        help="How many trials share a GPU.  [default: auto, which measures memory and speed]",
    ),
    click.option(
        "--gpus-per-trial",
        type=click.FloatRange(min=0),
        help="The same as a fraction: 0.25, 0.5, 1; or several GPUs for each: 2.",
    ),
    click.option(
        "--num-cpus",
        type=click.IntRange(min=1),
        help="CPUs to use; of a cluster, all that it may grow to.  [default: all]",
    ),
    click.option(
        "--num-gpus",
        type=click.IntRange(min=0),
        help="GPUs to use; of a cluster, all that it may grow to.  [default: all]",
    ),
    click.option("--address", metavar="ADDR", help="A running Ray cluster: auto, or host:port."),
    click.option("--quiet", is_flag=True, help="No progress view."),
)
json_option = click.option("--json", "as_json", is_flag=True, help="One event per line on standard output, as JSON.")
log_option = click.option(
    "--log",
    multiple=True,
    type=click.Choice(["tensorboard", "mlflow"]),
    help="Write to TensorBoard or MLflow as well, one run per trial and per retraining; may be repeated.",
)
