"""What the model card says of a winner: the metric that the search was for, and its gap."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers.fronts import make_front_run
from tests.helpers.make_run import make_run
from winnow import reports
from winnow.reports.text import wording
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.run_folder import RunFolder
from winnow.search.winners.model_card import Checks, _figures, model_card

SHAPE = {"image_shape": (1, 8, 8), "class_names": tuple("0123456789")}


@pytest.mark.parametrize("gap", [0.02, -0.02])
@pytest.mark.parametrize("objective", ["validation_accuracy", "validation_loss"])
def test_figures_of_the_card(tmp_path: Path, objective: str, gap: float) -> None:
    run = reports.read(make_run(tmp_path / "run", objective=objective))
    first, *_, baseline = run.winner_rows()
    winner: Any = SimpleNamespace(origin={"seed": 101})
    text = " ".join(_figures(run, winner, {**first, "gap": gap}, baseline, {"test_accuracy": 0.97}))
    assert ("tends to look better than it is" in text) == (gap > 0)
    tested = "- On the test images, by the objective of the search: test loss "
    assert (tested in text) == (objective == "validation_loss")
    if objective == "validation_loss":
        assert f"which is {first['objective_gain']:+.4g}" in text
        assert "better than the baseline's" in text


def test_no_value_on_the_test_images_is_called_optimized(tmp_path: Path) -> None:
    objectives = ["validation_accuracy", {"minimize": "validation_calibration_error"}, {"minimize": "parameters"}]
    run = reports.read(make_front_run(tmp_path / "run", objectives, stage="retrained"))
    first, *_, baseline = run.winner_rows()
    winner: Any = SimpleNamespace(origin={"seed": 101})
    lines = _figures(run, winner, first, baseline, {"test_accuracy": 0.97})
    tested = wording.percent(first["test_calibration_error"])
    assert f"- On the test images, by another objective of the search: test calibration error {tested}." in lines
    assert "optimized" not in " ".join(lines)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "whole")


def card_of(whole: Path, place: Path, ensemble: bool, **changes: Any) -> str:
    """The model card of the first winner, or of an ensemble with the second, of a run whose retrain lines are changed."""
    folder = shutil.copytree(whole, place)
    lines = [
        line | changes | {"config": line["config"] | changes.get("config", {})}
        for line in read_json_lines(folder / "retrain.jsonl")
    ]
    (folder / "retrain.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    networks = [{"rank": rank, "trial": 1, "seed": 101} for rank in (1, 2)]
    origin = {"run": "whole", "rank": 1, "trial": 1, "seed": 101} | ({"ensemble": networks} if ensemble else {})
    config = SimpleNamespace(model=SimpleNamespace(name="cnn"))
    winner: Any = SimpleNamespace(**SHAPE, config=config, origin=origin, members=networks if ensemble else ())
    return model_card(RunFolder(folder), winner, "A card", Checks(0.0, 0.0, True, 8))


@pytest.mark.parametrize("ensemble", [False, True])
def test_the_card_says_how_the_network_was_trained(whole: Path, tmp_path: Path, ensemble: bool) -> None:
    card = card_of(whole, tmp_path / "both", ensemble, config={"stop_after": 12})
    assert (
        card.count("It was trained on training and validation images. It was trained for 12 epochs of 18")
        == 1 + ensemble
    )
    card = card_of(whole, tmp_path / "kept", ensemble, keep_validation=True)
    assert card.count("It was trained on training images alone. The validation images chose the epoch") == 1 + ensemble
    assert "training and validation images" not in card


def test_the_card_tells_of_retrainings_that_its_figures_leave_out(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    lines = list(read_json_lines(folder / "retrain.jsonl"))
    for line in lines:
        if line["rank"] in (1, None) and line["seed"] == 103:
            line |= {"status": "diverged", "test_accuracy": None}
    (folder / "retrain.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "retrain.earlier.jsonl").write_text(json.dumps(lines[0] | {"time": 1.0}) + "\n")
    run = reports.read(folder)
    first, *_, baseline = run.winner_rows()
    winner: Any = SimpleNamespace(origin={"seed": 101})
    text = "\n".join(_figures(run, winner, first, baseline, {"test_accuracy": 0.97}))
    assert "the mean of 2 of 3 trainings (1 did not complete) with fresh seeds" in text
    assert "- 1 of the 3 retrainings of winner 1 has no test accuracy (1 diverged), so its figures" in text
    assert "- 1 of the 3 retrainings of the baseline has no test accuracy (1 diverged), so its figures" in text
    assert (
        "- Besides the 9 trainings shown here, 1 earlier training of other configs or under another protocol was"
        in text
    )


@pytest.mark.parametrize("ensemble", [False, True])
def test_the_card_puts_the_accuracy_into_perspective(whole: Path, tmp_path: Path, ensemble: bool) -> None:
    card = card_of(whole, tmp_path / "run", ensemble, num_classes_answered=1)
    assert "- Always predicting the largest class would reach a test accuracy of 10.00\u00a0%." in card
    assert "- Warning: 3 of the 3 networks of winner 1 give every test image the same class." in card
    assert ("networks of winner 2" in card) == ensemble
