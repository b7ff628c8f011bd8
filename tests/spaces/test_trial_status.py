"""One list of statuses: the study, the tables and every view know all of them."""

from __future__ import annotations

from winnow.reports.figures.style import STATUS_COLORS, STATUS_SYMBOLS
from winnow.reports.statuses import FAILED_STATUSES, STATUS_WORDS, STATUSES
from winnow.reports.text.failure_classes import CLASSES
from winnow.search.study.record import ENDED_STATES
from winnow.spaces.trial_status import FAILURES, TrialStatus


def test_all_that_distinguish_statuses_know_every_one():
    everyone = set(TrialStatus)
    assert set(STATUSES) == set(STATUS_WORDS) == set(STATUS_COLORS) == set(STATUS_SYMBOLS) == everyone
    assert everyone - {TrialStatus.RUNNING, TrialStatus.SKIPPED} == ENDED_STATES.keys()
    assert (
        set(FAILURES)
        == set(FAILED_STATUSES)
        == everyone
        - {
            TrialStatus.COMPLETED,
            TrialStatus.STOPPED,
            TrialStatus.INFEASIBLE,
            TrialStatus.RUNNING,
            TrialStatus.SKIPPED,
        }
    )
    assert set(FAILURES) <= CLASSES.keys()
