"""Class names are data: every command shows them as they are, and exported programs carry them unchanged."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.helpers.make_run import make_run
from winnow.models import build
from winnow.reports.visible import plotly_text
from winnow.search.cli import lasting_stream
from winnow.search.cli.common import load_space
from winnow.search.cli.main import main
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.training.checkpoint import save
from winnow.search.winners.predicting import predict, predict_each
from winnow.spaces import catalog
from winnow.spaces.schema import Config

torch.set_num_threads(1)
NAMES = ("<b>x</b>", "\x1b[31mred", "n" * 200, "a\u202eb", "שלום\u200f", "two\nlines", "a,b;\"c\"", "[bold]", "ünï 🐱", "=1+1")  # fmt: skip
NORMALIZATION = {"mean": [0.25], "std": [0.5]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up run with odd class names whose first winner has weights."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "odd")
    study = yaml.safe_load((folder / "study.yaml").read_text())
    study["data"]["class_names"] = list(NAMES)
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    for line in read_json_lines(folder / "retrain.jsonl"):
        if line["rank"] == 1:
            weights = build(Config.model_validate(line["config"]).model, (1, 8, 8), 10).state_dict()
            save(folder / line["weights"], {"weights": weights, "normalization": NORMALIZATION})
    return folder


def winnow(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the extra `export` is not installed")
    output = run.parent / "out"
    assert winnow("export", run, "--output", output) == 0
    return output


def test_programs_carry_names_size_and_normalisation(exported: Path) -> None:
    import onnx
    import onnxruntime

    stored = {prop.key: prop.value for prop in onnx.load(exported / "model.onnx").metadata_props}
    assert onnxruntime.InferenceSession(str(exported / "model.onnx")).get_modelmeta().custom_metadata_map == stored
    extra = dict.fromkeys(("class_names", "image_shape", "normalization", "origin"), "")
    torch.export.load(exported / "model.pt2", extra_files=extra)
    for facts in (stored, extra):
        assert json.loads(facts["class_names"]) == list(NAMES)
        assert json.loads(facts["image_shape"]) == [1, 8, 8]
        assert json.loads(facts["normalization"])["mean"] == NORMALIZATION["mean"]
        assert json.loads(facts["normalization"])["std"] == NORMALIZATION["std"]
        assert json.loads(facts["origin"])["run"] == "odd"


def test_the_model_card_shows_names_as_they_are(exported: Path) -> None:
    card = (exported / "README.md").read_text()
    assert r"\<b\>x\</b\>" in card
    assert all(char.isprintable() or char in "\n\xa0" for char in card)
    assert "n" * 200 in card


def test_terminal_json_and_csv_of_predictions(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    capsys.readouterr()
    assert winnow("predict", exported, tmp_path / "a.png", "--top", "10") == 0
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    assert text.strip().isprintable()
    assert "<b>x</b>" in text
    assert "[bold]" in text
    assert winnow("predict", exported, tmp_path / "a.png", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["probabilities"]) == set(NAMES)
    assert winnow("predict", exported, tmp_path / "a.png", "--top", "10", "--output", tmp_path / "p.csv") == 0
    with (tmp_path / "p.csv").open(newline="") as stream:
        assert {row["class"] for row in csv.DictReader(stream)} == set(NAMES)


@pytest.mark.parametrize("command", [("show", "--mistakes"), ("query", "select * from predictions limit 40")])
def test_tables_in_the_terminal(command: tuple[str, str], run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert winnow(command[0], run, command[1]) == 0
    text = capsys.readouterr().out
    assert "\x1b[31mred" not in text
    assert not any(char in text for char in "\u202e\u200f")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_csv_file_in_the_terminal(
    is_terminal: bool, run: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file or a pipe gets the names as they are."""
    monkeypatch.setattr(lasting_stream._Lasting, "isatty", lambda self: is_terminal, raising=False)
    sql = "select distinct true_class, true_class::enum('\x1b[31mred', 'other') as \"\x1b[2J\" from predictions where contains(true_class, 'red')"
    capsysbinary.readouterr()
    assert winnow("query", run, sql, "--csv") == 0
    text, escape = capsysbinary.readouterr().out.decode(), "\u241b" if is_terminal else "\x1b"
    assert text == f'"true_class","{escape}[2J"\n"{escape}[31mred","{escape}[31mred"\n'


