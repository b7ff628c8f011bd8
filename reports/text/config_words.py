"""A config in a line of words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from winnow.reports.text.wording import plural, range_text


def describe(config: Mapping[str, Any]) -> str:
    """Describe a config on one line of a table. The most important values come first, because the end may be cut off."""
    model, loop = config["model"], config.get("train")
    parts = [model["name"], backbone(model), _sizes(model)]
    if loop:
        parts.append(f"loop {loop['name']}")
        parts += [_setting(key, value) for key, value in loop.items() if key != "name"]
    else:
        parts.append(f"{config['optimizer']['name']} {config['optimizer']['lr']:.2g}")
        parts.append(config["schedule"]["name"])
    parts.append(f"batch {config['batch_size']}")
    if model.get("dropout"):
        parts.append(f"dropout {model['dropout']:.2g}")
    parts += [str(model[key]) for key in ("activation", "norm") if model.get(key) not in (None, "none")]
    if model.get("head"):
        parts.append(f"head {'-'.join(map(str, model['head']))}")
    return " ".join(filter(None, parts))


def backbone(model: Mapping[str, Any]) -> str:
    """Return the name of the backbone of a model, which is the file of its weights if it is an earlier winner; empty if it has none.

    Args:
        model: The `model` section of a config.
    """
    named = model.get("backbone") or ""
    return named if isinstance(named, str) else Path(named["weights"]).name


def layer_widths(model: Mapping[str, Any]) -> list[str]:
    """Return the width of each hidden layer, stage or block, first to last; empty if only the code of the family knows them.

    Args:
        model: The `model` section of a config.
    """
    if model["name"] == "vit":
        return [str(model["width"])] * model["depth"]
    layers: list[Any] = next(
        (model[key] for key in ("stages", "blocks", "hidden") if isinstance(model.get(key), list)), []
    )
    return [str(layer.get("filters", "?") if isinstance(layer, Mapping) else layer) for layer in layers]


def _sizes(model: Mapping[str, Any]) -> str:
    if model["name"] == "vit":
        return f"{model['width']}x{model['depth']} patch {model['patch']}"
    return "-".join(layer_widths(model))


def _setting(key: str, value: Any) -> str:
    return f"{key} {value:.2g}" if isinstance(value, float) else f"{key} {value}"


def short_winner(row: Mapping[str, Any], num_epochs: Sequence[int] = ()) -> str:
    """Return the config of a row of `winners` in a few words, such as `cnn 16-64 adam 0.0045 constant batch 64, 18 epochs`.

    Args:
        row: The row.
        num_epochs: As for `epochs_text`.
    """
    config = json.loads(row["config"])
    words = describe({**config, "model": {**config["model"], "activation": None, "norm": None, "head": None}})
    return f"{words}, {epochs_text(config, num_epochs)}"


def epochs_text(config: Mapping[str, Any], num_epochs: Sequence[int] = ()) -> str:
    """Return for how many epochs a config was trained, such as `18 epochs`, or `9 to 14 of 18 epochs` if trainings ended earlier.

    Args:
        config: The complete config.
        num_epochs: Number of finished epochs of each of its trainings. Default: all of the config.
    """
    planned = config.get("stop_after") or config["epochs"]
    fewer = f"{range_text(num_epochs)} of " if num_epochs and min(num_epochs) < planned else ""
    return f"{fewer}{plural(planned, 'epoch')}"
