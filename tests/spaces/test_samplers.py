"""The registry of samplers: each entry can be made, and does what it says."""

from __future__ import annotations

import typing

import optuna
import pytest
from optuna.samplers import BaseSampler

from winnow.search.samplers.registry import SamplerContext, make_sampler
from winnow.spaces import catalog
from winnow.spaces.errors import InputError
from winnow.spaces.samplers import DEFAULT_SAMPLER, SAMPLERS, spec_of
from winnow.spaces.schema import SearchSettings

FINITE = (
    "epochs=2",
    "model={name: mlp, hidden: [8]}",
    "optimizer={name: adam, lr: {choice: [0.01, 0.001]}}",
    "schedule=constant",
    "start_from=[]",
)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_entry_makes_an_optuna_sampler_and_states_what_it_can_do(name):
    spec = SAMPLERS[name]
    space = catalog.load("digits", FINITE if spec.finite else ())
    sampler = make_sampler(name, SamplerContext(0, 0, [1], space))
    assert isinstance(sampler, BaseSampler)
    assert hasattr(sampler, "resume") == spec.pauses
    assert (spec.max_trials is not None) <= spec.reads_results
    assert spec.summary.endswith(".")
    optuna.create_study(sampler=sampler)


def test_the_schema_takes_its_names_from_the_registry():
    field = SearchSettings.model_fields["sampler"]
    assert typing.get_args(field.annotation) == tuple(SAMPLERS)
    assert field.default == DEFAULT_SAMPLER
    assert DEFAULT_SAMPLER in SAMPLERS


def test_a_sampler_of_another_version_is_refused_by_name():
    with pytest.raises(InputError, match="unknown sampler 'best'; allowed: forecast, tpe"):
        spec_of("best")
