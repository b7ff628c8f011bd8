"""The options of the command line. Search options come from the schema; the others are defined here, in groups that commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from winnow.search.cli.complete import complete_key, complete_space
from winnow.search.cli.json_output import json_option
from winnow.search.cli.trust import trust_option

if TYPE_CHECKING:
    from winnow.search.settings import OptionSpec

Option = Callable[[Any], Any]


class NumberOrAuto(click.IntRange):
    """A whole number of at least 1, or `auto`."""

    name = "number"

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check one value of the option.

        Args:
            value: Text from the command line, or a default value.
            param: The option, named in the error message.
            ctx: Context of the command, used for the error message.

        Returns:
            `auto`, or an integer of at least 1.

        Raises:
            BadParameter: The value is neither.
        """
        if value != "auto" and not str(value).isdigit():
            self.fail(f"{value!r} is neither a whole number of at least 1 nor auto", param, ctx)
        return value if value == "auto" else super().convert(value, param, ctx)


OTHERS = "Output and help"
GROUPS: dict[str, tuple[str, ...]] = {
    "Retraining": ("top", "seeds"),
    "Space and images": ("overrides", "trust_code", "data_dir", "download", "warm_start"),
    "Run folder": ("name", "runs_dir", "storage", "log"),
    "Devices": (
        *("device", "concurrent", "cpus_per_trial", "trials_per_gpu", "gpus_per_trial", "mps"),
        *("num_cpus", "num_gpus", "address"),
    ),
    OTHERS: ("quiet", "as_json", "no_probe"),
}
"""The parameters in each group of options in `--help`, by the title of the group."""


