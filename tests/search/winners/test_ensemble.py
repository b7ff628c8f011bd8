"""The ensemble of the winners: its figures in the report, and the network that is exported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.make_run import make_run
from winnow import reports
from winnow.models import build
from winnow.reports.reading.predictions import load_predictions
from winnow.reports.text.summary import sentences
from winnow.search.cli.main import main
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.run_folder import open_run
from winnow.search.training.checkpoint import save
from winnow.search.winners.winner import load_ensemble, load_export, load_retrained
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Config


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up run in which every retrained network has real weights; one training of the third winner failed."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "made")
    for line in read_json_lines(folder / "retrain.jsonl"):
        if line["weights"]:
            torch.manual_seed(line["seed"])
            weights = build(Config.model_validate(line["config"]).model, (1, 8, 8), 10).state_dict()
            normalization = {"mean": [0.1 * (line["rank"] or 0)], "std": [0.4]}
            save(folder / line["weights"], {"weights": weights, "normalization": normalization})
    return folder


def exit_code(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)


def test_the_report_says_what_the_ensemble_reaches(run: Path) -> None:
    lines = [line for line in read_json_lines(run / "retrain.jsonl") if line["rank"] and line["predictions"]]
    arrays = [load_predictions(run, line["predictions"]) for line in lines]
    mean = np.mean([each["probabilities"].astype(float) for each in arrays if each], axis=0)
    right = (mean.argmax(1) == arrays[0]["true"]).mean() if arrays[0] else 0.0
    data = reports.read(run)
    (row,) = data.rows("ensemble")
    assert (row["num_networks"], row["num_winners"]) == (8, 3)
    assert row["test_accuracy"] == pytest.approx(right)
    assert row["test_accuracy_low"] < right
    assert right <= row["test_accuracy_high"] <= 1
    costs = [line["multiply_adds"] for line in lines]
    assert row["cost"] == pytest.approx(sum(costs) / costs[0])
    (sentence,) = [text for text in sentences(data) if "probabilities" in text]
    assert f"all 8 networks of 3 winners reaches a test accuracy of {100 * right:.2f}" in sentence


def test_every_view_of_an_image_costs(run: Path, tmp_path: Path) -> None:
    """The second winner sees each image twice, as a run of an earlier version could choose, and the third six times."""
    viewed = shutil.copytree(run, tmp_path / "made")
    views: dict[int, dict[str, Any]] = {1: {}, 2: {"test_flip": True}, 3: {"test_flip": True, "test_shift": 1}}
    lines = list(read_json_lines(viewed / "retrain.jsonl"))
    for line in lines:
        line["config"] |= views.get(line["rank"], {})
    (viewed / "retrain.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (row,) = reports.read(viewed).rows("ensemble")
    networks = [line for line in lines if line["rank"] and line["predictions"]]
    costs = [line["multiply_adds"] * {1: 1, 2: 2, 3: 6}[line["rank"]] for line in networks]
    assert row["cost"] == pytest.approx(sum(costs) / costs[0])


def test_no_ensemble_without_probabilities(run: Path, tmp_path: Path) -> None:
    """Runs of earlier versions keep the probability of two classes only."""
    older = shutil.copytree(run, tmp_path / "made")
    for file in older.glob("predictions/*.npz"):
        arrays = load_predictions(file.parent, file.name) or {}
        np.savez(file, **{key: value for key, value in arrays.items() if key != "probabilities"})
    assert reports.read(older).rows("ensemble") == []
    assert not any("probabilities" in text for text in sentences(reports.read(older)))


def test_it_answers_with_the_mean_of_the_probabilities(run: Path, tmp_path: Path) -> None:
    folder = open_run(run)
    lines = [line for line in read_json_lines(folder.retrained) if line["rank"] and line["weights"]]
    single = [load_retrained(folder, line).predict(images(5)) for line in lines]
    winner = load_ensemble(run)
    np.testing.assert_allclose(winner.predict(images(5)), np.mean(single, axis=0), atol=1e-6)
    out = tmp_path / "out"
    assert exit_code(["export", str(run), "--ensemble", "--weights-only", "--output", str(out)]) == 0
    np.testing.assert_array_equal(load_export(out).predict(images(5)), winner.predict(images(5)))
    card = (out / "README.md").read_text()
    assert "The ensemble of 8 networks" in card
    assert "`member-8`: winner 3 (trial" in card
    assert "8 networks of 3 winners reaches" in card


def test_networks_outside_of_the_folder_are_not_loaded(run: Path, tmp_path: Path) -> None:
    """Nobody has checked the code that they name."""
    out = tmp_path / "out"
    assert exit_code(["export", str(run), "--ensemble", "--weights-only", "--output", str(out)]) == 0
    shutil.copytree(out / "member-1", tmp_path / "elsewhere")
    (out / "link").symlink_to(tmp_path / "elsewhere")
    about = json.loads((out / "model.json").read_text())
    for name in ("../elsewhere", str(tmp_path / "elsewhere"), "link", ".", ".."):
        (out / "model.json").write_text(json.dumps(about | {"members": ["member-1", name]}))
        with pytest.raises(InputError, match="`members` must name folders in it, but got"):
            load_export(out)


@pytest.mark.parametrize(
    "damage", [{"class_names": 3}, {"image_shape": [1, 8]}, {"normalization": {}}, {"origin": None}]
)
def test_a_damaged_model_json_is_named(run: Path, tmp_path: Path, damage: dict[str, Any]) -> None:
    out = tmp_path / "out"
    assert exit_code(["export", str(run), "--ensemble", "--weights-only", "--output", str(out)]) == 0
    file = out / "member-1" / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | damage))
    with pytest.raises(InputError, match=r"member-1/model\.json: damaged: "):
        load_export(out)


def test_predict_takes_the_folder(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["export", str(run), "--ensemble", "--weights-only", "--output", str(tmp_path / "out")]) == 0
    Image.fromarray(images(1)[0, :, :, 0]).save(tmp_path / "one.png")
    capsys.readouterr()
    assert exit_code(["predict", str(tmp_path / "out"), str(tmp_path / "one.png")]) == 0
    assert "one.png" in capsys.readouterr().out


def test_a_program_of_the_ensemble(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    assert exit_code(["export", str(run), "--ensemble", "--output", str(tmp_path / "out")]) == 0
    program = torch.export.load(tmp_path / "out" / "model.pt2").module()
    pixels = torch.from_numpy(images(3)).permute(0, 3, 1, 2) / 255
    answers = program(pixels).softmax(1).detach().numpy()
    np.testing.assert_allclose(answers, load_ensemble(run).predict(images(3)), atol=1e-5)


def test_one_network_is_no_ensemble(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = shutil.copytree(run, tmp_path / "made")
    first = (alone / "retrain.jsonl").read_text().splitlines()[0]
    (alone / "retrain.jsonl").write_text(first + "\n")
    assert exit_code(["export", str(alone), "--ensemble", "--weights-only"]) == 2
    assert "an ensemble needs at least two retrained networks of winners, but there are 1" in capsys.readouterr().err
