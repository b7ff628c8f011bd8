"""TPE divides the trials once per suggestion, and suggests what Optuna's own does."""

from __future__ import annotations

import pytest
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

from tests.search.samplers.test_recent import study_of
from winnow.search.samplers.draft import Draft
from winnow.search.samplers.optuna_samplers import make_tpe
from winnow.search.samplers.registry import SamplerContext
from winnow.search.samplers.study_view import view_of
from winnow.spaces import catalog


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_it_suggests_the_same_as_the_sampler_of_optuna(direction):
    space, study = catalog.load("digits"), study_of(0, direction)
    for number in range(80):
        context = SamplerContext(seed=0, number=number, rungs=[1, 3, 9])
        ours = make_tpe(context)
        optunas = TPESampler(seed=context.own_seed, multivariate=False, constant_liar=False, n_startup_trials=10)
        for _ in range(2):  # again, as after a config that cannot be built
            # Optuna's reads the trials of a study once, until a trial is told to it; a new view is read again.
            shown = view_of(study.get_trials(deepcopy=False), study.direction)
            drafts = [Draft(shown, sampler, number) for sampler in (ours, optunas)]
            configs = [space.suggest(draft) for draft in drafts]
            assert configs[0] == configs[1]
        study.add_trial(ended(drafts[0], number))


def ended(draft: Draft, number: int):
    """Completed, stopped at one of two epochs (some of them equal), or failed."""
    state = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL)[number % 4]
    value = (number * 37 % 11) / 11
    return create_trial(
        state=state,
        value=value if state == TrialState.COMPLETE else None,
        params=draft.params,
        distributions=draft.distributions,
        intermediate_values={1: value} if number % 3 else {1: value, 3: value / 2},
    )
