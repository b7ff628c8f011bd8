"""`keep_predictions`: what completed trials answer for the validation images, and the table made of it."""

from __future__ import annotations

import pickle
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from tests.helpers.layouts import NAMES, pictures, png, write_shard
from tests.helpers.make_run import make_run
from tests.helpers.tiny import CPU, tiny_config
from tests.search.study.test_failures import assignment, job, tiny_data
from winnow import models, reports
from winnow.reports.tables.validation_names import FILE, write_validation_names
from winnow.search.cli.main import main
from winnow.search.data.image_data import split
from winnow.search.data.source import load
from winnow.search.operations.searching import _fetch_answers
from winnow.search.ray_backend.worker import trial_reports
from winnow.search.storage.run_folder import RunFolder, answers_name
from winnow.search.training.device_data import DeviceData
from winnow.search.training.validation_answers import write_validation_answers


def test_the_answers_of_the_last_epoch_have_its_figures(tmp_path: Path) -> None:
    trial = assignment()
    keeping = replace(job(tmp_path / "checkpoints"), predictions=str(tmp_path / "predictions"))
    file = tmp_path / "predictions" / answers_name(trial.number)
    figures = []
    for report in trial_reports(trial, tiny_data(), keeping):
        figures.append(report)
        assert file.exists() == report["last"], "only of a trial that trained to its end"
    with np.load(file) as arrays:
        right = arrays["predicted"] == arrays["true"]
        assert right.mean() == figures[-1]["validation_accuracy"]
        assert -np.log(arrays["probability_true"]).mean() == pytest.approx(figures[-1]["validation_loss"], rel=1e-4)
        assert np.array_equal(arrays["true"], tiny_data().train_labels[arrays["index"]])
        assert np.array_equal(arrays["probabilities"].argmax(1), arrays["predicted"])


def test_nothing_is_kept_unasked(tmp_path: Path) -> None:
    list(trial_reports(assignment(), tiny_data(), job(tmp_path)))
    assert not list(tmp_path.rglob("validation-*.npz"))


def test_the_table_has_the_completed_trials(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    rows = {row["trial"]: row["status"] for row in reports.read(folder).rows("trials")}
    completed, stopped = (next(t for t, status in rows.items() if status == each) for each in ("completed", "stopped"))
    probabilities = np.eye(10, dtype=np.float16)[:4] * 0.5 + 0.05
    for trial in (completed, stopped):
        np.savez(
            folder / "predictions" / answers_name(trial),
            index=np.array([7, 1, 5, 2]),
            true=np.array([0, 1, 2, 9]),
            predicted=np.array([0, 1, 2, 3]),
            confidence=np.full(4, 0.55, np.float32),
            probability_true=np.array([0.55, 0.55, 0.55, 0.05], np.float32),
            probabilities=probabilities,
        )
    run = reports.read(reports.write(folder).parent.parent)
    table = run.rows("validation")
    assert {row["trial"] for row in table} == {completed}
    assert [row["index"] for row in table] == [7, 1, 5, 2]
    assert [row["correct"] for row in table] == [True, True, True, False]
    assert [row["true_class"] for row in table] == ["0", "1", "2", "9"]
    assert table[0]["probabilities"] == pytest.approx(probabilities[0].tolist())
    assert {row["image_name"] for row in table} == {None}, "a run of a Winnow that did not keep names"
    write_validation_names(folder, {7: "seven.png", 2: "two.png", 8: "eight.png"})
    assert [row["image_name"] for row in reports.read(folder).rows("validation")] == [
        "seven.png",
        None,
        None,
        "two.png",
    ]
    (folder / FILE).write_bytes(b"damaged")
    assert {row["image_name"] for row in reports.read(folder).rows("validation")} == {None}


# --- which image is it? -------------------------------------------------------------------------------------------------

IMAGES = pictures(60, size=(8, 8), channels=1)
"""All different, so that each file is recognised by its pixels. Image k is of the class `NAMES[k % 3]`."""
SEED = 3


def write_images(folder: Path, layout: str) -> None:
    """Write `IMAGES` as class folders without a split, class folders with three splits, or two shards and a test shard."""
    if layout == "shards":
        for name, rows in (
            ("train-00000-of-00002", range(25)),
            ("train-00001-of-00002", range(25, 48)),
            ("test", range(48, 60)),
        ):
            write_shard(folder / f"{name}.parquet", [IMAGES[k] for k in rows], [k % 3 for k in rows])
        return
    for k, image in enumerate(IMAGES):
        of_split = "" if layout == "folder" else "train" if k < 36 else "validation" if k < 48 else "test"
        file = folder / of_split / NAMES[k % 3] / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(image))


def image_named(name: str) -> tuple[np.ndarray, str]:
    """The pixels [H, W, 1] and the class of an image as a reader finds it by its name alone."""
    path, _, row = name.partition(", row ")
    if not row:
        return np.asarray(Image.open(path))[:, :, None], Path(path).parent.name
    found = pq.read_table(path).slice(int(row), 1).to_pylist()[0]
    return np.asarray(Image.open(BytesIO(found["image"]["bytes"])))[:, :, None], NAMES[found["label"]]


