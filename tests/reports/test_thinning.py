from __future__ import annotations

from tests.helpers.make_run import make_run
from winnow import reports
from winnow.reports.figures import parameters as figures_parameters
from winnow.reports.subsample import best_positions, drawn, note
from winnow.reports.tables import importance


def test_few_are_all_drawn_and_nothing_is_said():
    assert drawn(5, 5, [3]) == [0, 1, 2, 3, 4]
    assert note(5, 5, "the best") == ""


def test_of_many_the_chosen_and_evenly_spaced_others_in_order():
    positions = drawn(10_000, 1000, best_positions([float(i % 997) for i in range(10_000)], True, 100))
    assert len(positions) <= 1000
    assert positions == sorted(set(positions))
    assert {i for i in range(10_000) if i % 997 >= 995} <= set(positions)
    spaced = [i for i in positions if i % 12 == 0]
    assert len(spaced) == 834  # every 12th of 10,000
    assert note(len(positions), 10_000, "the 100 best").startswith(
        f" Shown are {len(positions):,} of 10,000: the 100 best"
    )


def test_the_importance_figure_says_how_many_trials_it_stands_on(tmp_path, monkeypatch):
    run = reports.read(make_run(tmp_path / "run", trials=40))
    num = len(figures_parameters.scored_trials(run))
    assert "Fitted to" not in figures_parameters.importance(run)[0].caption
    for module in (importance, figures_parameters):
        monkeypatch.setattr(module, "MAX_FITTED", 20)
    run = reports.read(run.path)
    fitted = max(row["num_trials"] for row in run.rows("importance"))
    assert 0 < fitted <= 20
    assert f"Fitted to {fitted} of {num} trials" in figures_parameters.importance(run)[0].caption
