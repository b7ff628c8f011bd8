"""Checks before anything is launched that both ends of every range and every option of a space can be trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from winnow.spaces.epoch_figures import LEAST_CLASSES, OWN_METRIC, tells_apart
from winnow.spaces.errors import InputError
from winnow.spaces.grammar.domains import Log
from winnow.spaces.grammar.nodes import AtLeast, Parameter, draw, locate
from winnow.spaces.grammar.problems import KeyPath, Problem, refuse, show_list, show_path, show_value
from winnow.spaces.schema import Config, Reference, RetrainSettings, SearchSettings, measured_loss
from winnow.spaces.schema.messages import translate
from winnow.spaces.shapes import ImageShape
from winnow.spaces.space import Space, validate
from winnow.spaces.stub_trials import completions
from winnow.spaces.views import VIEWS

NUM_RANDOM_COMPLETIONS = 200

SECTION_MODELS: dict[str, type[BaseModel]] = {
    "search": SearchSettings,
    "retrain": RetrainSettings,
    "reference": Reference,
}


def check(space: Space, image_shape: ImageShape | None = None) -> None:
    """Check a whole space.

    Some combinations may be impossible to build, as long as every option and every end of a range has one that can be built.

    Args:
        space: The space.
        image_shape: (channels, height, width) of the images. Default: sizes are not checked.

    Raises:
        SpaceError: The space is not valid; the message lists all problems.
    """
    problems = [*_section_problems(space), *_value_problems(space)]
    if not problems:
        problems = list(_combination_problems(space, image_shape))
    refuse(problems, space.source_map)


def corners(space: Space) -> Iterator[Config]:
    """Yield a valid config for every option of the space and both ends of every range, if there is one."""
    ends = [_forced(parameter, end) for parameter in space.parameters() for end in parameter.domain.ends()]
    for forced in [{}, *ends]:
        drawn = (validate(draw(space.root, trial))[0] for trial in completions(forced, NUM_RANDOM_COMPLETIONS))
        config = next((config for config in drawn if config is not None), None)
        if config is not None:
            yield config


def check_objective(space: Space, objective: str) -> None:
    """Check that the trials of a space can be compared by an objective.

    The baseline need not be among them: if its loss is of another kind, it is compared by its accuracy.

    Args:
        space: The space.
        objective: A value of `search.objective`.

    Raises:
        InputError: The objective is the loss, but the space has losses whose values cannot be compared; or it is the custom
            metric, but the space names none, or several.
    """
    if objective == OWN_METRIC:
        metrics = {repr(config.own_metric): config.model_dump()["own_metric"] for config in corners(space)}
        if metrics.keys() == {repr(None)} or len(metrics) > 1:
            raise InputError(
                f"{space.source}: the objective {OWN_METRIC} needs one function in the key own_metric whose higher "
                f"values are better, such as `own_metric: my_metrics:score`, but the space has {show_list(map(show_value, metrics.values()))}"
            )
    if objective != "validation_loss":
        return
    kinds = {str(measured_loss(config.loss)): measured_loss(config.loss) for config in corners(space)}
    if len(kinds) > 1:
        texts = [show_value(loss.model_dump()) for loss in kinds.values()]
        raise InputError(
            f"{space.source}: the objective validation_loss cannot compare trials here, since the space has losses of "
            f"different kinds: {', '.join(texts)}. Use an objective that does not depend on the loss, such as "
            "validation_accuracy"
        )


def check_metrics(
    source: str, configs: Iterable[Config], num_classes: int, objectives: Iterable[tuple[str, str]]
) -> None:
    """Check that networks can differ in every metric by which a search or a training decides.

    Args:
        source: Name of the space, for the message.
        configs: Configs of the space.
        num_classes: Number of classes of its images.
        objectives: (key, metric) of each metric that ranks the trials, such as `("search.objective", "validation_auroc")`; empty for a
            training outside a search.

    Raises:
        InputError: A metric has the same value for every network, as top-5 accuracy has with five classes.
    """
    watched = {*objectives, *(place for config in configs for place in config.watched.items())}
    constant = sorted((metric, key) for key, metric in watched if not tells_apart(metric, num_classes))
    if not constant:
        return
    metric, keys = constant[0][0], [key for _, key in constant]
    others = {
        "search.objectives": "or leave it out of search.objectives, if two others remain",
        "weights": "for weights: highest_validation_accuracy",
    }
    hints = ", ".join(hint for key, hint in others.items() if key in keys)
    raise InputError(
        f"{source}: {', '.join(keys)}: {metric} has the same value for every network if there are {num_classes} classes; it needs "
        f"at least {LEAST_CLASSES[metric]}. Use validation_accuracy instead" + (f" ({hints})" if hints else "")
    )


def _section_problems(space: Space) -> Iterator[Problem]:
    for key, model in SECTION_MODELS.items():
        section = space.tree.get(key)
        if section is None and key == "reference":
            continue
        try:
            model.model_validate({} if section is None else section)
        except ValidationError as error:
            for problem in translate(error, section, model):
                yield Problem((key, *problem.path), problem.message)


# --- values by themselves -------------------------------------------------------------------------------------------


def _value_problems(space: Space) -> Iterator[Problem]:
    """Yield the problems of single values, which no combination with other values can resolve."""
    yield from _lasting_problems(space, {})
    for parameter in space.parameters():
        if parameter.path in VIEWS:
            yield Problem(
                (parameter.path,),
                "needs one value, but is open: it changes only the final test and predictions, so the validation images cannot tell which "
                "value is better",
            )
        for end in parameter.domain.ends():
            yield from _lasting_problems(space, _forced(parameter, end))
        if isinstance(parameter.domain, Log):
            yield from _whole_number_problems(space, parameter)


def _lasting_problems(space: Space, forced: dict[str, Any]) -> Iterator[Problem]:
    raw = draw(space.root, next(completions(forced, 0)))
    for problem in validate(raw)[1]:
        if not problem.of_combination or not _holds_a_parameter(space, problem.path):
            yield space.located(problem, raw)


def _holds_a_parameter(space: Space, path: KeyPath) -> bool:
    inside = ".".join(str(part) for part in path)
    return any(f"{parameter.path}.".startswith(f"{inside}.") for parameter in space.parameters()) or not path


def _whole_number_problems(space: Space, parameter: Parameter) -> Iterator[Problem]:
    """Yield a problem if `{log: [1, 10]}` would silently draw whole numbers for a key that accepts real ones."""
    domain = parameter.domain
    if domain.arrow_kind != "int" or getattr(domain, "step", None) is not None:
        return
    raw = draw(space.root, next(completions(_forced(parameter, domain.ends()[0]), 0)))
    config, _ = validate(raw)
    path = _config_path(parameter)
    if config is not None and isinstance(_attribute_at(config, path), float):
        low, high = domain.ends()
        message = f"[{low}, {high}] draws whole numbers only; write [{low:.1f}, {high:.1f}] for real ones"
        yield Problem((*locate(space.root, raw, path), "log"), message)


def _attribute_at(config: Any, path: KeyPath) -> Any:
    """Return the value at a key path of a validated config; None if there is none."""
    for part in path:
        config = config[part] if isinstance(part, int) else getattr(config, str(part), None)
    return config


# --- values together ------------------------------------------------------------------------------------------------


def _combination_problems(space: Space, image_shape: ImageShape | None) -> Iterator[Problem]:
    """Yield a problem for each option or end of a range with which no config can be built."""
    failure = _seek(space, {}, image_shape)
    if failure is not None:
        problem = space.located(failure.problem, failure.raw)
        more = "" if space.is_recipe else f" ({_tried(failure)}, none can be built)"
        yield Problem(problem.path, problem.message + more)
        return
    failed: list[tuple[str, Any]] = []
    places: set[KeyPath] = set()
    for parameter in space.parameters():
        if any(_depends_on(condition, failed) for condition in parameter.conditions):
            continue
        for end in parameter.domain.ends():
            failure = _seek(space, _forced(parameter, end), image_shape)
            if failure is None:
                continue
            failed.append((parameter.study_name, end))
            place = locate(space.root, failure.raw, _config_path(parameter))
            if place not in places:  # report it only once for all items of a repeat
                places.add(place)
                reason = f"{show_path(failure.problem.path)}: {failure.problem.message}"
                yield Problem(place, f"no config with {show_value(end)} can be built ({_tried(failure)}): {reason}")


@dataclass(frozen=True)
class _Failure:
    """No config could be built: the problem of the first one, and how many were tried."""

    problem: Problem
    raw: dict[str, Any]
    num_tried: int


def _seek(space: Space, forced: dict[str, Any], image_shape: ImageShape | None) -> _Failure | None:
    """Try to build a config with the forced values; return None on success."""
    tried: list[dict[str, Any]] = []
    first: Problem | None = None
    for trial in completions(forced, 0 if space.is_recipe else NUM_RANDOM_COMPLETIONS):
        raw = draw(space.root, trial)
        problems = validate(raw, image_shape)[1]
        if not problems:
            return None
        first = first or problems[0]
        if raw not in tried:
            tried.append(raw)
    return None if first is None else _Failure(first, tried[0], len(tried))


def _tried(failure: _Failure) -> str:
    return f"{failure.num_tried} combination{'s' if failure.num_tried > 1 else ''} tried"


def _depends_on(condition: tuple[str, Any], failed: list[tuple[str, Any]]) -> bool:
    name, value = condition
    return any(name == other and (isinstance(value, AtLeast) or value == end) for other, end in failed)


def _forced(parameter: Parameter, end: Any) -> dict[str, Any]:
    return {**dict(parameter.conditions), parameter.study_name: parameter.domain.encode(end)}


def _config_path(parameter: Parameter) -> KeyPath:
    return tuple(int(part) if part.isdigit() else part for part in parameter.path.split("."))
