"""Creates the rows about the earlier runs from which a search learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from winnow.reports.run_data import RunRecords

Row = dict[str, Any]


def memory_rows(run: RunRecords) -> list[Row]:
    """Return one row per suggestion and earlier run, in the order of the trials; no rows if the search learned from no run."""
    facts = {earlier["run"]: earlier for earlier in run.study.get("earlier_runs") or []}
    rows = []
    for trial in run.study_trials:
        recorded = trial.user_attrs.get("memory") or {"weights": {}}
        for name, weight in recorded["weights"].items():
            earlier = facts[name]
            rows.append(
                {
                    "run": run.name,
                    "earlier_run": name,
                    **{key: earlier[key] for key in ("data", "data_fingerprint", "machine", "winnow_version")},
                    "family": ", ".join(earlier["family"]),
                    "num_trials": earlier["trials_taken_over"],
                    "trial": trial.number,
                    "weight": weight,
                    "share": recorded["shares"][name] if "shares" in recorded else None,
                }
            )
    return rows
