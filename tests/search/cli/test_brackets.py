"""Brackets in what a command prints are no markup: rich would leave `[b]` out, and refuse `[/x]`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from winnow.search.cli.main import main
from winnow.search.operations import probing

SPACE = """
data: digits
epochs: 1
batch_size: 256
model: {name: mlp, hidden: [4]}
optimizer: {name: adam, lr: LR}
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_a_forecast(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    note = "refused: images [b, c, h] are not [/x]"
    forecast_of = probing.plan_search

    def plan_search(*arguments: Any) -> Any:
        return replace(forecast_of(*arguments), notes=(note,))

    monkeypatch.setattr(probing, "plan_search", plan_search)
    (place / "my[b].yaml").write_text(SPACE.replace("LR", "{log: [0.01, 0.1]}"))
    text = printed(capsys, "plan", "my[b].yaml", "--no-probe", "--trials", "4")
    assert text.startswith("my[b]: 4 trials")
    assert f"note     {note}\n" in text


def test_a_training(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "my[b].yaml").write_text(SPACE.replace("LR", "0.01"))
    text = printed(capsys, "train", "my[b].yaml", "--output", "out[b]")
    assert "\nmy[b] on " in text
    assert "weights, curves and figures: out[b]\nreport: out[b]/report.html\n" in text
