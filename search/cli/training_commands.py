"""The commands around recipes, spaces and data sets: init, spaces, prepare, train, bench-recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from winnow.search.cli.common import DONE, FAILED, console, execution
from winnow.search.cli.complete import complete_key, complete_space
from winnow.search.cli.options import data_options, device_option, device_options, space_options
from winnow.search.cli.trust import check_space, trust_option

_fit_validation_option = click.option(
    "--fit-validation",
    is_flag=True,
    help="Also train on the validation images, as the retraining of a winner does; the weights of the last epoch are tested.",
)


@click.command()
@space_options
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Random seed of split, initial weights and data order.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Folder for weights, learning curves and figures.")
@click.option("--resume", is_flag=True, help="Continue from the checkpoint in --output.")
@device_option
@click.option("--threads", type=click.IntRange(min=1), help="Number of CPU threads.  [default: all CPUs]")
@_fit_validation_option
@click.option(
    "--micro-batches",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of micro-batches per batch, for gradient accumulation; more of them need less memory.",
)
@data_options
def train(
    space: str, overrides: tuple[str, ...], trust_code: bool, data_dir: Path | None, download: bool, **options: Any
) -> int:
    """Train one recipe (a space in which every value is fixed) without Ray, and test it once."""
    from winnow.search.data.source import Source
    from winnow.search.operations.checks import check_weight_headers
    from winnow.search.operations.execution import DATA_DIR
    from winnow.spaces import catalog

    source = Source(data_dir or DATA_DIR, download)
    recipe = catalog.load(space, overrides)
    check_space(recipe, trust_code)
    check_weight_headers(recipe)

    from winnow.search.operations.training import train_recipe  # imports torch

    train_recipe(recipe, source=source, console=console(), **options)
    return DONE


@click.command()
@click.argument("recipes", nargs=-1, required=True)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    shell_complete=complete_key,
    help="Override a key of every recipe.",
)
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Number of seeds per recipe.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("runs/bench-recipes"),
    show_default=True,
    help="Folder for the trainings and the table of results.",
)
@_fit_validation_option
@data_options
@device_options
def bench_recipes(
    recipes: tuple[str, ...],
    overrides: tuple[str, ...],
    seeds: int,
    output: Path,
    fit_validation: bool,
    **options: Any,
) -> int:
    """Train RECIPES (names, or patterns such as 'cifar100-a*') as published, and compare the results with the published figures.

    Trainings with a result in --output are not repeated; interrupted ones are continued.
    """
    from winnow.search.operations.reproduction import bench_recipes as reproduce

    with execution(options) as context:
        table, num_failed = reproduce(
            recipes, overrides, seeds=seeds, output=output, execution=context, fit_validation=fit_validation
        )
    click.echo(f"table    {table}")
    return FAILED if num_failed else DONE


@click.command()
@click.argument("space", required=False, shell_complete=complete_space)
@click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE", shell_complete=complete_key, help="Override any key."
)
@click.option("--json-schema", is_flag=True, help="Print the JSON schema of spaces and recipes, for editors.")
def spaces(space: str | None, overrides: tuple[str, ...], json_schema: bool) -> int:
    """List the catalog, or show one space: its parameters, conditions and size."""
    if json_schema:
        import json

        from winnow.spaces.schema.json_schema import json_schema as schema

        click.echo(json.dumps(schema(), indent=2))
    elif space is None:
        from winnow.spaces import catalog

        width = max(len(name) for name, _ in catalog.listing())
        for name, description in catalog.listing():
            click.echo(f"{name:<{width}}  {description}")
        click.echo("\nPrint one: winnow spaces NAME. Search one: winnow run NAME")
    else:
        from winnow.spaces import catalog
        from winnow.spaces.describe import render

        loaded = catalog.load(space, overrides)
        if loaded.example().data.path is not None:
            from winnow.search.data.source import Source, check_on_images

            check_on_images(loaded, Source(Path("data")))
        console().print(render(loaded))
    return DONE


@click.command()
@click.argument("dataset")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    shell_complete=complete_key,
    help="Override any key of a space.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar="WINNOW_DATA_DIR",
    default=Path("data"),
    show_default=True,
    help="Folder of cifar10 and cifar100.",
)
@click.option("--offline", is_flag=True, help="Download nothing; only convert and check the files that are there.")
@click.option("--accept-change", is_flag=True, help="Accept images that differ from those prepared before.")
@trust_option
def prepare(
    dataset: str, overrides: tuple[str, ...], data_dir: Path, offline: bool, accept_change: bool, trust_code: bool
) -> int:
    """Download, convert and check DATASET (digits, cifar10, cifar100, or a space that names the data), once per machine."""
    from winnow.search.data.prepare import prepare as prepare_data
    from winnow.search.data.prepare import space_named

    if (space := space_named(dataset, overrides)) is not None:  # its data set may be a function, which is called
        check_space(space, trust_code)
    prepared = prepare_data(dataset, overrides, data_dir, offline, accept_change)
    for line in prepared.lines:
        click.echo(line)
    click.echo(f"fingerprint {prepared.data.fingerprint}" + (", as it was prepared before" if prepared.known else ""))
    return DONE


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML file to write.  [default: NAME_OF_FOLDER.yaml]",
)
def init(folder: Path, output: Path | None) -> int:
    """Inspect the images of FOLDER and write a commented space for them, as the start of a search on your own images.

    FOLDER contains one folder of images per class, with or without folders `train`, `validation` and `test` above these.
    """
    from shlex import quote

    from winnow.search.operations.first_space import first_space

    file = output or Path(f"{folder.resolve().name}.yaml")
    for line in first_space(folder, file):
        click.echo(line)
    click.echo(f"written  {file}")
    click.echo(f"next     winnow run {quote(str(file))}")
    return DONE


TRAINING_COMMANDS = (init, spaces, prepare, train, bench_recipes)
