"""The samplers that look at no results: how evenly `qmc` spreads its points, and that `grid` visits all of its own."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from tests.helpers.ledgers import RECORDED_DATA, STEPS, run_to_the_end, study_of
from winnow.search.settings import settings_for
from winnow.search.storage.run_folder import create
from winnow.search.study.ledger import Ledger
from winnow.spaces import catalog
from winnow.spaces.errors import SpaceError
from winnow.spaces.grammar.nodes import draw
from winnow.spaces.grid import check_grid, point
from winnow.spaces.space import Space
from winnow.spaces.stub_trials import KnownTrial

SHAPE = (1, 8, 8)
PLAIN = {"data": "digits", "epochs": 1, "batch_size": 32, "model": {"name": "mlp", "hidden": [8]}}


def smooth_space() -> Space:
    """Four ranges, one of them in the branch that half of the trials take."""
    tree = {
        **PLAIN,
        "gradient_clip": {"float": [1.0, 2.0]},
        "model": {"name": "mlp", "hidden": [8], "dropout": {"float": [0.0, 0.5]}},
        "optimizer": {
            "choice": {
                "sgd": {"lr": {"log": [0.01, 1.0]}, "momentum": {"float": [0.0, 0.9]}},
                "adam": {"lr": {"log": [0.001, 0.1]}},
            }
        },
    }
    return Space.from_tree(tree, "smooth")


def searched(folder: Path, space: Space, **settings) -> tuple[Ledger, list]:
    """The trials of a search, all of them asked for before any is trained."""
    chosen = settings_for(space, **settings)
    run = create(
        folder,
        None,
        "run",
        {"schema_version": 1, "space": space.tree, "settings": chosen.to_dict(), "data": RECORDED_DATA},
    )
    ledger = Ledger(run, space, chosen, SHAPE)
    while ledger.ask() is not None:
        pass
    return ledger, study_of(run).get_trials(deepcopy=False)


def discrepancy(trials: list, names: list[str]) -> float:
    points = []
    for trial in trials:
        if all(name in trial.params for name in names):
            bounds = [(trial.distributions[name], trial.params[name]) for name in names]
            points.append(
                [
                    np.log(x / d.low) / np.log(d.high / d.low) if d.log else (x - d.low) / (d.high - d.low)
                    for d, x in bounds
                ]
            )
    return float(qmc.discrepancy(np.array(points)))


def test_qmc_spreads_its_points(tmp_path):
    """Centred discrepancy of 64 trials, mean over seeds: far below that of random points, within a branch as well."""
    found = {
        sampler: [searched(tmp_path / sampler, smooth_space(), trials=64, sampler=sampler, seed=k)[1] for k in range(3)]
        for sampler in ("qmc", "random")
    }
    for names in (["gradient_clip", "model.dropout"], ["optimizer.sgd.lr", "optimizer.sgd.momentum"]):
        of_qmc, of_random = ([discrepancy(trials, names) for trials in found[s]] for s in ("qmc", "random"))
        assert np.mean(of_qmc) < 0.5 * np.mean(of_random)
        assert len(set(of_qmc)) == 3  # a seed of its own scrambles each


@pytest.mark.parametrize("sampler", ["qmc", "grid"])
def test_a_resumed_sequence_goes_on_where_it_was(tmp_path, sampler):
    """A driver that dies after every trial walks the points that an undisturbed one walks."""
    space = catalog.load("digits", ["epochs=1", *STEPS])
    chosen = settings_for(space, trials=20, sampler=sampler)
    study = {"schema_version": 1, "space": space.tree, "settings": chosen.to_dict(), "data": RECORDED_DATA}
    whole, parts = (create(tmp_path, name, name, study) for name in ("whole", "parts"))
    run_to_the_end(Ledger(whole, space, chosen, SHAPE))
    while run_to_the_end(Ledger(parts, space, chosen, SHAPE), crash_after=1) is False:
        pass
    assert [t.params for t in study_of(parts).trials] == [t.params for t in study_of(whole).trials]


def test_a_grid_is_visited_once_and_whole(tmp_path):
    space = catalog.load(
        "digits", ["epochs=1", "model.depth={int: [1, 2]}", "batch_size=64", *STEPS[:-1], "model.activation=relu"]
    )
    space = Space.from_tree({**space.tree, "model": {**space.tree["model"], "head": []}, "start_from": {}}, "small")
    ledger, trials = searched(tmp_path, space, trials=10_000, sampler="grid")
    assert ledger.shortage is not None
    assert ledger.shortage.every_config
    drawn = [space.config(draw(space.root, KnownTrial(point(space.root, i)))) for i in range(int(space.size()))]
    assert len({repr(config) for config in drawn}) == space.size()
    # Without a hidden layer dropout does nothing: its three values are one network.
    assert len(trials) == space.size() / 3
    assert Counter(len(trial.user_attrs["config"]["model"]["stages"]) for trial in trials) == {1: 9 * 5, 2: 81 * 5}
    other = searched(tmp_path / "other", space, trials=20, sampler="grid", seed=1)[1]
    assert [t.params for t in other] != [t.params for t in trials[:20]]


def test_repeats_that_are_asked_for(tmp_path):
    space = Space.from_tree(
        {**PLAIN, "batch_size": {"choice": [32, 64]}, "optimizer": {"name": "adam", "lr": 0.01}}, "two"
    )
    for sampler in ("grid", "tpe"):
        ledger, trials = searched(tmp_path / sampler, space, trials=20, sampler=sampler, repeats=3)
        assert Counter(trial.user_attrs["config"]["batch_size"] for trial in trials) == {32: 3, 64: 3}
        assert ledger.shortage is not None
        assert ledger.shortage.every_config


def test_a_continuous_space_is_no_grid():
    with pytest.raises(
        SpaceError, match=r"model\.dropout: --sampler grid .* continuous; give it a step, such as .*0\.15"
    ):
        settings_for(catalog.load("digits"), sampler="grid")
    with pytest.raises(SpaceError, match="at most 1,000,000 points, but the space has"):
        check_grid(
            catalog.load("digits", [*STEPS, "model.depth={int: [1, 4]}", "model.stages.kernel={choice: [1, 3, 5]}"])
        )


@settings(max_examples=40, deadline=None)
@given(index=st.integers(0, 10**12))
def test_every_number_of_a_grid_is_another_point(index):
    space = catalog.load("digits", [*STEPS])
    size = int(space.size())
    here, there = point(space.root, index % size), point(space.root, (index + 1) % size)
    assert here != there
    raw = draw(space.root, KnownTrial(here))
    assert json.dumps(raw) != json.dumps(draw(space.root, KnownTrial(there)))
    assert space.encode(raw) == pytest.approx(here)
