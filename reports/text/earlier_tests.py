"""Tells how often the test images were used, if not only by the retrainings that a report shows."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from winnow.reports.reading.run import EARLIER_TESTS
from winnow.reports.text.wording import plural

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData, RunFacts


def earlier_tests_text(run: RunData) -> str:
    """Return a sentence about trainings that were tested before other configs or another protocol took their place; empty if there are none.

    Args:
        run: The run.
    """
    earlier = (run.study.get(EARLIER_TESTS) or {}).get("trainings")
    if not earlier:
        return ""
    shown = sum(row["test_accuracy"] is not None for row in run.retrain_rows())
    verb = "was" if earlier == 1 else "were"
    return (
        f"Besides the {plural(shown, 'training')} shown here, {plural(earlier, 'earlier training')} of other configs or under another "
        f"protocol {verb} tested on the same images. Choosing between them by their test values would flatter the choice."
    )


def first_earlier_test(run: RunFacts) -> datetime | None:
    """Return the time of the first of these tests; None if there are none.

    Args:
        run: The run.
    """
    first = (run.study.get(EARLIER_TESTS) or {}).get("first")
    return None if first is None else datetime.fromisoformat(first)
