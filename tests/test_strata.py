"""Halving within groups of similar cost: a large network is judged by large ones, and small groups by the whole rung."""

from __future__ import annotations

import pytest

from search.schedulers.asha import Asha
from search.schedulers.pausing import Pausing
from search.schedulers.registry import make_rule
from search.schedulers.stratified import MIN_STRATUM, Stratified
from search.settings import settings_for
from spaces import catalog
from spaces.errors import InputError


def rung_of(rule: Asha, num_each: int = 12) -> Asha:
    """Small networks of 0.60 to 0.71 and large ones of 0.30 to 0.41, at the first rung."""
    for k in range(num_each):
        for trial, cost, value in ((k, 1e6 + k, 0.6 + k / 100), (100 + k, 1e8 + k, 0.3 + k / 100)):
            rule.note_cost(trial, cost)
            rule.record(trial, 1, value)
    return rule


@pytest.mark.parametrize(("strata", "goes_on"), [(1, False), (2, True)])
def test_the_best_of_the_large_ones_goes_on_among_its_like_only(strata, goes_on):
    rule = rung_of(Stratified(1, 3, 9, "maximize", strata))
    rule.note_cost(200, 1e8)
    assert rule.judge(200, 1, 0.5) is goes_on
    rule.note_cost(201, 1e6)
    assert not rule.judge(201, 1, 0.62)  # among the worst of the small ones, though above all large ones


def test_small_groups_and_unknown_costs_compete_with_all():
    few = rung_of(Stratified(1, 3, 9, "maximize", 2), num_each=MIN_STRATUM - 2)
    few.note_cost(200, 1e8)
    assert not few.judge(200, 1, 0.5)  # 5 large ones
    many = rung_of(Stratified(1, 3, 9, "maximize", 2))
    assert not many.judge(200, 1, 0.5)  # cost not known


def test_which_rule():
    space = catalog.load("digits")
    assert type(make_rule(settings_for(space, sampler="tpe"))) is Asha
    assert type(make_rule(settings_for(space, sampler="tpe", strata=3))) is Stratified
    assert type(make_rule(settings_for(space))) is Pausing
    with pytest.raises(InputError, match="--strata 3: the sampler forecast pauses"):
        settings_for(space, strata=3)
