"""Builds the models of winners once in a separate process, before this process builds them, so that one that ends its process is named."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from winnow.reports.reading.run import read_retrained
from winnow.search.operations.build_check import check_own_parts
from winnow.search.storage.run_folder import RunFolder
from winnow.spaces.errors import InputError
from winnow.spaces.grammar.plain_yaml import read_plain
from winnow.spaces.schema import Config


def check_winners_build(folder: RunFolder) -> None:
    """Build the custom models of all retrained winners of a run.

    Args:
        folder: The run. Damage in its records is left to the code that reads them next.

    Raises:
        InputError: A model cannot be built, or ended its process.
    """
    try:
        about = folder.read_study()["data"]
        configs = [line["config"] for line in read_retrained(folder.path)[0] if line["rank"] is not None]
        _check_builds(configs, about)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError):
        return


def check_export_builds(folder: Path) -> None:
    """Build the custom models of an exported winner, or of all networks of an exported ensemble.

    Args:
        folder: The exported winner. Damage in it is left to the code that reads it next.

    Raises:
        InputError: A model cannot be built, or ended its process.
    """
    for file in sorted(folder.rglob("config.yaml")):
        try:
            _check_builds([read_plain(file)], json.loads((file.parent / "model.json").read_text(encoding="utf-8")))
        except InputError:
            raise
        except (KeyError, OSError, RecursionError, TypeError, ValueError, yaml.YAMLError):
            continue


def _check_builds(configs: Sequence[Any], about: Mapping[str, Any]) -> None:
    channels, height, width = map(int, about["image_shape"])
    num_classes = len(about["class_names"])
    check_own_parts(
        [Config.model_validate(config) for config in configs], (channels, height, width), num_classes, kinds=("model",)
    )
