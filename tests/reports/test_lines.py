"""What is read from files of one JSON object a line, however many lines there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.reports.reading import json_lines as lines
from winnow.reports.reading.json_lines import read_lines
from winnow.reports.reading.run import EPOCH_KEYS

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=4), min_size=3, max_size=5))
def test_many_lines_are_read_as_python_reads_each(rows: list[dict[str, Any]]) -> None:
    written = [json.dumps(row).encode() for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "MANY", 2)
        found = list(lines.parsed(written))
    assert repr(found) == repr([json.loads(line) for line in written])  # NaN is itself, and 1 is neither 1.0 nor True


def test_damaged_lines_among_many_cost_only_themselves(tmp_path: Path) -> None:
    file = tmp_path / "epochs.jsonl"
    row = {"phase": "search", "trial": 0, "seed": 0, "train_loss": float("nan"), "node": "n\ud800"}
    written = [json.dumps({**row, "epoch": epoch}) for epoch in range(3 * lines.MANY)]
    written[7], written[-1] = '{"phase": "se', written[-1][:40]
    file.write_text("\n".join(written))
    rows, notes = read_lines(file, EPOCH_KEYS)
    assert [row["epoch"] for row in rows] == [e for e in range(3 * lines.MANY - 1) if e != 7]
    assert {row["node"] for row in rows} == {"n\ud800"}
    assert notes == ["epochs.jsonl: 2 damaged lines were left out (line 8, 3000)"]
