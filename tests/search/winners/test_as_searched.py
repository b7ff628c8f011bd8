"""Retraining keeps the decisions of the search: written into the config, or taken again on the validation images."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.helpers.html import page_text
from tests.helpers.make_run import make_run
from tests.helpers.tiny import CPU, tiny_config, tiny_data
from winnow import reports
from winnow.reports.html.sections import overview
from winnow.reports.tables.parquet import write_tables
from winnow.reports.text.summary import sentences
from winnow.reports.text.terminal import show
from winnow.reports.text.winner_recipe import training_command
from winnow.search.ray_backend.shared_data import Job
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import train
from winnow.search.training.schedules import Plateau
from winnow.search.winners.as_searched import as_searched, plateau_reductions
from winnow.search.winners.candidates import Candidate
from winnow.search.winners.retraining import retrain_one
from winnow.spaces.epoch_figures import to_minimize
from winnow.spaces.winners import may_win


def searched(config: Any, seed: int = 3) -> list[dict[str, Any]]:
    data = DeviceData.build(tiny_data(), config.data, CPU, 0)
    return [result.figures() for result in train(config, data, CPU, seed)]


@pytest.mark.parametrize("warmup", [0.0, 1.5])
def test_a_plateau_is_replayed(warmup: float) -> None:
    # AUROC is at most 1, and epochs that bring no new best value are many.
    schedule = {"name": "plateau", "patience": 0, "factor": 0.3, "metric": "validation_accuracy", "warmup": warmup}
    config = tiny_config(epochs=9, schedule=schedule, optimizer={"name": "sgd", "lr": 1e-6})
    lines = searched(config)
    replayed = as_searched(config.model_dump(mode="json"), lines)
    assert len(replayed["schedule"]["reductions"]) > 3
    again = type(config).model_validate(replayed)
    data = DeviceData.build(tiny_data(), again.data, CPU, 0, "retrain")
    # Both end their epochs at the same point of the warm-up, up to the rounding of the steps.
    assert [r.lr for r in train(again, data, CPU, 8)] == pytest.approx([line["lr"] for line in lines], rel=0.15)


@pytest.mark.parametrize("metric", ["validation_loss", "validation_accuracy"])
@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=20), st.integers(0, 3))
def test_a_replayed_plateau_has_the_same_rates(metric: str, values: list[float | None], patience: int) -> None:
    lines = [{"epoch": epoch, metric: value} for epoch, value in enumerate(values, start=1)]
    schedule = {"name": "plateau", "factor": 0.9, "patience": patience, "metric": metric, "warmup": 1.5}
    first, replayed = Plateau(0.9, patience), Plateau(0.9, patience, plateau_reductions(schedule, lines))
    for line in lines:
        first.observe(line["epoch"], to_minimize(metric, line))
        replayed.observe(line["epoch"], 0.0)
        assert replayed.scale == pytest.approx(first.scale)


def test_the_rounded_end_of_a_warmup_is_no_reduction() -> None:
    """With few steps in an epoch and a factor near 1, the rate at the end of the warm-up looked like a reduction."""
    schedule = {"name": "plateau", "patience": 50, "factor": 0.9, "metric": "validation_loss", "warmup": 1.3}
    config = tiny_config(epochs=4, schedule=schedule)
    replayed = as_searched(config.model_dump(mode="json"), searched(config))
    assert replayed["schedule"]["reductions"] == []


def test_the_kept_epoch_is_where_retraining_stops() -> None:
    config = tiny_config().model_dump(mode="json")
    assert as_searched(config, []) == config
    assert as_searched(config, [{"epoch": 4, "weights_epoch": 4, "lr": 0.01}]) == config
    assert as_searched(config, [{"epoch": 4, "weights_epoch": 2, "lr": 0.01}])["stop_after"] == 2


def test_kept_validation_images_choose_the_epoch_again(tmp_path: Path) -> None:
    config = tiny_config(epochs=6, weights="highest_validation_accuracy", early_stopping={"patience": 2})
    job = Job(str(tmp_path / "checkpoints"), "cpu", torch.get_num_threads(), seed=0)
    tree = config.model_dump(mode="json")
    candidate = Candidate(1, 3, tree, 0.5, keep_validation=True)
    line, curve = retrain_one(tiny_data(), candidate, 3, job, str(tmp_path / "predictions"))
    assert line["status"] == "completed", line.get("error")
    expected = searched(config)
    assert line["keep_validation"]
    assert [each["validation_accuracy"] for each in curve] == [each["validation_accuracy"] for each in expected]
    assert (line["epochs"], line["weights_epoch"]) == (expected[-1]["epoch"], expected[-1]["weights_epoch"])
    both, curve = retrain_one(tiny_data(), Candidate(1, 3, tree, 0.5), 3, job, str(tmp_path / "predictions"))
    assert not both["keep_validation"]
    assert both["epochs"] == 6
    assert curve[0]["validation_accuracy"] is None


def change(folder: Path, **values: Any) -> None:
    file = folder / "retrain.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines = [{**line, **values, "config": {**line["config"], **values.get("config", {})}} for line in lines]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_report_says_who_chose_the_epoch(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    more_steps = "An epoch has more steps than in the search, as the validation images are trained on too."
    text = " ".join(sentences(reports.read(folder)))
    assert "Retrained on training and validation images" in text
    assert more_steps in text
    change(folder, keep_validation=True)
    run = reports.read(folder)
    text = " ".join(sentences(run))
    assert "Retrained on training images alone" in text
    assert more_steps not in text
    assert "The validation images chose the epoch, as in the search" in text
    assert all(row["keep_validation"] for row in run.rows("retrains"))
    assert training_command(run, "winner.yaml") is None, "winnow train would split by another seed"


def test_the_report_says_when_the_rate_was_reduced(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    schedule = {"name": "plateau", "factor": 0.1, "patience": 3, "warmup": 0.0, "reductions": [4, 9]}
    change(folder, config={"schedule": schedule, "stop_after": 12})
    text = " ".join(sentences(reports.read(folder)))
    assert "trained for 12 epochs of 18" in text
    assert "reduced as the plateau schedule did in the search: after 4 and 9 epochs" in text


def test_reductions_after_the_last_epoch_are_not_told(tmp_path: Path) -> None:
    """The search trained on after the epoch whose weights it kept. Those reductions never came in retraining."""
    folder = make_run(tmp_path / "run")
    schedule = {"name": "plateau", "factor": 0.1, "patience": 3, "warmup": 0.0, "reductions": [4, 9, 12, 15]}
    change(folder, config={"schedule": schedule, "stop_after": 12})
    text = " ".join(sentences(reports.read(folder)))
    assert "reduced as the plateau schedule did in the search: after 4 and 9 epochs." in text
    change(folder, config={"schedule": schedule, "stop_after": 4})
    assert "did in the search: never." in " ".join(sentences(reports.read(folder)))


def test_a_gap_between_validation_without_views_and_a_test_with_them_is_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    told = "so the gap includes their effect."
    assert told not in " ".join(sentences(reports.read(folder)))
    change(folder, config={"test_flip": True, "test_shift": 1})
    text = " ".join(sentences(reports.read(folder)))
    assert (
        f"The test averages over views of each image (`test_flip` and `test_shift`) and validation does not, {told}"
        in text
    )


def test_the_report_says_which_repeat_chose_the_epochs(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    schedule = {"name": "plateau", "factor": 0.1, "patience": 3, "warmup": 0.0, "reductions": [4, 9]}
    change(folder, config={"schedule": schedule, "stop_after": 12})
    run = reports.read(folder)
    assert "as many as the weights had that the search kept:" in " ".join(sentences(run))
    trial = run.winner_rows()[0]["trial"]
    change(folder, repeats=[trial, 0])
    text = " ".join(sentences(reports.read(folder)))
    one = f"trial {trial} (which stands for its 2 repeats)"
    assert f"as many as the weights had that {one} kept:" in text
    assert f"reduced as the plateau schedule did in {one}: after 4 and 9 epochs" in text


def test_the_report_says_which_epochs_were_tested(tmp_path: Path) -> None:
    """Where validation images are kept, each seed may end after another epoch and keep the weights of another one."""
    folder = make_run(tmp_path / "run")
    epochs = {101: (12, 9), 102: (17, 14), 103: (15, 11)}
    lines = list(read_json_lines(folder / "retrain.jsonl"))
    for line in lines:
        line |= {"keep_validation": True, "epochs": epochs[line["seed"]][0], "weights_epoch": epochs[line["seed"]][1]}
    (folder / "retrain.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = reports.read(folder)
    write_tables(run, folder / "report")
    for known in (run, reports.read(folder / "report")):
        assert [row["weights_epoch"] for row in known.rows("retrains")][:3] == [9, 14, 11]
        assert "kept the weights that the rules of its config name (epochs 9 to 14)." in " ".join(sentences(known))
        assert "trained for 12 to 17 of 18 epochs" in page_text(overview(known).html)
        output = io.StringIO()
        show(known, Console(file=output, width=200))
        printed = next(line for line in output.getvalue().splitlines() if line.startswith("winner 3"))
        assert printed.endswith(", 12 to 17 of 18 epochs"), "a seed that diverged was not tested"
    for line in lines:
        line |= {"epochs": 18, "weights_epoch": 18}
    (folder / "retrain.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = reports.read(folder)
    assert "the rules of its config name (epoch 18)." in " ".join(sentences(run))
    assert "trained for 18 epochs" in page_text(overview(run).html)


def test_the_baseline_is_recognised_by_what_it_trains() -> None:
    baseline = tiny_config(schedule={"name": "cosine", "final": 1.0}).model_dump(mode="json")
    same = tiny_config(schedule={"name": "constant"}).model_dump(mode="json")
    assert same != baseline
    assert not may_win(same, baseline)
    assert may_win(tiny_config(epochs=5).model_dump(mode="json"), baseline)
    assert may_win(same, None)
