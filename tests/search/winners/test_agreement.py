"""Report, model card, `load_winner`, `winnow predict` and ONNX agree about every test image, and all name the same file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.helpers.html import page_text
from winnow import reports
from winnow.reports.html.gallery import winner_mistakes
from winnow.reports.text.mistakes import mistake_rows
from winnow.reports.text.wording import percent
from winnow.search.cli.main import main
from winnow.search.data.source import describe_data, load
from winnow.search.ray_backend.shared_data import Job
from winnow.search.storage.json_lines import json_line
from winnow.search.storage.run_folder import open_run
from winnow.search.winners.candidates import Candidate
from winnow.search.winners.exporting import export
from winnow.search.winners.predicting import predict
from winnow.search.winners.retraining import retrain_one
from winnow.search.winners.winner import load_winner
from winnow.spaces import catalog

SPACE = """
data: {{name: image_folder, path: {folder}, image_size: 8}}
epochs: 2
batch_size: 16
precision: {precision}
model: {{name: cnn, stages: [{{filters: 8}}], norm: batch, head: [64]}}
optimizer: {{name: adam, lr: {{log: [0.001, 0.1]}}}}
"""
NUM_TEST = 600
"""Number of test images of the run in bfloat16: so many that rounding to bfloat16 changes the answer to some of them."""


def retrained(top: Path, files: list[Path], num_classes: int, precision: str, seeds: tuple[int, ...]) -> Path:
    """A run on grey PNG files, of which one config was retrained with some seeds; each file lies in the folder of its class."""
    random = np.random.default_rng(0)
    for number, file in enumerate(files):
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(
            (random.integers(0, 160, (8, 8)) + 90 // num_classes * (number % num_classes)).astype(np.uint8)
        ).save(file)
    (top / "space.yaml").write_text(SPACE.format(folder=top / "images", precision=precision))
    space = catalog.load(top / "space.yaml")
    config, folder = space.example(), top / "run"
    data = load(config.data, top)
    study = {"schema_version": 1, "name": "run", "space": space.tree, "settings": {"max_epochs": 2}}
    folder.mkdir()
    (folder / "study.yaml").write_text(yaml.safe_dump({**study, "data": describe_data(data, space, 0)}))
    job = Job(str(folder / "checkpoints"), "cpu", torch.get_num_threads(), seed=0)
    candidate = Candidate(1, 0, config.model_dump(mode="json"), 0.5)
    lines = [retrain_one(data, candidate, seed, job, str(folder / "predictions"))[0] for seed in seeds]
    (folder / "retrain.jsonl").write_text("".join(map(json_line, lines)))
    reports.write(folder)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 60 files of three classes, of which 12 are held out as test images, with two seeds."""
    top = tmp_path_factory.mktemp("agree")
    files = [top / "images" / f"class {number % 3}" / f"{number}.png" for number in range(60)]
    return retrained(top, files, 3, "auto", (5, 7))


@pytest.fixture(scope="module")
def run_in_bfloat16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on files of ten classes that are hard to tell apart, trained in bfloat16 on every CPU, and tested on `NUM_TEST` of them."""
    top = tmp_path_factory.mktemp("agree")
    splits = ["train"] * 200 + ["test"] * NUM_TEST
    files = [top / "images" / name / f"class {k % 10}" / f"{k}.png" for k, name in enumerate(splits)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("winnow.search.training.precision.has_bfloat16", lambda device: True)
        return retrained(top, files, 10, "bfloat16", (5,))


@pytest.mark.parametrize(("made", "num"), [("run", 12), ("run_in_bfloat16", NUM_TEST)])
def test_all_agree_on_every_image(made: str, num: int, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    run = request.getfixturevalue(made)
    rows = reports.read(run).predictions.to_pandas()
    rows = rows[rows["seed"] == 5]
    files = [Path(name) for name in rows["image_name"]]
    assert len(set(files)) == len(files) == num
    assert all(
        file.is_file() and file.parent.name == true for file, true in zip(files, rows["true_class"], strict=True)
    )
    recorded = rows["predicted"].tolist()
    pixels = np.stack([np.array(Image.open(file))[:, :, None] for file in files])
    winner = load_winner(run)
    assert winner.predict(pixels).argmax(1).tolist() == recorded
    folder = export(open_run(run), output=tmp_path / "out")
    assert [winner.class_names.index(one.best[0]) for one in predict(folder, files)] == recorded
    session = onnxruntime.InferenceSession(next(folder.glob("*.onnx")))
    images = (pixels.transpose(0, 3, 1, 2) / 255).astype(np.float32)
    assert session.run(None, {session.get_inputs()[0].name: images})[0].argmax(1).tolist() == recorded
    accuracy = rows["correct"].mean()
    (retraining,) = (row for row in reports.read(run).retrain_rows() if row["seed"] == 5)
    assert retraining["test_accuracy"] == pytest.approx(accuracy, abs=1e-9)
    assert f"Test accuracy of these weights: {percent(accuracy)} (seed 5;" in (folder / "README.md").read_text()
    if made == "run_in_bfloat16":  # its only seed, so the headline of the report is this accuracy
        page = page_text((run / "report" / "report.html").read_text())
        of = f"of {len(rows['correct'])} test images of {len(winner.class_names)} classes"
        assert f"{100 * accuracy:.2f} %correct {of}: the test accuracy of the winner, mean of 1 seed" in page
        with torch.autocast("cpu", torch.bfloat16):
            rounded = winner.predict(pixels).argmax(1)
        assert (rounded != recorded).any(), "a test in bfloat16 would have been noticed above"


def test_mistakes_of_all_seeds_are_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = reports.read(run)
    frame = data.predictions.to_pandas()
    wrong = frame[~frame["correct"]].groupby("image_name")["seed"].nunique()
    assert set(frame["seed"]) == {5, 7}
    assert {row["image_name"]: row["num_wrong"] for row in mistake_rows(data)} == wrong.to_dict()
    assert {mistake.name for mistake in winner_mistakes(data)} == set(wrong.index)
    with pytest.raises(SystemExit) as end:
        main(["show", str(run), "--mistakes"])
    assert not end.value.code
    printed = "".join(capsys.readouterr().out.split())
    assert all("".join(name.split())[-12:] in printed for name in wrong.index)


def test_mistakes_go_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["show", str(run), "--mistakes", "--trial", "1"])
    assert end.value.code == 2
    assert "--mistakes can be combined only with --top" in capsys.readouterr().err
