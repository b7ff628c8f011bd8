"""Fronts of several metrics and costs in tables, sentences, figures, queries and comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.helpers.fronts import make_front_run
from winnow import reports
from winnow.reports.figures.front import front_info, fronts
from winnow.reports.html import sections
from winnow.reports.html.page import page
from winnow.reports.tables.front import columns_of_tests
from winnow.reports.text import summary
from winnow.reports.text import wording as words
from winnow.reports.text.compare import comparison, show_comparison
from winnow.reports.text.compare_fronts import why_not_by_fronts
from winnow.reports.text.one_trial import show_trial
from winnow.reports.text.terminal import show

ERROR, F1 = "validation_calibration_error", "validation_macro_f1"
THREE = ["validation_accuracy", {"minimize": ERROR}, "parameters"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> reports.RunData:
    """A retrained run with two metrics and a cost."""
    return reports.read(make_front_run(tmp_path_factory.mktemp("runs") / "three", THREE, stage="retrained"))


def completed(run: reports.RunData) -> list[dict[str, Any]]:
    """The completed trials but the baseline, which is trial 0."""
    return [row for row in run.trial_rows() if row["status"] == "completed" and row["trial"]]


def printed(call: Any, *arguments: Any) -> str:
    console = Console(width=200, record=True)
    call(*arguments[:1], console, *arguments[1:])
    return " ".join(console.export_text().replace("\u00a0", " ").split())


def test_the_front_is_what_no_other_trial_dominates(run: reports.RunData) -> None:
    def dominates(a: dict[str, Any], b: dict[str, Any]) -> bool:
        pairs = [(b["objective"], a["objective"]), (a[ERROR], b[ERROR]), (a["num_parameters"], b["num_parameters"])]
        return all(low <= high for low, high in pairs) and any(low < high for low, high in pairs)

    trials = completed(run)
    expected = {row["trial"] for row in trials if not any(dominates(other, row) for other in trials)}
    by_accuracy_and_size = {
        row["trial"] for row in trials if not any(dominates({**other, ERROR: 0}, {**row, ERROR: 0}) for other in trials)
    }
    assert expected > by_accuracy_and_size  # the second metric adds trials
    rows = run.rows("front")
    assert {row["trial"] for row in rows} == expected
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[0]["objective"] == max(row["objective"] for row in trials)
    of_trial = {row["trial"]: row for row in trials}
    assert all(row[name] == of_trial[row["trial"]][name] for row in rows for name in (ERROR, F1, "num_parameters"))


def test_the_front_has_the_search_values_and_the_tests_of_each_metric(run: reports.RunData) -> None:
    assert columns_of_tests(run) == ["test_accuracy", "test_calibration_error"]
    winners = {row["trial"]: row for row in run.rows("winners") if not row["baseline"]}
    rows = run.rows("front")
    tested = [row for row in rows if row["trial"] in winners]
    assert tested
    for name in ("test_accuracy", "test_calibration_error", "test_macro_f1", "test_loss"):
        assert all(row[name] == winners[row["trial"]][name] is not None for row in tested)
        assert all(row[name] is None for row in rows if row["trial"] not in winners)


def test_the_table_is_printed_with_all_objectives(run: reports.RunData) -> None:
    text = printed(show, run)
    row = next(row for row in run.rows("front") if row["test_accuracy"] is not None)
    heads = (
        "rank trial validation accuracy validation calibration error parameters test accuracy test calibration error"
    )
    assert heads in text
    values = [words.percent(row["objective"]), words.percent(row[ERROR]), words.count(row["num_parameters"])]
    tests = [words.percent(row["test_accuracy"]), words.percent(row["test_calibration_error"])]
    expected = " ".join([str(row["rank"]), str(row["trial"]), *values, *tests]).replace("\u00a0", " ")
    assert expected in text
    section = sections.front(run)
    assert section is not None
    assert all(f"{value}</td>" in section.html for value in [*values, *tests])
    assert 'data-query="front"' in section.html


def test_no_number_of_the_front_is_cut_off_in_a_narrow_terminal(tmp_path: Path) -> None:
    """The columns of the test images are left out first, then the last objectives."""
    objectives = ["validation_accuracy", F1, {"minimize": ERROR}, {"minimize": "validation_loss"}, "parameters"]
    one = reports.read(make_front_run(tmp_path / "one", objectives, stage="retrained"))
    row = one.rows("front")[0]
    values = [words.figure_text(name, row[name]) for name in (*one.further, *columns_of_tests(one))]
    for width, least, most in ((200, len(values), len(values)), (60, 2, len(values) - 1)):
        console = Console(width=width, record=True)
        show(one, console)
        (line,) = [each for each in console.export_text().splitlines() if each.split()[:2] == ["1", str(row["trial"])]][
            :1
        ]
        assert len(line) <= width
        shown = " ".join(line.replace("\u00a0", " ").split())
        ends = [" ".join([words.percent(row["objective"]), *values[:num]]) for num in range(least, most + 1)]
        assert any(shown.endswith(end.replace("\u00a0", " ")) for end in ends)


def test_sentences_name_the_directions_and_the_ends(run: reports.RunData, tmp_path: Path) -> None:
    assert ", minimizes validation calibration error and parameters" in words.searched_text(run)
    both = reports.read(make_front_run(tmp_path / "both", ["validation_accuracy", F1, {"minimize": ERROR}]))
    text = words.searched_text(both)
    assert ", also maximizes validation macro F1, minimizes validation calibration error" in text
    rows = both.rows("front")
    ends = [rows[0], max(rows, key=lambda row: row[F1]), min(rows, key=lambda row: row[ERROR])]
    text = next(each for each in summary.sentences(both) if each.startswith("The front of"))
    assert f"validation accuracy, validation macro F1 and validation calibration error has {len(rows)} trials" in text
    for row in ends:
        about = (
            f"validation macro F1 {words.percent(row[F1])}, validation calibration error {words.percent(row[ERROR])}"
        )
        assert f"trial {row['trial']} with {words.percent(row['objective'])} ({about})" in text


def test_one_trial_is_shown_with_its_further_metrics(run: reports.RunData) -> None:
    row = next(row for row in run.rows("front") if row["test_accuracy"] is not None)
    text = printed(show_trial, run, row["trial"])
    assert f"{ERROR} {words.percent(row[ERROR])}".replace("\u00a0", " ") in text
    (line, *_) = [each for each in run.retrain_rows() if each["trial"] == row["trial"]]
    tested = f"test calibration error {words.percent(line['test_calibration_error'])}".replace("\u00a0", " ")
    assert tested in text


def test_the_axis_of_a_metric_is_linear_and_tells_its_direction(run: reports.RunData, tmp_path: Path) -> None:
    error, size = fronts(run)
    assert [figure.id for figure in (error, size)] == [f"front-{ERROR}", "front-num_parameters"]
    assert error.plot.layout.xaxis.type is None
    assert error.plot.layout.xaxis.tickformat == error.plot.layout.yaxis.tickformat == ".2~%"
    assert error.plot.layout.xaxis.title.text == "validation calibration error (lower is better)"
    assert size.plot.layout.xaxis.type == "log"
    assert size.plot.layout.xaxis.title.text == "parameters (lower is better)"
    assert {figure.plot.data[0].line.shape for figure in (error, size)} == {"linear"}
    winners = {row["trial"]: row for row in run.rows("winners") if not row["baseline"]}
    info = front_info(run, ERROR)
    assert sorted(info.further[place] for place in info.front) == [info.further[place] for place in info.front]
    tested = [(winners[t]["test_calibration_error"], winners[t]["test_accuracy"], t) for _, _, t in info.tested]
    assert info.tested == tested
    assert {t for _, _, t in tested} == {row["trial"] for row in run.rows("front")} & set(winners)
    for number, (objective, shape) in enumerate(((F1, "vh"), ({"minimize": ERROR}, "hv"), ("parameters", "hv"))):
        folder = make_front_run(tmp_path / str(number), ["validation_accuracy", objective])
        (figure,) = fronts(reports.read(folder))
        assert figure.plot.data[0].line.shape == shape
        direction = "higher" if shape == "vh" else "lower"
        assert figure.plot.layout.xaxis.title.text.endswith(f"({direction} is better)")


def test_a_metric_of_zero_has_a_place_on_its_axis(tmp_path: Path) -> None:
    folder = make_front_run(tmp_path / "one", ["validation_accuracy", {"minimize": ERROR}])
    file = folder / "epochs.jsonl"
    run = reports.read(folder)
    best = run.rows("front")[0]
    file.write_text(file.read_text().replace(f'"{ERROR}": {best[ERROR]!r}', f'"{ERROR}": 0.0'))
    info = front_info(reports.read(folder), ERROR)
    assert next(info.trials[place] for place in info.front) == best["trial"]
    assert info.further[info.front[0]] == 0.0


def test_fronts_of_metrics_are_compared_by_hypervolume(tmp_path: Path) -> None:
    objectives = ["validation_accuracy", {"minimize": ERROR}]
    runs = [reports.read(make_front_run(tmp_path / name, objectives, seed)) for name, seed in (("a", 0), ("b", 3))]
    rows = [row for one in runs for row in one.trial_rows() if row["status"] == "completed"]
    worst = (min(row["objective"] for row in rows), max(row[ERROR] for row in rows))
    best = (max(row["objective"] for row in rows), min(row[ERROR] for row in rows))

    def share(one: reports.RunData) -> float:
        """The area below the steps of the front: strips from the most accurate network on."""
        area, error = 0.0, worst[1]
        for row in sorted(completed(one), key=lambda row: -row["objective"]):
            if row[ERROR] < error:
                area += (row["objective"] - worst[0]) * (error - row[ERROR])
                error = row[ERROR]
        return area / ((best[0] - worst[0]) * (worst[1] - best[1]))

    shares = [row["dominated_share"] for row in comparison(runs)]
    assert shares == pytest.approx([share(one) for one in runs])
    assert all(0 < each <= 1 for each in shares)
    text = printed(show_comparison, runs)
    reference = (
        f"are validation accuracy {100 * worst[0]:.2f} % and validation calibration error {100 * worst[1]:.2f} %,"
    )
    assert reference in text
    assert "logarithm" not in text
    about = "had further objectives (validation calibration error): its winner here is the network of its front with the best"
    assert f"a {about} validation accuracy." in text


def test_fronts_are_compared_only_if_the_objectives_are_the_same(tmp_path: Path) -> None:
    one, other = (
        reports.read(make_front_run(tmp_path / name, ["validation_accuracy", objective]))
        for name, objective in (("a", F1), ("b", {"minimize": ERROR}))
    )
    assert "the runs have different objectives" in why_not_by_fronts([one, other])
    assert why_not_by_fronts([one, one]) == ""
    own, further = (
        reports.read(make_front_run(tmp_path / name, ["validation_accuracy", "validation_own_metric"]))
        for name in ("c", "d")
    )
    own.study["space"]["own_metric"], further.study["space"]["own_metric"] = "mine:first", "mine:second"
    assert "validation own metric was computed by different functions" in why_not_by_fronts([own, further])


def test_fronts_of_other_protocols_have_no_hypervolume(tmp_path: Path) -> None:
    """From Python too, where runs that do not compare are not refused."""
    one, other = (
        reports.read(make_front_run(tmp_path / name, ["validation_accuracy", {"minimize": ERROR}]))
        for name in ("a", "b")
    )
    assert None not in [row["dominated_share"] for row in comparison([one, other])]
    other.study["data"]["fingerprint"] = "fedcba9876543210"
    assert [row["dominated_share"] for row in comparison([one, other])] == [None, None]


def test_a_page_of_metrics_shows_every_front(run: reports.RunData) -> None:
    html = page(run)
    for name in (ERROR, "num_parameters"):
        assert f'data-query="front-{name}"' in html
