"""Computes the accuracy of a constant prediction, with which the accuracies of a run can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from winnow.reports.run_data import RunFacts


def largest_class(run: RunFacts, split: str) -> float | None:
    """Return the accuracy of always predicting the largest class of a split; None if it is not recorded.

    Args:
        run: The run.
        split: `train`, `validation` or `test`.
    """
    data = run.study.get("data") or {}
    summary = data.get("summary") or {}
    counts = ((summary.get("splits") or {}).get(split) or {}).get("by_class")
    if counts and sum(counts):
        return float(max(counts) / sum(counts))
    share = summary.get("majority_share") if split == "test" else None
    return None if share is None else float(share)
