"""CONTRIBUTING.md holds: each diff is applied to a copy of the source, and what it adds works there."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.helpers.doc_blocks import Reader, blocks

# (page, section) -> Python that runs in the changed copy, in a folder with a made-up run `runs/demo`.
CHECKS = {
    ("docs/how-to/own-hyper-parameter.md", ""): """
        import torch
        from winnow.search.training.optimizers import build_optimizer
        from winnow.spaces.schema import Adam

        settings = Adam(name="adam", lr=0.01, amsgrad=True)
        optimizer = build_optimizer(settings, torch.nn.Linear(2, 2), torch.device("cpu"))
        assert optimizer.defaults["amsgrad"] is True
        """,
    ("CONTRIBUTING.md", "A model family"): """
        import torch
        from pydantic import TypeAdapter
        from winnow.models import build
        from winnow.spaces.schema import Model

        model = TypeAdapter(Model).validate_python({"name": "linear", "bias": False})
        network = build(model, (1, 8, 8), 10)
        assert network(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
        assert sum(weights.numel() for weights in network.parameters()) == 640
        """,
    ("CONTRIBUTING.md", "A table column"): """
        import pyarrow.parquet as pq
        from winnow import reports
        from winnow.reports.tables.parquet import write_tables

        write_tables(reports.read("runs/demo"), "report")
        rows = pq.read_table("report/trials.parquet").to_pylist()
        assert any(row["epochs_after_best"] for row in rows)
        assert all(row["epochs_after_best"] == row["num_epochs"] - row["best_epoch"] for row in rows if row["best_epoch"])
        """,
    ("CONTRIBUTING.md", "A figure"): """
        from winnow import reports
        from winnow.reports.figures.cost import cost

        figures = {figure.id: figure for figure in cost(reports.read("runs/demo"))}
        assert len(figures["total"].plot.data) == len(figures["size"].plot.data) > 1
        """,
}


@pytest.mark.parametrize(("page", "section"), CHECKS, ids=lambda text: text.replace(" ", "_"))
def test_a_shown_change_works(page: str, section: str, tmp_path: Path) -> None:
    reader = Reader(tmp_path / "reader")
    reader.folder.mkdir()
    reader.copy_source()
    (diff,) = [block for block in blocks(page, section) if block.language == "diff"]
    run = [sys.executable, "-m", "tests.helpers.make_run", str(reader.folder / "runs" / "demo")]
    subprocess.run(run, check=True, cwd=REPOSITORY)
    check = [sys.executable, "-c", textwrap.dedent(CHECKS[page, section])]
    before = subprocess.run(check, cwd=reader.folder, env=reader.environment(), capture_output=True, text=True)
    assert before.returncode != 0, "the check would pass without the change"
    reader.patch(diff)
    done = subprocess.run(check, cwd=reader.folder, env=reader.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_diff_is_checked() -> None:
    shown = {(block.page, block.section) for block in blocks() if block.language == "diff"}
    assert shown == CHECKS.keys()
