"""Describes the result of the audit in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from winnow.reports.text import wording
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData


def audit_sentence(run: RunData) -> str:
    """Summarise the result of the audit of the stops; empty if the run has no audit."""
    rows = run.rows("audit")
    if not rows:
        return ""
    total, share = rows[-1], run.settings["audit"]
    num_stopped = wording.plural(total["num_stopped"], "stopped trial")
    text = f"The audit (a random {100 * share:g} % of the trials) trained {total['num_audited']} of {num_stopped} to completion"
    unfinished = num_unfinished(run)
    text += f"; {unfinished} more are not finished yet." if unfinished else "."
    if total["wrong_rate"] is None:
        return text
    low, high = (round(100 * total[key]) for key in ("wrong_low", "wrong_high"))
    were = "was" if total["num_wrong"] == 1 else "were"
    return (
        f"{text} {total['num_wrong']} of these {wording.plural(total['num_audited'], 'stop')} {were} wrong "
        f"(95 % interval of the rate: {low} to {high} %), and {total['num_missed_best']} missed the best trial."
    )


def num_unfinished(run: RunData) -> int:
    """Return the number of stopped trials that the audit has not trained to their end yet."""
    rows = run.rows("audit")
    if not rows:
        return 0
    waiting = (
        row["audited"] and row["in_space"] and row["status"] == TrialStatus.STOPPED and row["reason"] is None
        for row in run.trial_rows()
    )
    return max(0, sum(waiting) - int(rows[-1]["num_audited"]))
