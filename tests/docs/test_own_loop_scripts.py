"""The training scripts of docs/how-to/own-loop.md: five changed lines each, which train, resume exactly, and pass the check."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.helpers.doc_blocks import NO_REPOSITORY, Block, blocks
from tests.helpers.tiny import CPU, same_tensors, tiny_config, tiny_data
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import train
from winnow.search.training.own_parts import check_own_part
from winnow.spaces.own_code import own_parts

PAGE = "docs/how-to/own-loop.md"
SCRIPTS: dict[str, tuple[str, dict[str, float]]] = {
    "plain": ("train", {"lr": 0.1, "decay": 5e-4}),
    "timm_style": ("main", {"lr": 0.01, "decay": 0.05, "mixup": 0.2, "smoothing": 0.1, "ema": 0.5}),
    "lightning_module": ("main", {"lr": 0.1}),
}
MOST_LINES = 5


def _patch(script: str) -> Block:
    (patch,) = (block for block in blocks(PAGE) if block.language == "diff" and f"/{script}.py" in block.text)
    return patch


@pytest.fixture
def patched(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A script with the patch of the page applied, which can be imported."""
    script: str = request.param
    if script == "lightning_module" and importlib.util.find_spec("lightning") is None:
        pytest.skip("lightning is not installed, and Winnow does not need it")
    folder = tmp_path / "docs" / "how-to" / "own-loop"
    shutil.copytree(REPOSITORY / "docs" / "how-to" / "own-loop", folder)
    subprocess.run(
        ["git", "apply", "-"], cwd=tmp_path, input=_patch(script).text, text=True, check=True, env=NO_REPOSITORY
    )
    monkeypatch.syspath_prepend(str(folder))
    for module in (script, "nets"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    importlib.import_module(script)
    return script


@pytest.mark.parametrize("script", SCRIPTS)
def test_at_most_five_lines_change(script: str) -> None:
    lines = [line for line in _patch(script).text.splitlines() if not line.startswith(("---", "+++"))]
    removed = {line[1:].strip() for line in lines if line.startswith("-")}
    added = [line[1:].strip() for line in lines if line.startswith("+")]
    assert len([line for line in added if line not in removed]) <= MOST_LINES
    assert len(removed) <= MOST_LINES


@pytest.mark.parametrize("patched", SCRIPTS, indirect=True)
def test_the_script_trains_and_resumes_exactly(patched: str) -> None:
    function, keys = SCRIPTS[patched]
    settings: dict[str, Any] = {"name": f"{patched}:{function}", **keys}
    config = tiny_config(optimizer=None, model={"name": "nets:build", "width": 8}, train=settings, epochs=6)
    for what, part in own_parts(config):
        check_own_part(what, part, config, (3, 8, 8), 3)
    data = DeviceData.build(tiny_data(), config.data, CPU, 0)
    for result in train(config, data, CPU, 1):
        if result.epoch == 2:
            state = result.state()
        whole = result.validation_loss, result.weights()
    for result in train(config, data, CPU, 1, checkpoint=state):
        rest = result.validation_loss, result.weights()
    assert whole[0] is not None
    assert whole[0] == rest[0] < 1.0  # log 3 = 1.1 is guessing
    assert same_tensors(whole[1], rest[1])
