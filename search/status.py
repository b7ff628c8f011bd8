"""How a trial may end, and what else a worker may report in place of an epoch."""

from __future__ import annotations

CANNOT_WRITE = (
    "cannot_write"  # a last word that is no end of the trial: the driver stops the search, the trial stays open
)
