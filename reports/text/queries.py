"""Defines the SQL query behind each figure and number of the report, for DuckDB on the Parquet files or for `winnow query RUN "..."`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from winnow.reports.statuses import FAILED_STATUSES
from winnow.reports.tables.retraining import TEST_METRICS

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

SLICE = "slice-"
"""Prefix of the ids of slices; the path follows, with dashes for dots."""


def queries(run: RunData) -> dict[str, str]:
    """Return the query of each figure and number of the report, by its id.

    Args:
        run: The run, whose objective and parameters the queries name.
    """
    objective, best = run.objective, "max" if run.maximize else "min"
    order = "desc" if run.maximize else "asc"
    failed = ", ".join(f"'{status}'" for status in FAILED_STATUSES)
    scored = f"in_space and objective is not null and status not in ({failed})"
    ranked = f"status <> 'completed', objective {order}, trial"
    known = f"phase = 'search' and {objective} is not null"
    so_far = (
        "with ends as (select trial, num_epochs, objective from 'trials.parquet' where status = 'completed' and in_space)\n"
        f"select time, epochs.trial, epoch, {objective}, {best}(ends.objective) over (order by time, epochs.trial) as best_so_far\n"
        "from 'epochs.parquet' epochs left join ends on ends.trial = epochs.trial and ends.num_epochs = epoch\n"
        f"where {known} and time is not null order by time, epochs.trial"
    )
    shown = "coalesce(estimated_end, objective)"
    slices = {
        f"{SLICE}{path.replace('.', '-')}": (
            f'select trial, status, "{path}", {shown} as objective from \'trials.parquet\'\nwhere {scored} and "{path}" is not null order by trial'
        )
        for path in run.space.columns()
    }
    parameters = "".join(f', "{path}"' for path in run.space.columns())
    metrics = ", ".join(("test_accuracy", *TEST_METRICS, "test_loss"))
    fronts = {
        f"front-{cost}": (
            f"select trials.trial, trials.{cost}, trials.objective, front.rank, front.test_accuracy\n"
            "from 'trials.parquet' trials left join 'front.parquet' front on front.trial = trials.trial\n"
            f"where status = 'completed' and in_space and trials.objective is not null and trials.{cost} > 0 order by trials.trial"
        )
        for cost in run.costs
    }
    of_winner = "from 'predictions.parquet' where rank = 1"
    return (
        slices
        | fronts
        | {
            "headline": "select test_objective, test_objective_low, test_objective_high, num_seeds from 'winners.parquet' where rank = 1",
            "tiles": "select status, count(*) as trials from 'trials.parquet' group by status order by status",
            "winners": (
                "select rank, trial, baseline, test_objective, test_objective_low, test_objective_high, num_seeds, objective_gain,\n"
                "  objective_gain_low, objective_gain_high, search_objective, objective_gap, num_parameters, wall_seconds from 'winners.parquet' order by baseline, rank"
            ),
            "metrics": f"select rank, trial, baseline, {metrics}\nfrom 'winners.parquet' order by baseline, rank",
            "classes": "select class_name, support, precision, recall, f1 from 'classes.parquet' where rank = 1",
            "audit": (
                "select rung, epoch, num_stopped, num_audited, num_wrong, wrong_rate, wrong_low, wrong_high, num_missed_best,\n"
                "  spearman_sampled, kendall_sampled, spearman_finished, kendall_finished from 'audit.parquet' order by rung nulls last"
            ),
            "memory-weights": "select earlier_run, trial, weight from 'memory.parquet' order by earlier_run, trial",
            "best-so-far": so_far,
            "learning-curves": f"select trial, epoch, {objective} from 'epochs.parquet' where {known} order by trial, epoch",
            "budget": (
                "with stretches as (select epoch, lag(epoch, 1, 0) over (order by epoch) as start from 'rungs.parquet')\n"
                "select epoch, status, sum(greatest(0, least(num_epochs, epoch) - start)) as epochs_trained\n"
                "from stretches, 'trials.parquet' group by epoch, status having epochs_trained > 0 order by epoch, status"
            ),
            "best-trials": (
                f"select trial, status, objective, best_objective, best_epoch, num_epochs, train_seconds, num_parameters\n"
                f"from 'trials.parquet' where {scored} order by {ranked} limit 15"
            ),
            "expected-ends": (
                "select trial, num_epochs, objective, expected_end, expected_end_low, expected_end_high from 'trials.parquet'\n"
                f"where status = 'running' and expected_end is not null order by expected_end {order}, trial limit 15"
            ),
            "importance": (
                "select parameter, importance, importance_std, num_trials, condition from 'importance.parquet'\n"
                "where importance is not null order by importance desc"
            ),
            "parallel": f"select trial, status, {shown} as objective{parameters}\nfrom 'trials.parquet' where {scored} order by trial",
            "size": f"select trial, status, num_parameters, objective from 'trials.parquet'\nwhere {scored} and num_parameters > 0 order by trial",
            "speed": (
                "select trial, status, train_seconds / num_epochs as seconds_per_epoch, objective from 'trials.parquet'\n"
                f"where {scored} and num_epochs > 0 and train_seconds > 0 order by trial"
            ),
            "confusion": f"select true_class, predicted_class, count(*) as images {of_winner} group by all order by all",
            "per-class": f"select true_class, avg(correct::int) as accuracy, count(*) as images {of_winner} group by all order by 2",
            "failures": "select phase, trial, status, epoch, node, error from 'failures.parquet'",
        }
    )
