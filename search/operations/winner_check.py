"""Builds the models of winners once in a separate process, before this process builds them, so that one that ends its process is named."""

from __future__ import annotations

from winnow.reports.reading.run import read_retrained
from winnow.search.operations.build_check import check_own_parts
from winnow.search.storage.run_folder import RunFolder
from winnow.spaces.errors import InputError
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
        channels, height, width = map(int, about["image_shape"])
        num_classes = len(about["class_names"])
        lines = [line for line in read_retrained(folder.path)[0] if line["rank"] is not None]
        configs = [Config.model_validate(line["config"]) for line in lines]
    except InputError:
        raise
    except (KeyError, TypeError, ValueError):
        return
    check_own_parts(configs, (channels, height, width), num_classes, kinds=("model",))