class SettingsCommand(click.Command):
    """A command with one option for each field of a settings model, in addition to its declared options.

    The fields are read when the command is used, since `winnow --help` must not wait for the import of the schema.

    Args:
        settings: Name of the model in `winnow.search.settings`.
    """

    def __init__(self, *args: Any, settings: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings = settings

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the arguments, the options of the settings, and the declared options, in this order."""
        declared = super().get_params(ctx)
        arguments = [each for each in declared if isinstance(each, click.Argument)]
        return [*arguments, *settings_options(self.settings), *(each for each in declared if each not in arguments)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options for `--help`, in the groups of `GROUPS`.

        Args:
            ctx: Context of the command.
            formatter: Receives one section per group that is not empty.
        """
        of_settings = {option.name for option in settings_options(self.settings)}
        groups: dict[str, list[tuple[str, str]]] = {title: [] for title in ("Search", *GROUPS)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                named = (title for title, names in GROUPS.items() if parameter.name in names)
                groups[next(named, "Search" if parameter.name in of_settings else OTHERS)].append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


@cache
def settings_options(model: str) -> tuple[click.Option, ...]:
    """Return one option per field of a model of `winnow.search.settings`. The value of an option that is not given is None."""
    from winnow.search import settings

    return tuple(map(_option_of, settings.option_specs(getattr(settings, model))))


def _option_of(spec: OptionSpec) -> click.Option:
    owner = "the space's, or " if spec.in_space else ""
    default = "" if spec.default is None else f"  [default: {owner}{_shown(spec.default)}]"
    name = spec.name.replace("_", "-")
    if spec.types == ("boolean",):
        return click.Option([f"--{name}/--no-{name}"], default=None, help=spec.text + default)
    if spec.repeated:
        return click.Option(
            [f"--{name}"],
            type=_type_of(spec),
            multiple=True,
            callback=lambda context, option, values: list(values) or None,
            help=f"{spec.text} May be repeated.",
        )
    return click.Option([f"--{name}"], type=_type_of(spec), help=spec.text + default)


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"{default:g}" if isinstance(default, float) else str(default)


def _type_of(spec: OptionSpec) -> click.ParamType:
    if spec.choices:
        return click.Choice(spec.choices)
    if spec.types == ("integer",):
        minimum, maximum = (None if bound is None else int(bound) for bound in (spec.minimum, spec.maximum))
        return click.IntRange(min=minimum, max=maximum)
    if spec.types == ("number",):
        above = spec.above is not None
        return click.FloatRange(min=spec.above if above else spec.minimum, max=spec.maximum, min_open=above)
    return click.STRING


def _together(*options: Option) -> Option:
    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


space_options = _together(
    trust_option,
    click.argument("space", shell_complete=complete_space),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="PATH=VALUE",
        shell_complete=complete_key,
        help="Override any key, such as --set optimizer.lr=0.01; may be repeated.",
    ),
)
change_options = _together(
    trust_option,
    click.option(
        "--space",
        metavar="SPACE",
        help="Continue in this space instead. Trials inside it inform the search; the others remain in the report only.",
    ),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="PATH=VALUE",
        shell_complete=complete_key,
        help="Change any key of the space; may be repeated.",
    ),
    click.option(
        "--accept-space-change",
        is_flag=True,
        help="Apply the change of the space. Without this flag the change is only described (exit code 2).",
    ),
)
extension_options = _together(
    click.option(
        "--trials",
        type=click.IntRange(min=1),
        help="Number of trials to add to those requested so far; the time budget of the run, if any, still applies.",
    ),
    click.option(
        "--time-budget",
        metavar="TIME",
        help="Continue for this long: 90s, 5m, 2h. Alone, with as many new trials as fit; with --trials, with at most that many.",
    ),
    click.option(
        "--max-epochs",
        type=click.IntRange(min=1),
        help="New number of epochs of a full training; rungs are added above. Trials that had reached the end run again "
        "first, from their first epoch, in addition to --trials.",
    ),
)
data_options = _together(
    click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        envvar="WINNOW_DATA_DIR",
        help="Folder of cifar10 and cifar100.  [default: data]",
    ),
    click.option("--download", is_flag=True, help="Download the data set if it is missing."),
)
run_options = _together(
    click.option("--name", help="Name of the run folder.  [default: the space's]"),
    click.option(
        "--runs-dir",
        type=click.Path(path_type=Path),
        default=Path("runs"),
        show_default=True,
        help="Folder that contains the run folders.",
    ),
    click.option(
        "--storage",
        metavar="URI",
        help="Location that workers write to, for clusters: s3://..., gs://..., or a folder that all nodes mount.  [default: the run folder]",
    ),
)
search_options = click.option(
    "--warm-start",
    metavar="OLD_RUN",
    help="Start the sampler with the trials of another run that has the same data, split, epochs and objective.",
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Device for training; auto prefers a GPU.",
)
device_options = _together(
    device_option,
    click.option(
        "--concurrent",
        type=NumberOrAuto(),
        metavar="N|auto",
        help="Number of concurrent trials; auto measures which number trains the most images per second.",
    ),
    click.option(
        "--cpus-per-trial", type=click.IntRange(min=1), help="Number of CPUs for each trial.  [default: an equal share]"
    ),
    click.option(
        "--trials-per-gpu",
        type=NumberOrAuto(),
        metavar="N|auto",
        help="Number of trials that share a GPU.  [default: auto, which measures memory and speed]",
    ),
    click.option(
        "--gpus-per-trial",
        type=click.FloatRange(min=0),
        help="Number of GPUs for each trial: a fraction such as 0.25, or several such as 2.",
    ),
    click.option(
        "--mps",
        is_flag=True,
        help="Start a CUDA MPS daemon on this machine, so that trials that share a GPU compute at the same time.",
    ),
    click.option(
        "--num-cpus",
        type=click.IntRange(min=1),
        help="Number of CPUs to use; on a cluster, the number that it may grow to.  [default: all]",
    ),
    click.option(
        "--num-gpus",
        type=click.IntRange(min=0),
        help="Number of GPUs to use; on a cluster, the number that it may grow to.  [default: all]",
    ),
    click.option("--address", metavar="ADDR", help="Address of a running Ray cluster: auto, or host:port."),
    click.option("--quiet", is_flag=True, help="Show no progress."),
)
events_as_json = json_option("Write one JSON object per event to standard output.")
log_option = click.option(
    "--log",
    multiple=True,
    type=click.Choice(["tensorboard", "mlflow", "wandb"]),
    help="Also log to TensorBoard, MLflow or Weights & Biases, one run per trial and per retraining; may be repeated.",
)