@pytest.mark.parametrize("layout", ["folder", "given", "shards"])
def test_the_named_image_is_the_one_that_was_predicted(layout: str, tmp_path: Path) -> None:
    write_images(tmp_path / "set", layout)
    source = {"name": "parquet" if layout == "shards" else "image_folder", "path": str(tmp_path / "set")}
    config = tiny_config(data=source, model={"name": "mlp", "hidden": [16]}, precision="float32")
    data = load(config.data, tmp_path, name_validation_of=SEED)
    on_device = DeviceData.build(data, config.data, CPU, SEED)
    model = models.build(config.model, data.image_shape, data.num_classes).eval()
    folder = make_run(tmp_path / "run")
    study = yaml.safe_load((folder / "study.yaml").read_text())
    study["data"]["class_names"] = list(data.class_names)
    del study["data"]["summary"]  # of other classes
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    trial = next(row["trial"] for row in reports.read(folder).rows("trials") if row["status"] == "completed")
    predictions = folder / "predictions" / answers_name(trial)
    write_validation_answers(config, model.state_dict(), on_device, str(predictions))
    write_validation_names(folder, data.validation_names)
    rows = reports.read(folder).rows("validation")
    num = len(split(data, config.data.validation, config.data.stratified, SEED).validation_index)
    assert len({row["image_name"] for row in rows}) == len(rows) == num >= 9
    found = [image_named(row["image_name"]) for row in rows]
    assert [row["true_class"] for row in rows] == [name for _, name in found]
    images = data.train_images if data.validation_images is None else data.validation_images
    assert all(np.array_equal(images[row["index"]], pixels) for row, (pixels, _) in zip(rows, found, strict=True))
    pixels = torch.tensor(np.stack([each for each, _ in found])).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        expected = model((pixels - on_device.mean[0]) / on_device.std[0]).softmax(1).numpy()
    recorded = np.array([row["probabilities"] for row in rows])
    np.testing.assert_allclose(recorded, expected, atol=1e-3)
    assert np.abs(recorded - np.roll(expected, 1, axis=0)).max() > 0.01, "the images of other rows have other answers"


def test_names_are_given_only_when_asked_and_stay_out_of_the_workers(tmp_path: Path) -> None:
    write_images(tmp_path / "set", "folder")
    settings = tiny_config(data={"name": "image_folder", "path": str(tmp_path / "set")}).data
    assert load(settings, tmp_path).validation_names == {}
    named = load(settings, tmp_path, name_validation_of=SEED)
    assert named.validation_names
    assert pickle.loads(pickle.dumps(named)).validation_names == {}
    other = load(settings, tmp_path, name_validation_of=SEED + 1)
    assert other.validation_names != named.validation_names, "another seed selects by other images"


@pytest.mark.slow
def test_a_search_and_its_continuation_name_the_images(
    shared_ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def winnow(*arguments: str) -> None:
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        assert not end.value.code

    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "set", "folder")
    (tmp_path / "space.yaml").write_text(
        "data: {name: image_folder, path: set}\nepochs: 1\nbatch_size: 16\nmodel: {name: mlp, hidden: [8]}\n"
        "optimizer: {name: adam, lr: {log: [0.001, 0.1]}}\n"
    )
    winnow("search", "space.yaml", "--trials", "1", "--name", "r", "--keep-predictions", "--seed", str(SEED))
    run = Path("runs/r")
    for trials in (1, 2):
        rows = reports.read(run).rows("validation")
        assert {row["trial"] for row in rows} == set(range(trials))
        assert all(image_named(row["image_name"])[1] == row["true_class"] for row in rows)
        named = {row["image_name"]: row["index"] for row in rows}
        assert len(named) == len(rows) / trials, "each image of the split once per trial"
        if trials == 1:
            (run / FILE).unlink()  # as in a run that an older Winnow began
            assert {row["image_name"] for row in reports.read(run).rows("validation")} == {None}
            winnow("extend", "r", "--trials", "1")


def test_answers_in_a_storage_are_copied_into_the_run(tmp_path: Path) -> None:
    folder, shared = make_run(tmp_path / "run"), tmp_path / "shared"
    said: list[str] = []
    view: Any = SimpleNamespace(message=said.append)
    study = yaml.safe_load((folder / "study.yaml").read_text())
    (folder / "study.yaml").write_text(yaml.safe_dump(study | {"storage": str(shared)}))
    (shared / "predictions").mkdir(parents=True)
    for trial in (2, 5):
        (shared / "predictions" / answers_name(trial)).write_bytes(b"answers of %d" % trial)
    _fetch_answers(RunFolder(folder), [2, 7], view)
    copied = {path.name: path.read_bytes() for path in (folder / "predictions").glob("validation-*")}
    assert copied == {answers_name(2): b"answers of 2"}
    assert said == [
        f"the predictions of trial 7 are no longer in the storage: {shared / 'predictions' / answers_name(7)}"
    ]
