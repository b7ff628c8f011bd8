"""Names the reports of a worker that are no `TrialStatus`."""

from __future__ import annotations

STORAGE_FAILED = "storage_failed"
"""In place of a status, a final report that does not end the trial: the driver stops the search, and the trial stays open."""
