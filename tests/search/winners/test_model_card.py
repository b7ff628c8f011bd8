"""What the model card says of a winner: the metric that the search was for, and its gap."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers.make_run import make_run
from winnow import reports
from winnow.search.winners.model_card import _figures


@pytest.mark.parametrize("gap", [0.02, -0.02])
@pytest.mark.parametrize("objective", ["validation_accuracy", "validation_loss"])
def test_figures_of_the_card(tmp_path: Path, objective: str, gap: float) -> None:
    run = reports.read(make_run(tmp_path / "run", objective=objective))
    first, *_, baseline = run.winner_rows()
    winner: Any = SimpleNamespace(origin={"seed": 101})
    text = " ".join(_figures(run, winner, {**first, "gap": gap}, baseline, {"test_accuracy": 0.97}))
    assert ("tends to look better than it is" in text) == (gap > 0)
    assert ("another metric: test loss" in text) == (objective == "validation_loss")
    if objective == "validation_loss":
        assert f"which is {first['objective_gain']:+.4g}" in text
        assert "better than the baseline's" in text
