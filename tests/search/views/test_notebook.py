"""Winnow in a real notebook kernel: progress is drawn in place, a Run shows itself, bad input raises. Needs nbclient."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from rich.text import Text

from tests.conftest import REPOSITORY
from tests.search.api.test_api import TINY
from winnow.search.views.notebook import as_html

CELLS = [
    f"from pathlib import Path\nPath('tiny.yaml').write_text({TINY!r})\nfrom winnow import search",
    "run = search.run('tiny.yaml', name='mine', trials=3, top=1, seeds=1, devices=search.DeviceOptions(num_cpus=1))",
    "run",
    "search.show(run)",
    "try:\n    search.run('tiny.yaml', trails=3)\nexcept ValueError as error:\n    print(type(error).__name__, error)",
    "import json\nprint(json.dumps(run.winners['test_accuracy'].tolist()))",
]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_notebook_runs(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install nbclient ipykernel")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install nbclient ipykernel")
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    _own_kernel(tmp_path, monkeypatch)
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in CELLS])
    done = nbclient.NotebookClient(notebook, timeout=240, kernel_name="winnow").execute(cwd=str(tmp_path))
    if kept := os.environ.get("WINNOW_KEEP_NOTEBOOK"):
        nbformat.write(done, kept)
    progress, shown, listed, refused, figures = (_text(cell) for cell in done.cells[1:])
    assert "3 of 3 trials" in progress
    assert "1 of 1" in progress  # the retraining
    assert "<h3>mine</h3>" in shown
    assert "winner 1" in shown
    assert "Retrained, tested once" in listed
    assert "InputError unknown option 'trails'; did you mean trials?" in refused
    assert 0 < json.loads(figures)[0] <= 1
    # Drawn in place: one picture of the search and one of the retraining, not one per epoch.
    drawn = [output["data"]["text/html"] for output in done.cells[1].outputs if "text/html" in output.get("data", {})]
    assert len([html for html in drawn if "╭" in html]) == 2


def test_a_picture_is_html_without_a_style_sheet():
    drawn = as_html(Text("97.5 % <best>", style="bold green"))
    assert "97.5 % &lt;best&gt;" in drawn
    assert "font-weight: bold" in drawn
    assert "class=" not in drawn
    assert "<style" not in drawn


def _own_kernel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel of this Python, whichever kernels the machine has."""
    place = folder / "jupyter" / "kernels" / "winnow"
    place.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (place / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "winnow", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "jupyter"))


def _text(cell: dict) -> str:
    """All that a cell put out."""
    outputs = cell["outputs"]
    data = [output.get("data", {}).get(kind, "") for output in outputs for kind in ("text/html", "text/plain")]
    return "\n".join([*(output.get("text", "") for output in outputs), *data])
