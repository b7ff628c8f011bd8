"""README and docs as a reader follows them: every block of a page, in order, in one folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Set
from pathlib import Path

import duckdb
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

import reports
from reports.parquet import write_tables
from tests.conftest import REPOSITORY
from tests.doc_blocks import Reader, blocks
from tests.make_run import make_run

# Pages whose blocks run: with a made run (quick), or with real ones.
FOLLOWED = {
    "docs/reports.md": "made",
    "docs/how-to/reading-reports.md": "made",
    "README.md": "real",
    "docs/daily-use.md": "real",
    "docs/tutorial.md": "alone",
    "docs/how-to/own-model.md": "alone",
    "docs/how-to/own-hyper-parameter.md": "copy",
    "docs/how-to/resume.md": "alone",
}
BY_ANOTHER_TEST = {"docs/queries.md": "test_queries.py"}
PAGES_NOT_RUN = {
    "docs/cluster.md": "needs several machines; test_cluster_file.py holds its files, other tests start nodes on this one",
    "docs/reference-results.md": "trainings of hours on CIFAR; test_bench.py runs the commands on digits",
}
NOT_RUN = {
    ("README.md", "make demo"): "sets up an environment of its own",
    ("README.md", "winnow run cifar100-cnn --download --trials 100 --time-budget 8h --concurrent 4 --name first"): (
        "downloads CIFAR-100 and trains for hours"
    ),
    ("docs/daily-use.md", "winnow plan cifar10-cnn --trials 100"): "needs CIFAR-10; test_plan.py plans digits",
    ("docs/daily-use.md", "winnow plan cifar10-cnn --json"): "needs CIFAR-10; test_plan.py plans digits",
    ("docs/daily-use.md", "winnow search cifar10-cnn --audit 0.1"): "needs CIFAR-10; test_audit.py audits digits",
    (
        "docs/daily-use.md",
        "winnow resume mine --set optimizer.name=adam",
    ): "ends with 2, as it says; held in test_extend.py",
    ("docs/daily-use.md", "winnow extend mine --space wider.yaml --trials 50 --accept-space-change"): (
        "a space of the reader's; held in test_extend.py"
    ),
    (
        "docs/daily-use.md",
        "winnow search new.yaml --warm-start mine",
    ): "a space of the reader's; held in test_extend.py",
    ("docs/daily-use.md", "pip install 'winnow-search[export]'"): "installs",
    ("docs/daily-use.md", "tensorboard --logdir runs/logged/tensorboard"): "a server",
    ("docs/daily-use.md", "pip install optuna-dashboard"): "installs",
    ("docs/daily-use.md", "optuna-dashboard runs/mine/study.journal"): "a server, from a package of its own",
    ("docs/daily-use.md", 'eval "$(_WINNOW_COMPLETE=zsh_source winnow)"'): "needs zsh",
    ("docs/daily-use.md", "_WINNOW_COMPLETE=fish_source winnow > ~/.config/fish/completions/winnow.fish"): "needs fish",
}


MORE = "--trials 1 --time-budget 30s"


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
def test_readme(real_run, tmp_path):
    few = "--set epochs=1 --set data.limit=100 --trials 2"
    reader = _with_runs(
        tmp_path, real_run, ("first", "second"), {"search": few, "run": f"{few} --top 1 --seeds 1", "extend": MORE}
    )
    _images(reader.folder / "my-images" / "train", size=70)
    skipped = set()
    cifar = Path(os.environ.get("WINNOW_TEST_DATA", REPOSITORY.parent / "shared" / "data")) / "cifar10"
    if cifar.is_dir():
        (reader.folder / "path" / "to").mkdir(parents=True)
        (reader.folder / "path" / "to" / "cifar10").symlink_to(cifar)
    else:
        skipped = {
            line for block in blocks("README.md") for line in block.text.splitlines() if "path/to/cifar10" in line
        }
    _follow("README.md", reader, skipped)
    assert "Retrained, tested once" in reader.output
    assert "search complete" in reader.output


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_daily_use(real_run, tmp_path):
    reader = _with_runs(tmp_path, real_run, ("mine", "other"), {"extend": MORE})
    _follow("docs/daily-use.md", reader)
    assert "the two cannot be told apart" in " ".join(reader.output.split())


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", [page for page, how in FOLLOWED.items() if how in ("alone", "copy")])
def test_a_page_that_stands_alone(page, tmp_path):
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    reader = Reader(_folder(tmp_path))
    if FOLLOWED[page] == "copy":
        reader.source = tmp_path / "source"
        for package in ("spaces", "models", "search", "reports", "docs"):
            shutil.copytree(REPOSITORY / package, reader.source / package)
    _follow(page, reader)
    assert "Retrained, tested once" in reader.output
    CHECKS.get(page, lambda reader: None)(reader)


def _check_tutorial(reader: Reader) -> None:
    assert "flower: " in reader.output
    assert "test accuracy" in reader.output
    assert (reader.folder / "runs" / "mine" / "report" / "report.html").stat().st_size > 1_000_000
    card = (reader.folder / "temple-or-flower" / "README.md").read_text()
    assert "48 x 48 pixels and 3 channels, 2 classes (flower, temple)" in card


def _check_parameter(reader: Reader) -> None:
    assert "amsgrad" in (reader.source / "docs" / "reference" / "spaces.md").read_text()
    assert "amsgrad" not in (REPOSITORY / "docs" / "reference" / "spaces.md").read_text()


def _check_resume(reader: Reader) -> None:
    assert len(reports.read(reader.folder / "runs" / "night").trials) == 14


CHECKS: dict[str, Callable[[Reader], None]] = {
    "docs/tutorial.md": _check_tutorial,
    "docs/how-to/own-hyper-parameter.md": _check_parameter,
    "docs/how-to/resume.md": _check_resume,
}


def _follow(page: str, reader: Reader, also_skipped: Set[str] = frozenset()) -> None:
    skipped = also_skipped | {line for name, line in NOT_RUN if name == page}
    for block in blocks(page):
        reader.follow(block, skipped)


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


def _with_runs(tmp_path: Path, run: Path, names: tuple[str, ...], cheap: dict[str, str]) -> Reader:
    """A folder with that run under several names, and some images."""
    reader = Reader(_folder(tmp_path), cheap=cheap)
    for name in names:
        copy = shutil.copytree(run, reader.folder / "runs" / name)
        study = (copy / "study.yaml").read_text()
        (copy / "study.yaml").write_text(study.replace("\nname: run\n", f"\nname: {name}\n"))
        reports.write(copy)
    _images(reader.folder / "more-photos", size=8)
    shutil.copy(next((reader.folder / "more-photos").rglob("*.png")), reader.folder / "photo.jpg")
    return reader


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
