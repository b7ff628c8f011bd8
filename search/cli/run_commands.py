"""The commands that look at runs and use what they found: show, compare, export, predict, rerun. None of them starts Ray."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from winnow.search.cli.options import complete_run, data_options, json_option

DONE, FAILED, BAD_INPUT = 0, 1, 2


@click.command()
@click.argument("run", shell_complete=complete_run)
@click.option("--trial", type=click.IntRange(min=0), help="Everything about this trial.")
@click.option("--follow", is_flag=True, help="Show again as the run goes on, until it ends.")
@click.option("--sort", metavar="COLUMN", help="Order by a column of trials.parquet; -COLUMN for descending.")
@click.option(
    "--where", metavar="CONDITION", help="""Only such trials, e.g. "optimizer.name == 'sgd' and num_epochs > 3"."""
)
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many trials to list.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per trial (all of them), with every column.")
def show(
    run: str, trial: int | None, follow: bool, sort: str | None, where: str | None, top: int, as_json: bool
) -> int:
    """A run in the terminal: what was searched, how far it is, the best trials, the winners."""
    from winnow.search.storage.run_folder import open_run

    path = open_run(run).path
    if follow and (as_json or trial is not None):
        raise click.UsageError("--follow shows the run as a whole; leave out --json and --trial")
    if follow:
        from winnow.search.views.follow import follow as follow_run

        follow_run(path, _console(), lambda console: _show(path, console, None, sort, where, top))
    elif as_json:
        _show_json(path, trial, sort, where)
    else:
        _show(path, _console(), trial, sort, where, top)
    return DONE


def _show(path: Path, console: Any, trial: int | None, sort: str | None, where: str | None, top: int) -> None:
    from winnow import reports

    if trial is not None:
        from winnow.reports.text.one_trial import show_trial

        show_trial(reports.read_tables(path), console, trial)
    elif sort is None and where is None:
        reports.show(path, console, top)
    else:
        from winnow.reports.tables.filters import select
        from winnow.reports.text.terminal import show as show_run

        run = reports.read_tables(path)
        show_run(run, console, top, select(run.trials, where, sort))


def _show_json(path: Path, trial: int | None, sort: str | None, where: str | None) -> None:
    from winnow import reports

    if trial is not None:
        from winnow.reports.text.one_trial import trial_facts

        click.echo(json.dumps(trial_facts(reports.read_tables(path), trial), default=_iso))
        return
    for row in reports.select(path, where, sort):
        click.echo(json.dumps(row | {"config": row["config"] and json.loads(row["config"])}, default=_iso))


def _iso(value: Any) -> str:
    return str(value.isoformat())


@click.command()
@click.argument("runs", nargs=-1, required=True, shell_complete=complete_run)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def compare(runs: tuple[str, ...], as_json: bool) -> int:
    """Hold the winners of RUNS against the first one's: the differences with intervals, or why they cannot be compared."""
    from winnow import reports
    from winnow.reports.text.compare import comparison, protocol_differences, show_comparison
    from winnow.search.storage.run_folder import open_run
    from winnow.spaces.errors import InputError

    if len(runs) < 2:
        raise InputError(f"compare: two runs or more are needed, but got {len(runs)}")
    read = [reports.read_tables(open_run(run).path) for run in runs]
    if not as_json:
        return DONE if show_comparison(read, _console()) else FAILED
    different = protocol_differences(read)
    found = {"comparable": not different, "protocol_differences": different, "runs": comparison(read)}
    click.echo(json.dumps(found))
    return FAILED if different else DONE


