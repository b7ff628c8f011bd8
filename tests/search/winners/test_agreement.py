"""Report, model card, `load_winner`, `winnow predict` and ONNX agree about every test image, and all name the same file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from winnow import reports
from winnow.reports.html.gallery import winner_mistakes
from winnow.reports.tables.parquet import write_tables
from winnow.reports.text.mistakes import mistake_rows
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
precision: auto
model: {{name: cnn, stages: [{{filters: 8}}], norm: batch, head: [8]}}
optimizer: {{name: adam, lr: {{log: [0.001, 0.1]}}}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run on a folder of 60 grey PNG files of three classes, of which one config was retrained with two seeds."""
    top = tmp_path_factory.mktemp("agree")
    random = np.random.default_rng(0)
    for number in range(60):
        file = top / "images" / f"class {number % 3}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((random.integers(0, 160, (8, 8)) + 30 * (number % 3)).astype(np.uint8)).save(file)
    (top / "space.yaml").write_text(SPACE.format(folder=top / "images"))
    space = catalog.load(top / "space.yaml")
    config, folder = space.example(), top / "run"
    data = load(config.data, top)
    study = {"schema_version": 1, "name": "run", "space": space.tree, "settings": {"max_epochs": 2}}
    folder.mkdir()
    (folder / "study.yaml").write_text(yaml.safe_dump({**study, "data": describe_data(data, space, 0)}))
    job = Job(str(folder / "checkpoints"), "cpu", torch.get_num_threads(), seed=0)
    candidate = Candidate(1, 0, config.model_dump(mode="json"), 0.5)
    lines = [retrain_one(data, candidate, seed, job, str(folder / "predictions"))[0] for seed in (5, 7)]
    (folder / "retrain.jsonl").write_text("".join(map(json_line, lines)))
    write_tables(reports.read(folder), folder / "report")
    return folder


def test_all_agree_on_every_image(run: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    rows = reports.read(run).predictions.to_pandas()
    rows = rows[rows["seed"] == 5]
    files = [Path(name) for name in rows["image_name"]]
    assert len(files) == 12
    assert all(
        file.is_file() and file.parent.name == true for file, true in zip(files, rows["true_class"], strict=True)
    )
    recorded = rows["predicted"].tolist()
    pixels = np.stack([np.array(Image.open(file))[:, :, None] for file in files])
    assert load_winner(run).predict(pixels).argmax(1).tolist() == recorded
    folder = export(open_run(run), output=tmp_path / "out")
    names = load_winner(run).class_names
    assert [names.index(one.best[0]) for one in predict(folder, files)] == recorded
    session = onnxruntime.InferenceSession(next(folder.glob("*.onnx")))
    images = (pixels.transpose(0, 3, 1, 2) / 255).astype(np.float32)
    assert session.run(None, {session.get_inputs()[0].name: images})[0].argmax(1).tolist() == recorded
    accuracy = f"{100 * rows['correct'].mean():.2f}"
    retrained = next(row for row in reports.read(run).retrain_rows() if row["seed"] == 5)
    assert f"{100 * retrained['test_accuracy']:.2f}" == accuracy
    assert re.search(accuracy, (folder / "README.md").read_text())


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
