"""The options of the command line, in the groups that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Option = Callable[[Any], Any]


def _together(*options: Option) -> Option:
    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


space_options = _together(
    click.argument("space"),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="PATH=VALUE",
        help="Override any key, e.g. --set optimizer.lr=0.01; may be repeated.",
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
)
search_options = _together(
    click.option("--trials", type=click.IntRange(min=1), help="How many trials to run.  [default: the space's]"),
    click.option("--time-budget", metavar="TIME", help="Stop in order after this long: 90s, 5m, 2h."),
    click.option("--objective", type=click.Choice(["validation_accuracy", "validation_loss"])),
    click.option(
        "--sampler",
        type=click.Choice(["forecast", "tpe", "gp", "random", "qmc"]),
        help="Optuna's sampler.  [default: the space's, or tpe]",
    ),
    click.option(
        "--grace-epochs", type=click.IntRange(min=1), help="First rung of ASHA.  [default: a sixteenth of the epochs]"
    ),
    click.option(
        "--reduction-factor", type=click.FloatRange(min=1, min_open=True), help="Ratio between rungs.  [default: 3]"
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
    click.option("--concurrent", type=click.IntRange(min=1), help="Trials at once."),
    click.option("--cpus-per-trial", type=click.IntRange(min=1)),
    click.option("--gpus-per-trial", type=click.FloatRange(min=0), help="A fraction shares a GPU between trials."),
    click.option("--num-cpus", type=click.IntRange(min=1), help="CPUs to use on this machine.  [default: all]"),
    click.option("--num-gpus", type=click.IntRange(min=0), help="GPUs to use on this machine.  [default: all]"),
    click.option("--address", metavar="ADDR", help="A running Ray cluster: auto, or host:port."),
    click.option("--quiet", is_flag=True, help="No progress view."),
)
json_option = click.option("--json", "as_json", is_flag=True, help="One event per line on standard output, as JSON.")
