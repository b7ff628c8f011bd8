"""The content of a run's `study.yaml`, as far as Winnow reads it. A run may come from somebody else, or be damaged."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired, Required

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from winnow.spaces.epoch_figures import OBJECTIVES
from winnow.spaces.errors import InputError

Whole = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""A whole number that a Parquet file can hold."""
Direction = Literal["maximize", "minimize"]
Section = dict[str, Any]


def _is_time(text: str) -> str:
    datetime.fromisoformat(text)
    return text


Time = Annotated[str, AfterValidator(_is_time)]


def _known(objectives: list[Any]) -> list[Any]:
    from winnow.spaces.schema.objectives import check_objectives  # the schema takes long to import

    check_objectives(objectives)
    return objectives


class _Retrain(TypedDict, total=False):
    top: Whole | None
    seeds: Whole


class _Settings(TypedDict, total=False):
    """Those of `winnow.search.settings.Settings` on which reports depend; `resume` checks all of them."""

    objective: Annotated[str, Field(pattern=f"^({'|'.join(OBJECTIVES)})$")]
    objectives: (
        Annotated[
            list[str | Annotated[dict[Direction, str], Field(min_length=1, max_length=1)]], AfterValidator(_known)
        ]
        | None
    )
    direction: Direction
    sampler: str
    trials: Whole | None
    max_epochs: Whole
    grace_epochs: Whole
    reduction_factor: float
    rungs: list[Whole]
    repeats: Whole
    seed: Whole
    audit: float
    time_budget_seconds: float | None
    retrain: _Retrain


class _Split(TypedDict, total=False):
    images: Required[Whole]
    by_class: Required[list[Whole]]
    sizes: dict[str, Whole] | None


class _Summary(TypedDict, total=False):
    text: Required[list[str]]
    image_size: Required[Annotated[list[Whole], Field(min_length=2, max_length=2)]]
    channels: Required[Whole]
    splits: Required[dict[str, _Split]]
    traits: dict[str, dict[str, Whole]]
    repeated: dict[str, Whole]
    majority_share: Annotated[float, Field(ge=0, le=1)] | None


class _Data(TypedDict):
    name: str
    fingerprint: str
    image_shape: Annotated[list[Whole], Field(min_length=3, max_length=3)]
    num_classes: Whole
    class_names: list[str]
    num_train: Whole
    num_validation: Whole
    num_test: Whole
    notes: NotRequired[list[str]]
    summary: NotRequired[_Summary]


def _named(data: _Data) -> _Data:
    num_names = len(data["class_names"])
    for name, split in data["summary"]["splits"].items() if "summary" in data else ():
        if len(split["by_class"]) != num_names:
            raise ValueError(
                f"summary.splits.{name}.by_class has {len(split['by_class'])} numbers, but there are {num_names} class_names"
            )
    return data


class _Before(TypedDict, total=False):
    settings: Section
    space: Section


class _Amendment(TypedDict, total=False):
    time: Time
    command: str | None
    changes: list[str]
    before: Required[_Before]


class _EarlierRun(TypedDict, total=False):
    run: Required[str]
    data: Required[str | None]
    data_fingerprint: Required[str | None]
    machine: Required[str | None]
    winnow_version: Required[str | None]
    family: Required[list[str]]
    trials_taken_over: Required[Whole]


class _EarlierTests(TypedDict):
    """Only in the metadata of a table (`winnow.reports.reading.run.EARLIER_TESTS`)."""

    trainings: Whole
    first: Time | None


class _Kind(TypedDict):
    trials_per_gpu: Whole


class _Devices(TypedDict, total=False):
    device: Required[str]
    threads: Required[Whole]
    ranks: Whole
    gpus_per_trial: float | None
    kinds: dict[str, _Kind]


class _Study(TypedDict, total=False):
    """The keys of `study.yaml`. Older versions wrote fewer, and newer ones may write more.

    The space is checked where it is read (`winnow.spaces.space.Space.from_tree`).
    """

    __pydantic_config__ = ConfigDict(strict=True, allow_inf_nan=False)  # type: ignore[misc]

    name: str
    created: Time
    command: str | None
    winnow_version: str
    git_revision: str | None
    space: Required[Section]
    settings: Required[_Settings]
    data: Required[Annotated[_Data, AfterValidator(_named)]]
    data_dir: str
    storage: str | None
    log: list[str]
    then_retrain: bool
    search_ended: str
    devices: _Devices
    versions: Section
    hardware: Section
    own_code: dict[str, str]
    retraining: _Retrain
    warm_start: Section
    earlier_runs: list[_EarlierRun]
    earlier_tests: _EarlierTests
    amendments: list[_Amendment]


_STUDY = TypeAdapter(_Study)


def check_study(study: Mapping[str, Any], source: str) -> None:
    """Check that the content of a `study.yaml` is one that Winnow writes.

    Args:
        study: The content.
        source: Where it was read and what a wrong value means there; the message begins with it.

    Raises:
        InputError: A value is missing, has another type or is out of range; the message names its key.
    """
    try:
        _STUDY.validate_python(study)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        given = "" if isinstance(problem["input"], dict) else f", but got {problem['input']!r:.100}"
        raise InputError(f"{source}: {where}: {problem['msg']}{given}; take it from a copy of the run") from None
