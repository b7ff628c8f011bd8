"""Measurements of Winnow; the README beside this file lists them with question, command, duration and result file."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
