"""The functions that inspect runs and use their results from Python. Each does the same as the `winnow` command of its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from winnow.search.api.common import ALL_DEVICES, Overrides, Place, as_texts, console, execution, load_space
from winnow.search.data.source import Source
from winnow.search.operations import viewing
from winnow.search.operations.execution import DATA_DIR
from winnow.search.operations.viewing import Comparison
from winnow.search.resources.plan import DeviceName, DeviceOptions
from winnow.search.storage.run_folder import open_run
from winnow.spaces import catalog
from winnow.spaces.space import Space

if TYPE_CHECKING:
    import pandas as pd

    from winnow.search.data.prepare import Prepared
    from winnow.search.operations.rerunning import Rerun
    from winnow.search.winners.predicting import Prediction


def spaces() -> dict[str, str]:
    """List the catalog, as descriptions of the spaces and recipes by their names."""
    return dict(catalog.listing())


def prepare(
    dataset: Place,
    overrides: Overrides = (),
    *,
    data_dir: Place = DATA_DIR,
    offline: bool = False,
    accept_change: bool = False,
) -> Prepared:
    """Download, convert and check a data set, once per machine, as `winnow prepare` does.

    Args:
        dataset: `digits`, `cifar10`, `cifar100`, or a space that names the data set.
        overrides: Values that replace those of the space.
        data_dir: Folder of the data sets CIFAR-10 and CIFAR-100. Default: `data/`.
        offline: Whether to download nothing, and only convert and check the files that are there.
        accept_change: Whether to accept images that differ from those prepared before.

    Returns:
        The images, a summary in sentences, and whether they were prepared before.

    Raises:
        InputError: There is no such data set, or its files are missing or damaged.
    """
    from winnow.search.data.prepare import prepare as prepare_data

    return prepare_data(str(dataset), as_texts(overrides), Path(data_dir), offline, accept_change)


def report(run: Place) -> Path:
    """Write the tables and the HTML report of a run, as `winnow report` does. The run may still be in progress.

    Args:
        run: The run: its path, its name under `runs/`, or a `Run`. A folder that `train(output=...)` wrote is also accepted.

    Returns:
        The HTML file.

    Raises:
        InputError: The folder is neither a run nor a training.
    """
    return viewing.report(Path(run))


def show(
    run: Place, *, trial: int | None = None, where: str | None = None, sort: str | None = None, top: int = 10
) -> None:
    """Print a run, some of its trials, or everything about one trial, as `winnow show` does.

    Args:
        run: The run: its path, its name under `runs/`, or a `Run`.
        trial: Number of the only trial to show, from 0. Default: the whole run is shown.
        where: Condition on columns of the table `trials`, such as `optimizer.name == 'sgd'`. Default: all trials.
        sort: Column to sort by, or `-COLUMN` for descending order. Default: the objective.
        top: Number of trials to list, at least 1. Default: 10.

    Raises:
        InputError: There is no such run, trial or column.
    """
    viewing.show(Path(run), console(), trial=trial, where=where, sort=sort, top=top)


def compare(*runs: Place) -> Comparison:
    """Compare the winners of two or more runs with the winner of the first, as `winnow compare` does.

    Args:
        *runs: Runs: their paths, their names under `runs/`, or `Run` objects.

    Returns:
        The differences with 95 % intervals, or why the runs are not comparable.

    Raises:
        InputError: There are fewer than two runs, or one does not exist.
    """
    return viewing.compare([Path(run) for run in runs])


def train(
    recipe: Space | Place,
    overrides: Overrides = (),
    *,
    seed: int = 0,
    output: Place | None = None,
    resume: bool = False,
    device: DeviceName = "auto",
    threads: int | None = None,
    fit_validation: bool = False,
    micro_batches: int = 1,
    data_dir: Place | None = None,
    download: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train one recipe without Ray and test it once, as `winnow train` does.

    Args:
        recipe: A space in which every value is fixed: a name of the catalog, the path of a YAML file, or a `Space`.
        overrides: Values that replace those of the recipe.
        seed: Random seed of split, initial weights and data order, at least 0.
        output: Folder for weights, curves, figures and a checkpoint after every epoch. Default: nothing is written.
        resume: Whether to continue from the checkpoint in `output`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        threads: Number of CPU threads, at least 1. Default: all CPUs.
        fit_validation: Whether to train on the validation images too, as retraining does.
        micro_batches: Number of micro-batches per batch, for gradient accumulation, at least 1; more of them need less memory.
        data_dir: Folder of the data sets CIFAR-10 and CIFAR-100. Default: `data/`.
        download: Whether to download a data set that is missing.
        quiet: Whether to print nothing.

    Returns:
        The final figures, as in `result.json`: accuracies as fractions, losses, epochs, seconds.

    Raises:
        InputError: The recipe leaves a value open or does not fit the images, or `output` cannot be used.
    """
    from winnow.search.operations.checks import check_weight_headers

    space = load_space(recipe, overrides)
    check_weight_headers(space)

    from winnow.search.operations.training import train_recipe  # imports torch

    return train_recipe(
        space,
        seed=seed,
        output=None if output is None else Path(output),
        resume=resume,
        device=device,
        threads=threads,
        source=Source(Path(data_dir or DATA_DIR), download),
        console=console(quiet),
        fit_validation=fit_validation,
        micro_batches=micro_batches,
    )


