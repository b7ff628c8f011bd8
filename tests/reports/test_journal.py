"""Our reader of the journal gives what Optuna's own replay gives, whatever was written."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._storage import JournalOperation
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from tests.helpers.make_run import make_run
from winnow.reports.reading.journal import _KNOWN, STUDY_NAME, State, Trial, read_trials
from winnow.spaces.errors import InputError

optuna.logging.set_verbosity(optuna.logging.WARNING)

DOMAINS: list[BaseDistribution] = [
    optuna.distributions.CategoricalDistribution(["a", "[1,2]", None, 2.5, True]),
    optuna.distributions.CategoricalDistribution(["other"]),
    optuna.distributions.IntDistribution(1, 64, log=True),
    optuna.distributions.IntDistribution(0, 20, step=5),
    optuna.distributions.FloatDistribution(0.0, 0.6),
    optuna.distributions.FloatDistribution(1e-4, 1.0, log=True),
]
VALUES = st.floats(allow_nan=True, allow_infinity=True)


def domain_and_value() -> st.SearchStrategy[tuple[BaseDistribution, Any]]:
    def values(domain: Any) -> st.SearchStrategy[Any]:
        if hasattr(domain, "choices"):
            return st.sampled_from(domain.choices)
        whole = isinstance(domain, optuna.distributions.IntDistribution)
        return st.sampled_from([domain.low, domain.high]) if whole else st.floats(domain.low, domain.high)

    return st.sampled_from(DOMAINS).flatmap(lambda domain: st.tuples(st.just(domain), values(domain)))


PARAMS = st.dictionaries(st.sampled_from(["p", "q", "r"]), domain_and_value())
ATTRIBUTES = st.dictionaries(st.sampled_from(["status", "config"]), st.sampled_from(["x", None, {"a": [1, "\u2028é"]}]))


@st.composite
def templates(draw: st.DrawFn) -> FrozenTrial:
    given_params = draw(PARAMS)
    state = draw(st.sampled_from(list(TrialState)))
    value = draw(st.floats(allow_nan=False)) if state == TrialState.COMPLETE else None
    return create_trial(
        state=state,
        value=value,
        params={name: value for name, (_, value) in given_params.items()},
        distributions={name: domain for name, (domain, _) in given_params.items()},
        user_attrs=draw(ATTRIBUTES),
        intermediate_values=draw(st.dictionaries(st.integers(1, 3), VALUES)),
    )


TRIAL = st.integers(0, 4)
STEPS = st.one_of(
    st.tuples(st.just("create"), st.sampled_from([0, 0, 0, 1, 2]), st.none() | templates()),
    st.tuples(st.just("param"), TRIAL, st.sampled_from(["p", "q"]), domain_and_value()),
    st.tuples(st.just("state"), TRIAL, st.sampled_from(list(TrialState)), st.none() | st.floats(allow_nan=False)),
    st.tuples(st.just("value"), TRIAL, st.integers(1, 3), VALUES),
    st.tuples(st.just("attribute"), TRIAL, ATTRIBUTES),
    st.tuples(st.just("study"), st.sampled_from([STUDY_NAME, "another", "third"])),
    st.tuples(st.just("delete"), st.sampled_from([1, 1, 2, 2, 0])),
)


def write(storage: JournalStorage, step: tuple[Any, ...]) -> None:
    """Let Optuna write one entry, and raise where it is not allowed: the entry is in the journal nevertheless."""
    name, *rest = step
    if name == "create":
        storage.create_new_trial(rest[0], template_trial=rest[1])
    elif name == "param":
        domain, value = rest[2]
        storage.set_trial_param(rest[0], rest[1], domain.to_internal_repr(value), domain)
    elif name == "state":
        storage.set_trial_state_values(rest[0], rest[1], None if rest[2] is None else [rest[2]])
    elif name == "value":
        storage.set_trial_intermediate_value(rest[0], rest[1], rest[2])
    elif name == "attribute":
        for key, value in rest[1].items():
            storage.set_trial_user_attr(rest[0], key, value)
    elif name == "study":
        storage.create_new_study([StudyDirection.MAXIMIZE], rest[0])
    else:
        storage.delete_study(rest[0])


@settings(max_examples=300, deadline=None)
@given(first=st.lists(templates(), min_size=2, max_size=4), steps=st.lists(STEPS, min_size=5, max_size=40))
def test_whatever_is_written_is_read_as_optuna_reads_it(first, steps, tmp_path_factory):
    journal = tmp_path_factory.mktemp("journal") / "study.journal"
    storage = JournalStorage(JournalFileBackend(str(journal)))
    storage.create_new_study([StudyDirection.MAXIMIZE], STUDY_NAME)
    for step in [*(("create", 0, template) for template in first), *steps]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                write(storage, step)
        except (KeyError, ValueError, AssertionError, optuna.exceptions.OptunaError):
            continue
    assert_as_optuna_reads_it(journal)


def test_entries_that_one_process_alone_would_not_write(tmp_path):
    """Two that start the same trial at once; entries of no meaning to a trial, or for trials and studies that are not there."""
    journal = make_run(tmp_path / "run", stage="searching") / "study.journal"
    running = next(trial.number for trial in read_trials(journal)[0] if trial.state == State.RUNNING)
    again = {"datetime_start": "2026-01-02T03:04:05.000006+00:00"}
    entries = [
        {"op_code": 6, "trial_id": running, "state": 0, "values": None, **again},
        {"op_code": 6, "trial_id": 99, "state": 0, "values": None, **again},
        {"op_code": 0, "study_name": STUDY_NAME, "directions": [2]},
        {"op_code": 4, "study_id": 7, **again},
        {"op_code": 2, "study_id": 0, "user_attr": {"a": 1}},
        {"op_code": 3, "study_id": 0, "system_attr": {"a": 1}},
        {"op_code": 9, "trial_id": running, "system_attr": {"a": 1}},
        {"op_code": 7, "trial_id": running, "step": 9, "intermediate_value": 0.5},
        {"op_code": 10},
    ]
    with journal.open("a") as file:
        file.writelines(json.dumps({"worker_id": "another", **entry}) + "\n" for entry in entries)
    assert_as_optuna_reads_it(journal)
    assert read_trials(journal)[0][running].intermediate_values[9] == 0.5


@pytest.mark.parametrize("stage", ["first_epoch", "searching", "retrained"])
def test_a_run_is_read_as_optuna_reads_it(stage, tmp_path):
    assert_as_optuna_reads_it(make_run(tmp_path / "run", stage=stage) / "study.journal")


def test_an_unknown_operation_is_refused(tmp_path):
    journal = make_run(tmp_path / "run", stage="searching") / "study.journal"
    num_lines = len(journal.read_bytes().splitlines())
    with journal.open("a") as file:
        file.write('{"op_code": 11, "worker_id": "newer"}\n')
    message = rf"study\.journal:{num_lines + 1}: unknown operation code 11; this Winnow knows 0 to 10"
    with pytest.raises(InputError, match=message):
        read_trials(journal)


def test_the_operations_are_those_of_optuna():
    """A new Optuna with further operations fails here before it fails in a user's run."""
    assert {operation.value for operation in JournalOperation} == _KNOWN


