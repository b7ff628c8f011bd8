"""The commands that show runs and use their results: show, query, compare, report, export, predict, verify, serve.

None of them uses a cluster.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from copy import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from winnow.search.cli.common import BAD_INPUT, DONE, FAILED, console, source_of
from winnow.search.cli.complete import complete_column, complete_run
from winnow.search.cli.json_output import json_option, write_json
from winnow.search.cli.options import data_options, events_as_json
from winnow.search.cli.trust import check_export, check_run, trust_option

MAX_PRINTED_ROWS = 1000
"""Largest number of rows of a query that are printed as a table."""


@click.command()
@click.argument("run", required=False, shell_complete=complete_run)
@click.option("--trial", type=click.IntRange(min=0), help="Show everything about this trial.")
@click.option("--mistakes", is_flag=True, help="List the test images that the winner gets wrong, with file or row.")
@click.option("--follow", is_flag=True, help="Refresh while the run continues, until it ends.")
@click.option(
    "--sort",
    metavar="COLUMN",
    shell_complete=complete_column,
    help="Sort by a column of trials.parquet; -COLUMN for descending order.",
)
@click.option(
    "--where",
    metavar="CONDITION",
    shell_complete=complete_column,
    help="""List only matching trials, such as "optimizer.name == 'sgd' and num_epochs > 3".""",
)
@click.option(
    "--top", type=click.IntRange(min=1), default=10, show_default=True, help="Number of trials or mistakes to list."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Write one JSON object per trial, for all trials and with all columns."
)
def show(
    run: str | None,
    trial: int | None,
    mistakes: bool,
    follow: bool,
    sort: str | None,
    where: str | None,
    top: int,
    as_json: bool,
) -> int:
    """Show a run in the terminal: the space, the progress, the best trials and the winners.

    Without RUN, show the run under runs/ that was started or resumed last.
    """
    from winnow.search.operations.viewing import show as show_run
    from winnow.search.storage.run_folder import newest_run, open_run

    path = (newest_run() if run is None else open_run(run)).path
    if mistakes:
        if follow or as_json or trial is not None or sort or where:
            raise click.UsageError("--mistakes can be combined only with --top")
        _show_mistakes(path, top)
        return DONE
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


def _show_mistakes(path: Path, top: int) -> None:
    from winnow import reports
    from winnow.reports.text.mistakes import show_mistakes

    show_mistakes(reports.read_tables(path), console(), top)


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
@click.argument("run", shell_complete=complete_run)
@click.argument("sql")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object per row.")
@click.option("--csv", "as_csv", is_flag=True, help="Write CSV with a header.")
def query(run: str, sql: str, as_json: bool, as_csv: bool) -> int:
    """Run one SQL query (DuckDB) on the tables of RUN: trials, epochs, winners, predictions, and the others in docs/reports.md.

    Example: winnow query mine "select status, count(*) from trials group by status"

    RUN may also be the folder of a training (`winnow train --output`), with the tables training, epochs, predictions, classes and environment.
    """
    from winnow.search.operations import viewing

    table = viewing.query(run, sql)
    if as_csv:
        from pyarrow import csv

        csv.write_csv(_visible(table) if sys.stdout.isatty() else table, sys.stdout.buffer)
    elif as_json:
        for batch in table.to_batches(max_chunksize=10_000):
            click.echo("\n".join(json.dumps(row, default=str) for row in batch.to_pylist()))
    else:
        _print_rows(table.column_names, table.slice(0, MAX_PRINTED_ROWS).to_pylist())
        if table.num_rows > MAX_PRINTED_ROWS:
            note = f"winnow: these are the first {MAX_PRINTED_ROWS:,} of {table.num_rows:,} rows; --csv or --json writes all of them"
            click.echo(note, err=True)
    return DONE


def _visible(table: Any) -> Any:
    """Replace what a terminal would execute in the names and the texts of an Arrow table. Files and pipes get the texts themselves."""
    import pyarrow as pa

    from winnow.reports.visible import visible

    def shown(column: Any) -> Any:
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            return column
        return pa.array([text if text is None else visible(text) for text in column.to_pylist()], pa.string())

    return pa.table([shown(column) for column in table.columns], [visible(name) for name in table.column_names])


def _print_rows(columns: list[str], rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    from winnow.reports.visible import rich_text

    table = Table(*map(rich_text, columns), box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(rich_text("" if value is None else str(value)) for value in row.values()))
    console().print(table)


@click.command()
@click.argument("runs", nargs=-1, required=True, shell_complete=complete_run)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def compare(runs: tuple[str, ...], as_json: bool) -> int:
    """Compare the winners of RUNS with that of the first run: differences with intervals, or why they are not comparable."""
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
    help="Export the best winner, by the objective of the search, with at most this many parameters.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Folder to write; it must not exist.  [default: RUN/winner-RANK, or RUN/ensemble]",
)
@click.option("--weights-only", is_flag=True, help="Write no torch.export program and no ONNX file.")
@click.option(
    "--ensemble",
    is_flag=True,
    help="Write all networks of all winners as one ensemble, which predicts the mean of their probabilities.",
)
@trust_option
def export(
    run: str,
    winner: int | None,
    max_parameters: int | None,
    output: Path | None,
    weights_only: bool,
    ensemble: bool,
    trust_code: bool,
) -> int:
    """Export a winner as a folder that can be used elsewhere: recipe, weights, programs and model card."""
    from winnow.search.storage.run_folder import open_run

    if winner is not None and max_parameters is not None:
        raise click.UsageError("--winner and --max-parameters both choose the winner; give one of them")
    if ensemble and not (winner is None and max_parameters is None):
        raise click.UsageError("--ensemble exports all winners; leave out --winner and --max-parameters")
    opened = open_run(run)
    check_run(opened, trust_code)
    opened.read_study()  # report a damaged run before torch is imported
    from winnow.search.operations.trust import check_export_code
    from winnow.search.operations.winner_check import check_winners_build
    from winnow.search.winners.exporting import export as write
    from winnow.search.winners.winner import best_within

    check_winners_build(opened)

    rank = (winner or 1) if max_parameters is None else best_within(opened, max_parameters)
    folder = write(opened, rank, output, weights_only, ensemble)
    check_export_code(folder, trusted=True)  # remembered, so that the command printed below does not ask
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        click.echo(f"{file.stat().st_size:>12,}  {file}")
    click.echo(f"next     {shlex.join(['winnow', 'predict', str(folder)])} IMAGE...")
    return DONE


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of most probable classes to print or write.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the predictions to a .csv, .json or .parquet file.",
)
@json_option("Write one JSON object per image, with the probability of every class.")
@trust_option
def predict(
    folder: Path, images: tuple[Path, ...], top: int, output: Path | None, as_json: bool, trust_code: bool
) -> int:
    """Predict the class of each of IMAGES (files, or folders with their sub-folders) with an exported winner."""
    from winnow.reports.tables.prediction_files import check_output, write_predictions

    if output is not None:
        check_output(output)
    check_export(folder, trust_code)
    from winnow.search.winners.weight_files import check_exported_weights

    check_exported_weights(folder)
    from winnow.search.operations.winner_check import check_export_builds

    check_export_builds(folder)
    from winnow.search.data.foreign import shown
    from winnow.search.data.walking import left_out_note
    from winnow.search.winners.predicting import expanded, predict_each

    left_out: Counter[str] = Counter()
    files, num_errors = expanded(images, left_out), 0
    for note in left_out_note(left_out):
        click.echo(f"winnow: {note}", err=True)
    width = max(len(shown(file)) for file in files)
    rows: list[dict[str, Any]] = []
    for prediction in predict_each(folder, files):
        num_errors += prediction.error is not None
        rows += _prediction_rows(prediction, top) if output is not None else []
        if as_json:
            write_json(_as_json(prediction))
        elif prediction.error:
            click.echo(f"winnow: {prediction.error}", err=True)
        elif output is None:
            size = prediction.resized_from
            note = f"  (resized from {size[0]}x{size[1]})" if size else ""
            classes = ", ".join(f"{probability:>8.2%}  {shown(name)}" for name, probability in prediction.ranked[:top])
            click.echo(f"{prediction.file:<{width}}  {classes}{note}")
    if output is not None:
        write_predictions(rows, output)
        if not as_json:
            click.echo(f"written  {output}")
    return BAD_INPUT if num_errors else DONE


def _prediction_rows(prediction: Any, top: int) -> list[dict[str, Any]]:
    """Return the rows about one image in a file of predictions."""
    row = {"file": prediction.file, "rank": None, "class": None, "probability": None, "error": prediction.error}
    if prediction.error:
        return [row]
    ranked = enumerate(prediction.ranked[:top], start=1)
    return [row | {"rank": rank, "class": name, "probability": probability} for rank, (name, probability) in ranked]


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


@click.command(name="verify")
@click.argument("run", shell_complete=complete_run)
@click.option("--trial", type=click.IntRange(min=0), required=True, help="Number of the trial.")
@click.option("--device", type=click.Choice(["cpu", "cuda", "mps"]), help="[default: the run's]")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: the run's]")
@data_options
@trust_option
@events_as_json
def verify(
    run: str, trial: int, device: str | None, threads: int | None, trust_code: bool, as_json: bool, **data: Any
) -> int:
    """Verify a trial of RUN: train it again, without Ray, and compare it with the record, epoch by epoch.

    The exit code is 0 if every figure is bit-for-bit equal, else 1; the first difference is then shown, and what has changed since.
    """
    from winnow.reports.visible import visible
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
        click.echo(f"trial {trial}: all figures of {result.epochs} epochs are bit-for-bit equal")
    else:
        difference = "" if result.first.size is None else f" (difference {result.first.size:.3g})"
        text = (
            f"trial {trial}: first difference at epoch {result.first.epoch}: {result.first.figure} was {result.first.recorded}, is "
            f"{result.first.now}{difference}"
        )
        click.echo(visible(text))
        largest = ", ".join(f"{figure} {size:.3g}" for figure, size in result.largest.items())
        click.echo(f"largest over {result.epochs} epochs: {largest}" if largest else "")
        reasons = result.changed or (
            "nothing that the run records; on a GPU, the order of additions may vary from run to run",
        )
        click.echo(visible("what changed since then:\n" + "\n".join(f"  {reason}" for reason in reasons)))
    return DONE if result.equal else FAILED


@click.command()
@click.argument("run", shell_complete=complete_run)
def report(run: str) -> int:
    """Write the tables and the HTML report of a run, or of a `train --output` folder. The run may still be in progress."""
    from winnow.search.operations.viewing import report as write_report

    click.echo(write_report(run))
    return DONE


@click.command()
@click.argument("runs", nargs=-1, shell_complete=complete_run)
@click.option(
    "--port",
    type=click.IntRange(min=0, max=65535),
    default=8266,
    show_default=True,
    help="Port to listen on; 0: any free port.",
)
def serve(runs: tuple[str, ...], port: int) -> int:
    """Serve the reports of RUNS to a browser on this machine, also while they run; without RUNS, those of all runs under runs/.

    The page is the one that `winnow report` writes, with the current state of the run. Nothing is written. Ctrl-C ends the server.
    """
    from winnow.search.operations.serving import make_server

    with make_server(runs, port) as server:
        click.echo(f"serving  {server.url}  ({', '.join(server.runs)}); Ctrl-C ends it")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("ended")
    return DONE


rerun = copy(verify)
rerun.name, rerun.hidden = "rerun", True  # the former name, until version 0.2

RUN_COMMANDS = (show, query, compare, report, export, predict, verify, rerun, serve)
