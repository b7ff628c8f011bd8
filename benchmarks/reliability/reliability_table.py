"""Writes the table of docs/reliability.md from benchmarks/results/reliability.json: python -m benchmarks.reliability.reliability_table"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from benchmarks import REPOSITORY, RESULTS

BEGIN, END = "<!-- measured -->\n", "<!-- end of what was measured -->\n"

WORDS = {
    "kill": "driver: `kill -9` once",
    "kills": "driver: `kill -9` again and again over one search, 2 workers",
    "kills_of_one_worker": "driver: `kill -9` again and again over one search, 1 worker",
    "worker_kill": "a training worker: `kill -9`, 3 times over one search",
    "node_removed": "a Ray node killed, another added, twice over one search",
    "ctrl_c": "Ctrl-C once",
    "ctrl_c_twice": "Ctrl-C twice",
    "sigterm": "SIGTERM to the driver",
    "sigterm_all": "SIGTERM to the driver, Ray's servers and workers, as Slurm signals a step",
    "disk_full": "disk full (a tmpfs runs full, ENOSPC), then made larger",
    "moved": "killed, run folder moved, resumed there",
    "clock_jumps": "wall clock 1 h back, then 2 days forward",
    "torn_lines": "killed, and every file that grows ends within a line",
}


def table(losses: list[dict[str, Any]]) -> str:
    """One row per fault and contender, sums over the searches."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for loss in losses:
        groups[loss["fault"], loss["contender"]].append(loss)
    rows = [
        "| fault | whose | searches (ended) | times provoked | trials missing | epochs lost | recorded twice | trained again | exit code | until no process is left |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for fault, words in WORDS.items():
        for contender in ("ours", "stock"):
            if group := groups.get((fault, contender)):
                rows.append(f"| {words if contender == 'ours' else ''} | {contender} | {_cells(group)} |")
    return "\n".join(rows) + "\n"


def _cells(group: list[dict[str, Any]]) -> str:
    def total(key: str) -> float:
        return sum(loss[key] for loss in group)

    counts = [f"{total(key):.0f}" for key in ("provoked", "trials_missing", "epochs_lost", "epochs_twice")]
    codes = sorted({str(loss["notes"]["exit_code"]) for loss in group if "exit_code" in loss["notes"]})
    left = [loss["notes"]["seconds_until_no_process"] for loss in group if "seconds_until_no_process" in loss["notes"]]
    cells = [f"{len(group)} ({total('finished'):.0f})", *counts, f"{total('epochs_trained_again'):.1f}"]
    return " | ".join([*cells, ", ".join(codes) or "-", f"{max(left):.1f} s" if left else "-"])


def main() -> None:
    losses = json.loads((RESULTS / "reliability.json").read_text())
    page = REPOSITORY / "docs" / "reliability.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{table(losses)}\n{END}{after}")


if __name__ == "__main__":
    main()
