"""The commands that look at runs and use their results: show, compare, report, export, predict, rerun. None starts Ray."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from winnow.search.cli.common import BAD_INPUT, DONE, FAILED, console, source_of
from winnow.search.cli.json_output import json_option, write_json
from winnow.search.cli.options import complete_run, data_options, events_as_json
from winnow.search.cli.trust import check_export, check_run, trust_option


@click.command()
@click.argument("run", shell_complete=complete_run)
@click.option("--trial", type=click.IntRange(min=0), help="Show everything about this trial.")
@click.option("--follow", is_flag=True, help="Refresh while the run continues, until it ends.")
@click.option("--sort", metavar="COLUMN", help="Order by a column of trials.parquet; -COLUMN for descending order.")
@click.option(
    "--where", metavar="CONDITION", help="""Only matching trials, e.g. "optimizer.name == 'sgd' and num_epochs > 3"."""
)
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Number of trials to list.")
@click.option(
    "--json", "as_json", is_flag=True, help="Write one JSON object per trial (all of them), with every column."
)
def show(
    run: str, trial: int | None, follow: bool, sort: str | None, where: str | None, top: int, as_json: bool
) -> int:
    """Show a run in the terminal: what was searched, progress, the best trials, the winners."""
    from winnow.search.operations.viewing import show as show_run
    from winnow.search.storage.run_folder import open_run

    path = open_run(run).path
    if follow and (as_json or trial is not None):
        raise click.UsageError("--follow shows the run as a whole; leave out --json and --trial")
    if follow:
        from winnow.search.views.follow import follow as follow_run

        follow_run(path, console(), lambda paper: show_run(path, paper, sort=sort, where=where, top=top))
    elif as_json:
        _show_json(path, trial, sort, where)
    else:
        show_run(path, console(), trial=trial, sort=sort, where=where, top=top)
    return DONE


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
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def compare(runs: tuple[str, ...], as_json: bool) -> int:
    """Compare the winners of RUNS with that of the first: differences with intervals, or why they are not comparable."""
    from winnow.search.operations.viewing import compare as compare_runs

    comparison = compare_runs(runs)
    if as_json:
        differences = comparison.protocol_differences
        facts = {"comparable": comparison.comparable, "protocol_differences": differences, "runs": comparison.rows}
        click.echo(json.dumps(facts))
    else:
        from winnow.reports.text.compare import show_comparison

        show_comparison(comparison.data, console())
    return DONE if comparison.comparable else FAILED


@click.command()
@click.argument("run", shell_complete=complete_run)
@click.option("--winner", type=click.IntRange(min=1), help="Rank of the winner.  [default: 1]")
@click.option(
    "--max-parameters",
    type=click.IntRange(min=1),
    help="Export the best winner, by the objective of the search, with at most so many parameters.",
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder to write; it must not exist.  [default: RUN/winner-RANK]"
)
@click.option("--weights-only", is_flag=True, help="Write no torch.export program and no ONNX file.")
@trust_option
def export(
    run: str,
    winner: int | None,
    max_parameters: int | None,
    output: Path | None,
    weights_only: bool,
    trust_code: bool,
) -> int:
    """Write a winner as a folder to use elsewhere: recipe, weights, programs, model card."""
    from winnow.search.storage.run_folder import open_run

    if winner is not None and max_parameters is not None:
        raise click.UsageError("--winner and --max-parameters both choose the winner; give one of them")
    opened = open_run(run)
    check_run(opened, trust_code)
    opened.read_study()  # refuse what can be refused before torch is imported
    from winnow.search.winners.exporting import export as write
    from winnow.search.winners.winner import best_within

    rank = (winner or 1) if max_parameters is None else best_within(opened, max_parameters)
    folder = write(opened, rank, output, weights_only)
    for file in sorted(folder.iterdir()):
        click.echo(f"{file.stat().st_size:>12,}  {file}")
    click.echo(f"next     winnow predict {folder} IMAGE...")
    return DONE


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option("Write one JSON object per image, with the probability of every class.")
@trust_option
def predict(folder: Path, images: tuple[Path, ...], as_json: bool, trust_code: bool) -> int:
    """Predict the class of each of IMAGES (files, or folders of them) with an exported winner."""
    check_export(folder, trust_code)
    from winnow.search.data.foreign import shown
    from winnow.search.winners.predicting import expanded, predict_each

    files, num_errors = expanded(images), 0
    width = max(len(shown(file)) for file in files)
    for prediction in predict_each(folder, files):
        num_errors += prediction.error is not None
        if as_json:
            write_json(_as_json(prediction))
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
@click.option("--trial", type=click.IntRange(min=0), required=True, help="Number of the trial.")
@click.option("--device", type=click.Choice(["cpu", "cuda", "mps"]), help="[default: the run's]")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: the run's]")
@data_options
@trust_option
@events_as_json
def rerun(
    run: str, trial: int, device: str | None, threads: int | None, trust_code: bool, as_json: bool, **data: Any
) -> int:
    """Train a trial of RUN again, without Ray, and compare it with the record, epoch by epoch.

    Exits with 0 if every figure is equal bit for bit; else with 1, the first difference, and what changed since then.
    """
    from winnow.search.operations.rerunning import rerun as train_again
    from winnow.search.storage.run_folder import open_run

    opened = open_run(run)
    check_run(opened, trust_code)
    result = train_again(opened, trial, source_of(data), device, threads)
    if as_json:
        first = result.first and asdict(result.first) | {"size": result.first.size}
        write_json({**asdict(result), "equal": result.equal, "first": first})
        return DONE if result.equal else FAILED
    if result.first is None:
        click.echo(f"trial {trial}: all figures of {result.epochs} epochs are equal, bit for bit")
    else:
        difference = "" if result.first.size is None else f" (difference {result.first.size:.3g})"
        click.echo(
            f"trial {trial}: first difference at epoch {result.first.epoch}: {result.first.figure} was {result.first.recorded}, is "
            f"{result.first.now}{difference}"
        )
        largest = ", ".join(f"{figure} {size:.3g}" for figure, size in result.largest.items())
        click.echo(f"largest over {result.epochs} epochs: {largest}" if largest else "")
        reasons = result.changed or (
            "nothing that the run records; on a GPU, kernels may add in a different order each time",
        )
        click.echo("what changed since then:\n" + "\n".join(f"  {reason}" for reason in reasons))
    return DONE if result.equal else FAILED


@click.command()
@click.argument("run", shell_complete=complete_run)
def report(run: str) -> int:
    """Write the tables and the HTML report of a run, or of a `train --output` folder; also while it is running."""
    from winnow.search.operations.viewing import report as write_report

    click.echo(write_report(run))
    return DONE


RUN_COMMANDS = (show, compare, report, export, predict, rerun)
