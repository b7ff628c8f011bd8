"""The command line answers with what is meant, groups its help, completes names, and writes predictions to files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import click
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.shell_completion import CompletionItem
from PIL import Image

from tests.helpers.make_run import make_run
from tests.search.cli.test_cli import refused, winnow  # noqa: F401
from winnow.search.cli.complete import complete_column, complete_key
from winnow.search.cli.main import cli
from winnow.search.winners import predicting
from winnow.search.winners.predicting import Prediction


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "digits", "--epochs", "4"], "--set epochs=4"),
        (["run", "digits", "--max-epochs", "4"], "--set epochs=4"),
        (["run", "digits", "--lr=0.1"], "--set optimizer.lr=0.1"),
        (["search", "digits", "--optimizer.lr", "0.1"], "--set optimizer.lr=0.1"),
        (["train", "recipes/digits-baseline", "--batch-size", "8"], "--set batch_size=8"),
        (["extend", "x", "--epochs", "40"], "--max-epochs 40"),
        (["run", "digits", "--trails", "4"], "--trials"),
        (["search", "digits", "--objective", "my_metric:f1"], "--set search.objective=my_metric:f1"),
        (["run", "digits", "--time-budget", "5min"], "write 5m"),
        (["run", "digits", "--time", "5min"], "--time-budget 5m"),
        (["extend", "x", "--time=2h"], "--time-budget 2h"),
        (["plan", "digits", "--n-trials", "5"], "--trials 5"),
        (["run", "digits", "--workers", "4"], "--concurrent 4"),
        (["run", "digits", "--learning-rate", "0.1"], "--set optimizer.lr=0.1"),
        (["run", "digits", "--set", "epochs", "4"], "--set epochs=4"),
        (["run", "digits", "--metric", "accuracy"], "--objective accuracy"),
        (["run", "digits", "--objective", "macro-f1"], "--objective validation_macro_f1"),
        (["run", "digits", "--optimizer", "sgd"], "--set optimizer.name=sgd"),
        (["run", "digits", "--dataset", "mnist"], "--set data.name=mnist"),
        (["run", "digits", "--early-stopping", "3"], "--set early_stopping.patience=3"),
        (["run", "digits", "--output", "x"], "--runs-dir x"),
        (["retrain", "x", "--epochs", "5"], "winnow train RUN/report/winner.yaml --set epochs=5"),
        (["resume", "x", "--trials", "5"], "`winnow extend` has"),
        (["search", "digits", "--seeds", "5"], "`winnow run` has"),
        (["show", "--live"], "--live: this option is --follow\n"),
        (["show", "--limit", "5"], "--top 5"),
        (["show", "--trials", "5"], "--trial'"),
        (["train", "x", "--cpus", "2"], "--threads 2"),
        (["export", "x", "--out", "y"], "--output y"),
        (["predict", "x", "--top-k", "3", "a.png"], "'--top'"),
        (["run", "digits", "--time-budget", "2 hours"], "write 2h"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_meant(refused, arguments, expected):  # noqa: F811
    assert expected in refused(*arguments)


@pytest.mark.parametrize(
    ("command", "option"),
    [
        *(("retrain", option) for option in ("--time", "--trials", "--trial", "--output", "--log", "--csv", "--yes", "--live", "--limit")),
        *(("resume", option) for option in ("--csv", "--yes", "--amp", "--host", "--add", "--class", "--failures", "--name", "--sampler")),
        *(("run", option) for option in ("--config", "--csv", "--yes", "--class", "--host", "--n")),
        *(("show", option) for option in ("--epochs", "--lr", "--model", "--host", "--port", "--images", "--folder", "--run", "--best")),
        *(("query", option) for option in ("--epochs", "--cpus", "--mps", "--onnx", "--sort", "--limit")),
        *(("export", option) for option in ("--dir", "--runs-dir", "--model", "--samples", "--filter", "--lr", "--run")),
        *(("predict", option) for option in ("--gpu", "--jobs", "--log", "--stop-when", "--folds", "--images")),
        *(("train", option) for option in ("--trials", "--yes", "--run", "--where", "--best", "--keep", "--parquet")),
        *(("init", option) for option in ("--gpu", "--lr", "--model", "--folds", "--where")),
    ],
)  # fmt: skip
def test_nothing_is_guessed_for_what_is_not_like_an_option(refused, command, option):  # noqa: F811
    words = [word for word in refused(command, "x", option, "5").splitlines() if "option" in word]
    assert words[-1] == f"Error: No such option '{option}'."


def test_what_is_meant_by_an_option_of_retrain_can_be_pasted(tmp_path, refused):  # noqa: F811
    make_run(tmp_path / "runs" / "my run", "first_epoch")
    assert "winnow train 'runs/my run/report/winner.yaml' --set optimizer.lr=0.1" in refused(
        "retrain", "my run", "--lr", "0.1"
    )


def test_columns_are_meant_by_their_last_word(tmp_path, refused):  # noqa: F811
    make_run(tmp_path / "runs" / "a", "first_epoch")
    assert "did you mean validation_accuracy" in refused("show", "a", "--sort", "accuracy")
    assert "did you mean optimizer.lr?" in refused("show", "a", "--where", "lr > 0.1")


@pytest.mark.parametrize(("command", "titles"), [("run", ["Search", "Retraining", "Devices", "Run folder"]), ("plan", ["Search", "Devices"])])  # fmt: skip
def test_help_is_grouped_and_whole(winnow, command, titles):  # noqa: F811
    text = winnow(command, "--help").stdout
    places = [text.index(f"\n{title}:\n") for title in titles[:2]]
    assert places == sorted(places)
    assert all(f"{title}:" in text for title in titles)
    options = cli.commands[command].get_params(click.Context(cli.commands[command]))
    assert all(option.opts[0] in text for option in options if isinstance(option, click.Option))


def names(items: list[CompletionItem]) -> list[str]:
    return [str(item.value) for item in items]


def test_completion_of_keys_and_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "a", "first_epoch")
    context = click.Context(cli.commands["show"])
    context.params = {"run": "a"}
    option = cli.commands["show"].params[0]
    assert names(complete_key(context, option, "optimizer.lr")) == ["optimizer.lr=", "optimizer.lr_decay="]
    assert "epochs=" in names(complete_key(context, option, "ep"))
    assert names(complete_column(context, option, "-num_ep")) == ["-num_epochs"]
    assert names(complete_column(context, option, "status == 'failed' and optimizer.l")) == [
        "status == 'failed' and optimizer.lr"
    ]


def test_the_old_name_of_verify_still_works(refused):  # noqa: F811
    for name in ("verify", "rerun"):
        assert "no run here" in refused(name, "nothing", "--trial", "0")
    assert cli.commands["rerun"].hidden
    assert not cli.commands["verify"].hidden


@pytest.fixture
def predictions(monkeypatch):
    """Two files, of which one cannot be read."""
    answers = [Prediction("a.png", {"cat": 0.2, "dog": 0.7, "owl": 0.1}), Prediction("b.png", {}, error="b.png: torn")]
    monkeypatch.setattr(predicting, "predict_each", lambda folder, files: iter(answers))
    monkeypatch.setattr(predicting, "expanded", lambda images, left_out: [Path("a.png"), Path("b.png")])
    monkeypatch.setattr("winnow.search.cli.run_commands.check_export", lambda *arguments: None)


def test_predictions_are_written_to_files(tmp_path, predictions, winnow):  # noqa: F811
    for kind in ("csv", "json", "parquet"):
        done = winnow("predict", "winner", "a.png", "--top", "2", "--output", f"out.{kind}")
        assert done.returncode == 2, "one file could not be read"
    rows = [
        {"file": "a.png", "rank": 1, "class": "dog", "probability": 0.7, "error": None},
        {"file": "a.png", "rank": 2, "class": "cat", "probability": 0.2, "error": None},
        {"file": "b.png", "rank": None, "class": None, "probability": None, "error": "b.png: torn"},
    ]
    assert json.loads((tmp_path / "out.json").read_text()) == rows
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == rows
    texts = [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]
    assert list(csv.DictReader((tmp_path / "out.csv").open())) == texts
    assert "70.00%  dog,   20.00%  cat" in winnow("predict", "winner", "a.png", "--top", "2").stdout


@pytest.mark.parametrize(("output", "words"), [("out.txt", ".csv, .json, .parquet"), ("no/out.csv", "no folder no")])
def test_a_place_for_predictions_that_does_not_do(predictions, refused, output, words):  # noqa: F811
    assert words in refused("predict", "winner", "a.png", "--output", output)


# --- init ---------------------------------------------------------------------------------------------------------------


def make_images(folder: Path, counts: dict[str, int], grey: bool = False, size: int = 28) -> None:
    random = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (size, size) if grey else (size, size + number % 2, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.mark.parametrize(("grey", "size"), [(False, 28), (True, 8), (False, 300)])
def test_init_writes_a_space_that_fits(tmp_path, winnow, grey, size):  # noqa: F811
    make_images(tmp_path / "my images", {"cats": 12, "dogs": 3}, grey, size)
    done = winnow("init", "my images")
    assert done.returncode == 0, done.stderr
    assert "15 images of 2 classes: 12 cats, 3 dogs" in done.stdout
    assert "next     winnow run 'my images.yaml'" in done.stdout
    text = (tmp_path / "my images.yaml").read_text()
    assert f"image_size: {min(64, max(8, 8 * round(size / 8)))}" in text
    assert f"channels: {1 if grey else 3}" in text
    assert ("flip" in text.partition("augment:")[2].partition("\n")[0]) is not grey
    assert "objective: validation_macro_f1" in text, "four times as many cats as dogs"
    plan = winnow("plan", "my images.yaml", "--no-probe")
    assert plan.returncode == 0, plan.stderr
    assert "exists already" in winnow("init", "my images").stderr


def test_init_says_what_it_cannot_use(tmp_path, refused):  # noqa: F811
    assert "no such folder" in refused("init", "nothing")
    make_images(tmp_path / "one", {"cats": 2})
    assert "at least 2 classes" in refused("init", "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one"]
