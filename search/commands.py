"""The commands that look at runs and use what they found: show, compare, export, predict. None of them starts Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

DONE, BAD_INPUT = 0, 2


@click.command()
@click.argument("run")
@click.option("--winner", type=click.IntRange(min=1), default=1, show_default=True, help="Its rank among the winners.")
@click.option("--output", type=click.Path(path_type=Path), help="A new folder.  [default: RUN/winner-RANK]")
@click.option("--weights-only", is_flag=True, help="No torch.export program and no ONNX.")
def export(run: str, winner: int, output: Path | None, weights_only: bool) -> int:
    """Write a winner as a folder to use elsewhere: recipe, weights, programs, model card."""
    from search.export import export as write
    from search.folder import open_run

    folder = write(open_run(run), winner, output, weights_only)
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
    from search.predict import predict as predict_files

    found = predict_files(folder, images)
    width = max(len(prediction.file) for prediction in found)
    for prediction in found:
        if as_json:
            click.echo(json.dumps(_as_json(prediction)))
        elif prediction.error:
            click.echo(f"winnow: {prediction.error}", err=True)
        else:
            name, probability = prediction.best
            size = prediction.resized_from
            note = f"  (resized from {size[0]}x{size[1]})" if size else ""
            click.echo(f"{prediction.file:<{width}}  {probability:>8.2%}  {name}{note}")
    return BAD_INPUT if any(prediction.error for prediction in found) else DONE


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


COMMANDS = (export, predict)