def verify(
    run: Place,
    trial: int,
    *,
    device: DeviceName | None = None,
    threads: int | None = None,
    data_dir: Place | None = None,
    download: bool = False,
) -> Rerun:
    """Train a trial again and compare it epoch by epoch with the record, as `winnow verify` does.

    Args:
        run: The run: its path, its name under `runs/`, or a `Run`.
        trial: Number of the trial, from 0.
        device: `cpu`, `cuda` or `mps`. Default: the device of the trial.
        threads: Number of CPU threads, at least 1. Default: the number of the trial.
        data_dir: Folder of the data sets CIFAR-10 and CIFAR-100. Default: the folder that the run recorded.
        download: Whether to download a data set that is missing.

    Returns:
        Whether all figures are equal, the first difference, and what changed since the trial was trained.

    Raises:
        InputError: There is no such trial, it has no finished epoch, or its images have changed.
    """
    from winnow.search.operations.rerunning import rerun as train_again

    source = None if data_dir is None else Source(Path(data_dir), download)
    return train_again(open_run(Path(run)), trial, source, device, threads)


rerun = verify
"""Former name of `verify`, until version 0.2."""


def query(run: Place, sql: str) -> pd.DataFrame:
    """Run one SQL query (DuckDB) on the tables of a run or of one training, as `winnow query` does.

    Args:
        run: The run: its path, its name under `runs/`, or a `Run`. Or the folder of a training by `winnow train --output`.
        sql: The query. The tables are called `trials`, `epochs`, `winners`, and so on.

    Returns:
        The result as a data frame.

    Raises:
        InputError: There is no such run, DuckDB is not installed, or it rejects the query.
    """
    from winnow.search.operations import viewing

    frame: pd.DataFrame = viewing.query(Path(run), sql).to_pandas()
    return frame


def serve(runs: Sequence[Place] = (), port: int = 8266) -> None:
    """Serve the reports of runs on this machine until interrupted with Ctrl-C, as `winnow serve` does.

    Args:
        runs: Run folders, or their names under `runs/`. Default: all runs under `runs/`.
        port: Port on 127.0.0.1, at most 65535; 0 for any free one. Default: 8266.

    Raises:
        InputError: There is no such run, or the port is taken.
    """
    from winnow.search.operations.serving import make_server

    with make_server([Path(run) for run in runs], port) as server:
        console().print(server.url)
        server.serve_forever()


def init(folder: Place, output: Place | None = None) -> Path:
    """Inspect a folder of images and write a commented space for them, as `winnow init` does.

    Args:
        folder: A folder with one subfolder of images per class, which may be grouped into folders `train`, `validation` and `test`.
        output: The YAML file, which must not exist. Default: a file in the current folder that is named after `folder`.

    Returns:
        The path of the YAML file.

    Raises:
        InputError: There are no such images, or the file already exists or cannot be written.
    """
    from winnow.search.operations.first_space import first_space

    file = Path(output) if output is not None else Path(f"{Path(folder).resolve().name}.yaml")
    first_space(Path(folder), file)
    return file


