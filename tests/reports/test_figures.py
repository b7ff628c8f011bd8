"""The data behind the figures of the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.make_run import NUM_TEST, RUNGS, make_run
from winnow import reports
from winnow.reports.figures import cost as figures_cost
from winnow.reports.figures import learning_curves as figures_search
from winnow.reports.figures import parameters as figures_parameters
from winnow.reports.figures import progress as figures_progress
from winnow.reports.figures import winners as figures_winners
from winnow.reports.figures.style import number_axis
from winnow.reports.html import gallery, sections
from winnow.reports.html.page import page
from winnow.reports.reading.run import read_records


def test_best_so_far_never_gets_worse(run: reports.RunData, losses: reports.RunData) -> None:
    info = figures_progress._best_info(run)
    completed = [row["objective"] for row in run.trials.to_pylist() if row["status"] == "completed"]
    known = [value for value in info.best if value is not None]
    assert known == sorted(known)
    assert set(known) <= set(completed)
    assert info.best[-1] == max(completed)
    assert info.best[0] is None  # no trial completes in its first epoch
    assert info.seconds == sorted(info.seconds)
    assert info.seconds[0] > 0
    assert len(info.values) == sum(run.trials.column("num_epochs").to_pylist())
    rows = [row for row in run.rows("epochs") if row["phase"] == "search"]
    assert info.device == "CPU", "no GPU was held"
    assert info.device_seconds[-1] == pytest.approx(sum(2.0 * row["wall_seconds"] for row in rows))
    (figure,) = figures_progress.best_so_far(run)
    buttons = figure.plot.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == ["by time", "by epochs", "by CPU-hours"]
    for button in buttons:
        assert [len(x) for x in button.args[0]["x"]] == [len(trace.y) for trace in figure.plot.data]
    assert list(figure.plot.data[-1].x) == list(buttons[0].args[0]["x"][-1])
    falling = [value for value in figures_progress._best_info(losses).best if value is not None]
    assert falling == sorted(falling, reverse=True)


def test_learning_curves_hold_every_trial_that_finished_an_epoch(run: reports.RunData) -> None:
    info = figures_search._curves_info(run)
    assert info.rungs == RUNGS
    for trial in read_records(run.path).study_trials:
        if trial.intermediate_values:
            epochs, values = info.curves[trial.user_attrs["status"]][trial.number]
            assert dict(zip(epochs, values, strict=True)) == trial.intermediate_values
    for epochs, _ in info.curves["stopped"].values():
        assert epochs[-1] in RUNGS


def test_budget_counts_every_epoch_once(run: reports.RunData) -> None:
    info = figures_search._budget_info(run)
    assert info.stretches == ["epoch 1", "epochs 2 to 3", "epochs 4 to 9", "epochs 10 to 20"]
    assert sum(map(sum, info.epochs.values())) == sum(run.trials.column("num_epochs").to_pylist())
    assert info.epochs["completed"][-1] == 11 * info.num_reached[-1]


def test_importance_bars_say_how_many_trials(run: reports.RunData) -> None:
    info = figures_parameters._importance_info(run)
    assert info.importances == sorted(info.importances, reverse=True)
    shown = dict(zip(info.labels, info.num_trials, strict=True))
    scored = [trial for trial in read_records(run.path).study_trials if trial.number in _scored(run)]
    assert shown["optimizer.sgd.lr"] == sum("optimizer.sgd.lr" in trial.params for trial in scored)
    assert len(info.labels) + info.left_out == len(run.space.parameters())
    figure = figures_parameters.importance(run)[0].plot
    few = figures_parameters.FEW_TRIALS
    assert max(info.deviations) > 0
    bars, texts = figure.data[::2], figure.data[1::2]
    assert sorted(text.strip() for each in texts for text in each.text) == sorted(f"n={n}" for n in info.num_trials)
    well, thin = bars if len(bars) == 2 else (bars[0], None)
    assert (min(info.num_trials) < few) == (thin is not None or max(info.num_trials) < few)
    assert list(well.error_x.array) == [
        deviation
        for deviation, n in reversed(list(zip(info.deviations, info.num_trials, strict=True)))
        if n >= few or thin is None
    ]
    assert thin is None or thin.visible == "legendonly"


def _scored(run: reports.RunData) -> set[int]:
    return {row["trial"] for row in figures_parameters.scored_trials(run)}


def test_no_slice_of_a_parameter_with_one_value(tmp_path: Path) -> None:
    """In a short search some parameters of a branch have a value in one trial and none in the others."""
    short = reports.read(make_run(tmp_path / "short", "searched", trials=5))
    values = {path: [row[path] for row in figures_parameters.scored_trials(short)] for path in short.space.columns()}
    distinct = {path: set(each) - {None} for path, each in values.items()}
    assert any(len(distinct[path]) == 1 and None in each for path, each in values.items())
    assert set(figures_parameters._paths_by_importance(short)) == {
        path for path, each in distinct.items() if len(each) > 1
    }


def test_ticks_are_the_values_where_they_have_room() -> None:
    assert number_axis([64, 128, 256], False)["tickvals"] == [64, 128, 256]
    assert number_axis([1e-4, 1e-3, 1e-1], True)["ticktext"] == ["0.0001", "0.001", "0.1"]
    assert number_axis([0.388, 0.395, 0.266], False) == {"type": "linear"}
    close = number_axis([0.00101, 0.00117, 0.00549], True)["tickvals"]
    assert not {0.00101, 0.00117} <= set(close)


def test_slices_are_logarithmic_where_the_domain_is(run: reports.RunData) -> None:
    by_title = {figure.title: figure.plot for figure in figures_parameters.slices(run)[0]}
    assert by_title["optimizer.lr"].layout.xaxis.type == "log"
    assert by_title["model.dropout"].layout.xaxis.type == "linear"
    assert by_title["model.activation"].layout.xaxis.type == "category"
    info = figures_parameters._slice_info(run, "optimizer.momentum")
    assert len(info.x) == sum(row["optimizer.name"] == "sgd" for row in figures_parameters.scored_trials(run))


def test_the_learning_rate_has_a_slice_before_its_branches_have_an_importance(tmp_path: Path) -> None:
    run = reports.read(make_run(tmp_path / "short", "searched", trials=12))
    of_rate = [row["importance"] for row in run.rows("importance") if row["path"] == "optimizer.lr"]
    assert of_rate == [None] * 3
    figures, left_out = figures_parameters.slices(run)
    assert len(figures) == figures_parameters.MAX_SLICES
    assert "optimizer.lr" in [figure.title for figure in figures]
    assert f"Shown are the {len(figures)} most important of {len(figures) + left_out} parameters" in page(run)


def test_parallel_coordinates_show_what_importance_shows(tmp_path: Path) -> None:
    run = reports.read(make_run(tmp_path / "run", "searched", trials=36))
    table = [row for row in run.rows("importance") if row["importance"] is not None]
    few = {row["path"] for row in table if row["num_trials"] < figures_parameters.FEW_TRIALS}
    enough = [row["path"] for row in table if row["num_trials"] >= figures_parameters.FEW_TRIALS]
    assert few - set(enough), "some parameters have too few trials"
    (figure,) = figures_parameters.parallel_coordinates(run)
    axes = [dimension.label for dimension in figure.plot.data[0].dimensions][:-1]
    assert axes == list(dict.fromkeys(enough))[:6]


def test_parallel_coordinates_put_what_is_not_active_below_the_axis(run: reports.RunData) -> None:
    rows = figures_parameters.scored_trials(run)
    axis = figures_parameters._axis(run, "optimizer.momentum", rows)
    assert [position is None for position in axis.positions] == [row["optimizer.name"] != "sgd" for row in rows]
    dimension = figures_parameters._dimension(axis)
    known = [position for position in axis.positions if position is not None]
    assert dimension["ticktext"][0] == "-"
    assert dimension["tickvals"][0] == min(dimension["values"]) < min(known)
    options = figures_parameters._axis(run, "model.head", rows)
    assert list(options.ticks.values()) == ["[]", "[64]", "[128]"]


def test_cost_front_is_what_no_cheaper_trial_beats(run: reports.RunData, losses: reports.RunData) -> None:
    for one, better in ((run, max), (losses, min)):
        info = figures_cost._cost_info(one, lambda row: row["num_parameters"])
        completed = [i for i in range(len(info.cost)) if info.statuses[i] == "completed"]
        assert 0 < len(completed) < len(info.cost)
        assert set(info.front) <= set(completed)
        for i in completed:
            cheaper = [info.objective[j] for j in completed if info.cost[j] <= info.cost[i]]
            on_front = info.objective[i] == better(cheaper)
            same = any(info.cost[i] == info.cost[j] and info.objective[i] == info.objective[j] for j in info.front)
            beaten = any(info.objective[j] == info.objective[i] and info.cost[j] < info.cost[i] for j in completed)
            assert same == (on_front and not beaten)


def test_winners_figure_holds_means_ends_and_seeds(run: reports.RunData) -> None:
    info = figures_winners._winners_info(run)
    assert info.labels[-1] == "baseline"
    assert [len(seeds) for seeds in info.seeds] == [3, 3, 2, 3]
    for row, mean, below, above, seeds in zip(
        run.winners.to_pylist(), info.means, info.below, info.above, info.seeds, strict=True
    ):
        assert mean == pytest.approx(np.mean(seeds))
        assert mean - below == pytest.approx(row["test_accuracy_low"])
        assert mean + above == pytest.approx(row["test_accuracy_high"])


def test_confusion_counts_the_winners_predictions(run: reports.RunData) -> None:
    info = figures_winners._confusion_info(run)
    assert info.counts.sum() == 3 * NUM_TEST
    first = [row for row in run.predictions.to_pylist() if row["rank"] == 1]
    assert np.trace(info.counts) == sum(row["correct"] for row in first)
    np.testing.assert_allclose(info.shares.sum(axis=1), 1)


@pytest.mark.parametrize(("classes", "is_wide"), [(10, False), (100, True)])
def test_the_confusion_of_many_classes_has_labels_and_scrolls_on_a_phone(classes: int, is_wide: bool) -> None:
    labels = np.arange(classes)
    (matrix, _) = figures_winners.confusion_of(labels, np.roll(labels, 1), [f"class {i}" for i in labels])
    for axis in (matrix.plot.layout.xaxis, matrix.plot.layout.yaxis):
        assert axis.showticklabels is not False
    assert (matrix.min_width > 500) is is_wide


def test_the_colour_scales_of_the_confusion_say_what_a_colour_means() -> None:
    """Of eight cats one is taken for a dog and two for an owl: 12.5 % and 25 % of the class."""
    true = np.array([0] * 8 + [1, 1, 2])
    predicted = np.array([0] * 5 + [1, 2, 2] + [1, 1, 2])
    matrix, by_class = figures_winners.confusion_of(true, predicted, ["cat", "dog", "owl"])
    right, wrong = matrix.plot.data
    assert [(scale.low, scale.high) for scale in matrix.scales] == [
        ("0\u00a0%", "100\u00a0%"),
        ("0\u00a0%", "25\u00a0%"),
    ]
    assert [(trace.zmin, trace.zmax) for trace in (right, wrong)] == [(0, 1), (0, 0.25)]
    assert right.z[0][0] == 5 / 8
    assert (wrong.z[0][1], wrong.z[0][2]) == (1 / 8, 2 / 8)
    for scale, trace in zip(matrix.scales, (right, wrong), strict=True):
        assert scale.colors == tuple(color for _, color in trace.colorscale)
    assert "The number is how many images." in matrix.caption
    assert by_class.scales == ()
    (flawless, _) = figures_winners.confusion_of(true, true, ["cat", "dog", "owl"])
    assert [scale.name for scale in flawless.scales] == ["right, share of the class"]
    many = np.arange(figures_winners.MAX_WRITTEN_CLASSES + 1)
    (matrix, _) = figures_winners.confusion_of(many, many, [str(k) for k in many])
    assert "number" not in matrix.caption, "with many classes no numbers are written"


def test_long_class_names_are_short_at_the_axes_and_whole_on_hover() -> None:
    long = "northern_temperate_mixed_forest_with_{}_of_30_years"
    names = [long.format("conifers"), long.format("oaks"), "cat", "cat"]
    matrix, by_class = figures_winners.confusion_of(np.arange(4), np.arange(4), names)
    labels = matrix.plot.data[0].x
    assert len(set(labels)) == 4, "classes with the same short name stay apart"
    assert max(map(len, labels)) < 24
    assert set(by_class.plot.data[0].y) == set(labels)
    assert sorted(by_class.plot.data[0].hovertext) == sorted(names)
    assert matrix.plot.data[0].hovertext[0][0] == f"{names[0]} predicted as {names[0]}: 1 image"
    assert 250 < matrix.min_width < 350, "the labels and four columns"


def test_gallery_shows_the_most_confident_mistakes(run: reports.RunData) -> None:
    mistakes = gallery.winner_mistakes(run)
    assert [m.confidence for m in mistakes] == sorted((m.confidence for m in mistakes), reverse=True)
    assert all(m.true != m.predicted and m.image.startswith(b"\x89PNG") for m in mistakes)
    html = sections.test_images(run).html
    assert html.count('src="data:image/png;base64,') == len(mistakes) > 3
    assert all(f"{m.true} predicted as {m.predicted}" in html for m in mistakes)
