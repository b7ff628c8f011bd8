"""Reads the files that W&B writes offline."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from winnow.search.storage.run_folder import RunFolder


def wandb_records(file: Path) -> Iterator[bytes]:
    """The records of an offline file of W&B: after seven bytes, blocks of 32 KiB as in LevelDB's log."""
    content, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


@dataclass
class OfflineRun:
    """What an offline file of W&B holds: config, value of each key by step, summary, and exit code."""

    config: dict[str, Any] = field(default_factory=dict)
    history: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


def offline_runs(folder: RunFolder) -> dict[str, OfflineRun]:
    """The offline runs of W&B, by name of the training. Its own process may still write them after a run was finished."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        runs = _offline_runs(folder)
        if all(run.exit_code is not None for run in runs.values()):
            return runs
        time.sleep(0.2)
    raise AssertionError(f"unfinished: {runs}")


def _offline_runs(folder: RunFolder) -> dict[str, OfflineRun]:
    from wandb.proto import wandb_internal_pb2

    found = {}
    for file in (folder.path / "wandb").glob("offline-run-*/*.wandb"):
        name, made = "", OfflineRun()
        for data in wandb_records(file):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                name = record.run.display_name
                made.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            if record.HasField("history"):
                values = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
                step = int(values.pop("_step"))
                made.history.append((step, {key: json.loads(value) for key, value in values.items()}))
            if record.HasField("summary"):
                made.summary |= {item.key: json.loads(item.value_json) for item in record.summary.update}
            if record.HasField("exit"):
                made.exit_code = record.exit.exit_code
        found[name or str(file)] = made
    return found