def launch(
    space: Place,
    on: Literal["slurm", "kuberay", "sky"],
    name: str | None = None,
    options: Sequence[str] = (),
    output: Place | None = None,
    *,
    nodes: int = 4,
    gpus_per_node: int = 1,
    cpus_per_node: int = 8,
    gpu: str = "A10G",
    image: str = "your-registry/winnow:0.2.0",
    hours: float = 12.0,
) -> Path:
    """Write the file that searches a space on Slurm, Kubernetes or a cloud, as `winnow launch` does. Nothing is started.

    Args:
        space: The space: a name of the catalog, or the path of a YAML file.
        on: `slurm`, `kuberay` (Kubernetes) or `sky` (SkyPilot).
        name: Name of the run, with lower-case letters, digits and `-`. Default: the name of the space.
        options: Options of `winnow run`, such as `["--trials", "200"]`.
        output: The file to write. Default: a file in the working directory that is named after the run.
        nodes: Largest number of nodes with GPUs.
        gpus_per_node: Number of GPUs of each node.
        cpus_per_node: Number of CPUs of each node.
        gpu: Type of GPU, for SkyPilot.
        image: Container image, for Kubernetes.
        hours: Time limit in hours, for Slurm.

    Returns:
        The path of the file.

    Raises:
        InputError: The space or the name cannot be used, or the file already exists or cannot be written.
    """
    from winnow.search.operations.launch.files import Cluster
    from winnow.search.operations.launch.files import launch as write

    cluster = Cluster(nodes, gpus_per_node, cpus_per_node, gpu, image, hours)
    return write(on, str(space), name, options, cluster, None if output is None else Path(output))[0]


def export(
    run: Place,
    winner: int = 1,
    output: Place | None = None,
    *,
    max_parameters: int | None = None,
    weights_only: bool = False,
    ensemble: bool = False,
) -> Path:
    """Export a winner as a folder that can be used elsewhere, as `winnow export` does: recipe, weights, programs and model card.

    Args:
        run: The run: its path, its name under `runs/`, or a `Run`.
        winner: Rank of the winner, from 1. Default: 1.
        output: Folder to write, which must not exist. Default: `winner-RANK` or `ensemble` in the run folder.
        max_parameters: Export the best winner, by the objective of the search, with at most this many parameters, instead of the
            winner with rank `winner`.
        weights_only: Whether to leave out the `torch.export` program and the ONNX file.
        ensemble: Whether to write all networks of all winners as one ensemble, which predicts the mean of their probabilities.

    Returns:
        The folder.

    Raises:
        InputError: There is no such winner, the folder exists, or a package is missing.
    """
    from winnow.search.winners.exporting import export as write

    folder = open_run(Path(run))
    if max_parameters is not None:
        from winnow.search.winners.winner import best_within

        winner = best_within(folder, max_parameters)
    return write(folder, winner, None if output is None else Path(output), weights_only, ensemble)


def predict(folder: Place, images: Place | Sequence[Place]) -> list[Prediction]:
    """Predict the class of image files with an exported winner, as `winnow predict` does.

    For arrays use `load_winner(run).predict(images)`.

    Args:
        folder: Folder that `export` wrote.
        images: Image files, or folders of them.

    Returns:
        One prediction per file, in the same order. The prediction for a file that is not an image has an `error`.

    Raises:
        InputError: The folder contains no exported winner, or there are no images.
    """
    from winnow.search.winners.predicting import predict as predict_files

    files = images if isinstance(images, Sequence) and not isinstance(images, str) else [images]
    return predict_files(Path(folder), [Path(file) for file in files])


def bench_recipes(
    recipes: Sequence[str],
    overrides: Overrides = (),
    *,
    seeds: int = 1,
    output: Place = "runs/bench-recipes",
    fit_validation: bool = False,
    data_dir: Place | None = None,
    download: bool = False,
    devices: DeviceOptions = ALL_DEVICES,
    address: str | None = None,
    quiet: bool = False,
) -> Path:
    """Train recipes as published and compare with the published figures, as `winnow bench-recipes` does.

    Args:
        recipes: Names of recipes, or patterns such as `cifar100-a*`.
        overrides: Values that replace those of every recipe.
        seeds: Number of seeds per recipe, at least 1.
        output: Folder for the trainings and the table of results. Trainings with a result there are not repeated.
        fit_validation: Whether to train on the validation images too, as retraining does.
        data_dir: Folder of the data sets CIFAR-10 and CIFAR-100. Default: `data/`.
        download: Whether to download a data set that is missing.
        devices: Devices, and how trainings share them.
        address: A running Ray cluster, as `auto` or `host:port`. Default: this machine.
        quiet: Whether to show no progress.

    Returns:
        The path of the table. A training that failed is listed in it, and the next call tries it again.

    Raises:
        InputError: There is no such recipe, or a recipe or option cannot be used.
    """
    from winnow.search.operations.reproduction import bench_recipes as reproduce

    with execution(devices, data_dir, download, address, quiet) as context:
        table, _ = reproduce(
            recipes,
            as_texts(overrides),
            seeds=seeds,
            output=Path(output),
            execution=context,
            fit_validation=fit_validation,
        )
    return table
