"""Tells how often the test images were used, if not only by the retrainings that a report shows."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from winnow.reports.reading.run import EARLIER_TESTS
from winnow.reports.text.wording import plural, tested_name

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData, RunFacts


def earlier_tests_text(run: RunData) -> str:
    """Return a sentence about trainings that were tested before other configs or another protocol took their place; empty if there are none.

    Args:
        run: The run.
    """
    earlier = _num_earlier(run)
    if not earlier:
        return ""
    shown = sum(row["test_accuracy"] is not None for row in run.retrain_rows())
    verb = "was" if earlier == 1 else "were"
    tested = f"{plural(earlier, 'earlier training')} of other configs or under another protocol {verb} tested on the"
    choosing = "Choosing between them by their test values would flatter the choice."
    if not shown:
        return f"{tested} test images. {choosing}"
    return f"Besides the {plural(shown, 'training')} shown here, {tested} same images. {choosing}"


def no_winner_text(run: RunData) -> str:
    """Return the sentence about a run none of whose winners was retrained. Trainings that were tested earlier may have been of others.

    Args:
        run: The run.
    """
    winner, when = ("current winner", " under the current protocol") if _num_earlier(run) else ("winner", "")
    return f"No {winner} was retrained{when} yet, so none has a {tested_name(run)}."


def _num_earlier(run: RunFacts) -> int:
    return int((run.study.get(EARLIER_TESTS) or {}).get("trainings", 0))


def first_earlier_test(run: RunFacts) -> datetime | None:
    """Return the time of the first of these tests; None if there are none.

    Args:
        run: The run.
    """
    first = (run.study.get(EARLIER_TESTS) or {}).get("first")
    return None if first is None else datetime.fromisoformat(first)
