"""Defines the SQL query behind each figure and number of the report, for DuckDB on the Parquet files or for `winnow query RUN "..."`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from winnow.reports.facts import metrics_on_test_images
from winnow.reports.statuses import FAILED_STATUSES, UNRANKED_STATUSES
from winnow.reports.tables.candidates import incumbent
from winnow.reports.tables.front import columns_of_tests
from winnow.reports.text.choices import DEPTH, choice_paths
from winnow.reports.text.winner_words import GUESSING
from winnow.spaces.epoch_figures import QUALITY, TEST_METRICS, EpochFigure, is_cost, name_on_test_images

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

SLICE = "slice-"
"""Prefix of the ids of slices; the path follows, with dashes for dots."""
FRONT = "front"
"""Id of the front; the ids of its figures are this, a dash and the figure on the horizontal axis."""
UNRANKED = ", ".join(f"'{status}'" for status in UNRANKED_STATUSES)
SCORED = f"in_space and objective is not null and status not in ({UNRANKED})"
"""Condition of the trials that are ranked."""
SHOWN = "coalesce(estimated_end, objective)"
"""The value of a trial where stopped trials are compared with completed ones."""


def queries(run: RunData) -> dict[str, str]:
    """Return the query of each figure and number of the report, by its id.

    Args:
        run: The run, whose objective and parameters the queries name.
    """
    return {**_of_run(run), **_of_search(run), **_of_parameters(run), **_of_winners(run), **_of_test_images()}


def training_queries() -> dict[str, str]:
    """Return the query of each figure and number of the page of one training, by its id."""
    return {
        "headline": "select test_accuracy, seed, largest_class from 'training.parquet'",
        "outcome": "select status, epochs, planned_epochs, stopped_early, weights, weights_epoch, num_classes_answered from 'training.parquet'",
        "result": (
            f"select {', '.join(['test_accuracy', 'largest_class', 'test_loss', *TEST_METRICS])},\n"
            "  num_parameters, multiply_adds, wall_seconds, images_per_second, device\nfrom 'training.parquet'"
        ),
        "curve-loss": "select epoch, train_loss, validation_loss from 'epochs.parquet' order by epoch",
        "curve-accuracy": "select epoch, train_accuracy, validation_accuracy from 'epochs.parquet' order by epoch",
        "batch-losses": "select epoch, batch_losses, list_median(batch_losses) as median from 'epochs.parquet' order by epoch",
        "best-epochs": "\nunion all by name\n".join(map(_best_epoch, QUALITY)),
        "environment": "select section, key, value from 'environment.parquet'",
        "confusion": "select true_class, predicted_class, count(*) as images from 'predictions.parquet' group by all order by all",
        "per-class": (
            "select true_class, avg(correct::int) as accuracy, count(*) as images from 'predictions.parquet' group by all order by 2, 1"
        ),
        "classes": "select class_name, support, precision, recall, f1 from 'classes.parquet' order by class",
        "mistakes": (
            'select "index", image_name, true_class, predicted_class, confidence, probability_true\n'
            "from 'predictions.parquet' where not correct order by confidence desc, \"index\""
        ),
    }


def _best_epoch(figure: EpochFigure) -> str:
    order = "desc" if figure.better == "high" else "asc"
    names = ", ".join(each.name for each in QUALITY)
    return (
        f"(select '{figure.name}' as best, epoch, {names}\n"
        f"  from 'epochs.parquet' where {figure.name} is not null order by {figure.name} {order}, epoch limit 1)"
    )


def _of_run(run: RunData) -> dict[str, str]:
    """Of the start of the run, its settings, images, failures and cost."""
    trials_of = "count(*) filter (where status = '{0}') as {0}".format
    environment = "select section, key, value from 'environment.parquet'"
    return {
        "made": f"{environment} where key in ('created', 'winnow_version')",
        "settings": f"{environment} where section in ('settings', 'data')",
        "environment": environment,
        "shortage": f"{environment} where section = 'search_shortage'",
        "tiles": "select status, count(*) as trials from 'trials.parquet' group by status order by status",
        "data": "select class_name, split, num_images from 'data.parquet' order by class, split",
        "data-summary": f"{environment} where section = 'data' and key = 'summary.text'",
        "failures": "select phase, trial, status, epoch, node, error from 'failures.parquet'",
        "failure-classes": (
            f"select {', '.join(map(trials_of, FAILED_STATUSES))},\n"
            "  count(*) filter (where worker_losses > 0 and status <> 'lost') as recovered,\n"
            "  count(*) filter (where micro_batches > 1 and status <> 'out_of_memory') as \"micro-batches\" from 'trials.parquet'"
        ),
        "cost": (  # pauses above a minute, such as a night before a resume, do not count
            "with spans as (\n"
            "  select epoch(time) - coalesce(wall_seconds, 0) as began, epoch(time) as ended\n"
            "  from 'epochs.parquet' where phase <> 'retrain' and time is not null\n"
            "), seen as (\n"
            "  select *, max(ended) over (order by began, ended rows between unbounded preceding and 1 preceding) as until from spans\n"
            ")\n"
            "select sum(num_epochs) as epochs, count(*) filter (where status <> 'skipped') as trials, sum(train_seconds) as train_seconds,\n"
            "  (select sum(gpus * wall_seconds) / 3600 from 'epochs.parquet' where phase = 'search') as gpu_hours,\n"
            "  (select count(*) from 'epochs.parquet' where phase = 'audit') as audit_epochs,\n"
            "  (select sum(wall_seconds) from 'epochs.parquet' where phase = 'audit') as audit_seconds,\n"
            "  (select sum(greatest(0, ended - if(began <= until + 60, until, began))) from seen) as wall_seconds\n"
            "from 'trials.parquet'"
        ),
        "memory": (
            "with largest as (select trial, max(share) as largest from 'memory.parquet' group by trial)\n"
            "select earlier_run, any_value(data) as data, any_value(family) as family, any_value(machine) as machine,\n"
            "  any_value(winnow_version) as version, any_value(num_trials) as num_trials, avg(weight) as mean_weight,\n"
            "  list(trial order by trial) filter (where share > 0 and share = largest) as suggested,\n"
            f"  list(trial order by trial) filter (where share > 0 and share = largest and status in {UNRANKED_STATUSES}) as unranked,\n"
            "  count(*) as trials\n"
            "from 'memory.parquet' join largest using (trial) join 'trials.parquet' using (trial)\n"
            "group by earlier_run order by mean_weight desc, earlier_run"
        ),
        "memory-weights": "select earlier_run, trial, weight, share from 'memory.parquet' order by earlier_run, trial",
    }


def _of_search(run: RunData) -> dict[str, str]:
    """Of the course of the search, its stops and its best trials."""
    objective, best = run.objective, "max" if run.maximize else "min"
    order = "desc" if run.maximize else "asc"
    ranked = f"status <> 'completed', objective {order}, trial"
    known = f"phase = 'search' and {objective} is not null"
    fronts = {f"{FRONT}-{name}": _front_figure(run, name) for name in run.further}
    columns = ["rank", "trial", "objective", *run.further, *columns_of_tests(run)]
    table = {FRONT: f"select {', '.join(columns)} from 'front.parquet' order by rank"} if run.further else {}
    return (
        table
        | fronts
        | {
            "audit": (
                "select rung, epoch, num_stopped, num_audited, num_wrong, wrong_rate, wrong_low, wrong_high, num_missed_best,\n"
                "  spearman_sampled, kendall_sampled, spearman_finished, kendall_finished, num_sampled, num_finished,\n"
                "  (select count(*) from 'trials.parquet' where audited and in_space and status = 'stopped' and reason is null) as num_waiting\n"
                "from 'audit.parquet' order by rung nulls last"
            ),
            "best-so-far": (
                "with ends as (select trial, num_epochs, objective from 'trials.parquet' where status = 'completed' and in_space)\n"
                f"select time, epochs.trial, epoch, {objective}, {best}(ends.objective) over until_then as best_so_far,\n"
                "  sum(wall_seconds * gpus) over until_then / 3600 as gpu_hours, sum(wall_seconds * cpus) over until_then / 3600 as cpu_hours\n"
                "from 'epochs.parquet' epochs left join ends on ends.trial = epochs.trial and ends.num_epochs = epoch\n"
                "where phase = 'search' and time is not null window until_then as (order by time, epochs.trial) order by time, epochs.trial"
            ),
            "learning-curves": f"select trial, epoch, {objective} from 'epochs.parquet' where {known} order by trial, epoch",
            "budget": (
                "with stretches as (select epoch, num_reached, lag(epoch, 1, 0) over (order by epoch) as start from 'rungs.parquet')\n"
                "select epoch, num_reached, status, sum(greatest(0, least(num_epochs, epoch) - start)) as epochs_trained\n"
                "from stretches, 'trials.parquet' group by epoch, num_reached, status having epochs_trained > 0 order by epoch, status"
            ),
            "best-trials": (
                f"select trial, status, objective, best_objective, best_epoch, num_epochs, train_seconds, num_parameters,\n"
                "  validation_accuracy, validation_balanced_accuracy, validation_macro_f1\n"
                f"from 'trials.parquet' where {SCORED} order by {ranked} limit 15"
            ),
            "best-config": _best_config(run, ranked),
            "ranks": (
                f"select trial, status, objective{_parameters(run)}\n"
                f"from 'trials.parquet' order by ({SCORED}) is not true, {ranked}"
            ),
            "expected-ends": (
                "select trial, num_epochs, objective, expected_end, expected_end_low, expected_end_high from 'trials.parquet'\n"
                f"where status = 'running' and expected_end is not null order by expected_end {order}, trial limit 15"
            ),
        }
    )


def _best_config(run: RunData, ranked: str) -> str:
    """Return the query of the best config so far: a trial, or the mean of the repeats of a config."""
    best = incumbent(run, run.trial_rows())
    if best is None or "repeats" not in best:
        return f"select trial, status, objective, num_parameters, num_epochs, config from 'trials.parquet' where {SCORED} order by {ranked} limit 1"
    first, numbers = best["trial"], ", ".join(map(str, best["repeats"]))
    of_first = ", ".join(
        f"max({name}) filter (where trial = {first}) as {name}" for name in ("num_parameters", "num_epochs", "config")
    )
    return (
        f"select {first} as trial, list_avg(list(objective order by trial)) as objective, count(*) as num_repeats, {best['num_incomplete_repeats']} as num_incomplete_repeats,\n"
        f"  {of_first}\nfrom 'trials.parquet' where trial in ({numbers})"
    )


def _parameters(run: RunData) -> str:
    return "".join(f', "{path}"' for path in run.space.columns())


def _front_figure(run: RunData, name: str) -> str:
    """Return the query of the figure of the front with the objective `name` on the horizontal axis."""
    tests = ", ".join(f"front.{column}" for column in columns_of_tests(run))
    known = f"trials.{name} > 0" if is_cost(name) else f"trials.{name} is not null"
    return (
        f"select trials.trial, coalesce(front.{name}, trials.{name}) as {name}, coalesce(front.objective, trials.objective) as objective,\n"
        f"  front.rank, {tests}\n"
        "from 'trials.parquet' trials left join 'front.parquet' front on front.trial = trials.trial\n"
        f"where status = 'completed' and in_space and trials.objective is not null and {known} order by trials.trial"
    )


def _of_parameters(run: RunData) -> dict[str, str]:
    """Of the effect of the parameters and of the cost of a training."""
    slices = {
        f"{SLICE}{path.replace('.', '-')}": (
            f'select trial, status, "{path}", {SHOWN} as objective from \'trials.parquet\'\nwhere {SCORED} and "{path}" is not null order by trial'
        )
        for path in run.space.columns()
    }
    return (
        slices
        | _of_choices(run)
        | {
            "importance": (
                "select parameter, importance, importance_std, num_trials, condition from 'importance.parquet'\n"
                "where importance is not null order by importance desc, parameter"
            ),
            "parallel": f"select trial, status, {SHOWN} as objective{_parameters(run)}\nfrom 'trials.parquet' where {SCORED} order by trial",
            "size": f"select trial, status, num_parameters, {SHOWN} as objective from 'trials.parquet'\nwhere {SCORED} and num_parameters > 0 order by trial",
            "speed": (
                f"select trial, status, train_seconds / num_epochs as seconds_per_epoch, {SHOWN} as objective from 'trials.parquet'\n"
                f"where {SCORED} and num_epochs > 0 and train_seconds > 0 order by trial"
            ),
        }
    )


def _of_choices(run: RunData) -> dict[str, str]:
    best = "max" if run.maximize else "min"
    options = [
        f'select \'{path}\' as choice, "{path}"::varchar as option, "{DEPTH}" as depth, count(*) as trials,\n'
        f'  median(objective) as median, {best}(objective) as best from completed where "{path}" is not null group by all'
        for path in choice_paths(run)
    ]
    if not options:
        return {}
    completed = f"from 'trials.parquet' where status = 'completed' and in_space and objective is not null and \"{DEPTH}\" is not null"
    union = "\nunion all\n".join(options)
    return {"choices": f"with completed as (select * {completed})\n{union}\norder by choice, option, depth"}


def _of_winners(run: RunData) -> dict[str, str]:
    """Of the retrained configs, their tests, and what they are compared with."""
    metrics = ", ".join((*metrics_on_test_images(run), "test_loss"))
    tested = any(row["test_accuracy"] is not None for row in run.winner_rows())
    of_validation = "select max(share) as largest_class from 'data.parquet' where split = 'validation'"
    largest = "select max(largest_class) as largest_class from 'winners.parquet'" if tested else of_validation
    metric = name_on_test_images(run.objective)
    num_classes = "(select value::int from 'environment.parquet' where section = 'data' and key = 'num_classes')"
    guessing = GUESSING[run.objective][0].format(k=num_classes) if run.objective in GUESSING else "null"
    return {
        "headline": (
            "select test_objective, test_objective_low, test_objective_high, test_objective_images,\n"
            "       num_seeds, num_failed, num_objective_seeds, num_test_images,\n"
            "  (select value::int from 'environment.parquet' where section = 'data' and key = 'num_test') as test_images\n"
            "from 'winners.parquet' where rank = 1"
        ),
        "yardsticks": (
            f"select {guessing} as guessing,\n"
            f"  ({largest}) as largest_class,\n"
            "  (select any_value(test_objective) from 'winners.parquet' where baseline) as baseline,\n"
            "  (select any_value(test_accuracy) from 'winners.parquet' where rank = 1) as accuracy"
        ),
        "largest-class": largest,
        "largest-class-validation": of_validation,
        "winner": (
            "select trial, num_parameters, config,\n"
            "  (select list(num_epochs order by seed) from 'retrains.parquet' where rank = 1 and status = 'completed') as num_epochs\n"
            "from 'winners.parquet' where rank = 1"
        ),
        "winners": (
            "select rank, trial, baseline, test_objective, test_objective_low, test_objective_high, test_objective_images,\n"
            "       num_seeds, num_failed, num_objective_seeds,\n"
            "  objective_gain, objective_gain_low, objective_gain_high, gain, gain_low, gain_high, search_objective, objective_gap, num_parameters, wall_seconds,\n"
            "  test_accuracy, test_accuracy_low, test_accuracy_high, num_test_images, largest_class, num_one_class, num_repeats, num_incomplete_repeats, config,\n"
            f"  (select list({metric} order by seed) from 'retrains.parquet' own where {metric} is not null and own.baseline = winners.baseline\n"
            "    and own.rank is not distinct from winners.rank) as of_seeds,\n"
            "  (select list(weights_epoch order by seed) from 'retrains.parquet' own where status = 'completed' and own.baseline = winners.baseline\n"
            "    and own.rank is not distinct from winners.rank) as weights_epochs\n"
            "from 'winners.parquet' winners order by baseline, rank"
        ),
        "metrics": f"select rank, trial, baseline, {metrics}\nfrom 'winners.parquet' order by baseline, rank",
        "retrains": (
            f"select rank, trial, baseline, seed, status, {metric}, error\n"
            "from 'retrains.parquet' order by baseline, rank, seed"
        ),
        "retraining-cost": "select count(*) as trainings, sum(wall_seconds) as seconds from 'retrains.parquet'",
        "first-test": (
            "select min(time) as first_test,\n"
            "  (select value from 'environment.parquet' where section = 'earlier_tests' and key = 'first') as first_earlier_test\n"
            "from 'retrains.parquet' where test_accuracy is not null"
        ),
        "earlier-tests": (
            "select count(*) as shown,\n"
            "  (select value::int from 'environment.parquet' where section = 'earlier_tests' and key = 'trainings') as earlier\n"
            "from 'retrains.parquet' where test_accuracy is not null"
        ),
        "ensemble": "select num_networks, num_winners, test_accuracy, test_accuracy_low, test_accuracy_high, cost from 'ensemble.parquet'",
    }


def _of_test_images() -> dict[str, str]:
    """Of the answers of the first winner."""
    of_winner = "from 'predictions.parquet' where rank = 1"
    return {
        "classes": "select class_name, support, precision, recall, f1 from 'classes.parquet' where rank = 1",
        "confusion": f"select true_class, predicted_class, count(*) as images {of_winner} group by all order by all",
        "per-class": f"select true_class, avg(correct::int) as accuracy, count(*) as images {of_winner} group by all order by 2, 1",
        "mistakes": (
            "with wrong as (\n"
            '  select *, count(*) over (partition by "index") as num_wrong, bool_or(image is not null) over (partition by "index") as has_image,\n'
            '    row_number() over (partition by "index" order by confidence desc, seed) as place\n'
            f"  {of_winner} and not correct\n"
            ")\n"
            'select "index", image_name, true_class, predicted_class, confidence, probability_true, num_wrong,\n'
            f"  (select count(distinct seed) {of_winner}) as num_seeds\n"
            'from wrong where place = 1 and has_image order by num_wrong desc, confidence desc, "index"'
        ),
    }
