"""The audit's section of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from winnow.reports.html.markup import paragraph, table_html
from winnow.reports.text import wording
from winnow.reports.text.audit import audit_sentence

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

Row = dict[str, Any]


def audit_html(run: RunData) -> str:
    """The section's text and table; empty where the run has no audit."""
    rows = run.rows("audit")
    if not rows:
        return ""
    columns = [
        "rung",
        "stopped",
        "audited",
        "wrong stops",
        "missed the best",
        "rho (n)",
        "tau (n)",
        "rho, all finished (n)",
    ]
    lines = [
        [
            "all" if row["rung"] is None else f"epoch {row['epoch']}",
            str(row["num_stopped"]),
            str(row["num_audited"]),
            _rate(row),
            wording.number(row["num_missed_best"]),
            _correlation(row, "spearman", "sampled"),
            _correlation(row, "kendall", "sampled"),
            _correlation(row, "spearman", "finished"),
        ]
        for row in rows
    ]
    about = (
        "A stop was wrong if the trial, let finish, ended strictly better than the median of the completed trials; it missed the "
        "best if it ended strictly better than the best of them. In brackets: exact 95 % intervals. rho is Spearman's rank "
        "correlation between the objective at the rung and at the end, tau is Kendall's, over the audited trials that finished: "
        "a random sample of all. Over all that finished there are more trials, but the survivors prevail."
    )
    table = table_html(columns, lines, numeric=range(1, len(columns)))
    return paragraph(audit_sentence(run)) + table + paragraph(about, "caption")


def _rate(row: Row) -> str:
    if row["wrong_rate"] is None:
        return "-"
    low, high = (round(100 * row[key]) for key in ("wrong_low", "wrong_high"))
    return f"{row['num_wrong']} of {row['num_audited']} ({low} to {high} %)"


def _correlation(row: Row, kind: str, which: str) -> str:
    value, num = row[f"{kind}_{which}"], row[f"num_{which}"]
    return "-" if num is None else f"{'-' if value is None else format(value, '.2f')} ({num})"