def test_notes_of_a_space_are_printable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    space = replace(catalog.load("digits"), notes=("about \x1b[31mred",))
    monkeypatch.setattr(catalog, "load", lambda *_: space)
    load_space("digits", ())
    assert capsys.readouterr().err == "note: about \\x1b[31mred\n"


def test_marks_of_direction_are_visible_in_figures() -> None:
    assert plotly_text("a\u200f\u202eb\u200d") == r"a\u200f\u202eb" + "\u200d"


def test_predictions_read_pixels_as_training_does(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same tensors, for every kind of file: turned, transparent, of 16 bits, in colour, of another size."""
    from tests.helpers.images import COLOUR, GREY_ALPHA, raw_png
    from winnow.search.data.source import load
    from winnow.search.winners import predicting
    from winnow.spaces.schema import Data

    random = np.random.default_rng(5)
    exif = Image.Exif()
    exif[0x0112] = 6
    folder = tmp_path / "set" / "train"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    contents = {
        "a/turned.jpg": lambda file: Image.fromarray(random.integers(0, 256, (12, 9), np.uint8)).save(file, exif=exif),
        "a/ghost.png": lambda file: Image.fromarray(random.integers(0, 256, (8, 8, 4), np.uint8)).save(file),
        "a/deep.png": lambda file: Image.fromarray(random.integers(0, 65536, (8, 8), np.uint16)).save(file),
        "b/deep-ghost.png": lambda file: file.write_bytes(raw_png(random.integers(0, 65536, (8, 8, 2)), GREY_ALPHA)),
        "b/colours.png": lambda file: file.write_bytes(raw_png(random.integers(0, 65536, (8, 8, 3)), COLOUR)),
        "b/inks.tif": lambda file: Image.fromarray(random.integers(0, 256, (8, 8, 4), np.uint8), "CMYK").save(file),
    }
    for name, write in contents.items():
        write(folder / name)
    (tmp_path / "set" / "test").symlink_to(folder)
    settings = {
        "name": "image_folder",
        "path": str(tmp_path / "set"),
        "image_size": 8,
        "channels": 1,
        "pixel_range": [0, 65535],
    }
    trained = load(Data(**settings), tmp_path / "data")
    seen: list[np.ndarray] = []
    config = yaml.safe_load((exported / "config.yaml").read_text())
    config["data"] |= settings
    config["data"]["normalize"] = "computed"
    winner = predicting.load_export(exported)
    changed = type(winner)(
        winner.network, Config.model_validate(config), winner.class_names, winner.origin, winner.image_shape
    )
    monkeypatch.setattr(predicting, "load_export", lambda folder: changed)
    monkeypatch.setattr(
        type(winner), "predict", lambda self, images: seen.extend(images) or np.zeros((len(images), 10))
    )
    files = [folder / name for name in contents]
    assert [answer.error for answer in predict(exported, files)] == [None] * len(files)
    assert sorted(image.tobytes() for image in seen) == sorted(image.tobytes() for image in trained.train_images)
    assert len(seen) == len(contents) == len(trained.train_images)


def test_a_stream_is_answered_before_the_next_image_is_there(exported: Path, tmp_path: Path) -> None:
    def stream() -> Iterator[Path]:
        for k in range(3):
            Image.fromarray(np.full((8, 8), 9 * k, dtype=np.uint8)).save(tmp_path / f"{k}.png")
            yield tmp_path / f"{k}.png"

    answers = predict_each(exported, stream())
    assert next(answers).error is None
    assert not (tmp_path / "1.png").exists()
    assert len(list(answers)) == 2


def test_a_pipe_is_an_error_and_is_not_waited_for(exported: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / "a.png")
    first, second = predict_each(exported, [tmp_path / "pipe.png", tmp_path / "a.png"])
    assert first.error is not None
    assert "it is no regular file" in first.error
    assert second.error is None
