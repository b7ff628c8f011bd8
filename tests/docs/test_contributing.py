"""CONTRIBUTING.md holds: its diffs are applied to a copy of the source, and what they add works there."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.helpers.doc_blocks import Reader, blocks

# (page, section) -> Python that runs where all diffs were applied, in a folder with a made-up run.
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
    ("CONTRIBUTING.md", "A search option"): """
        from click.testing import CliRunner
        from winnow.search.cli.main import cli
        from winnow.search.settings import settings_for
        from winnow.spaces import catalog

        space = catalog.load("digits")
        assert settings_for(space).startup_trials == 10
        assert settings_for(space, startup_trials=5).startup_trials == 5
        assert "--startup-trials" in CliRunner().invoke(cli, ["search", "--help"]).output
        """,
    ("CONTRIBUTING.md", "A sampler"): """
        from winnow.search.samplers.registry import SamplerContext, make_sampler
        from winnow.spaces.schema import SearchSettings

        assert SearchSettings(sampler="joint_tpe").sampler == "joint_tpe"
        sampler = make_sampler("joint_tpe", SamplerContext(seed=0, number=3, rungs=[1, 3, 9]))
        assert type(sampler).__name__ == "TPESampler"
        """,
    ("CONTRIBUTING.md", "An epoch figure"): """
        import torch
        from winnow.reports.schemas import TABLES
        from winnow.search.training.metrics import all_metrics

        logits = torch.arange(7.0).repeat(4, 1)
        metrics = all_metrics(logits, torch.tensor([0, 1, 4, 6]))
        assert metrics["validation_top3_accuracy"] == 0.5
        assert "validation_top3_accuracy" in {column.name for column in TABLES["epochs"].columns}
        """,
    ("CONTRIBUTING.md", "A table column"): """
        from winnow import reports

        rows = reports.read("demo").trials.to_pylist()
        trained = [row for row in rows if row["best_epoch"] is not None]
        assert any(row["epochs_after_best"] for row in trained)
        assert all(row["epochs_after_best"] == row["num_epochs"] - row["best_epoch"] for row in trained)
        """,
    ("CONTRIBUTING.md", "A figure"): """
        from winnow import reports
        from winnow.reports.figures.cost import cost

        figures = {figure.id: figure for figure in cost(reports.read("demo"))}
        assert len(figures["total"].plot.data) == len(figures["size"].plot.data) > 1
        """,
}
# One process for all checks, since most of the time is the import of torch.
RUNNER = f"""
import json, sys, traceback
from pathlib import Path

sys.path.append({str(REPOSITORY)!r})
from tests.helpers.make_run import make_run

make_run(Path("demo"))
errors = []
for check in json.load(sys.stdin):
    try:
        exec(check, {{}})
        errors.append("")
    except Exception:
        errors.append(traceback.format_exc())
print(json.dumps(errors))
"""


OWN_LOOP = "docs/how-to/own-loop.md"  # its diffs are applied by docs/test_own_loop_scripts.py


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """What went wrong in each check, empty if nothing did."""
    reader = Reader(tmp_path_factory.mktemp("contributing") / "reader")
    reader.folder.mkdir()
    reader.copy_source()
    for page, section in CHECKS:
        for block in blocks(page, section):
            if block.language == "diff":
                reader.patch(block)
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps([textwrap.dedent(check) for check in CHECKS.values()]),
        cwd=reader.folder,
        env=reader.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(CHECKS, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("shown", CHECKS, ids=lambda shown: shown[1] or Path(shown[0]).stem)
def test_a_shown_change_works(shown: tuple[str, str], errors: dict[tuple[str, str], str]) -> None:
    assert not errors[shown], errors[shown]


def test_every_diff_is_checked() -> None:
    shown = {(block.page, block.section) for block in blocks() if block.language == "diff"}
    assert CHECKS.keys() == {(page, section) for page, section in shown if page != OWN_LOOP}
