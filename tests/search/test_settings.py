"""Search options: stated once in the schema, and everything else follows from it."""

from __future__ import annotations

from typing import get_type_hints

import click
import pytest
from pydantic import Field

from winnow.search import settings
from winnow.search.api.option_types import RunOptions, SearchOptions
from winnow.search.cli.main import cli
from winnow.search.cli.options import _option_of
from winnow.search.schedulers.registry import make_scheduler
from winnow.search.settings import Settings, option_specs, settings_for
from winnow.spaces import catalog
from winnow.spaces.errors import InputError
from winnow.spaces.samplers import SAMPLERS, spec_of
from winnow.spaces.schema import SearchSettings

ONLY_IN_SPACES = {"limits", "objectives"}
"""Fields that are mappings or lists, which --set sets."""


@pytest.fixture(scope="module")
def space():
    return catalog.load("digits")


def test_every_field_is_an_option_of_the_commands_and_functions():
    for command, model in (
        ("run", settings.RunOptions),
        ("search", settings.SearchOptions),
        ("plan", settings.SearchOptions),
    ):
        context = click.Context(cli.commands[command])
        assert set(model.model_fields) - ONLY_IN_SPACES <= {each.name for each in context.command.get_params(context)}
    assert set(get_type_hints(RunOptions)) == set(settings.RunOptions.model_fields) - ONLY_IN_SPACES
    assert set(get_type_hints(SearchOptions)) == set(settings.SearchOptions.model_fields) - ONLY_IN_SPACES
    assert set(SearchSettings.model_fields) <= set(Settings.model_fields)


def test_type_range_default_and_help_of_an_option_are_those_of_its_field():
    class WithAnother(SearchSettings):
        patience: float = Field(2.5, gt=0.0, le=9.0)
        """Epochs to wait."""

    (spec,) = (each for each in option_specs(WithAnother) if each.name == "patience")
    option = _option_of(spec)
    assert isinstance(option.type, click.FloatRange)
    assert (option.type.min, option.type.min_open, option.type.max) == (0.0, True, 9.0)
    assert option.help == "Epochs to wait.  [default: 2.5]"
    assert option.opts == ["--patience"]


def test_a_mapping_is_set_in_the_space(space):
    with pytest.raises(
        InputError, match=r"^limits is a key of the space, not an option; set it with --set search\.limits"
    ):
        settings_for(space, limits={"parameters": 5})


def test_options_replace_what_the_space_says(space):
    chosen = settings_for(space, trials=3, audit=0.0, sampler=None, time_budget="1m", top=1)
    assert (chosen.trials, chosen.audit, chosen.time_budget_seconds, chosen.retrain.top) == (3, 0.0, 60.0, 1)
    assert chosen.sampler == space.settings.sampler
    assert Settings.from_dict(chosen.to_dict()) == chosen


def test_the_whole_front_is_retrained_unless_a_number_is_asked_for(space):
    several = catalog.load("digits", ["search.objectives=[validation_accuracy, parameters]"])
    assert (settings_for(space).retrain.top, settings_for(several).retrain.top) == (3, None)
    assert (settings_for(space, top=2).retrain.top, settings_for(several, top=2).retrain.top) == (2, 2)
    assert Settings.from_dict(settings_for(several).to_dict()) == settings_for(several)


def test_settings_of_older_runs_are_read_and_damaged_ones_refused(space):
    recorded = settings_for(space).to_dict()
    assert Settings.from_dict({**recorded, "strata": 1}) == settings_for(space)
    with pytest.raises(InputError, match="--strata"):
        Settings.from_dict({**recorded, "strata": 2})
    with pytest.raises(InputError, match=r"settings.trials: .*'many'"):
        Settings.from_dict({**recorded, "trials": "many"})
    with pytest.raises(InputError, match=r"settings.temperature"):
        Settings.from_dict({**recorded, "temperature": 1})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trails": 3}, "did you mean trials"),
        ({"trials": True}, "trials=True"),
        ({"trials": 2.5}, "trials=2.5"),
        ({"reduction_factor": 1}, "reduction_factor=1"),
        ({"time_budget": 0}, "above 0"),
        ({"grace_epochs": 99}, "must be at most 18, the epochs"),
    ],
    ids=str,
)
def test_bad_options_are_refused(options, words, space):
    with pytest.raises(InputError, match=words):
        settings_for(space, **options)


def test_who_names_the_first_rung_gets_no_earlier_one():
    space = catalog.load("digits", ["epochs=60", "search={}"])
    assert settings_for(space).rungs == [1, 3, 9, 27]
    for named in (
        settings_for(space, grace_epochs=20),
        settings_for(catalog.load("digits", ["epochs=60", "search.grace_epochs=20"])),
    ):
        assert named.sampler == "forecast"
        assert named.rungs == make_scheduler(named, True).rungs == [20]
        assert Settings.from_dict(named.to_dict()).rungs == [20]
    older = settings_for(space, grace_epochs=20).to_dict()
    del older["pauses_early"]  # a run of an earlier version goes on as it began
    assert Settings.from_dict(older).rungs == [1, 2, 7, 20]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_rungs_that_a_run_records_are_those_of_its_scheduler(sampler):
    """An epoch's record holds the number of its rung: the report finds the rung's epoch by it in study.yaml."""
    settings = Settings(trials=4, max_epochs=18, grace_epochs=2, sampler=sampler)
    scheduler = make_scheduler(settings, spec_of(sampler).pauses)
    assert settings.to_dict()["rungs"] == settings.rungs == scheduler.rungs
