"""`winnow bench-recipes` through the command line, on real images: what it runs, skips, refuses and writes."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.helpers.cifar import write_some
from tests.helpers.tiny import tiny_config, tiny_data
from winnow.reports.tables.answers import load_answers
from winnow.reports.tables.reference import COLUMNS, as_markdown, recipe_rows
from winnow.reports.tables.retraining import metric_interval
from winnow.search.cli.main import cli
from winnow.search.operations import reproduction
from winnow.search.operations.reproduction import _Job, choose
from winnow.search.operations.training import TrainingJob
from winnow.search.ray_backend.session import ray_kept
from winnow.search.ray_backend.shared_data import SharedData
from winnow.search.ray_backend.tasks import Hangs
from winnow.search.resources.plan import ResourcePlan
from winnow.search.training.checkpoint import save
from winnow.search.training.errors import STORAGE_FAILED, StorageFailed
from winnow.search.training.heartbeat import process_of
from winnow.spaces import catalog
from winnow.spaces.errors import InputError

QUICK = ["--set", "epochs=2", "--set", "model.head=[8]", "--set", "data.name=npz"]


def bench(*arguments: str) -> int:
    return int(cli.main(args=["bench-recipes", *arguments, "--quiet", "--num-cpus", "2"], standalone_mode=False))


def results(output: Path) -> dict[str, float]:
    """Test accuracy by recipe."""
    lines = [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]
    return {line["recipe"]: line["test_accuracy"] for line in lines}


def result(recipe: str, seed: int, accuracy: float, **more: Any) -> dict[str, Any]:
    config = catalog.load(f"recipes/{recipe}").example().model_dump(mode="json")
    line = {"recipe": recipe, "seed": seed, "status": "completed", "config": config, "test_accuracy": accuracy}
    line |= {"validation_accuracy": accuracy + 0.01, "epochs": 50, "weights_epoch": 12, "wall_seconds": 120.0}
    line |= {"images_per_second": 1000.0, "num_parameters": 5, "device": "cpu", "threads": 1}
    return {**line, "hardware": {"processor": "Some CPU"}, **more}


def row(rows: list[dict[str, Any]], recipe: str) -> dict[str, Any]:
    return next(row for row in rows if row["recipe"] == recipe)


# --- the table ----------------------------------------------------------------------------------------------------------


def test_rows_that_were_not_run_say_so() -> None:
    rows = recipe_rows([], Path())
    published = [name.removeprefix("recipes/") for name in catalog.recipe_names() if catalog.load(name).reference]
    assert sorted(row["recipe"] for row in rows) == sorted(published)
    order = [row["row"] for row in rows]
    assert order[:11] == [*(f"A{number}" for number in range(1, 11)), "B1"]
    assert order[order.index("E2") :] == ["E2", "E3a", "E3b", "E3c", "E4a", "E4b", "E4c", "E5a", "E5b", "E6", "E7"]
    assert {row["status"] for row in rows} == {"not run"}
    assert as_markdown(rows).count("| not run |") == len(rows)
    assert "choose the epoch on the test images" in as_markdown(rows)


def test_means_intervals_and_differences() -> None:
    accuracies = [0.42, 0.44, 0.46]
    rows = recipe_rows([result("cifar100-a1", seed, value) for seed, value in enumerate(accuracies)], Path())
    a1 = row(rows, "cifar100-a1")
    assert a1["ours"] == pytest.approx(44.0)
    assert a1["difference"] == pytest.approx(44.0 - 43.68)
    half = 4.302653 * 2.0 / 3**0.5  # t(0.975, 2) * s / sqrt(3)
    assert (a1["ours_low"], a1["ours_high"]) == (pytest.approx(44 - half, abs=1e-4), pytest.approx(44 + half, abs=1e-4))
    assert (a1["num_seeds"], a1["minutes"], a1["hardware"]) == (3, 2.0, "Some CPU, 1 thread")
    assert a1["changed"] is None
    ends = f"{44 - half:.2f} to {44 + half:.2f}"
    assert f"| 44.00 ({ends} over seeds alone) | 3 |  | +0.32 | 12 of 50 | 2.0 | 1000 |" in as_markdown(rows)


def test_intervals_are_over_test_images_too_where_there_are_predictions(tmp_path: Path) -> None:
    true = np.repeat(np.arange(10), [28, *[8] * 9])
    lines = []
    for seed in range(3):
        predicted = np.where(np.arange(100) % 50 < seed, 9 - true, true)
        place = tmp_path / f"cifar100-a1-s{seed}"
        place.mkdir()
        shares = dict.fromkeys(("confidence", "probability_true"), np.full(100, 0.5))
        np.savez(place / "predictions.npz", index=np.arange(100), true=true, predicted=predicted, **shares)
        lines.append(
            result("cifar100-a1", seed, float((predicted == true).mean()), num_classes_answered=10 - 9 * (seed == 2))
        )
    rows = recipe_rows(lines, tmp_path)
    a1 = row(rows, "cifar100-a1")
    answers = load_answers(
        tmp_path, [line | {"predictions": f"cifar100-a1-s{line['seed']}/predictions.npz"} for line in lines]
    )
    interval, _ = metric_interval("test_accuracy", [line["test_accuracy"] for line in lines], answers)
    assert (a1["ours"], a1["ours_low"], a1["ours_high"]) == pytest.approx([100 * end for end in interval])
    assert (a1["num_test_images"], a1["largest_class"], a1["num_one_class"]) == (100, pytest.approx(28.0), 1)
    warning = "Warning: 1 of the 3 networks of this recipe gives every test image the same class."
    cell = f"| 98.00 ({a1['ours_low']:.2f} to {a1['ours_high']:.2f}); {warning} | 3 | 28.00 |"
    assert cell in as_markdown(rows)
    (tmp_path / "cifar100-a1-s1" / "predictions.npz").unlink()
    assert row(recipe_rows(lines, tmp_path), "cifar100-a1")["num_test_images"] is None


def test_a_worker_without_room_on_the_disk_ends_the_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no result, so the next call trains it again."""
    outcome = {"status": STORAGE_FAILED, "error": "No space left on device: out"}
    monkeypatch.setattr(reproduction, "run_tasks", lambda *_, **__: (each for each in [(None, outcome)]))
    plan = ResourcePlan("cpu", concurrent=1, cpus_per_trial=1, gpus_per_trial=0, threads=1, explanation="")
    with pytest.raises(StorageFailed, match="No space left on device: out"):
        reproduction._run(None, [], {}, plan, tmp_path, print)
    assert (tmp_path / "results.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("refused", "is_trained"), [("JsonLines", True), ("JsonLines", False), ("write_table", True), ("run_tasks", False)]
)
def test_a_full_disk_is_told_in_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str, is_trained: bool
) -> None:
    """Whether the driver writes what it finds, the results or the table, or a sign of life in place of a training."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(reproduction, refused, refuse)
    monkeypatch.setattr(reproduction, "_read_data", lambda recipes, keys, *_: dict.fromkeys(keys.values()))
    if is_trained:  # and its line is missing
        folder = tmp_path / "cifar100-a1-s0"
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps(result("cifar100-a1", 0, 0.5)))
    plan: Any = SimpleNamespace(per_trial={"cpu": 1, "gpu": 0}, device="cpu", threads=1, explanation="")
    execution: Any = SimpleNamespace(
        devices=SimpleNamespace(check_one_gpu=lambda command: None),
        connected=lambda: execution,
        view=SimpleNamespace(message=lambda text: None),
        new_source=None,
        workers=lambda *_: nullcontext((None, plan, [SharedData(None)])),
    )
    message = (
        rf"^--output: {os.strerror(errno.ENOSPC)}: {tmp_path}\. Finished trainings are kept: start the command again"
    )
    with pytest.raises(InputError, match=message):
        reproduction.bench_recipes(["cifar100-a1"], [], seeds=1, output=tmp_path, execution=execution)


def test_only_heartbeats_are_deleted_in_the_folder_of_the_user(tmp_path: Path) -> None:
    """`--output .` may hold anything, also files with names like those of temporary files."""
    left = [".trial-cifar100-a1-s0.beat", "..trial-cifar100-a1-s0.beat.1a2b3c4d"]
    theirs = [".notes.2026", ".venv.311", ".a.pt.1a2b3c4d", ".winnow-probe-mine", "checkpoints/.b.pt.1a2b3c4d"]
    (tmp_path / "checkpoints").mkdir()
    for name in [*left, *theirs]:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="nowhere is no folder"):
        bench("cinic10-b1", "--set", f"data.path={tmp_path / 'nowhere'}", "--output", str(tmp_path))
    assert [name for name in [*left, *theirs] if (tmp_path / name).exists()] == theirs


@pytest.mark.parametrize(("lr", "status"), [(0.01, "completed"), (1e38, "diverged")])
def test_a_training_that_was_not_tested_is_only_tested(tmp_path: Path, lr: float, status: str) -> None:
    """Its worker died after the last epoch, or the disk was full."""
    config = tiny_config(optimizer={"name": "sgd", "lr": lr})
    training, folder = TrainingJob("tiny", config, 0), tmp_path / "tiny-s0"
    whole = reproduction._bench_one(tiny_data(), training, str(folder), "cpu", 1)
    assert whole["status"] == status, whole
    epochs = (folder / "epochs.jsonl").read_bytes()
    (folder / "result.json").unlink()
    assert reproduction._bench_one(tiny_data(), training, str(folder), "cpu", 1) == whole
    assert (folder / "epochs.jsonl").read_bytes() == epochs
    assert json.loads((folder / "result.json").read_text())["status"] == status


def test_one_seed_has_no_interval_and_failures_are_named() -> None:
    rows = recipe_rows(
        [result("cifar100-a2", 0, 0.5), {"recipe": "cifar100-a2", "seed": 1, "status": "diverged"}], Path()
    )
    a2 = row(rows, "cifar100-a2")
    assert (a2["ours"], a2["ours_low"], a2["num_seeds"]) == (pytest.approx(50.0), None, 1)
    assert a2["status"] == "completed, 1 diverged"
    assert "50.00 (1 diverged)" in as_markdown(rows)


def test_a_validation_figure_is_held_against_validation() -> None:
    step = row(recipe_rows([result("cifar100-d-ablation-1", 0, 0.22)], Path()), "cifar100-d-ablation-1")
    assert (step["split"], step["difference"]) == ("validation", pytest.approx(0.0))


def test_what_was_changed_is_named() -> None:
    line = result("cifar100-a1", 0, 0.5)
    line["config"] = {**line["config"], "epochs": 2, "data": {**line["config"]["data"], "name": "npz", "path": "x"}}
    assert row(recipe_rows([line], Path()), "cifar100-a1")["changed"] == "epochs=2 (not 50)"


@pytest.mark.parametrize(
    ("path", "changed"),
    [("/data/cinic10", None), ("/data/cifar10-as-cinic10/", "images of cifar10-as-cinic10 (not cinic10)")],
)
def test_other_images_than_the_folder_of_the_recipe_are_named(path: str, changed: str | None) -> None:
    line = result("cinic10-b1", 0, 0.5)
    line["config"]["data"]["path"] = path
    assert row(recipe_rows([line], Path()), "cinic10-b1")["changed"] == changed


def test_validation_images_that_were_trained_on_are_named() -> None:
    line = result("cifar100-a1", 0, 0.5, fit_validation=True)
    assert row(recipe_rows([line], Path()), "cifar100-a1")["changed"] == "trained on the validation images too"


# --- the command ----------------------------------------------------------------------------------------------------------


def test_patterns_choose_recipes() -> None:
    assert choose(["cifar100-e4*", "recipes/cifar10-c1", "cifar10-c?"]) == [
        "recipes/cifar100-e4a", "recipes/cifar100-e4b", "recipes/cifar100-e4c", "recipes/cifar10-c1", "recipes/cifar10-c2",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"cifar100-z9: no recipe with a published figure .* cifar100-a1"):
        choose(["cifar100-z9"])


def test_a_published_validation_figure_needs_the_validation_images(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"--fit-validation: cifar100-d-ablation-1: the published figure is an accuracy on validation"
    ):
        bench("cifar100-d-ablation-1", "cifar100-a1", "--fit-validation", "--output", str(tmp_path))


def test_trainings_use_the_validation_images_as_asked(tmp_path: Path) -> None:
    """Whether a training is finished, recorded or begun, the other use of its validation images is refused."""
    recipes = {"recipes/cifar100-a1": catalog.load("recipes/cifar100-a1")}
    assert [reproduction._todo(recipes, 1, tmp_path, use)[0].training.use for use in ("search", "retrain")] == [
        "search",
        "retrain",
    ]
    folder = tmp_path / "cifar100-a1-s0"
    folder.mkdir()

    def check_both(before: str, here: Any, there: Any) -> None:
        reproduction._todo(recipes, 1, tmp_path, here)
        with pytest.raises(InputError, match=f"this training was started {before} --fit-validation; .* {before} it"):
            reproduction._todo(recipes, 1, tmp_path, there)

    save(folder / "checkpoint.pt", {"epoch": 1, "use": "search"})
    check_both("without", "search", "retrain")
    save(folder / "checkpoint.pt", {"epoch": 1, "use": "retrain"})
    check_both("with", "retrain", "search")
    (folder / "result.json").write_text(json.dumps(result("cifar100-a1", 0, 0.5, fit_validation=True)))
    check_both("with", "retrain", "search")
    (folder / "result.json").unlink()
    line = result("cifar100-a1", 0, 0.5)
    (tmp_path / "results.jsonl").write_text(f"{json.dumps(line)}\n")  # of an earlier version, which did not record it
    check_both("without", "search", "retrain")


def test_a_training_gives_signs_of_life_where_the_driver_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = _Job(
        "cifar100-a1", TrainingJob("cifar100-a1", tiny_config(), 0), tmp_path / "bench" / "cifar100-a1-s0", "images"
    )
    signs: list[bytes] = []

    def run_tasks(
        ray: None, function: Any, items: Any, resources: Any, *, hangs: Hangs[_Job], **_: Any
    ) -> Iterator[Any]:
        def fit_and_test(*_: Any) -> None:
            signs.append(Path(hangs.heartbeat(job)).read_bytes())
            raise ValueError("it has seen enough")

        monkeypatch.setattr("winnow.search.operations.training.fit_and_test", fit_and_test)
        for item, arguments in items:
            yield item, function(*arguments)

    monkeypatch.setattr(reproduction, "run_tasks", run_tasks)
    job.folder.parent.mkdir()
    plan: Any = SimpleNamespace(per_trial={"cpu": 1, "gpu": 0}, device="cpu", threads=1)
    _, num_failed = reproduction._run(
        None, [job], {"images": SharedData(None)}, plan, job.folder.parent, lambda _: None
    )
    assert num_failed == 1
    assert [process_of(sign) for sign in signs] == [os.getpid()]
    assert not list(job.folder.parent.glob(".*"))


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """One Ray for all commands: starting it takes longest."""
    with ray_kept():
        yield


@pytest.mark.data
@pytest.mark.usefixtures("ray")
@pytest.mark.slow
def test_runs_skips_goes_on_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_some(tmp_path / "cifar100.npz", "cifar100", 2)
    output = tmp_path / "bench"
    arguments = ["cifar100-a1", "cifar100-a3", *QUICK, "--set", f"data.path={images}", "--output", str(output)]
    assert bench(*arguments) == 0
    lines = [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]
    assert {(line["recipe"], line["seed"], line["status"]) for line in lines} == {
        ("cifar100-a1", 0, "completed"),
        ("cifar100-a3", 0, "completed"),
    }
    table = pq.read_table(output / "recipes.parquet")
    assert table.column_names == list(COLUMNS)
    a1 = row(table.to_pylist(), "cifar100-a1")
    assert a1["ours"] == pytest.approx(100 * next(r["test_accuracy"] for r in lines if r["recipe"] == "cifar100-a1"))
    assert a1["changed"] == "epochs=2 (not 50), model.head.0=8 (not 1024), model.head.1=null (not 512)"
    assert row(table.to_pylist(), "cifar100-a2")["status"] == "not run"
    assert {p.name for p in (output / "cifar100-a1-s0").iterdir()} >= {
        *("epochs.jsonl", "predictions.npz", "result.json", "report.html", "best_epochs.md")
    }

    before = (output / "results.jsonl").read_text()
    assert bench(*arguments) == 0, "everything is done: nothing is trained, the data is not even read"
    assert (output / "results.jsonl").read_text() == before

    lost = [json.loads(line)["recipe"] for line in before.splitlines()][1]
    (output / "results.jsonl").write_text(before.splitlines()[0] + "\n")
    assert bench(*arguments) == 0, "the line was lost, the training was not: it is read back"
    assert (output / f"{lost}-s0" / "result.json").stat().st_mtime < (output / "results.jsonl").stat().st_mtime
    figures = {line["recipe"]: line["test_accuracy"] for line in lines}
    assert results(output) == figures

    with pytest.raises(
        InputError,
        match=r"has optimizer.lr 0.001, not 0.5; give the same recipe and --set as before, or choose another --output",
    ):
        bench(*arguments, "--set", "optimizer.lr=0.5")
    capsys.readouterr()


@pytest.mark.data
def test_bad_input_is_refused_before_any_training(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        bench("cinic10-b1", "--set", f"data.path={tmp_path / 'nowhere'}", "--output", str(tmp_path / "bench"))
    assert "nowhere is no folder" in str(error.value)
    assert not (tmp_path / "bench" / "results.jsonl").exists()


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_a_killed_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    images = write_some(tmp_path / "cifar100.npz", "cifar100", 20)
    changes = ["--set", f"data.path={images}", *QUICK, "--set", "epochs=6"]
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    arguments = ["bench-recipes", "cifar100-a1", *changes, "--quiet", "--num-cpus", "2", "--output", str(killed)]
    driver = subprocess.Popen([sys.executable, "-m", "winnow", *arguments], start_new_session=True)
    epochs = killed / "cifar100-a1-s0" / "epochs.jsonl"
    wait_for_lines(epochs, 2, driver)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    assert not (killed / "results.jsonl").exists() or not results(killed), "killed before the training had ended"
    num_kept = len(figures(epochs))
    wait_until_quiet(epochs)

    for output in (killed, undisturbed):
        assert bench("cifar100-a1", *changes, "--output", str(output)) == 0
    lines = figures(epochs)
    assert [line["epoch"] for line in lines] == list(range(1, 7)), "each epoch once"
    assert num_kept >= 2
    expected = figures(undisturbed / "cifar100-a1-s0" / "epochs.jsonl")
    assert [line["batch_losses"] for line in lines] == [line["batch_losses"] for line in expected]
    assert results(killed) == results(undisturbed)


def figures(epochs: Path) -> list[dict[str, Any]]:
    """The complete lines of a file of epochs."""
    return [json.loads(line) for line in epochs.read_text().splitlines(keepends=True) if line.endswith("\n")]


def wait_for_lines(epochs: Path, number: int, driver: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not epochs.exists() or len(figures(epochs)) < number:
        assert driver.poll() is None, "the driver ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_until_quiet(epochs: Path) -> None:
    """The killed driver's worker may end its epoch before it notices that its raylet is gone."""
    size, since = -1, time.monotonic()
    while time.monotonic() - since < 3:
        if epochs.stat().st_size != size:
            size, since = epochs.stat().st_size, time.monotonic()
        time.sleep(0.1)