def test_the_states_are_those_of_optuna():
    assert [(state.name, state.value) for state in State] == [(state.name, state.value) for state in TrialState]
    assert all(State(state.value).is_finished() == state.is_finished() for state in TrialState)


def assert_as_optuna_reads_it(journal: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(journal)))
    trials, notes = read_trials(journal)
    try:
        study = optuna.load_study(study_name=STUDY_NAME, storage=storage)
    except KeyError:
        assert notes == [f"study.journal contains no study named {STUDY_NAME} yet"]
        return
    known = [trial for trial in study.get_trials() if trial.state != TrialState.WAITING]
    assert notes == []
    assert [comparable(of_ours(trial)) for trial in trials] == [comparable(of_optuna(trial)) for trial in known]


def of_ours(trial: Trial) -> dict[str, Any]:
    times = [
        moment and moment.astimezone().replace(tzinfo=None)
        for moment in (trial.datetime_start, trial.datetime_complete)
    ]
    distributions = {
        name: distribution_to_json(optuna.distributions.json_to_distribution(text))
        for name, text in trial.distributions.items()
    }
    return {**facts(trial), "times": times, "distributions": distributions}


def of_optuna(trial: FrozenTrial) -> dict[str, Any]:
    distributions = {name: distribution_to_json(domain) for name, domain in trial.distributions.items()}
    return {**facts(trial), "times": [trial.datetime_start, trial.datetime_complete], "distributions": distributions}


def facts(trial: Trial | FrozenTrial) -> dict[str, Any]:
    keys = ("number", "value", "values", "params", "user_attrs", "intermediate_values")
    return {key: getattr(trial, key) for key in keys} | {"state": trial.state.name}


def comparable(value: Any) -> Any:
    """Equal only where types are equal too, and NaN is itself: 1, 1.0 and true are one in Python."""
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [comparable(item) for item in value]
    return "nan" if isinstance(value, float) and math.isnan(value) else (type(value).__name__, value)
