"""The Gaussian-process sampler, once enough trials have completed for it to model anything."""

from __future__ import annotations

import pytest

from tests.helpers.ledgers import SHAPE, make_folder, outcome, report, study_of
from winnow.search.settings import settings_for
from winnow.search.study.ledger import Ledger
from winnow.spaces.space import Space

TREE = {
    "data": {"name": "digits"},
    "epochs": 1,
    "batch_size": 32,
    "model": {"name": "mlp", "hidden": [16], "dropout": {"float": [0.0, 0.8]}},
    "optimizer": {"name": "sgd", "lr": {"log": [0.001, 1.0]}},
}


def searched(folder, sampler: str):
    """14 full trainings; best at no dropout and a learning rate of 0.03."""
    space = Space.from_tree(TREE, "smooth")
    settings = settings_for(space, trials=14, sampler=sampler, seed=1)
    run = make_folder(folder, space, settings)
    ledger = Ledger(run, space, settings, SHAPE)
    while (assignment := ledger.ask()) is not None:
        model, optimizer = assignment.config["model"], assignment.config["optimizer"]
        ledger.record(
            assignment.number, report(assignment, 1, 1 - model["dropout"] / 2 - 5 * abs(optimizer["lr"] - 0.03))
        )
    ledger.close()
    return run


@pytest.mark.slow
def test_it_models_completed_trials_without_touching_the_study(tmp_path):
    runs = [searched(tmp_path / name, sampler) for name, sampler in (("a", "gp"), ("b", "gp"), ("c", "random"))]
    assert outcome(runs[0]) == outcome(runs[1]) != outcome(runs[2])
    of_gp, of_random = (study_of(run).trials for run in (runs[0], runs[2]))
    assert [t.params for t in of_gp[:10]] == [t.params for t in of_random[:10]]
    assert max(t.value for t in of_gp[10:]) > max(t.value for t in of_gp[:10])
    assert all(t.system_attrs == {} for t in of_gp)
