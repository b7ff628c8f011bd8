"""The tables and the page name the GPU of each trial, and how much of its memory it had; on a CPU they are null."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from tests.helpers.make_run import make_run
from winnow import reports
from winnow.spaces.gpu_facts import GPU_FACT_NAMES

GPU = {"gpu_memory_mb": 81920.0, "driver": "570.86.10", "cuda": "12.8", "cudnn": "9.10.2"}
SENTENCE = "NVIDIA H100, 81,920 MB, driver 570.86.10, CUDA 12.8, cuDNN 9.10.2, 1 trial, at most 120 MB allocated, at most 130 MB reserved"


def test_the_gpu_of_a_trial(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    lines = [json.loads(line) for line in (run / "epochs.jsonl").read_text().splitlines()]
    for line in lines:
        if line["phase"] == "search" and line["trial"] == 3:
            peaks = {"peak_allocated_mb": 100.0 + 20 * (line["epoch"] == 1), "peak_reserved_mb": 130.0}
            line |= {"node": "gpu-7", "device": "NVIDIA H100", **GPU, **peaks}
    (run / "epochs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    retrained = [json.loads(line) for line in (run / "retrain.jsonl").read_text().splitlines()]
    retrained[0] |= {"node": "gpu-8", "peak_reserved_mb": 77.0, **GPU}
    (run / "retrain.jsonl").write_text("".join(json.dumps(line) + "\n" for line in retrained))
    page = reports.write(run).read_text(encoding="utf-8")
    assert SENTENCE in page
    trials = {row["trial"]: row for row in pq.read_table(run / "report" / "trials.parquet").to_pylist()}
    expected = {"node": "gpu-7", **GPU, "peak_allocated_mb": 120.0, "peak_reserved_mb": 130.0}
    assert {key: trials[3][key] for key in expected} == expected
    assert {trials[2][name] for name in GPU_FACT_NAMES} == {None}
    epochs = pq.read_table(run / "report" / "epochs.parquet").to_pylist()
    assert {row["peak_reserved_mb"] for row in epochs if row["trial"] == 3 and row["phase"] == "search"} == {130.0}
    rows = pq.read_table(run / "report" / "retrains.parquet").to_pylist()
    assert [row["peak_reserved_mb"] for row in rows if row["node"] == "gpu-8"] == [77.0]
