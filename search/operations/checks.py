"""Checks a space and its images before anything is launched. These checks need the data, and some need torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.search.data.source import Source, load_data
from winnow.search.operations.build_check import check_own_parts
from winnow.search.operations.limits import limit_notes
from winnow.search.winners.weight_files import check_weights
from winnow.spaces.errors import InputError
from winnow.spaces.grammar.nodes import draw
from winnow.spaces.schema import OwnLoss, TrainedBackbone, Transfer, check_class_weights
from winnow.spaces.space import Space
from winnow.spaces.stub_trials import completions
from winnow.spaces.validation import check, check_metrics, corners

if TYPE_CHECKING:
    from winnow.search.data.image_data import ImageData
    from winnow.search.storage.run_folder import RunFolder

NUM_CONFIGS_TRIED = 20
"""Number of random configs whose custom parts and torchvision model are tested before a search, in addition to every option and the
ends of every range."""


def load_checked(space: Space, source: Source, say: Callable[[str], None] | None = None) -> ImageData:
    """Load the images of a space, and check that all of its networks fit them.

    Args:
        space: The space.
        source: Location of its images.
        say: Receives a message about each custom part that takes long to build. Default: there is no message.

    Returns:
        The images.

    Raises:
        InputError: The images cannot be read, or a network of the space cannot be built for them.
    """
    data = load_data(space, source)
    check_space(space, data, say=say)
    return data


def load_recorded(
    folder: RunFolder, study: dict[str, Any], space: Space, source: Source, name_validation_of: int | None = None
) -> ImageData:
    """Load the images of an existing run.

    Args:
        folder: The run.
        study: Its `study.yaml`.
        space: The space whose `data` section names the images.
        source: Location of the images.
        name_validation_of: Seed of the split whose validation images are named. Default: none are named.

    Returns:
        The images.

    Raises:
        InputError: The images cannot be read, or are not those with which the run began.
    """
    data = load_data(space, source, name_validation_of)
    if data.fingerprint != study["data"]["fingerprint"]:
        raise InputError(
            f"{folder.path}: the data set is not the one this run began with (fingerprint {data.fingerprint}, "
            f"was {study['data']['fingerprint']}); set --data-dir or the space's data.path to the original"
        )
    return data


def check_space(
    space: Space,
    data: ImageData,
    trial_timeout: float | None = None,
    say: Callable[[str], None] | None = None,
    objectives: Sequence[tuple[str, str]] = (),
) -> list[str]:
    """Check that the networks and the metrics of a space fit its images.

    Args:
        space: The space.
        data: Its images.
        trial_timeout: Seconds that each custom part may take, at least 300. Default: that of the space.
        say: Receives a message about each custom part that takes long to build. Default: there is no message.
        objectives: (key, metric) of each metric that ranks the trials. Default: none, as for a training outside a search.

    Returns:
        Notes for the user, such as how many custom models refuse their config.

    Raises:
        InputError: A network shrinks the images to nothing, or cannot be built, or none is within the limits of the search, or a
            metric does not fit the classes.
    """
    check(space, data.image_shape)
    check_losses_and_metrics(space, data.num_classes, objectives)
    return [*check_parts(space, data, trial_timeout, say), *limit_notes(space, data.image_shape, data.num_classes)]


def check_losses_and_metrics(space: Space, num_classes: int, objectives: Sequence[tuple[str, str]]) -> None:
    """Check that every list of class weights has one weight per class, and that the metrics that decide tell networks apart.

    Args:
        space: The space.
        num_classes: Number of classes of the data set.
        objectives: (key, metric) of each metric that ranks the trials; empty for a training outside a search.

    Raises:
        InputError: One of them does not fit.
    """
    configs = list(corners(space))
    baseline = [space.config(space.baseline)] if space.baseline else []
    check_metrics(space.source, [*configs, *baseline], num_classes, objectives)
    for config in configs:
        if not isinstance(config.loss, OwnLoss):
            check_class_weights(config.loss.class_weights, num_classes)


def check_parts(
    space: Space, data: ImageData, trial_timeout: float | None = None, say: Callable[[str], None] | None = None
) -> list[str]:
    """Test custom parts and torchvision models once, so that a problem is found before the first worker starts.

    Args:
        space: The space.
        data: Its images.
        trial_timeout: Seconds that each custom part may take, at least 300. Default: that of the space.
        say: Receives a message about each custom part that takes long to build. Default: there is no message.

    Returns:
        Notes for the user about custom models that refuse their config, which makes it infeasible, and about custom loops that do
        not read all of their keys.

    Raises:
        InputError: A part does not work as required, or all custom models refuse their config.
    """
    drawn = (draw(space.root, trial) for trial in completions({}, NUM_CONFIGS_TRIED))
    random = (space.config(raw) for raw in drawn if not space.infeasible(raw, data.image_shape))
    configs = [*corners(space), *random]
    check_weight_headers(space)
    for model in {repr(config.model): config.model for config in configs}.values():
        if isinstance(model, Transfer):
            from winnow.models import check_buildable

            check_buildable(model, data.image_shape, data.num_classes)
    seconds = trial_timeout or space.settings.trial_timeout
    tried = check_own_parts(configs, data.image_shape, data.num_classes, seconds, say)
    if not tried.refusals:
        return tried.notes
    if len(tried.refusals) == tried.num_models:
        raise InputError(tried.refusals[0])
    return [
        *tried.notes,
        f"{len(tried.refusals)} of {tried.num_models} custom models refuse their config and are infeasible: "
        f"{tried.refusals[0]}",
    ]


def check_weight_headers(space: Space) -> None:
    """Check the headers of the safetensors files that networks of a space start from, without torch, whose import takes seconds.

    Args:
        space: The space.

    Raises:
        InputError: A file is damaged, or not a file. A missing file is left to the code that reads it.
    """
    for model in (config.model for config in corners(space)):
        if not isinstance(model, Transfer):
            continue
        key, path = "model.weights", Path(model.weights)
        if isinstance(model.backbone, TrainedBackbone):
            key, path = "model.backbone.weights", Path(model.backbone.weights)
        if path.suffix == ".safetensors" and path.exists():
            try:
                check_weights(path)
            except InputError as error:
                raise InputError(f"{key}: {error}") from error


def require_recipe(space: Space) -> None:
    """Check that a space is a recipe, which leaves no value open.

    Raises:
        InputError: A parameter of the space has a domain instead of a value.
    """
    if not space.is_recipe:
        open_keys = ", ".join(parameter.path for parameter in space.parameters()[:5])
        raise InputError(
            f"{space.source}: not a recipe, since these are left open: {open_keys}, ...; "
            "fix them with --set, or search them with: winnow run"
        )
