"""Domains: what they draw, contain and store, and the bounds they refuse."""

from __future__ import annotations

import json
import math
import pickle
import warnings
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from winnow.spaces.errors import SpaceError
from winnow.spaces.grammar.domains import Choice, Domain, Float, Int, Log

DOMAINS: list[Domain] = [
    Choice(("relu", "elu")),
    Choice((32, 64)),
    Choice((0, 0.5)),
    Choice((True, False)),
    Choice((None, 1.0)),
    Choice(([], [512], [1024, 256])),
    Choice(("none", [{"name": "crop", "padding": 2}])),
    Int(2, 6),
    Int(16, 128, 16),
    Int(1, 100, log=True),
    Float(0.0, 0.8),
    Float(0.0, 0.7, 0.1),
    Float(-1.0, 1.0, 0.25),
    Log(1e-4, 1e-2),
    Log(16, 512),
    Log(16, 512, 2),
    Log(1e-4, 1.0, 10),
]


def ask(domain: Domain, seed: int) -> tuple[Any, Any]:
    """A value as a study draws it, and what the study has stored."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    return domain.suggest(trial, "x"), trial.params["x"]


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_what_is_drawn_is_contained_and_encoded_as_it_was_stored(domain: Domain) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns of values that it must change or cannot store
        for seed in range(20):
            value, stored = ask(domain, seed)
            assert domain.contains(value)
            encoded = domain.encode(value)
            assert encoded == (pytest.approx(stored) if isinstance(stored, float) else stored)
            assert type(encoded) is type(stored)
            assert domain.suggest(FixedTrial({"x": encoded}), "x") == value


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_ends_are_contained_and_typed_as_the_column(domain: Domain) -> None:
    types = {"int": int, "float": (int, float), "bool": bool, "string": (str, list)}[domain.arrow_kind]
    for end in domain.ends():
        assert domain.contains(end)
        assert end is None or isinstance(end, types)


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_survives_pickle_and_its_own_yaml(domain: Domain) -> None:
    assert pickle.loads(pickle.dumps(domain)) == domain
    json.dumps(domain.to_tree())


@pytest.mark.parametrize("domain", [domain for domain in DOMAINS if domain.size() < 40], ids=str)
def test_size_counts_the_values(domain: Domain) -> None:
    seen = {json.dumps(ask(domain, seed)[0]) for seed in range(int(40 * domain.size()))}
    assert len(seen) == domain.size()


def test_sizes() -> None:
    assert Int(1, 100, log=True).size() == 100
    assert Log(16, 512).size() == 497
    assert Float(0.0, 1.0).size() == math.inf
    assert Float(0.0, 0.7, 0.1).size() == 8
    assert Log(1e-4, 1.0, 10).size() == 5


def test_grids_hold_the_numbers_that_one_would_write() -> None:
    assert Log(16, 512, 2).grid == [16, 32, 64, 128, 256, 512]
    assert Log(1e-4, 1.0, 10).grid == [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    assert {ask(Float(0.0, 0.7, 0.1), seed)[0] for seed in range(200)} == {0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7}


def test_a_log_range_is_uniform_in_the_logarithm() -> None:
    below = sum(ask(Log(1e-4, 1.0), seed)[0] < 1e-2 for seed in range(400))
    assert abs(below - 200) < 60  # six sigma of a fair coin


def test_columns() -> None:
    kinds = {str(domain.to_tree()): domain.arrow_kind for domain in DOMAINS}
    assert list(kinds.values()) == [
        *("string", "int", "float", "bool", "float", "string", "string"),
        *("int", "int", "int", "float", "float", "float"),
        *("float", "int", "int", "float"),
    ]


def test_what_is_not_contained() -> None:
    assert not Int(2, 6).contains(7)
    assert not Int(2, 6).contains(3.0)
    assert not Int(0, 1).contains(True)
    assert not Int(0, 8, 4).contains(2)
    assert not Float(0.0, 0.5).contains(math.nan)
    assert not Float(0.0, 0.5).contains("0.1")
    assert not Float(0.0, 0.6, 0.2).contains(0.3)
    assert Float(0.0, 0.6, 0.2).contains(0.6)
    assert not Log(16, 512, 2).contains(48)
    assert not Choice((0, 1)).contains(False)
    assert not Choice(([512],)).contains("[512]")


def test_an_option_is_never_shared_between_configs() -> None:
    domain = Choice(([512],))
    domain.suggest(FixedTrial({"x": "[512]"}), "x").append(1)
    assert domain.suggest(FixedTrial({"x": "[512]"}), "x") == [512]


REFUSED = [
    (lambda: Int(6, 2), "`low < high` must hold, but got low=6, high=2; are they swapped?"),
    (lambda: Int(2, 2), "the range from 2 to 2 contains a single value; write 2"),
    (lambda: Int(1, 2.5), "int needs whole numbers, but got 2.5"),
    (lambda: Int(True, 2), "int needs whole numbers, but got true"),
    (lambda: Int(1, 4, 0), "the step must be above 0, but got 0"),
    (
        lambda: Int(1, 4, 2),
        "high must be a whole number of steps above low, but got low=1, high=4, step=2; nearest are 3 and 5",
    ),
    (lambda: Float(0, "1"), "float needs finite numbers, but got '1'"),
    (lambda: Float(0, math.inf), "float needs finite numbers, but got Infinity"),
    (
        lambda: Float(0.0, 1.0, 0.3),
        "high must be a whole number of steps above low, but got low=0.0, high=1.0, step=0.3; nearest are 0.9 and 1.2",
    ),
    (lambda: Log(0, 1), "log needs bounds above 0, but got low=0"),
    (lambda: Log(1, 16, 1), "the step of a log range is a factor above 1, but got 1"),
    (lambda: Log(1, 16, 1.001), "the step 1.001 makes more than 1000 values; choose a larger one"),
    (
        lambda: Log(16, 500, 2),
        "high must be low times a power of the step, but got low=16, high=500, step=2; nearest are 256 and 512",
    ),
    (lambda: Choice(()), "a choice needs at least one option, but got none"),
    (lambda: Choice((1, 2, 1.0)), "options must differ, but got 1 and 1.0"),
    (lambda: Choice((0, False)), "options must differ, but got 0 and false"),
    (lambda: Choice(([1], "[1]")), "options must differ, but got [1] and '[1]'"),
    (lambda: Choice((math.nan,)), "the options of a choice must be finite, but got nan"),
    (
        lambda: Choice(([16, {"filters": math.inf}], 3)),
        "the options of a choice must be finite, but got [16, {'filters': inf}]",
    ),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused(make: Any, message: str) -> None:
    with pytest.raises(SpaceError) as error:
        make()
    assert str(error.value) == message


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 50), st.integers(1, 8), st.integers(1, 12), st.integers(0, 1000))
def test_float_grids_of_decimal_steps(low: int, step: int, count: int, seed: int) -> None:
    """In hundredths, which binary numbers cannot hold: every draw is the decimal that one would write."""
    domain = Float(low / 100, (low + count * step) / 100, step / 100)
    value, _ = ask(domain, seed)
    assert value in [(low + number * step) / 100 for number in range(count + 1)]
    assert domain.size() == count + 1


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.integers(2, 5), st.integers(1, 6), st.integers(0, 1000))
def test_log_grids_of_whole_numbers(low: int, factor: int, count: int, seed: int) -> None:
    domain = Log(low, low * factor**count, factor)
    value, stored = ask(domain, seed)
    assert value == stored
    assert isinstance(value, int)
    assert domain.contains(value)
    assert domain.size() == count + 1
