"""How the statuses of trials read in reports; tables and legends show them in the order of `TrialStatus`."""

from __future__ import annotations

from winnow.spaces.trial_status import FAILURES, TrialStatus

STATUSES = tuple(status.value for status in TrialStatus)
FAILED_STATUSES = tuple(status.value for status in FAILURES)
STATUS_WORDS: dict[str, str] = {status: status.replace("_", " ") for status in STATUSES} | {
    TrialStatus.STOPPED.value: "stopped early",
    TrialStatus.LOST.value: "worker lost",
    TrialStatus.RUNNING.value: "unfinished",
}
"""Status -> how it reads in a sentence."""
