"""Names the reports of a worker that are not a `TrialStatus`."""

from __future__ import annotations

STORAGE_FAILED = "storage_failed"
"""A final report in place of a status, which does not end the trial: the driver stops the search, and the trial stays open."""
