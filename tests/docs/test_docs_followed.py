"""README and docs as a reader follows them: every block of a page, in order, in one folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from tests.conftest import REPOSITORY
from tests.helpers.doc_blocks import Block, Reader, blocks, index_is_reached
from tests.helpers.make_run import make_run
from tests.helpers.served_cifar import Served, served_cifar, write_parquet
from winnow import reports
from winnow.reports.tables.parquet import write_tables

# Pages whose blocks run here: with a made run (quick), or with real ones. Those of `daily` are followed one after the other, in one folder.
FOLLOWED = {
    "docs/reports.md": "made",
    "docs/how-to/reading-reports.md": "made",
    "README.md": "real",
    "docs/how-to/plan.md": "daily",
    "docs/how-to/audit-stops.md": "daily",
    "docs/how-to/watch.md": "daily",
    "docs/how-to/extend.md": "daily",
    "docs/how-to/reproduce.md": "daily",
    "docs/how-to/use-a-winner.md": "daily",
    "docs/how-to/trackers.md": "daily",
    "docs/how-to/shell-completion.md": "daily",
    "docs/reference-results.md": "real",
    "docs/tutorial.md": "alone",
    "docs/how-to/own-model.md": "alone",
    "docs/how-to/own-optimizer.md": "alone",
    "docs/how-to/own-schedule.md": "alone",
    "docs/how-to/own-loss.md": "alone",
    "docs/how-to/own-metric.md": "alone",
    "docs/how-to/own-data.md": "alone",
    "docs/how-to/own-augmentation.md": "alone",
    "docs/how-to/own-initialization.md": "alone",
    "docs/how-to/own-hyper-parameter.md": "copy",
    "docs/how-to/own-loop.md": "copy",
    "docs/how-to/resume.md": "alone",
    "docs/how-to/limits.md": "alone",
    "docs/how-to/stop-when.md": "alone",
    "docs/how-to/objectives.md": "alone",
    "docs/how-to/learn-from.md": "alone",
}
# Sections whose blocks need something of their own, and the tests that run them.
BY_SECTION = {
    ("README.md", "In a minute"): "docs/test_docs_followed.py::test_make_demo",
    ("docs/cluster.md", "Data"): "docs/test_docs_cluster.py::test_nodes_started_by_hand",
    ("docs/cluster.md", "Nodes started by hand"): "docs/test_docs_cluster.py::test_nodes_started_by_hand",
    ("docs/cluster.md", "AWS, with Ray's launcher"): "docs/test_docs_cluster.py::test_the_launcher_takes_the_lines",
    ("docs/cluster.md", "Slurm"): "search/ray_backend/test_cluster_network.py::test_the_slurm_file_on_two_nodes",
    ("docs/cluster.md", "Kubernetes"): "search/operations/test_launch.py::test_the_commands_of_the_cluster_page",
    (
        "docs/cluster.md",
        "Clouds, with SkyPilot",
    ): "search/ray_backend/test_cluster_network.py::test_the_sky_file_on_two_machines",
    ("docs/cluster.md", "As a Ray job, detached"): "docs/test_docs_cluster.py::test_a_ray_job",
    (
        "docs/measurements.md",
        "What a GPU gives",
    ): "benchmarks/test_benchmark_gpu.py::test_the_script_on_a_cpu, test_with_a_whole_run",
}
BY_ANOTHER_TEST = {
    "docs/queries.md": "docs/test_queries.py",
    "docs/eight-questions.md": "docs/test_eight_questions.py",
    "CONTRIBUTING.md": "docs/test_contributing.py",
}
ZSH = 'eval "$(_WINNOW_COMPLETE=zsh_source winnow)"'
BY_LINE = {
    ("docs/how-to/shell-completion.md", ZSH): "search/cli/test_completion.py::test_zsh_takes_the_line"
}  # where zsh is installed

MORE = "--trials 1 --time-budget 20s"
# For spaces of CIFAR: one network, as small as one can be.
TINY = '--set "model={name: cnn, stages: [{filters: 4, pool: max}, {filters: 4, pool: max}], features: avg}" --set epochs=1'


@pytest.fixture(scope="module")
def made_runs(tmp_path_factory) -> Path:
    """Runs without any training, with their tables."""
    folder = _folder(tmp_path_factory.mktemp("made"))
    for seed, name in enumerate(("demo", "first", "mine")):
        run = make_run(folder / "runs" / name, trials=20, seed=seed)
        write_tables(reports.read(run), run / "report")
    return folder


@pytest.mark.parametrize("page", [page for page, how in FOLLOWED.items() if how == "made"])
def test_a_page_about_reports(page, made_runs, monkeypatch):
    monkeypatch.chdir(made_runs)
    for block in blocks(page):
        if block.language == "sql":
            assert len(duckdb.sql(block.text).df()) > 0, block
        else:
            assert block.language == "python", block
            exec(compile(block.text, str(block), "exec"), {})


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_readme(served, tmp_path):
    few = f"{TINY} --trials 2"
    cheap = {
        "run cifar100-cnn": f"{TINY} --trials 18 --top 1 --seeds 1 --concurrent 2",
        "run": f"{few} --top 1 --seeds 1",
        "extend mine --set": "--trials 2 --time-budget 10min",  # one completes, whatever those before did
        "extend": MORE,
    }
    reader = _with_photos(tmp_path, cheap, served)
    for block in _here("README.md"):
        reader.follow(block)
    assert served.requests.count("/cifar100.tar.gz") == 1
    assert "Retrained, tested once" in reader.output
    assert "search complete" in reader.output


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_daily_use(real_run, served, tmp_path):
    cheap = {
        "plan": "--set model.stages.filters=4",
        "run digits": "--set epochs=2 --trials 4 --top 1 --seeds 1",
        "search cifar10-cnn": f"{TINY} --trials 6",
        "search new.yaml": MORE,
        "extend mine --max-epochs": f"{MORE} --max-epochs 24",
        "extend": MORE,
    }
    reader = _with_photos(tmp_path, cheap, served)
    for name in ("mine", "other"):
        _copy_run(real_run, name, reader.folder / "runs")
    # The run has trainings of 24 epochs by then; dropout of 0.6 was the most that it tried.
    digits = (REPOSITORY / "spaces" / "catalog" / "digits.yaml").read_text()
    wider = digits.replace("epochs: 18", "epochs: 24").replace(
        "dropout: {float: [0.0, 0.6]}", "dropout: {float: [0.0, 0.8]}"
    )
    for name in ("wider.yaml", "new.yaml"):
        (reader.folder / name).write_text(wider)
    steps = [block for page, how in FOLLOWED.items() if how == "daily" for block in _here(page)]
    installs = [block for block in steps if "pip install" in block.text]
    for block in steps:
        if block not in installs or index_is_reached():
            reader.follow(block, skipped={ZSH})
    assert "the two cannot be told apart" in " ".join(reader.output.split())
    assert (tmp_path / ".config" / "fish" / "completions" / "winnow.fish").stat().st_size > 0
    if not index_is_reached():
        pytest.skip(f"no package index is reached, so not run: {installs}")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_reference_results(served, tmp_path):
    small = "--set data.limit=200 --set epochs=1"
    cheap = {
        "bench-recipes": f"{small} --set model.head=[8] --seeds 1",
        "train recipes/cifar100-a1": f"{small} --set model.head=[8]",
        "train": small,
    }
    reader = _with_photos(tmp_path, cheap, served)
    reader.places = {"PATH/": f"{tmp_path}/"}
    write_parquet(tmp_path / "cifar100", "cifar100")
    runs = reader.folder / "runs"
    for block in _here("docs/reference-results.md"):
        if block.section == "Results":
            shutil.rmtree(runs / "bench-recipes" / "cifar100-a1-s0")  # the page tells how this very folder was made
        reader.follow(block)
    assert len((runs / "bench-recipes" / "results.jsonl").read_text().splitlines()) == 10
    assert (runs / "bench-recipes" / "cifar100-a1-s0" / "report.html").is_file()
    assert (runs / "whole" / "weights.pt").is_file()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_make_demo(tmp_path):
    """In a fresh clone, with nothing but a Python."""
    if not index_is_reached():
        pytest.skip("no package index is reached, and `make demo` installs")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, clone], check=True)
    (block,) = blocks("README.md", "In a minute")
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    python = Path(sys.executable).resolve().parent  # not that of an environment
    for _ in range(2):
        done = subprocess.run(
            ["bash", "-ec", block.text],
            cwd=clone,
            env=kept | {"PATH": f"{python}{os.pathsep}{kept['PATH']}"},
            capture_output=True,
            text=True,
        )
        # At the first start Ray's servers are compiled within the 15 s that Ray gives them; the message says what to do.
        if "nothing is lost, try again" not in done.stderr:
            break
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Retrained, tested once" in done.stdout
    assert (clone / "runs" / "digits" / "report" / "report.html").stat().st_size > 1_000_000


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", [page for page, how in FOLLOWED.items() if how in ("alone", "copy")])
def test_a_page_that_stands_alone(page, tmp_path):
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    reader = Reader(_folder(tmp_path))
    if FOLLOWED[page] == "copy":
        reader.copy_source()
    for block in _here(page):
        reader.follow(block)
    assert "Retrained, tested once" in reader.output
    CHECKS.get(page, lambda reader: None)(reader)


def _check_tutorial(reader: Reader) -> None:
    assert "flower: " in reader.output
    assert "test accuracy" in reader.output
    assert (reader.folder / "runs" / "mine" / "report" / "report.html").stat().st_size > 1_000_000
    card = (reader.folder / "temple-or-flower" / "README.md").read_text()
    assert "48 x 48 pixels (height x width) and 3 channels, 2 classes (flower, temple)" in card


def _check_parameter(reader: Reader) -> None:
    assert "amsgrad" in (reader.source / "docs" / "reference" / "spaces.md").read_text()
    assert "amsgrad" not in (REPOSITORY / "docs" / "reference" / "spaces.md").read_text()


def _check_resume(reader: Reader) -> None:
    assert len(reports.read(reader.folder / "runs" / "night").trials) == 14


def _check_learning(reader: Reader) -> None:
    rows = reports.read(reader.folder / "runs" / "noisy").rows("memory")
    assert {row["earlier_run"] for row in rows} == {"plain", "turned", "negative"}
    assert any(row["share"] for row in rows)


CHECKS: dict[str, Callable[[Reader], None]] = {
    "docs/tutorial.md": _check_tutorial,
    "docs/how-to/own-hyper-parameter.md": _check_parameter,
    "docs/how-to/resume.md": _check_resume,
    "docs/how-to/learn-from.md": _check_learning,
}


def _here(page: str) -> list[Block]:
    """Without the sections that other tests run."""
    return [block for block in blocks(page) if (page, block.section) not in BY_SECTION]


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "reader"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def real_run(tmp_path_factory) -> Path:
    """A small search of digits, retrained: the run that the pages speak of."""
    reader = Reader(_folder(tmp_path_factory.mktemp("real")))
    reader.shell("winnow run digits --name run --trials 18 --top 1 --seeds 2 --set epochs=1")
    return reader.folder / "runs" / "run"


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    with served_cifar(tmp_path_factory.mktemp("served")) as found:
        yield found


def _with_photos(tmp_path: Path, cheap: dict[str, str], served: Served) -> Reader:
    """A reader who has some images, and for whom CIFAR is small."""
    reader = Reader(_folder(tmp_path), cheap=cheap, preamble=served.preamble)
    _images(reader.folder / "more-photos", size=8)
    shutil.copy(next((reader.folder / "more-photos").rglob("*.png")), reader.folder / "photo.jpg")
    return reader


def _copy_run(run: Path, name: str, runs: Path | None = None) -> None:
    """The same run under another name."""
    copy = shutil.copytree(run, (runs or run.parent) / name)
    study = (copy / "study.yaml").read_text()
    (copy / "study.yaml").write_text(study.replace(f"\nname: {run.name}\n", f"\nname: {name}\n"))
    reports.write(copy)


def _images(folder: Path, size: int) -> None:
    """Pieces of scikit-learn's photographs: `folder`/CLASS/N.png and, for a folder of photographs, `folder`/N.png."""
    for name, photo in zip(("temple", "flower"), load_sample_images().images, strict=True):
        (folder / name).mkdir(parents=True)
        for k in range(40):
            top, left = 7 * k, 12 * k
            piece = Image.fromarray(photo[top : top + size, left : left + size])
            piece.save(folder / name / f"{k}.png")
            if k < 2:
                piece.save(folder / f"{name}-{k}.png")
