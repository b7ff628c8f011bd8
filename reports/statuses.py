"""The statuses of trials in reports, in the order in which tables and legends show them."""

from __future__ import annotations

STATUS_WORDS: dict[str, str] = {
    "completed": "completed",
    "stopped": "stopped early",
    "diverged": "diverged",
    "out_of_memory": "out of memory",
    "failed": "failed",
    "lost": "worker lost",
    "running": "unfinished",
    "skipped": "skipped",
}
"""Status -> how it reads in a sentence."""
STATUSES = tuple(STATUS_WORDS)
FAILED_STATUSES = ("diverged", "out_of_memory", "failed", "lost")