@click.command()
@click.argument("run", shell_complete=complete_run)
@click.option("--winner", type=click.IntRange(min=1), default=1, show_default=True, help="Its rank among the winners.")
@click.option("--output", type=click.Path(path_type=Path), help="A new folder.  [default: RUN/winner-RANK]")
@click.option("--weights-only", is_flag=True, help="No torch.export program and no ONNX.")
def export(run: str, winner: int, output: Path | None, weights_only: bool) -> int:
    """Write a winner as a folder to use elsewhere: recipe, weights, programs, model card."""
    from winnow.search.storage.run_folder import open_run

    opened = open_run(run)
    opened.read_study()  # what can be refused is refused before torch is imported
    from winnow.search.winners.exporting import export as write

    folder = write(opened, winner, output, weights_only)
    for file in sorted(folder.iterdir()):
        click.echo(f"{file.stat().st_size:>12,}  {file}")
    click.echo(f"next     winnow predict {folder} IMAGE...")
    return DONE


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object per image, with the probability of every class.")
def predict(folder: Path, images: tuple[Path, ...], as_json: bool) -> int:
    """Name the class of each of IMAGES (files, or folders of them) with an exported winner."""
    from winnow.search.data.foreign import shown
    from winnow.search.winners.predicting import expanded, predict_each

    files, num_errors = expanded(images), 0
    width = max(len(shown(file)) for file in files)
    for prediction in predict_each(folder, files):
        num_errors += prediction.error is not None
        if as_json:
            click.echo(json.dumps(_as_json(prediction)))
        elif prediction.error:
            click.echo(f"winnow: {prediction.error}", err=True)
        else:
            name, probability = prediction.best
            size = prediction.resized_from
            note = f"  (resized from {size[0]}x{size[1]})" if size else ""
            click.echo(f"{prediction.file:<{width}}  {probability:>8.2%}  {name}{note}")
    return BAD_INPUT if num_errors else DONE


def _as_json(prediction: Any) -> dict[str, Any]:
    if prediction.error:
        return {"file": prediction.file, "error": prediction.error}
    name, probability = prediction.best
    return {
        "file": prediction.file,
        "class": name,
        "probability": probability,
        "probabilities": prediction.probabilities,
        "resized_from": prediction.resized_from,
    }


@click.command()
@click.argument("run", shell_complete=complete_run)
@click.option("--trial", type=click.IntRange(min=0), required=True, help="Its number.")
@click.option("--device", type=click.Choice(["cpu", "cuda", "mps"]), help="[default: the run's]")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: the run's]")
@data_options
@json_option
def rerun(
    run: str,
    trial: int,
    device: str | None,
    threads: int | None,
    data_dir: Path | None,
    download: bool,
    as_json: bool,
) -> int:
    """Train a trial of RUN again, without Ray, and compare it with what was recorded, epoch by epoch.

    Ends with 0 where every figure is equal bit for bit, with 1 where not: then the first difference, and what is not as it was.
    """
    from winnow.search.data.source import Source
    from winnow.search.operations.rerunning import rerun as train_again
    from winnow.search.storage.run_folder import open_run

    source = None if data_dir is None else Source(data_dir, download)
    found = train_again(open_run(run), trial, source, device, threads)
    if as_json:
        first = found.first and asdict(found.first) | {"size": found.first.size}
        click.echo(json.dumps({**asdict(found), "equal": found.equal, "first": first}))
        return DONE if found.equal else FAILED
    if found.first is None:
        click.echo(f"trial {trial}: all figures of {found.epochs} epochs are equal, bit for bit")
    else:
        difference = "" if found.first.size is None else f" (difference {found.first.size:.3g})"
        click.echo(
            f"trial {trial}: first difference at epoch {found.first.epoch}: {found.first.figure} was {found.first.recorded}, is "
            f"{found.first.now}{difference}"
        )
        largest = ", ".join(f"{figure} {size:.3g}" for figure, size in found.largest.items())
        click.echo(f"largest over {found.epochs} epochs: {largest}" if largest else "")
        reasons = found.changed or (
            "nothing that the run records; on a GPU, kernels may add in another order each time",
        )
        click.echo("what is not as it was:\n" + "\n".join(f"  {reason}" for reason in reasons))
    return DONE if found.equal else FAILED


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False)


@click.command()
@click.argument("dataset")
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override any key of a space.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), envvar="WINNOW_DATA_DIR", default=Path("data"), show_default=True
)
@click.option("--offline", is_flag=True, help="Download nothing; only convert and check what is there.")
@click.option("--accept-change", is_flag=True, help="The images have changed, and are to be used as they are now.")
def prepare(dataset: str, overrides: tuple[str, ...], data_dir: Path, offline: bool, accept_change: bool) -> int:
    """Download, convert and check DATASET (digits, cifar10, cifar100, or that of a space), once per machine."""
    from winnow.search.data.prepare import prepare as prepare_data

    found = prepare_data(dataset, overrides, data_dir, offline, accept_change)
    for line in found.lines:
        click.echo(line)
    click.echo(f"fingerprint {found.data.fingerprint}" + (", as it was prepared before" if found.known else ""))
    return DONE


COMMANDS = (prepare, show, compare, export, predict, rerun)
