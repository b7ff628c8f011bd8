from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from winnow.search.samplers.history_window import bounded, recent
from winnow.search.samplers.registry import SamplerContext, make_sampler


def study_of(num_trials: int, direction: str = "maximize") -> optuna.Study:
    study = optuna.create_study(direction=direction)
    random = np.random.default_rng(0)
    for number in range(num_trials):
        x = float(random.random())
        completed = number % 5 == 0
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if completed else TrialState.PRUNED,
                value=x if completed else None,
                params={"x": x},
                distributions={"x": FloatDistribution(0, 1)},
                intermediate_values={epoch: x * epoch for epoch in range(1, 9 if completed else 1 + number % 4)},
            )
        )
    return study


def test_a_short_study_is_given_as_it_is_and_other_samplers_get_all():
    study = study_of(120)
    assert recent(study, "tpe", max_trials=120) is study
    assert recent(study, "random", max_trials=50) is study


@pytest.mark.parametrize("num_trials", [300, 105])  # 60 and 21 completed; those that TPE takes for good are 25
def test_the_part_holds_the_best_of_tpe_and_the_newest_in_their_order(num_trials):
    from optuna.samplers._tpe.sampler import _split_trials

    for direction in ("maximize", "minimize"):
        study = study_of(num_trials, direction)
        trials = study.get_trials(deepcopy=False)
        part = bounded(trials, study.direction, max_trials=100, num_best=50)
        numbers = [trial.number for trial in part]
        assert len(part) <= 100
        assert numbers == sorted(set(numbers))
        assert set(range(num_trials - 50, num_trials)) <= set(numbers)
        finished = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        best = {trial.number for trial in _split_trials(study, finished, 25)[0]}
        assert best == {trial.number for trial in _split_trials(study, part, 25)[0]}


def test_tpe_suggests_from_the_part_what_it_would_from_a_study_of_just_these_trials():
    study = study_of(300)
    short = optuna.create_study(direction="maximize")
    short.add_trials(bounded(study.get_trials(deepcopy=False), study.direction, 100, 50))
    unborn, domain = create_trial(state=TrialState.RUNNING), FloatDistribution(0, 1)
    given = [
        make_sampler("tpe", SamplerContext(0, 300, [8])).sample_independent(source, unborn, "x", domain)
        for source in (recent(study, "tpe", 100, 50), short)
    ]
    assert given[0] == given[1]


def test_what_has_not_ended_is_never_left_out():
    study = study_of(300)
    for _ in range(60):
        study.ask()
    for number in range(100):
        study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={1: number / 1000}))
    part = bounded(study.get_trials(deepcopy=False), study.direction, max_trials=100, num_best=50)
    assert sum(trial.state == TrialState.RUNNING for trial in part) == 60
    assert sum(trial.state.is_finished() for trial in part) <= 100
