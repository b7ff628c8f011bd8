"""`search.stop_when`: a search ends when its best value improved too little over the last part of the training time."""

from __future__ import annotations

import re

import pytest

from tests.helpers.ledgers import SHAPE, make_folder, report
from winnow.search.settings import settings_for
from winnow.search.study.amendments import RunChanges, amend
from winnow.search.study.gain_rule import GainRule
from winnow.search.study.ledger import Ledger
from winnow.spaces import catalog
from winnow.spaces.errors import InputError
from winnow.spaces.schema.search import price_of
from winnow.spaces.space import Space

HOUR = 3600.0


@pytest.fixture(scope="module")
def space() -> Space:
    return catalog.load("digits", ["epochs=9", "start_from={}"])


def ran(rule: GainRule, *ends: tuple[float, float]) -> GainRule:
    """Let trials of so many hours complete with these values, one after another."""
    for hours, value in ends:
        rule.note_epoch({"wall_seconds": hours * HOUR})
        rule.note_completed(value)
    return rule


@pytest.mark.parametrize(
    ("text", "ends", "reached"),
    [
        ("no gain", [(1, 0.5)], False),  # the first one decides nothing
        ("no gain", [(1, 0.5), (1, 0.5), (1, 0.4)], False),  # 30 % of 3 hours were over before it completed
        ("no gain", [(1, 0.5), (1, 0.5), (1, 0.4), (1, 0.5)], True),
        ("no gain", [(1, 0.5), (1, 0.501), (1, 0.4), (1, 0.5)], False),
        ("0.01 per hour", [(1, 0.5), (1, 0.527), (2, 0.4)], True),  # 0.027 in 2.8 hours
        ("0.01 per hour", [(1, 0.5), (1, 0.529), (2, 0.4)], False),
    ],
)
@pytest.mark.parametrize("objective", ["validation_accuracy", "validation_loss"])
def test_the_rule(space, text, ends, reached, objective):
    if objective == "validation_loss":
        ends = [(hours, 1 - value) for hours, value in ends]
    assert ran(GainRule(settings_for(space, stop_when=text, objective=objective)), *ends).reached is reached


def test_without_the_rule_nothing_is_reached(space):
    assert not ran(GainRule(settings_for(space)), *[(1, 0.5)] * 9).reached


@pytest.mark.parametrize("changes", [{"sampler": "forecast"}, {"sampler": "random"}, {"sampler": "tpe", "audit": 1.0}])
def test_a_search_ends_early_and_stays_ended(tmp_path, space, changes):
    """Nothing waits or is left open; a start from the record alone decides the same, and without the rule the search goes on."""
    settings = settings_for(space, trials=300, stop_when="2 per hour", **changes)
    ledger = Ledger(make_folder(tmp_path, space, settings), space, settings, SHAPE)
    while (assignment := ledger.ask()) is not None:
        epoch, going_on = assignment.recorded, True
        while going_on:
            epoch += 1
            going_on = ledger.record(assignment.number, report(assignment, epoch, wall_seconds=2.0))
    assert ledger.no_gain
    assert ledger.finished
    assert ledger.num_ended == ledger.num_asked < 300
    assert len(ledger.completed) >= settings.retrain.top
    assert re.fullmatch(
        r"the best value improved by [\d.e-]+ in the last 70% of the training time \([\d.e-]+ hours\)", str(ledger.gain)
    )
    recent = ledger.gain.recent
    ledger.close()
    again = Ledger(ledger.folder, space, settings, SHAPE)
    assert again.gain.recent == recent
    assert again.ask() is None
    again.close()
    longer = Ledger(ledger.folder, space, settings.changed(stop_when=None), SHAPE)
    assert longer.ask() is not None
    longer.close()


@pytest.mark.parametrize("text", ["0.01", "no gains", "-1 per hour", "nan per hour", "inf per hour", " per hour", ""])
def test_what_is_no_price_is_refused_in_a_sentence(space, text):
    with pytest.raises(InputError, match=r"^stop_when='.*': write `no gain`, or a price such as `0.01 per hour`"):
        settings_for(space, stop_when=text)


def test_prices():
    assert [price_of(text) for text in ("no gain", "0 per hour", "1e-3 per hour")] == [0.0, 0.0, 0.001]


def test_several_objectives_have_no_best_value():
    objectives = "search.objectives=[validation_accuracy, {minimize: multiply_adds}]"
    with pytest.raises(InputError, match="leave out `stop_when` or `objectives`"):
        catalog.load("digits", [objectives, "search.stop_when=no gain"])
    with pytest.raises(InputError, match="--stop-when: needs a single objective"):
        settings_for(catalog.load("digits", [objectives]), stop_when="no gain")


def test_an_extended_search_ends_without_the_rule(tmp_path, space):
    settings = settings_for(space, trials=5, stop_when="no gain")
    folder = make_folder(tmp_path, space, settings)
    study = folder.read_study()
    for changes, rule in (
        (RunChanges(), "no gain"),
        (RunChanges(trials=3), None),
        (RunChanges(time_budget="5m"), None),
    ):
        amended = amend(folder, study, space, changes)
        assert amended.settings.stop_when == rule
        assert any("`stop_when` of the run no longer applies" in words for words in amended.words) is (rule is None)
