"""One recipe, trained in this process without Ray: `winnow train`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from models import summarize
from search.devices import DeviceName
from search.folder import JsonLines, write_text
from search.operations import Source, check_models, load_data
from search.provenance import available_cpus, hardware, versions
from search.test_set import test_once
from search.training.checkpoint import load, save
from search.training.loop import train
from search.training.pipeline import DeviceData
from search.worker import device_name, epoch_figures
from spaces.check import check
from spaces.errors import InputError
from spaces.space import Space


def train_recipe(
    space: Space,
    *,
    seed: int,
    output: Path | None,
    resume: bool,
    device: DeviceName,
    threads: int | None,
    source: Source,
    console: Console,
) -> dict[str, Any]:
    """Train on the training split, select on the validation split, test once at the end; the final figures.

    With `output`, weights, curves, config and figures are written there, and a checkpoint after every epoch.
    """
    if not space.is_recipe:
        open_keys = ", ".join(parameter.path for parameter in space.parameters()[:5])
        raise InputError(
            f"{space.source}: not a recipe, since these are left open: {open_keys}, ...; "
            "fix them with --set, or search them with: winnow run"
        )
    state = _prepare(output, resume)
    data = load_data(space, source)
    check(space, data.image_shape)
    check_models(space, data)
    config = space.example()
    on = torch.device(choose_torch_device(device))
    torch.set_num_threads(threads or available_cpus())
    summary = summarize(config.model, data.image_shape, data.num_classes)
    console.print(
        f"{space.name} on {device_name(on)}: {summary.num_parameters:,} parameters, "
        f"{summary.multiply_adds:,} multiply-adds per image, {config.epochs} epochs, seed {seed}"
    )
    on_device = DeviceData.build(data, config.data, on, seed)
    lines = JsonLines(output / "epochs.jsonl") if output else None
    started = time.monotonic()
    result = None
    for result in train(config, on_device, on, seed, checkpoint=state):
        figures = epoch_figures(result)
        console.print(_line(figures, config.epochs))
        if lines and output:
            lines.append({"phase": "train", "seed": seed, **figures, "batch_losses": result.batch_losses.tolist()})
            save(output / "checkpoint.pt", result.state())
    if result is None:
        raise InputError(f"{output}: this training is complete; there is nothing to go on with")
    wall_seconds = round(time.monotonic() - started, 3)
    if result.diverged:
        console.print(f"diverged in epoch {result.epoch}: the loss is no longer finite")
        return {"status": "diverged", "epochs": result.epoch}
    predictions = output / "predictions.npz" if output else None
    weights = result.weights()
    test = test_once(config, weights, on_device, data, predictions)
    console.print(
        f"test accuracy {test['test_accuracy']:.4f}, test loss {test['test_loss']:.4f} "
        f"(weights of epoch {result.weights_epoch}; the test set was looked at once)"
    )
    final = {
        "status": "completed",
        **test,
        "epochs": result.epoch,
        "weights_epoch": result.weights_epoch,
        "seed": seed,
        "wall_seconds": wall_seconds,
        "num_parameters": summary.num_parameters,
        "multiply_adds": summary.multiply_adds,
        "device": device_name(on),
        "versions": versions(),
        "hardware": hardware(),
        "data_fingerprint": data.fingerprint,
    }
    if output:
        save(output / "weights.pt", {"weights": weights, "config": config.model_dump(mode="json")})
        write_text(output / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        write_text(output / "result.json", json.dumps(final, indent=2))
        console.print(f"weights, curves and figures: {output}")
    return final


def choose_torch_device(asked: DeviceName) -> str:
    if asked == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if asked == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU here; use --device cpu, or check CUDA_VISIBLE_DEVICES")
    return asked


def _prepare(output: Path | None, resume: bool) -> dict[str, Any] | None:
    """The checkpoint to go on from; refuses to write over an earlier training."""
    if output is None:
        if resume:
            raise InputError("--resume needs --output, the folder that holds the checkpoint")
        return None
    checkpoint = output / "checkpoint.pt"
    if resume:
        if not checkpoint.exists():
            raise InputError(f"{checkpoint}: no checkpoint to go on from")
        return load(checkpoint)
    if checkpoint.exists():
        raise InputError(f"{output}: holds a training already; go on with it: --resume; or choose another --output")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {output}: cannot write there ({error.strerror})") from error
    return None


def _line(figures: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {figures['epoch']:>3}/{epochs}  "
        f"train loss {figures['train_loss']:.4f} acc {figures['train_accuracy']:.4f}  "
        f"validation loss {figures['validation_loss']:.4f} acc {figures['validation_accuracy']:.4f}  "
        f"lr {figures['lr']:.2g}  {figures['images_per_second']:.0f} images/s"
    )
